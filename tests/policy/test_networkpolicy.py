"""What a NetworkPolicy means: the API's defaults, selectors and ports."""

from ipaddress import ip_network

import pytest

from datastore.errors import Invalid
from policy.model import Cidr, Pods, PortName, PortRange, Protocol, Rule
from policy.selectors import EVERYTHING, one_of, select
from tests.policy.cluster import policy

APP_API = select([one_of("app", "api")])
TEAM_A = select([one_of("team", "a")])


@pytest.mark.parametrize(
    ("spec", "ingress", "egress"),
    [
        pytest.param("{podSelector: {}}", True, False, id="nothing said isolates ingress"),
        pytest.param("{podSelector: {}, egress: []}", True, False, id="an empty egress list says nothing"),
        pytest.param("{podSelector: {}, egress: [{}]}", True, True, id="egress rules alone isolate ingress too"),
        pytest.param("{podSelector: {}, policyTypes: [Egress]}", False, True, id="Egress alone"),
        pytest.param(
            "{podSelector: {}, policyTypes: [Egress], ingress: [{}]}", False, True, id="rules of a type not named"
        ),
        pytest.param(
            "{podSelector: {}, policyTypes: [Ingress], egress: [{}]}", True, False, id="and the other way round"
        ),
        pytest.param("{podSelector: {}, policyTypes: [Ingress, Egress]}", True, True, id="both"),
    ],
)
def test_which_directions_are_isolated(spec: str, ingress: bool, egress: bool) -> None:
    converted = policy(spec)
    assert (converted.ingress is not None, converted.egress is not None) == (ingress, egress)


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        pytest.param("{podSelector: {matchLabels: {app: api}}}", Pods("shop", APP_API), id="pods of the own namespace"),
        pytest.param("{podSelector: {}}", Pods("shop", EVERYTHING), id="all pods of the own namespace"),
        pytest.param("{namespaceSelector: {}}", Pods(EVERYTHING, EVERYTHING), id="all pods of all namespaces"),
        pytest.param(
            "{namespaceSelector: {matchLabels: {team: a}}, podSelector: {matchLabels: {app: api}}}",
            Pods(TEAM_A, APP_API),
            id="both in one item must hold together",
        ),
        pytest.param("{ipBlock: {cidr: 10.0.0.5/8}}", Cidr(ip_network("10.0.0.0/8")), id="host bits are masked"),
        pytest.param("{ipBlock: {cidr: 10.0.0.5}}", Cidr(ip_network("10.0.0.5/32")), id="a lone address"),
        pytest.param(
            "{ipBlock: {cidr: 'fd00::/8', except: ['fd00::1/64']}}",
            Cidr(ip_network("fd00::/8"), (ip_network("fd00::/64"),)),
            id="excepted parts are masked too",
        ),
    ],
)
def test_peers(peer: str, expected: Pods | Cidr) -> None:
    assert policy(f"{{ingress: [{{from: [{peer}]}}]}}").ingress == (Rule((expected,)),)
    assert policy(f"{{policyTypes: [Egress], egress: [{{to: [{peer}]}}]}}").egress == (Rule((expected,)),)


def test_two_items_are_two_peers() -> None:
    spec = (
        "{ingress: [{from: [{podSelector: {matchLabels: {app: api}}}, {namespaceSelector: {matchLabels: {team: a}}}]}]}"
    )
    assert policy(spec).ingress == (Rule((Pods("shop", APP_API), Pods(TEAM_A, EVERYTHING))),)


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        pytest.param("{}", PortRange(Protocol.TCP), id="nothing is every TCP port"),
        pytest.param("{protocol: UDP}", PortRange(Protocol.UDP), id="a protocol alone is all of it"),
        pytest.param("{port: 80}", PortRange(Protocol.TCP, 80, 80), id="a number is TCP by default"),
        pytest.param("{port: 80, endPort: 90, protocol: SCTP}", PortRange(Protocol.SCTP, 80, 90), id="a range"),
        pytest.param("{port: http}", PortName(Protocol.TCP, "http"), id="a name"),
    ],
)
def test_ports(port: str, expected: PortRange | PortName) -> None:
    assert policy(f"{{ingress: [{{ports: [{port}]}}]}}").ingress == (Rule((), (expected,)),)


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        pytest.param(
            "{ingress: [{from: [{ipBlock: {cidr: 10.0.0}}]}]}", "spec.ingress[0].from[0].ipBlock.cidr", id="cidr"
        ),
        pytest.param(
            "{ingress: [{from: [{ipBlock: {cidr: 'fe80::1%x -A INPUT/128'}}]}]}",
            "spec.ingress[0].from[0].ipBlock.cidr",
            id="a zone, which may hold any text",
        ),
        pytest.param(
            "{ingress: [{}, {from: [{ipBlock: {cidr: 10.0.0.0/8, except: [x]}}]}]}",
            "spec.ingress[1].from[0].ipBlock.except[0]",
            id="except",
        ),
        pytest.param("{ingress: [{ports: [{protocol: ICMP}]}]}", "spec.ingress[0].ports[0].protocol", id="protocol"),
        pytest.param("{ingress: [{ports: [{port: 0}]}]}", "spec.ingress[0].ports[0].port", id="port"),
        pytest.param("{ingress: [{ports: [{port: 9, endPort: 8}]}]}", "spec.ingress[0].ports[0].endPort", id="endPort"),
        pytest.param(
            "{podSelector: {matchExpressions: [{key: a, operator: Near}]}}",
            "spec.podSelector.matchExpressions[0].operator",
            id="operator",
        ),
    ],
)
def test_what_cannot_be_understood_is_refused_with_its_path(spec: str, path: str) -> None:
    with pytest.raises(Invalid) as caught:
        policy(spec)
    assert caught.value.path == path
