"""The reason of a verdict: which policy, which rule, which clause, in one line."""

from ipaddress import ip_address

import pytest

from policy.evaluate import Snapshot, evaluate
from policy.model import Address, Direction, EndpointId, Policy, Protocol
from policy.verdict import RuleRef, Special
from tests.policy.cluster import pod, policy, snapshot

WEB, API, DB, CRON = (EndpointId(f"shop/{name}") for name in ("web", "api", "db", "cron"))
OTHER = EndpointId("ops/web")
OUTSIDE = ip_address("198.51.100.7")
NAMESPACES = {"shop": {"team": "a"}, "ops": {"team": "b"}}
PODS = [
    pod("shop/web", "10.0.0.1", {"app": "web"}),
    pod("shop/api", "10.0.0.2", {"app": "api"}),
    pod("shop/db", "10.0.0.3", {"app": "db"}, ports={"pg": 5432, "dns": "UDP/53"}),
    pod("shop/cron", "10.0.0.4"),
    pod("ops/web", "10.0.0.5", {"app": "api"}, node="n2"),
]


def _ask(
    *policies: Policy,
    source: EndpointId | Address = WEB,
    destination: EndpointId | Address = DB,
    port: int = 5432,
    protocol: Protocol = Protocol.TCP,
) -> tuple[bool, str]:
    cluster = snapshot(PODS, policies, NAMESPACES, {"n1": ["192.0.2.1", "10.9.0.1"], "n2": ["192.0.2.2"]})
    verdict = evaluate(cluster, source, destination, port, protocol)
    return verdict.allowed, verdict.reason


def _allow(peer: str, ports: str = "[{port: 5432}]", name: str = "db-allow-api") -> Policy:
    return policy(f"{{podSelector: {{matchLabels: {{app: db}}}}, ingress: [{{from: [{peer}], ports: {ports}}}]}}", name)


API_PEER = "{podSelector: {matchLabels: {app: api}}}"


@pytest.mark.parametrize(
    ("rule", "source", "clause"),
    [
        pytest.param(_allow(API_PEER), WEB, "from[0].podSelector app=api does not match app=web", id="another value"),
        pytest.param(
            _allow(API_PEER), CRON, "from[0].podSelector app=api does not match a pod without label app", id="no label"
        ),
        pytest.param(
            _allow(API_PEER),
            OTHER,
            "from[0].podSelector app=api (in namespace shop) does not match ops/web",
            id="elsewhere",
        ),
        pytest.param(
            _allow(API_PEER),
            OUTSIDE,
            "from[0].podSelector app=api (in namespace shop) does not match 198.51.100.7, which is no pod",
            id="an address outside",
        ),
        pytest.param(
            _allow("{namespaceSelector: {matchLabels: {team: b}}}"),
            WEB,
            "from[0].namespaceSelector team=b does not match team=a of namespace shop",
            id="another namespace",
        ),
        pytest.param(
            _allow("{namespaceSelector: {matchLabels: {env: x, team: a}}}"),
            WEB,
            "from[0].namespaceSelector env=x does not match namespace shop without label env",
            id="a namespace without the label",
        ),
        pytest.param(
            _allow("{namespaceSelector: {}, podSelector: {matchLabels: {app: api}}}"),
            OUTSIDE,
            "from[0] namespaceSelector {}, podSelector app=api does not match 198.51.100.7, which is no pod",
            id="an address for both selectors",
        ),
        pytest.param(
            _allow("{podSelector: {matchLabels: {app: web, tier: x}}}"),
            WEB,
            "from[0].podSelector tier=x does not match a pod without label tier",
            id="only what fails is told",
        ),
        pytest.param(
            _allow("{podSelector: {matchLabels: {app: api, tier: x}}}"),
            WEB,
            "from[0].podSelector app=api,tier=x does not match app=web without label tier",
            id="everything that fails is told",
        ),
        pytest.param(
            _allow("{ipBlock: {cidr: 192.0.2.0/24}}"),
            OUTSIDE,
            "from[0].ipBlock 192.0.2.0/24 does not match 198.51.100.7",
            id="outside the block",
        ),
        pytest.param(
            _allow("{ipBlock: {cidr: 198.51.0.0/16, except: [198.51.100.0/24]}}"),
            OUTSIDE,
            "from[0].ipBlock 198.51.0.0/16 except 198.51.100.0/24 does not match 198.51.100.7",
            id="excepted",
        ),
        pytest.param(
            _allow("{podSelector: {}}", "[{port: 80}]"),
            WEB,
            "ports[0] TCP/80 does not match TCP/5432",
            id="another port",
        ),
        pytest.param(
            _allow("{podSelector: {}}", "[{port: 80, endPort: 90}]"),
            WEB,
            "ports[0] TCP/80-90 does not match TCP/5432",
            id="outside the range",
        ),
        pytest.param(
            _allow("{podSelector: {}}", "[{protocol: UDP}]"), WEB, "ports[0] UDP does not match TCP/5432", id="protocol"
        ),
        pytest.param(
            _allow("{podSelector: {}}", "[{port: http}]"),
            WEB,
            "ports[0] TCP/http does not match shop/db, which has no port of that name",
            id="a name that the pod doesn't have",
        ),
        pytest.param(
            _allow("{podSelector: {}}", "[{port: dns}]"),
            WEB,
            "ports[0] TCP/dns does not match shop/db, which has no port of that name",
            id="a name of another protocol",
        ),
        pytest.param(
            _allow(API_PEER, "[{port: 80}]"),
            WEB,
            "from[0].podSelector app=api does not match app=web and ingress[0].ports[0] TCP/80 does not match TCP/5432",
            id="neither peer nor port",
        ),
        pytest.param(
            _allow(f"{API_PEER}, {{podSelector: {{matchLabels: {{app: web, x: y}}}}}}", "[]"),
            WEB,
            "from[0].podSelector app=api does not match app=web",
            id="of equally close peers the first",
        ),
        pytest.param(
            _allow("{podSelector: {matchLabels: {x: y, y: z}}}, {podSelector: {matchLabels: {app: api}}}", "[]"),
            WEB,
            "from[1].podSelector app=api does not match app=web",
            id="of several peers the closest",
        ),
    ],
)
def test_the_clause_that_failed_is_named(rule: Policy, source: EndpointId | Address, clause: str) -> None:
    assert _ask(rule, source=source) == (False, f"shop/db is isolated by shop/db-allow-api; ingress[0].{clause}")


def test_a_named_port_is_shown_with_its_number_at_the_destination() -> None:
    rule = _allow("{podSelector: {}}", "[{port: pg}]")
    reason = (
        "shop/db is isolated by shop/db-allow-api; ingress[0].ports[0] TCP/pg (5432 at shop/db) does not match TCP/80"
    )
    assert _ask(rule, port=80) == (False, reason)


def test_the_closest_rule_of_several_policies_is_named_with_its_policy() -> None:
    far, near = _allow(API_PEER, "[{port: 80}]", "a-far"), _allow(API_PEER, name="b-near")
    clause = "shop/b-near ingress[0].from[0].podSelector app=api does not match app=web"
    assert _ask(near, far) == (False, f"shop/db is isolated by shop/a-far, shop/b-near; {clause}")


def test_a_policy_that_allows_nothing_says_so() -> None:
    assert _ask(policy("{podSelector: {}}", "deny")) == (
        False,
        "shop/db is isolated by shop/deny; no rule allows any ingress",
    )


def test_egress_is_told_before_ingress() -> None:
    out = policy("{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress]}", "no-way-out")
    reason = "shop/web is isolated by shop/no-way-out; no rule allows any egress"
    assert _ask(out, policy("{podSelector: {}}", "deny")) == (False, reason)


def test_an_egress_rule_is_told_with_its_to() -> None:
    spec = (
        f"{{podSelector: {{matchLabels: {{app: web}}}}, policyTypes: [Egress], egress: [{{}}, {{to: [{API_PEER}]}}]}}"
    )
    cluster = snapshot(PODS, [policy(spec)])
    side = evaluate(cluster, WEB, DB, 80, Protocol.TCP).egress
    assert side.allowed_by == RuleRef(side.isolated_by[0], Direction.EGRESS, 0)
    assert str(side.allowed_by) == "shop/p egress[0]"


def test_what_allows_is_named() -> None:
    assert _ask(_allow(API_PEER), source=API) == (True, "shop/db-allow-api ingress[0] allows it")


def test_without_policies_the_reason_names_both_ends() -> None:
    assert _ask() == (True, "no policy isolates shop/web's egress; no policy isolates shop/db's ingress")


def test_an_end_that_is_no_pod_has_no_policy() -> None:
    assert _ask(source=OUTSIDE) == (True, "no policy isolates shop/db's ingress")
    assert _ask(source=OUTSIDE, destination=OUTSIDE) == (True, "neither end is a pod, so no policy applies")


def test_an_address_of_a_pod_is_that_pod() -> None:
    assert _ask(_allow(API_PEER), source=ip_address("10.0.0.1")) == _ask(_allow(API_PEER))


DENY = policy("{podSelector: {}, policyTypes: [Ingress, Egress]}", "deny")


@pytest.mark.parametrize(
    ("source", "destination", "protocol", "port", "special"),
    [
        pytest.param(DB, DB, Protocol.TCP, 80, Special.SELF, id="a pod to itself"),
        pytest.param(ip_address("192.0.2.1"), DB, Protocol.TCP, 80, Special.NODE, id="a node to its own pod"),
        pytest.param(ip_address("10.9.0.1"), DB, Protocol.TCP, 80, Special.NODE, id="a node's tunnel address counts"),
        pytest.param(ip_address("192.0.2.2"), DB, Protocol.TCP, 80, None, id="another node is not exempt"),
        pytest.param(OTHER, API, Protocol.UDP, 4789, Special.TUNNEL, id="a pod to the VXLAN port"),
        pytest.param(OTHER, OUTSIDE, Protocol.UDP, 4789, Special.TUNNEL, id="outside too"),
        pytest.param(OTHER, API, Protocol.TCP, 4789, None, id="the same port of TCP is ordinary"),
    ],
)
def test_what_is_decided_whatever_the_policies_say(
    source: EndpointId | Address,
    destination: EndpointId | Address,
    protocol: Protocol,
    port: int,
    special: Special | None,
) -> None:
    cluster = snapshot(PODS, [DENY], NAMESPACES, {"n1": ["192.0.2.1", "10.9.0.1"], "n2": ["192.0.2.2"]})
    verdict = evaluate(cluster, source, destination, port, protocol)
    assert verdict.special is special
    assert verdict.allowed is (special in (Special.SELF, Special.NODE))
    if special is not None:
        assert verdict.reason == special.value


def test_the_parts_hold_what_held_too() -> None:
    cluster = snapshot(PODS, [_allow(API_PEER)])
    miss = evaluate(cluster, WEB, DB, 5432, Protocol.TCP).ingress.closest
    assert miss is not None
    assert [(clause.field, clause.wanted, clause.found, clause.holds) for clause in miss.clauses] == [
        ("ingress[0].from[0].podSelector", "app=api", "app=web", False),
        ("ingress[0].ports[0]", "TCP/5432", "", True),
    ]
    assert str(miss.clauses[1]) == "ingress[0].ports[0] TCP/5432 matches"


def test_the_pair_chooses_the_family() -> None:
    dual = [pod("shop/web", ["10.0.0.1", "fd00::1"]), pod("shop/db", ["10.0.0.3", "fd00::3"], {"app": "db"})]
    cluster: Snapshot = snapshot(dual, [_allow("{ipBlock: {cidr: 0.0.0.0/0}}", "[]")])
    four = (ip_address("10.0.0.1"), ip_address("10.0.0.3"))
    six = (ip_address("fd00::1"), ip_address("fd00::3"))
    assert evaluate(cluster, WEB, DB, 80, Protocol.TCP).allowed
    assert evaluate(cluster, WEB, DB, 80, Protocol.TCP, pair=four).allowed
    assert not evaluate(cluster, WEB, DB, 80, Protocol.TCP, pair=six).allowed


def test_whoever_holds_the_address_counts_as_a_peer() -> None:
    old = pod("shop/old", "10.0.0.1", {"app": "api"})
    assert evaluate(snapshot([*PODS, old], [_allow(API_PEER)]), WEB, DB, 5432, Protocol.TCP).allowed


@pytest.mark.parametrize(
    ("source", "clause"),
    [
        pytest.param(WEB, "from[1].podSelector app=api does not match app=web", id="a pod: its labels"),
        pytest.param(OUTSIDE, "from[0].ipBlock 192.0.2.0/24 does not match 198.51.100.7", id="an address: the block"),
    ],
)
def test_a_pod_is_told_of_selectors_and_an_address_of_blocks(source: EndpointId | Address, clause: str) -> None:
    rule = _allow(f"{{ipBlock: {{cidr: 192.0.2.0/24}}}}, {API_PEER}")
    assert _ask(rule, source=source)[1].endswith(f"ingress[0].{clause}")


def test_of_two_pods_with_one_address_the_one_that_is_named_is_meant() -> None:
    shared = [pod("shop/new", "10.0.0.9", {"app": "db"}), pod("shop/old", "10.0.0.9")]
    cluster = snapshot([*PODS, *shared], [_allow(API_PEER)])
    assert not evaluate(cluster, WEB, EndpointId("shop/new"), 5432, Protocol.TCP).allowed
    assert evaluate(cluster, WEB, EndpointId("shop/old"), 5432, Protocol.TCP).allowed
