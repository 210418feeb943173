"""The walk does what ip_tables does, and refuses what it doesn't know."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from kernel import tables
from kernel.sets import Member, SetName, SetSpec, SetType
from kernel.tables import ACCEPT, DROP, RETURN, Chain, ChainName, Family, Rule, Table, TableName, goto, jump
from kernel.walk import FORWARDED, RECEIVED, SENT, Packet, Unwalkable, walk

A, B, C = ChainName("A"), ChainName("B"), ChainName("C")
HOOK = ((TableName.MANGLE, "FORWARD"),)
PACKET = Packet(ip_address("10.0.0.1"), ip_address("10.0.0.2"), "tcp", 80, "tort1", "eth0")
SIX = Packet(ip_address("fd00::1"), ip_address("fd00::2"), "ipv6-icmp", icmp_type=135, hop_limit=255)


@dataclass(frozen=True)
class _Set:
    spec: SetSpec
    members: frozenset[Member]


def _rule(target: tuple[str, ...], *match: str) -> Rule:
    return Rule(match, target)


def _table(hook: Iterable[Rule], **chains: Iterable[Rule]) -> dict[TableName, Table]:
    made = {ChainName(name): Chain(ChainName(name), tuple(rules)) for name, rules in chains.items()}
    return {TableName.MANGLE: Table(made, {"FORWARD": tuple(hook)})}


MARK_1 = tables.set_mark(1, 1)
UNMARKED_DROP = _rule(DROP, *tables.mark(1, 1, negate=True))


@pytest.mark.parametrize(
    ("hook", "chains", "accepted", "met"),
    [
        pytest.param([], {}, True, 0, id="nothing of ours"),
        pytest.param([_rule(DROP)], {}, False, 1, id="DROP ends it"),
        pytest.param([_rule(ACCEPT), _rule(DROP)], {}, True, 1, id="ACCEPT ends it"),
        pytest.param([_rule(RETURN), _rule(DROP)], {}, True, 1, id="RETURN in a built-in chain is its policy"),
        pytest.param([_rule(jump(A)), _rule(DROP)], {"A": []}, False, 2, id="-j comes back at the end"),
        pytest.param(
            [_rule(jump(A)), _rule(DROP)], {"A": [_rule(RETURN), _rule(ACCEPT)]}, False, 3, id="RETURN comes back"
        ),
        pytest.param(
            [_rule(goto(A)), _rule(DROP)], {"A": []}, True, 1, id="-g from a built-in chain ends in its policy"
        ),
        pytest.param(
            [_rule(jump(A)), _rule(DROP)],
            {"A": [_rule(goto(B)), _rule(ACCEPT)], "B": []},
            False,
            3,
            id="-g skips the rest of the chain it is said in",
        ),
        pytest.param(
            [_rule(jump(A)), _rule(DROP)],
            {"A": [_rule(goto(B)), _rule(ACCEPT)], "B": [_rule(goto(C)), _rule(ACCEPT)], "C": [_rule(MARK_1)]},
            False,
            5,
            id="-g twice comes back behind the last -j",
        ),
        pytest.param(
            [_rule(jump(A)), UNMARKED_DROP], {"A": [_rule(MARK_1)]}, True, 3, id="MARK goes on, and the mark stays"
        ),
        pytest.param([_rule(tables.nflog(1, "x")), _rule(DROP)], {}, False, 2, id="NFLOG goes on"),
    ],
)
def test_ways_through_chains(hook: list[Rule], chains: dict[str, list[Rule]], accepted: bool, met: int) -> None:
    found = walk(_table(hook, **chains), {}, HOOK, PACKET)
    assert (found.accepted, len(found.path)) == (accepted, met)


def test_the_path_tells_where_each_rule_stood_and_whether_it_matched() -> None:
    no, yes = _rule(jump(A), *tables.protocol("udp")), _rule(jump(A), *tables.protocol("tcp"))
    found = walk(_table([no, yes], A=[_rule(DROP)]), {}, HOOK, PACKET)
    assert [(step.chain, step.matched) for step in found.path] == [("FORWARD", False), ("FORWARD", True), ("A", True)]
    assert found.met(TableName.MANGLE, "FORWARD") == 2


@pytest.mark.parametrize(
    ("match", "packet", "expected"),
    [
        pytest.param(tables.interface_in("tort+"), PACKET, True, id="an interface by prefix"),
        pytest.param(tables.interface_in("tort"), PACKET, False, id="an interface by name"),
        pytest.param(tables.interface_in("tort+", negate=True), PACKET, False, id="not by an interface"),
        pytest.param(tables.interface_out("eth0"), PACKET, True, id="the way out"),
        pytest.param(tables.protocol("udp"), PACKET, False, id="another protocol"),
        pytest.param(tables.protocol("4"), Packet(PACKET.source, PACKET.destination, "4"), True, id="a number"),
        pytest.param(tables.source("10.0.0.0/31"), PACKET, True, id="source"),
        pytest.param(tables.source("10.0.0.2/32"), PACKET, False, id="another source"),
        pytest.param(tables.destination("10.0.0.2"), PACKET, True, id="destination"),
        pytest.param((*tables.protocol("tcp"), *tables.ports((80, 80))), PACKET, True, id="a port"),
        pytest.param((*tables.protocol("tcp"), *tables.ports((1, 1), (79, 81))), PACKET, True, id="a range"),
        pytest.param((*tables.protocol("tcp"), *tables.ports((81, 90))), PACKET, False, id="another range"),
        pytest.param(tables.connection_state("RELATED", "ESTABLISHED"), PACKET, False, id="a new connection"),
        pytest.param(tables.connection_state("NEW"), PACKET, True, id="it is new"),
        pytest.param(tables.mark(0, 0xF), PACKET, True, id="unmarked"),
        pytest.param(tables.mark(1, 0xF, negate=True), PACKET, True, id="not marked"),
        pytest.param(tables.address_type("src", "LOCAL", negate=True), PACKET, True, id="not the node's own"),
        pytest.param(tables.icmpv6_type(135, hop_limit=255), SIX, True, id="neighbour solicitation"),
        pytest.param(tables.icmpv6_type(135, hop_limit=254), SIX, False, id="from further away"),
        pytest.param(tables.icmpv6_type(134), SIX, False, id="another ICMPv6 type"),
        pytest.param(
            tables.icmp_type("redirect"),
            Packet(PACKET.source, PACKET.destination, "icmp", icmp_type=5),
            True,
            id="redirect",
        ),
        pytest.param(tables.icmp_type("redirect"), PACKET, False, id="no ICMP at all"),
        pytest.param(tables.limit("10/sec"), PACKET, True, id="a limit has room"),
        pytest.param(("-m", "comment", "--comment", '"tt:1 x"'), PACKET, True, id="a comment says nothing"),
    ],
)
def test_conditions(match: tuple[str, ...], packet: Packet, expected: bool) -> None:
    assert walk(_table([Rule(match, DROP)]), {}, HOOK, packet).accepted is not expected


@pytest.mark.parametrize(
    ("kind", "member", "directions", "expected"),
    [
        pytest.param(SetType.ADDRESSES, "10.0.0.1", "src", True, id="an address"),
        pytest.param(SetType.ADDRESSES, "10.0.0.1", "dst", False, id="the other end's address"),
        pytest.param(SetType.NETWORKS, "10.0.0.0/30", "dst", True, id="a network"),
        pytest.param(SetType.NETWORKS, "10.0.0.1", "src", True, id="a network of one address"),
        pytest.param(SetType.NETWORKS, "10.0.1.0/24", "src", False, id="another network"),
        pytest.param(SetType.ADDRESS_INTERFACES, "10.0.0.1,tort1", "src,src", True, id="where it comes in"),
        pytest.param(SetType.ADDRESS_INTERFACES, "10.0.0.1,tort2", "src,src", False, id="where it doesn't"),
        pytest.param(SetType.ADDRESS_INTERFACES, "10.0.0.1,eth0", "src,dst", True, id="where it goes out"),
        pytest.param(
            SetType.ADDRESS_INTERFACES, "10.0.0.0/24,tort1", "src,src", True, id="a network, where it comes in"
        ),
        pytest.param(SetType.ADDRESS_INTERFACES, "10.0.0.0/24,tort2", "src,src", False, id="by another link"),
        pytest.param(SetType.ADDRESS_PORTS, "10.0.0.2,tcp:80", "dst,dst", True, id="address and port"),
        pytest.param(SetType.ADDRESS_PORTS, "10.0.0.2,udp:80", "dst,dst", False, id="another protocol's port"),
    ],
)
def test_sets(kind: SetType, member: str, directions: str, expected: bool) -> None:
    name = SetName("s")
    sets = {name: _Set(SetSpec(name, kind, Family.IPV4), frozenset({Member(member)}))}
    found = walk(_table([_rule(DROP, *tables.in_set("s", *directions.split(",")))]), sets, HOOK, PACKET)
    assert found.accepted is not expected
    other = walk(_table([_rule(DROP, *tables.in_set("s", *directions.split(","), negate=True))]), sets, HOOK, PACKET)
    assert other.accepted is expected


FOUR_SET = {SetName("s"): _Set(SetSpec(SetName("s"), SetType.ADDRESSES, Family.IPV4), frozenset())}


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(_rule(DROP, "--string", "x"), id="an option"),
        pytest.param(_rule(DROP, "--mark", "1/1"), id="an option without its module"),
        pytest.param(_rule(DROP, "-m", "multiport", "--dports", "80"), id="multiport without a protocol"),
        pytest.param(
            _rule(DROP, "-p", "tcp", "-m", "multiport", "--dports", ",".join(map(str, range(16)))), id="16 ports"
        ),
        pytest.param(_rule(DROP, "-p", "tcp", "-m", "multiport", "--dports", ",".join(["1:2"] * 8)), id="8 ranges"),
        pytest.param(_rule(DROP, "-m", "addrtype", "--src-type", "UNICAST"), id="an address type"),
        pytest.param(_rule(DROP, "-m", "conntrack", "--ctstate", "DNAT"), id="a connection state"),
        pytest.param(_rule(DROP, "-s", "10.0.0.1/8"), id="a network with host bits"),
        pytest.param(_rule(DROP, *tables.in_set("gone", "src")), id="a set that isn't there"),
        pytest.param(_rule(DROP, *tables.in_set("s", "src", "src")), id="directions that the set doesn't have"),
        pytest.param(_rule(jump(A)), id="a chain that isn't there"),
        pytest.param(_rule(("-j", "MARK", "--and-mark", "1")), id="an option of MARK"),
        pytest.param(_rule(("-x", "A")), id="a verb"),
    ],
)
def test_what_is_not_known_is_refused(rule: Rule) -> None:
    with pytest.raises(Unwalkable):
        walk(_table([rule]), FOUR_SET, HOOK, PACKET)


def test_a_set_of_the_other_family_is_refused() -> None:
    with pytest.raises(Unwalkable, match="other family"):
        walk(_table([_rule(DROP, *tables.in_set("s", "src"))]), FOUR_SET, HOOK, SIX)


@pytest.mark.parametrize("verb", [jump, goto])
def test_a_loop_is_refused(verb: Callable[[ChainName], tuple[str, ...]]) -> None:
    with pytest.raises(Unwalkable, match="again and again"):
        walk(_table([_rule(verb(A))], A=[_rule(verb(A))]), {}, HOOK, PACKET)


def test_a_packet_meets_the_tables_in_the_kernels_order_and_keeps_its_mark() -> None:
    drop_unmarked = Table({}, {"FORWARD": (UNMARKED_DROP,)})
    marking = Table({}, {"FORWARD": (_rule(MARK_1),)})
    found = walk({TableName.FILTER: drop_unmarked, TableName.MANGLE: marking}, {}, FORWARDED, PACKET)
    assert found.accepted
    assert [step.table for step in found.path] == [TableName.MANGLE, TableName.FILTER]
    assert found.packet.mark == 1


def test_interfaces_are_known_only_where_the_kernel_knows_them() -> None:
    out_early = Table({}, {"PREROUTING": (_rule(DROP, *tables.interface_out("eth0")),)})
    in_late = Table({}, {"POSTROUTING": (_rule(DROP, *tables.interface_in("tort1")),)})
    assert walk({TableName.RAW: out_early}, {}, RECEIVED, PACKET).accepted
    assert walk({TableName.MANGLE: in_late}, {}, SENT, PACKET).accepted
    assert walk({TableName.MANGLE: in_late}, {}, FORWARDED, PACKET).accepted
