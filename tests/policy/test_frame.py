"""The fixed chains, packet by packet: whose address a pod may use, and what is decided whatever the policies say."""

from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from kernel import sets
from kernel.tables import Family, Rule, Table, TableName
from kernel.walk import FORWARDED, RECEIVED, SENT, Packet, Stages, Walk, walk
from policy.compiler import Compiler
from policy.settings import Settings
from tests.policy.cluster import addresses, pod, policy
from tests.policy.nodes import send, tables_of

WEB, DB, REMOTE = ("10.0.0.1", "fd00::1"), ("10.0.0.2", "fd00::2"), ("10.0.1.1", "fd00::101")
NODE, OTHER_NODE, OUTSIDE = (
    ("192.0.2.1", "2001:db8::1"),
    ("192.0.2.2", "2001:db8::2"),
    ("198.51.100.7", "2001:db8:f::7"),
)
WEB_LINK, DB_LINK, UNKNOWN_LINK, UPLINK = "tortshop-web", "tortshop-db", "tort000000000ff", "eth0"
DENY = "{podSelector: {}, policyTypes: [Ingress, Egress]}"
OURS = Settings().mark


def _compiler(*specs: str, settings: Settings | None = None) -> Compiler:
    compiler = Compiler("n1", settings)
    for endpoint in (pod("shop/web", WEB), pod("shop/db", DB), pod("shop/remote", REMOTE, node="n2")):
        compiler.set_endpoint(endpoint)
    compiler.set_node("n1", addresses(*NODE))
    compiler.set_node("n2", addresses(*OTHER_NODE))
    for number, spec in enumerate(specs):
        compiler.set_policy(policy(spec, f"p{number}"))
    return compiler


OPEN, ISOLATED = _compiler(), _compiler(DENY)

both_families = pytest.mark.parametrize("six", [pytest.param(0, id="IPv4"), pytest.param(1, id="IPv6")])
every_state = pytest.mark.parametrize("state", ["NEW", "ESTABLISHED", "RELATED"])


def _packet(
    source: str,
    destination: str,
    came_in: str = "",
    goes_out: str = "",
    *,
    protocol: str = "tcp",
    port: int | None = 80,
    state: str = "NEW",
    mark: int = 0,
    icmp_type: int | None = None,
    hop_limit: int = 64,
    source_local: bool = False,
) -> Packet:
    return Packet(
        ip_address(source),
        ip_address(destination),
        protocol,
        port,
        came_in,
        goes_out,
        state,
        mark,
        icmp_type,
        hop_limit,
        source_local,
    )


def _passes(compiler: Compiler, stages: Stages, packet: Packet) -> bool:
    return send(compiler, stages, packet).accepted


def _without(compiler: Compiler, name: TableName, packet: Packet, stages: Stages) -> Walk:
    """The same after somebody has flushed a table."""
    tables = {**tables_of(compiler, sets.family_of(packet.source)), name: Table()}
    return walk(tables, compiler.desired.sets, stages, packet)


@both_families
@every_state
@pytest.mark.parametrize(
    "source",
    [
        pytest.param(DB, id="a neighbour's"),
        pytest.param(REMOTE, id="a remote pod's"),
        pytest.param(OUTSIDE, id="any"),
        pytest.param(NODE, id="the node's"),
    ],
)
def test_a_pod_cannot_send_from_an_address_that_is_not_its_own(six: int, state: str, source: tuple[str, str]) -> None:
    for stages in (FORWARDED, RECEIVED):
        own = _packet(WEB[six], OUTSIDE[six], WEB_LINK, UPLINK, state=state)
        spoofed = _packet(source[six], OUTSIDE[six], WEB_LINK, UPLINK, state=state)
        assert _passes(OPEN, stages, own)
        found = send(OPEN, stages, spoofed)
        assert not found.accepted
        assert found.path[-1].table is TableName.RAW


@both_families
@every_state
def test_a_local_pods_address_from_elsewhere_is_dropped(six: int, state: str) -> None:
    for link in (UPLINK, "vxlan.tortie", "docker0"):
        assert not _passes(OPEN, FORWARDED, _packet(WEB[six], DB[six], link, DB_LINK, state=state))
        assert not _passes(OPEN, RECEIVED, _packet(WEB[six], NODE[six], link, state=state))
    assert _passes(OPEN, RECEIVED, _packet(WEB[six], NODE[six], "lo", state=state))
    assert _passes(OPEN, FORWARDED, _packet(REMOTE[six], DB[six], UPLINK, DB_LINK, state=state))


@both_families
@every_state
def test_an_interface_that_nobody_claims_gets_nothing_through(six: int, state: str) -> None:
    assert not _passes(OPEN, FORWARDED, _packet(WEB[six], DB[six], UNKNOWN_LINK, DB_LINK, state=state))
    assert not _passes(OPEN, FORWARDED, _packet("10.0.0.99", OUTSIDE[0], UNKNOWN_LINK, UPLINK, state=state))
    assert not _passes(OPEN, RECEIVED, _packet(WEB[six], NODE[six], UNKNOWN_LINK, state=state))


@both_families
def test_nothing_new_goes_out_to_an_address_that_nobody_claims(six: int) -> None:
    stranger = ("10.0.0.99", "fd00::99")[six]
    assert not _passes(OPEN, FORWARDED, _packet(WEB[six], stranger, WEB_LINK, UNKNOWN_LINK))
    assert not _passes(OPEN, FORWARDED, _packet(OUTSIDE[six], stranger, UPLINK, UNKNOWN_LINK))
    transparent = _packet(OUTSIDE[six], stranger, "", UNKNOWN_LINK)
    assert not _passes(OPEN, SENT, transparent)


@both_families
@every_state
@pytest.mark.parametrize(
    ("protocol", "port"), [pytest.param("udp", 4789, id="VXLAN"), pytest.param("4", None, id="IP in IP")]
)
def test_pods_send_no_tunnels(six: int, state: str, protocol: str, port: int | None) -> None:
    tunnel = _packet(WEB[six], NODE[six], WEB_LINK, UPLINK, protocol=protocol, port=port, state=state)
    assert not _passes(OPEN, RECEIVED, tunnel)
    assert not _passes(OPEN, FORWARDED, tunnel)


@both_families
def test_a_service_does_not_help_a_pod_to_the_vxlan_port(six: int) -> None:
    after_dnat = _packet(WEB[six], NODE[six], WEB_LINK, UPLINK, protocol="udp", port=4789)
    assert not _passes(OPEN, RECEIVED[1:], after_dnat)
    assert not _passes(OPEN, FORWARDED[1:], after_dnat)


@both_families
def test_only_nodes_may_send_vxlan_to_the_node(six: int) -> None:
    def from_(source: tuple[str, str]) -> bool:
        return _passes(OPEN, RECEIVED, _packet(source[six], NODE[six], UPLINK, protocol="udp", port=4789))

    assert from_(OTHER_NODE)
    assert not from_(OUTSIDE)
    assert not from_(REMOTE)


@pytest.mark.parametrize(
    ("source", "protocol", "expected"),
    [
        pytest.param("fe80::1", "ipv6-icmp", True, id="ICMPv6 from a link-local address"),
        pytest.param("::", "ipv6-icmp", True, id="ICMPv6 from nowhere yet"),
        pytest.param("fe80::1", "tcp", False, id="TCP from a link-local address"),
        pytest.param("::", "udp", False, id="UDP from nowhere"),
        pytest.param("fd00::2", "ipv6-icmp", False, id="ICMPv6 from a neighbour's address"),
    ],
)
def test_what_ipv6_needs_comes_in_from_a_pods_link(source: str, protocol: str, expected: bool) -> None:
    packet = _packet(source, "ff02::1", WEB_LINK, protocol=protocol, port=None, icmp_type=135, hop_limit=255)
    assert _passes(OPEN, RECEIVED[:1], packet) is expected


@pytest.mark.parametrize(
    ("kind", "hop_limit", "expected"),
    [
        pytest.param(133, 255, True, id="router solicitation"),
        pytest.param(135, 255, True, id="neighbour solicitation"),
        pytest.param(136, 255, True, id="neighbour advertisement"),
        pytest.param(135, 64, False, id="one that was forwarded"),
        pytest.param(134, 255, False, id="router advertisement"),
        pytest.param(137, 255, False, id="redirect"),
        pytest.param(128, 64, False, id="ping"),
    ],
)
def test_an_isolated_pod_still_finds_its_router(kind: int, hop_limit: int, expected: bool) -> None:
    packet = _packet("fe80::1", NODE[1], WEB_LINK, protocol="ipv6-icmp", port=None, icmp_type=kind, hop_limit=hop_limit)
    assert _passes(ISOLATED, RECEIVED, packet) is expected


@pytest.mark.parametrize("kind", [134, 137])
@every_state
def test_no_pod_tells_its_node_about_ipv6_routes(kind: int, state: str) -> None:
    packet = _packet("fe80::1", NODE[1], WEB_LINK, protocol="ipv6-icmp", port=None, icmp_type=kind, state=state)
    assert not _passes(OPEN, RECEIVED, packet)


@every_state
def test_no_pod_tells_its_node_about_ipv4_routes(state: str) -> None:
    packet = _packet(WEB[0], NODE[0], WEB_LINK, protocol="icmp", port=None, icmp_type=5, state=state)
    assert not _passes(OPEN, RECEIVED, packet)


@both_families
def test_a_packet_back_to_its_sender_passes(six: int) -> None:
    assert _passes(ISOLATED, FORWARDED, _packet(WEB[six], WEB[six], WEB_LINK, WEB_LINK))
    assert not _passes(ISOLATED, FORWARDED, _packet(WEB[six], DB[six], WEB_LINK, DB_LINK))


@both_families
def test_a_node_reaches_its_own_isolated_pods_by_what_is_local_and_not_by_its_address(six: int) -> None:
    assert _passes(ISOLATED, SENT, _packet(NODE[six], WEB[six], "", WEB_LINK, source_local=True))
    assert not _passes(ISOLATED, SENT, _packet(OUTSIDE[six], WEB[six], "", WEB_LINK))
    assert not _passes(ISOLATED, FORWARDED, _packet(NODE[six], WEB[six], UPLINK, WEB_LINK))
    assert not _passes(ISOLATED, FORWARDED, _packet(OTHER_NODE[six], WEB[six], UPLINK, WEB_LINK))


@both_families
def test_what_the_node_sends_for_others_is_judged_when_it_is_new(six: int) -> None:
    reply = _packet(OUTSIDE[six], WEB[six], "", WEB_LINK, state="ESTABLISHED")
    assert _passes(ISOLATED, SENT, reply)
    assert _passes(OPEN, SENT, _packet(OUTSIDE[six], WEB[six], "", WEB_LINK))


@both_families
@pytest.mark.parametrize(
    ("state", "expected"), [("NEW", False), ("ESTABLISHED", True), ("RELATED", True), ("INVALID", False)]
)
def test_replies_and_related_errors_pass_isolation(six: int, state: str, expected: bool) -> None:
    for packet in (
        _packet(OUTSIDE[six], WEB[six], UPLINK, WEB_LINK, state=state),
        _packet(WEB[six], OUTSIDE[six], WEB_LINK, UPLINK, state=state),
    ):
        assert _passes(ISOLATED, FORWARDED, packet) is expected
    assert _passes(ISOLATED, RECEIVED, _packet(WEB[six], NODE[six], WEB_LINK, state=state)) is expected


@both_families
def test_what_conntrack_cannot_place_never_passes_to_or_from_a_pod(six: int) -> None:
    assert not _passes(OPEN, FORWARDED, _packet(OUTSIDE[six], WEB[six], UPLINK, WEB_LINK, state="INVALID"))
    assert not _passes(OPEN, FORWARDED, _packet(WEB[six], OUTSIDE[six], WEB_LINK, UPLINK, state="INVALID"))


@both_families
@pytest.mark.parametrize("mark", [OURS, 0x0F000000, 0x02000000])
def test_a_mark_from_elsewhere_opens_nothing(six: int, mark: int) -> None:
    assert not _passes(ISOLATED, FORWARDED, _packet(OUTSIDE[six], WEB[six], UPLINK, WEB_LINK, mark=mark))
    assert not _passes(ISOLATED, RECEIVED, _packet(WEB[six], NODE[six], WEB_LINK, mark=mark))


@both_families
def test_the_mark_leaves_the_packet_and_other_bits_stay(six: int) -> None:
    forwarded = send(OPEN, FORWARDED, _packet(OUTSIDE[six], WEB[six], UPLINK, WEB_LINK, mark=0x4000))
    received = send(OPEN, RECEIVED, _packet(WEB[six], NODE[six], WEB_LINK, mark=0x4000))
    judged = send(OPEN, SENT, _packet(OUTSIDE[six], WEB[six], "", WEB_LINK, mark=0x4000))
    assert [one.packet.mark for one in (forwarded, received, judged)] == [0x4000] * 3


@both_families
def test_without_mangle_nothing_passes_and_without_filter_policy_stands(six: int) -> None:
    forwarded = _packet(OUTSIDE[six], WEB[six], UPLINK, WEB_LINK)
    received = _packet(WEB[six], NODE[six], WEB_LINK)
    for packet, stages in ((forwarded, FORWARDED), (received, RECEIVED)):
        assert not _without(OPEN, TableName.MANGLE, packet, stages).accepted
        assert _without(OPEN, TableName.FILTER, packet, stages).accepted
        assert not _without(ISOLATED, TableName.FILTER, packet, stages).accepted


@both_families
@pytest.mark.parametrize("state", ["NEW", "ESTABLISHED", "INVALID"])
def test_other_peoples_packets_are_not_looked_at(six: int, state: str) -> None:
    for stages in (FORWARDED, RECEIVED, SENT):
        packet = _packet(OUTSIDE[six], OTHER_NODE[six], "eth1", "docker0", state=state, mark=0x0F00_4000)
        found = send(ISOLATED, stages, packet)
        assert found.accepted
        assert found.packet.mark == packet.mark
        assert not any(step.matched for step in found.path)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param("{ingress: [{}]}", True, id="a rule without ports allows every protocol"),
        pytest.param("{ingress: [{ports: [{port: 80}]}]}", False, id="a rule with ports allows no ping"),
        pytest.param("{ingress: []}", False, id="isolation stops ping"),
    ],
)
def test_ping_follows_rules_without_ports(spec: str, expected: bool) -> None:
    ping = _packet(OUTSIDE[0], WEB[0], UPLINK, WEB_LINK, protocol="icmp", port=None, icmp_type=8)
    assert _passes(_compiler(spec), FORWARDED, ping) is expected


def test_settings_stand_in_the_rules() -> None:
    settings = Settings(mark=0x200, mark_mask=0xF00, vxlan_port=8472, nflog_group=9)
    compiler = _compiler(DENY, settings=settings)
    assert not _passes(compiler, FORWARDED, _packet(OUTSIDE[0], WEB[0], UPLINK, WEB_LINK, mark=0x200))
    assert not _passes(compiler, RECEIVED, _packet(OUTSIDE[0], NODE[0], UPLINK, protocol="udp", port=8472))
    assert _passes(compiler, RECEIVED, _packet(OUTSIDE[0], NODE[0], UPLINK, protocol="udp", port=4789))
    words = {word for rule in _rules(compiler) for word in (*rule.match, *rule.target)}
    assert "0x200/0xf00" in words
    assert not any("f000000" in word for word in words)


def _rules(compiler: Compiler) -> Iterator[Rule]:
    for table in compiler.desired.tables.values():
        for rules in (*table.hooks.values(), *(chain.rules for chain in table.chains.values())):
            yield from rules


def test_notes_come_back_from_iptables_save_as_they_went_in() -> None:
    for rule in _rules(_compiler(DENY, "{ingress: [{}]}")):
        assert rule.note
        assert not set(rule.note) & set("\"'\\\n`$")


def test_every_table_of_both_families_is_there() -> None:
    assert set(OPEN.desired.tables) == {
        (family, name) for family in Family for name in (TableName.RAW, TableName.MANGLE, TableName.FILTER)
    }
