"""What one policy's rules become: iptables' words, and the sets they need."""

import pytest

from kernel.tables import MAX_CHAIN_NAME, MAX_NFLOG_PREFIX, Chain, Family
from policy import names
from policy.model import Direction, Pods, PortName, Protocol
from policy.names import Networks, SetExpression
from policy.render import Rendered, group_chain, render
from policy.resolve import group_of
from policy.selectors import EVERYTHING, one_of, select
from policy.settings import Settings
from tests.policy.cluster import policy

API = Pods("shop", select([one_of("app", "api")]))
ALL = Pods("shop", EVERYTHING)
API_PEER, ALL_PEER = "{podSelector: {matchLabels: {app: api}}}", "{podSelector: {}}"
HTTP = PortName(Protocol.TCP, "http")


def _rendered(rule: str, family: Family = Family.IPV4, direction: Direction = Direction.INGRESS) -> Rendered:
    head = "" if direction is Direction.INGRESS else "policyTypes: [Egress], "
    rendered = render(policy(f"{{{head}{direction.value}: [{rule}]}}"), direction, family)
    assert rendered is not None
    return rendered


def _words(rule: str, family: Family = Family.IPV4, direction: Direction = Direction.INGRESS) -> list[str]:
    return [" ".join(rendered.match) for rendered in _rendered(rule, family, direction).rules]


def _name(expression: SetExpression, family: Family = Family.IPV4) -> str:
    return names.expression_set(family, expression).name


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        pytest.param("{}", [""], id="everything"),
        pytest.param(f"{{from: [{API_PEER}]}}", [f"-m set --match-set {_name(API)} src"], id="a selector"),
        pytest.param(
            f"{{from: [{API_PEER}, {ALL_PEER}, {API_PEER}]}}",
            [f"-m set --match-set {_name(API)} src", f"-m set --match-set {_name(ALL)} src"],
            id="two selectors, one of them twice",
        ),
        pytest.param("{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}", ["-s 10.0.0.0/8"], id="a lone block is no set"),
        pytest.param(
            "{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.128.0.0/9]}}]}", ["-s 10.0.0.0/9"], id="nor is its half"
        ),
        pytest.param("{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}", [""], id="everywhere is no match at all"),
        pytest.param(
            "{from: [{ipBlock: {cidr: 0.0.0.0/1}}, {ipBlock: {cidr: 128.0.0.0/1}}]}", [""], id="two halves neither"
        ),
        pytest.param(
            f"{{from: [{API_PEER}, {{ipBlock: {{cidr: 0.0.0.0/0}}}}]}}", [""], id="beside everywhere nothing counts"
        ),
        pytest.param("{from: [{ipBlock: {cidr: '::/0'}}]}", [], id="everywhere in the other family is nobody here"),
        pytest.param(
            "{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/9, 10.128.0.0/9]}}]}",
            [],
            id="nothing left is nobody",
        ),
        pytest.param("{ports: [{port: 80}]}", ["-p tcp -m multiport --dports 80"], id="a port"),
        pytest.param("{ports: [{}]}", ["-p tcp"], id="a protocol alone"),
        pytest.param(
            "{ports: [{port: 80}, {protocol: TCP}, {port: http}]}", ["-p tcp"], id="a protocol holds its ports"
        ),
        pytest.param(
            "{ports: [{port: 443}, {port: 80}, {port: 53, protocol: UDP}, {port: 80, endPort: 90}]}",
            ["-p tcp -m multiport --dports 80,80:90,443", "-p udp -m multiport --dports 53"],
            id="ports of one protocol together",
        ),
        pytest.param("{ports: [{port: 9, protocol: SCTP}]}", ["-p sctp -m multiport --dports 9"], id="SCTP stays SCTP"),
        pytest.param(
            "{ports: [{port: http}]}", [f"-p tcp -m set --match-set {_name(HTTP)} dst,dst"], id="a name is a set"
        ),
        pytest.param(
            f"{{from: [{API_PEER}], ports: [{{port: 80}}, {{port: 53, protocol: UDP}}]}}",
            [
                f"-p tcp -m multiport --dports 80 -m set --match-set {_name(API)} src",
                f"-p udp -m multiport --dports 53 -m set --match-set {_name(API)} src",
            ],
            id="each port clause with each peer",
        ),
    ],
)
def test_an_ingress_rule(rule: str, expected: list[str]) -> None:
    assert _words(rule) == expected


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        pytest.param(
            f"{{to: [{API_PEER}]}}", [f"-m set --match-set {_name(API)} dst"], id="the peer is the destination"
        ),
        pytest.param("{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}", ["-d 10.0.0.0/8"], id="a block too"),
        pytest.param(
            "{ports: [{port: http}]}",
            [f"-p tcp -m set --match-set {_name(HTTP)} dst,dst"],
            id="a named port is the destination's here too",
        ),
    ],
)
def test_an_egress_rule(rule: str, expected: list[str]) -> None:
    assert _words(rule, Family.IPV4, Direction.EGRESS) == expected


def test_a_multiport_match_holds_15_slots_and_a_range_takes_two() -> None:
    numbers = ", ".join(f"{{port: {number}}}" for number in range(1, 33, 2))
    assert [words.count(",") + 1 for words in _words(f"{{ports: [{numbers}]}}")] == [15, 1]
    ranges = ", ".join(f"{{port: {number}, endPort: {number + 1}}}" for number in range(10, 90, 10))
    assert [words.count(",") + 1 for words in _words(f"{{ports: [{ranges}]}}")] == [7, 1]


def test_several_blocks_share_a_set_of_their_networks() -> None:
    rule = "{from: [{ipBlock: {cidr: 10.0.0.0/8}}, {ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.128/25]}}]}"
    rendered = _rendered(rule)
    (need,) = rendered.needs
    assert isinstance(need, Networks)
    assert need.members == ("10.0.0.0/8", "192.0.2.0/25")
    assert [rule.match for rule in rendered.rules] == [("-m", "set", "--match-set", _name(need), "src")]


def test_each_family_has_its_own_blocks_and_its_own_sets() -> None:
    rule = f"{{from: [{{ipBlock: {{cidr: 10.0.0.0/8}}}}, {{ipBlock: {{cidr: 'fd00::/8'}}}}, {API_PEER}]}}"
    assert _words(rule) == [f"-m set --match-set {_name(API)} src", "-s 10.0.0.0/8"]
    assert _words(rule, Family.IPV6) == [f"-m set --match-set {_name(API, Family.IPV6)} src", "-s fd00::/8"]


def test_rules_need_what_they_look_up() -> None:
    rendered = _rendered(
        f"{{from: [{API_PEER}, {{ipBlock: {{cidr: 10.0.0.0/8}}}}], ports: [{{port: http}}, {{port: 80}}]}}"
    )
    assert rendered.needs == {API, HTTP}


def test_equal_expressions_share_a_set_and_different_ones_do_not() -> None:
    expressions: list[SetExpression] = [
        API,
        ALL,
        HTTP,
        PortName(Protocol.UDP, "http"),
        Networks(()),
        Pods(EVERYTHING, EVERYTHING),
    ]
    found = {names.expression_set(family, one).name for one in expressions for family in Family}
    assert len(found) == 2 * len(expressions)
    assert _name(Pods("shop", select([one_of("app", "api")]))) == _name(API)


def test_notes_name_policy_and_rule() -> None:
    found = render(policy("{ingress: [{}, {ports: [{port: 80}]}]}", "db-allow-api"), Direction.INGRESS, Family.IPV4)
    assert found is not None
    assert [rule.note for rule in found.rules] == ["shop/db-allow-api ingress[0]", "shop/db-allow-api ingress[1]"]


GROUP = group_of([]).id


def _chain(*specs: str, direction: Direction = Direction.INGRESS) -> Chain:
    policies = [policy(spec, name) for spec, name in zip(specs, "ab", strict=False)]
    rendered = [(one.key, render(one, direction, Family.IPV4)) for one in policies]
    return group_chain(direction, GROUP, rendered, Settings(nflog_group=7, nflog_per_second=3))


def test_a_group_that_nothing_isolates_allows_everything() -> None:
    for chain in (_chain(), _chain("{policyTypes: [Egress]}")):
        assert [(rule.match, rule.target) for rule in chain.rules] == [((), ("-g", "TORTIE-ALLOW"))]
        assert chain.rules[0].note == "no policy isolates ingress"


def test_an_isolated_group_allows_then_tells_then_drops() -> None:
    chain = _chain("{ingress: [{ports: [{port: 80}]}]}", "{ingress: []}")
    assert [rule.target[:2] for rule in chain.rules] == [("-g", "TORTIE-ALLOW"), ("-j", "NFLOG"), ("-j", "DROP")]
    assert chain.rules[1].match == ("-m", "limit", "--limit", "3/sec")
    assert chain.rules[1].target[2:] == ("--nflog-group", "7", "--nflog-prefix", f'"tt:deny:ingress:{GROUP}"')
    assert chain.rules[2].match == ()
    assert chain.rules[2].note == "ingress isolated by shop/a, shop/b"


def test_a_policy_without_rules_still_isolates() -> None:
    assert [rule.target[1] for rule in _chain("{ingress: []}").rules] == ["NFLOG", "DROP"]


def test_names_fit_the_kernels_limits() -> None:
    for direction in Direction:
        assert len(names.group_chain(direction, GROUP)) <= MAX_CHAIN_NAME
        assert len(names.bucket_chain(direction, 9999)) <= MAX_CHAIN_NAME
        assert len(names.group_set(Family.IPV6, direction, GROUP)) <= 31
        assert len(names.deny_prefix(direction, GROUP)) <= MAX_NFLOG_PREFIX
    assert len(_name(API, Family.IPV6)) <= 31
