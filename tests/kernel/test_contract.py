"""One suite for the fake and the real kernel, on both iptables backends: what the drivers lean on (invariant 6)."""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address, ip_network

import pytest

from kernel import tables
from kernel.batch import NETLINK_NETFILTER, NetlinkSocket
from kernel.delta import chains_text, difference, hooks_text, removal_text
from kernel.errors import KernelError
from kernel.fake import FakeKernel, FakeRoutes
from kernel.ipset import Ipset, NetlinkMembers, spec_of
from kernel.iptables import Backend, Iptables
from kernel.links import Route
from kernel.netlink import NetlinkRoutes
from kernel.routes import Routes
from kernel.runner import Runner
from kernel.sets import Member, SetName, SetSpec, SetType, address_interface, address_port, network
from kernel.tables import ACCEPT, DROP, RETURN, Chain, ChainName, Family, Rule, Table, TableName
from tests.sandbox import namespaces, needs_sandbox

A, B = ChainName("TORTIE-A"), ChainName("TORTIE-B")
PEERS = SetSpec(SetName("tt4-p-peers"), SetType.ADDRESSES, Family.IPV4, 1000)


@dataclass
class Kernel:
    """The drivers of one kernel, and a way to break things behind their back."""

    iptables: Iptables
    ipset: Ipset
    routes: Routes
    runner: Runner

    def apply(self, table: TableName, desired: Table, family: Family = Family.IPV4) -> None:
        found = difference(desired, self.iptables.read(family, table))
        if found.changed or found.stale:
            self.iptables.restore(family, chains_text(table, found.changed, found.stale))
        actual = self.iptables.read(family, table)
        if difference(desired, actual).hooks:
            self.iptables.restore(family, hooks_text(table, desired, actual))

    def behind_our_back(self, table: TableName, *lines: str) -> None:
        self.iptables.restore(Family.IPV4, "\n".join([f"*{table.value}", *lines, "COMMIT", ""]))


@pytest.fixture(
    params=[
        pytest.param("fake"),
        pytest.param("legacy", marks=[needs_sandbox, pytest.mark.kernel]),
        pytest.param("nft", marks=[needs_sandbox, pytest.mark.kernel]),
    ]
)
def kernel(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    if request.param == "fake":
        fake = FakeKernel()
        fake.interfaces = {"va"}
        yield Kernel(Iptables(fake, Backend.NFT), Ipset(fake, fake), FakeRoutes(fake), fake)
        return
    with namespaces("node") as [node]:
        node.ip("link add va type veth peer name vb", "link set va up", "link set vb up")
        node.ip("addr add 10.0.0.1/24 dev va", "addr add fd00::1/64 dev va nodad")
        netfilter = node.inside(lambda: NetlinkSocket.open(NETLINK_NETFILTER))
        route = node.inside(NetlinkSocket.open)
        yield Kernel(
            Iptables(node.runner, Backend(request.param)),
            Ipset(node.runner, NetlinkMembers(netfilter)),
            NetlinkRoutes(route, node.path),
            node.runner,
        )
        netfilter.close()
        route.close()


def table_of(*chains: Chain, **hooks: tuple[Rule, ...]) -> Table:
    return Table({chain.name: chain for chain in chains}, hooks)


def chain(name: ChainName, *rules: Rule) -> Chain:
    return Chain(name, rules)


PASS = Rule((), ACCEPT, "everything")
STOP = Rule(tables.source("10.0.0.0/8"), DROP, "shop/db ingress[0]")
HOOK = Rule(tables.interface_in("tort+"), tables.jump(A), "from pods")
SECOND_HOOK = Rule(tables.interface_out("tort+"), tables.jump(A), "to pods")


class TestTables:
    def test_chains_come_back_by_the_identity_of_their_rules_in_order(self, kernel: Kernel) -> None:
        desired = table_of(chain(A, STOP, PASS), chain(B))
        kernel.apply(TableName.MANGLE, desired)
        actual = kernel.iptables.read(Family.IPV4, TableName.MANGLE)
        assert actual.chains == {A: (STOP.identity, PASS.identity), B: ()}
        assert not difference(desired, actual)

    def test_families_and_tables_are_apart(self, kernel: Kernel) -> None:
        kernel.apply(TableName.MANGLE, table_of(chain(A, PASS)), Family.IPV6)
        assert kernel.iptables.read(Family.IPV4, TableName.MANGLE).chains == {}
        assert kernel.iptables.read(Family.IPV6, TableName.FILTER).chains == {}
        assert kernel.iptables.read(Family.IPV6, TableName.MANGLE).chains == {A: (PASS.identity,)}

    def test_a_changed_rule_and_a_missing_rule_are_noticed_and_mended(self, kernel: Kernel) -> None:
        desired = table_of(chain(A, STOP, PASS))
        kernel.apply(TableName.MANGLE, desired)
        kernel.behind_our_back(TableName.MANGLE, "-F TORTIE-A", "-A TORTIE-A -j ACCEPT")
        assert difference(desired, kernel.iptables.read(Family.IPV4, TableName.MANGLE)).changed
        kernel.apply(TableName.MANGLE, desired)
        assert not difference(desired, kernel.iptables.read(Family.IPV4, TableName.MANGLE))

    def test_a_refused_line_applies_nothing_of_its_table(self, kernel: Kernel) -> None:
        wrong = Rule(tables.in_set("tt4-nosuch", "src"), DROP)
        with pytest.raises(KernelError):
            kernel.apply(TableName.MANGLE, table_of(chain(A, PASS), chain(B, wrong)))
        assert kernel.iptables.read(Family.IPV4, TableName.MANGLE).chains == {}

    def test_chains_that_name_each_other_are_made_and_removed_in_one_step(self, kernel: Kernel) -> None:
        to_b, to_nothing = Rule((), tables.goto(B)), Rule((), RETURN)
        kernel.apply(TableName.MANGLE, table_of(chain(A, to_b), chain(B, to_nothing)))
        kernel.apply(TableName.MANGLE, table_of())
        assert kernel.iptables.read(Family.IPV4, TableName.MANGLE).chains == {}

    def test_a_chain_that_a_foreign_rule_names_cannot_be_removed_and_nothing_is_lost(self, kernel: Kernel) -> None:
        kernel.apply(TableName.MANGLE, table_of(chain(A, PASS), chain(B, STOP)))
        kernel.behind_our_back(TableName.MANGLE, "-A FORWARD -j TORTIE-A")
        with pytest.raises(KernelError):
            kernel.apply(TableName.MANGLE, table_of(chain(B, PASS)))
        actual = kernel.iptables.read(Family.IPV4, TableName.MANGLE)
        assert actual.chains == {A: (PASS.identity,), B: (STOP.identity,)}

    def test_hooks_go_to_the_head_and_stay_in_order(self, kernel: Kernel) -> None:
        kernel.behind_our_back(TableName.MANGLE, '-A FORWARD -s 192.0.2.1 -m comment --comment "not ours" -j DROP')
        kernel.apply(TableName.MANGLE, table_of(chain(A, PASS), FORWARD=(HOOK, SECOND_HOOK)))
        hooks = kernel.iptables.read(Family.IPV4, TableName.MANGLE).hooks
        assert [rule.identity for rule in hooks["FORWARD"]] == [HOOK.identity, SECOND_HOOK.identity]
        saved = kernel.runner.run((f"iptables-{kernel.iptables.backend.value}-save", "-t", "mangle"))
        order = [line for line in saved.splitlines() if line.startswith("-A FORWARD")]
        assert "192.0.2.1" in order[2]

    def test_removed_hooks_come_back_and_twice_is_once(self, kernel: Kernel) -> None:
        desired = table_of(chain(A, PASS), FORWARD=(HOOK, SECOND_HOOK))
        kernel.apply(TableName.MANGLE, desired)
        kernel.behind_our_back(TableName.MANGLE, "-F FORWARD")
        kernel.apply(TableName.MANGLE, desired)
        kernel.apply(TableName.MANGLE, desired)
        actual = kernel.iptables.read(Family.IPV4, TableName.MANGLE)
        assert [rule.identity for rule in actual.hooks["FORWARD"]] == [HOOK.identity, SECOND_HOOK.identity]

    def test_hooks_in_the_wrong_order_or_doubled_are_put_right(self, kernel: Kernel) -> None:
        kernel.apply(TableName.MANGLE, table_of(chain(A, PASS), FORWARD=(SECOND_HOOK, HOOK, SECOND_HOOK)))
        desired = table_of(chain(A, PASS), FORWARD=(HOOK, SECOND_HOOK))
        kernel.apply(TableName.MANGLE, desired)
        actual = kernel.iptables.read(Family.IPV4, TableName.MANGLE)
        assert [rule.identity for rule in actual.hooks["FORWARD"]] == [HOOK.identity, SECOND_HOOK.identity]

    def test_a_rule_that_somebody_puts_above_ours_does_not_make_us_move(self, kernel: Kernel) -> None:
        desired = table_of(chain(A, PASS), FORWARD=(HOOK,))
        kernel.apply(TableName.MANGLE, desired)
        kernel.behind_our_back(TableName.MANGLE, "-I FORWARD 1 -s 192.0.2.1 -j DROP")
        assert not difference(desired, kernel.iptables.read(Family.IPV4, TableName.MANGLE))

    def test_hooks_nobody_wants_any_more_go(self, kernel: Kernel) -> None:
        kernel.apply(TableName.MANGLE, table_of(chain(A, PASS), FORWARD=(HOOK,), INPUT=(HOOK,)))
        kernel.apply(TableName.MANGLE, table_of(chain(A, PASS), INPUT=(HOOK,)))
        assert set(kernel.iptables.read(Family.IPV4, TableName.MANGLE).hooks) == {"INPUT"}

    @pytest.mark.parametrize(
        ("length", "fits"), [pytest.param(28, True, id="28 bytes"), pytest.param(29, False, id="29 bytes")]
    )
    def test_a_chain_name_has_at_most_28_bytes(self, kernel: Kernel, length: int, fits: bool) -> None:
        name = ChainName("TORTIE-" + "x" * (length - 7))
        if fits:
            kernel.apply(TableName.MANGLE, table_of(chain(name, PASS)))
            return
        with pytest.raises(KernelError):
            kernel.apply(TableName.MANGLE, table_of(chain(name, PASS)))

    def test_a_note_longer_than_a_comment_is_cut_and_still_recognised(self, kernel: Kernel) -> None:
        desired = table_of(chain(A, Rule((), DROP, "namespace/" + "long-" * 100 + " ingress[3]")))
        kernel.apply(TableName.MANGLE, desired)
        assert not difference(desired, kernel.iptables.read(Family.IPV4, TableName.MANGLE))

    @pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp"])
    def test_fifteen_ports_fit_one_rule_a_range_taking_two(self, kernel: Kernel, protocol: str) -> None:
        spans = [(port, port) for port in range(1, 14)] + [(100, 200)]
        kernel.apply(TableName.MANGLE, table_of(chain(A, Rule(tables.protocol(protocol) + tables.ports(*spans), DROP))))
        one_more = tables.protocol(protocol) + tables.ports(*spans, (300, 300))
        with pytest.raises(KernelError):
            kernel.apply(TableName.MANGLE, table_of(chain(A, Rule(one_more, DROP))))


class TestRemoval:
    def test_everything_of_ours_goes_and_nothing_else(self, kernel: Kernel) -> None:
        kernel.behind_our_back(TableName.FILTER, ":KUBE-X - [0:0]", "-A FORWARD -j KUBE-X")
        for table in (TableName.MANGLE, TableName.FILTER):
            kernel.apply(
                table, table_of(chain(A, Rule((), tables.goto(B))), chain(B, PASS), FORWARD=(HOOK, SECOND_HOOK))
            )
        for table, actual in kernel.iptables.read_all(Family.IPV4).items():
            text = removal_text(table, actual)
            if text:
                kernel.iptables.restore(Family.IPV4, text)
        for actual in kernel.iptables.read_all(Family.IPV4).values():
            assert (actual.chains, actual.hooks) == ({}, {})
        saved = kernel.runner.run((f"iptables-{kernel.iptables.backend.value}-save", "-t", "filter"))
        assert "-A FORWARD -j KUBE-X" in saved

    def test_nothing_of_ours_is_nothing_to_do(self, kernel: Kernel) -> None:
        assert all(not removal_text(*item) for item in kernel.iptables.read_all(Family.IPV4).items())


EVERY_MATCH = {
    "interface in": tables.interface_in("tort+"),
    "not interface out": tables.interface_out("tort+", negate=True),
    "protocol number": tables.protocol("4"),
    "set": tables.in_set("tt4-p-peers", "src"),
    "not in set": tables.in_set("tt4-p-peers", "dst", negate=True),
    "connection state": tables.connection_state("RELATED", "ESTABLISHED"),
    "mark": tables.mark(0x01000000, 0x0F000000),
    "not mark": tables.mark(0x01000000, 0x0F000000, negate=True),
    "address type": tables.address_type("src", "LOCAL", negate=True),
    "icmp": tables.icmp_type("redirect"),
    "limit": tables.limit("10/sec"),
}
EVERY_TARGET = {
    "mark": tables.set_mark(0x01000000, 0x0F000000),
    "nflog": tables.nflog(12, "tt:d:shop/db ingress"),
    "drop": DROP,
}


@pytest.mark.parametrize("match", [pytest.param(value, id=key) for key, value in EVERY_MATCH.items()])
def test_every_match_we_write_is_accepted_and_recognised(kernel: Kernel, match: tuple[str, ...]) -> None:
    kernel.ipset.create([PEERS])
    desired = table_of(chain(A, Rule(match, DROP, "a note")))
    kernel.apply(TableName.MANGLE, desired)
    assert not difference(desired, kernel.iptables.read(Family.IPV4, TableName.MANGLE))


@pytest.mark.parametrize("target", [pytest.param(value, id=key) for key, value in EVERY_TARGET.items()])
def test_every_target_we_write_is_accepted_and_recognised(kernel: Kernel, target: tuple[str, ...]) -> None:
    desired = table_of(chain(A, Rule((), target, "a note")))
    kernel.apply(TableName.MANGLE, desired)
    assert not difference(desired, kernel.iptables.read(Family.IPV4, TableName.MANGLE))


def test_icmpv6_with_its_hop_limit_is_accepted_and_recognised(kernel: Kernel) -> None:
    desired = table_of(chain(A, Rule(tables.icmpv6_type(135, hop_limit=255), DROP)))
    kernel.apply(TableName.MANGLE, desired, Family.IPV6)
    assert not difference(desired, kernel.iptables.read(Family.IPV6, TableName.MANGLE))


MEMBERS = {
    SetType.ADDRESSES: {
        Family.IPV4: [Member("10.65.0.1"), Member("10.65.0.200")],
        Family.IPV6: [Member(str(ip_address("fd65:0:0:0::1"))), Member("2001:db8:1:0:2::")],
    },
    SetType.NETWORKS: {
        Family.IPV4: [network(ip_network("10.0.0.0/8")), network(ip_network("192.0.2.7/32"))],
        Family.IPV6: [network(ip_network("fd00::/8")), network(ip_network("2001:db8::1/128"))],
    },
    SetType.ADDRESS_INTERFACES: {
        Family.IPV4: [address_interface(ip_address("10.65.0.1"), "tort0123456789a")],
        Family.IPV6: [address_interface(ip_address("fd65::1"), "tort0123456789a")],
    },
    SetType.ADDRESS_PORTS: {
        Family.IPV4: [address_port(ip_address("10.65.0.1"), name, 53) for name in ("tcp", "udp", "sctp")],
        Family.IPV6: [address_port(ip_address("fd65::1"), name, 53) for name in ("tcp", "udp", "sctp")],
    },
}


@pytest.mark.parametrize("family", list(Family), ids=lambda family: family.name)
@pytest.mark.parametrize("kind", list(SetType), ids=lambda kind: kind.value)
@pytest.mark.parametrize("many", [False, True], ids=["by netlink", "by restore"])
class TestMembers:
    def test_members_come_back_as_they_were_written(
        self, kernel: Kernel, kind: SetType, family: Family, many: bool
    ) -> None:
        spec = SetSpec(SetName(f"tt{family.value}-x"), kind, family, 5000)
        other = SetSpec(SetName(f"tt{family.value}-other"), SetType.NETWORKS, family)
        members = MEMBERS[kind][family]
        kernel.ipset.create([spec, other])
        filler = [
            (other.name, network(ip_network((n << (16 if family is Family.IPV4 else 112), 16)))) for n in range(1, 100)
        ]
        kernel.ipset.change([(spec.name, member) for member in members] + (filler if many else []))
        found = kernel.ipset.read()
        assert found[spec.name].members == set(members)
        assert spec_of(spec.name, found[spec.name]) == spec
        kernel.ipset.change([], [(spec.name, members[0])] + (filler if many else []))
        assert kernel.ipset.read()[spec.name].members == set(members[1:])

    def test_adding_what_is_there_and_removing_what_is_not_is_fine(
        self, kernel: Kernel, kind: SetType, family: Family, many: bool
    ) -> None:
        spec = SetSpec(SetName(f"tt{family.value}-x"), kind, family, 5000)
        kernel.ipset.create([spec])
        times = 50 if many else 1
        member = MEMBERS[kind][family][0]
        for _ in range(2):
            kernel.ipset.change([(spec.name, member)] * 2 * times)
        for _ in range(2):
            kernel.ipset.change([], [(spec.name, member)] * 2 * times)
        assert kernel.ipset.read()[spec.name].members == set()


class TestSets:
    def test_making_a_set_again_keeps_its_members(self, kernel: Kernel) -> None:
        kernel.ipset.create([PEERS])
        kernel.ipset.change([(PEERS.name, Member("10.65.0.1"))])
        kernel.ipset.create([PEERS])
        assert kernel.ipset.read()[PEERS.name].members == {"10.65.0.1"}

    def test_a_set_of_the_same_name_and_another_kind_is_refused(self, kernel: Kernel) -> None:
        kernel.ipset.create([PEERS])
        with pytest.raises(KernelError, match="same name"):
            kernel.ipset.create([SetSpec(PEERS.name, SetType.NETWORKS, Family.IPV4, 1000)])

    def test_a_set_in_use_is_not_destroyed(self, kernel: Kernel) -> None:
        kernel.ipset.create([PEERS])
        kernel.apply(TableName.MANGLE, table_of(chain(A, Rule(tables.in_set(PEERS.name, "src"), DROP))))
        with pytest.raises(KernelError, match="in use"):
            kernel.ipset.destroy([PEERS.name])
        kernel.apply(TableName.MANGLE, table_of())
        kernel.ipset.destroy([PEERS.name])
        assert kernel.ipset.read() == {}

    def test_sets_of_others_are_not_seen(self, kernel: Kernel) -> None:
        kernel.runner.run(("ipset", "restore", "-exist"), "create KUBE-X hash:ip family inet maxelem 9\n")
        assert kernel.ipset.read() == {}

    @pytest.mark.parametrize("by_netlink", [True, False])
    def test_a_full_set_says_so(self, kernel: Kernel, by_netlink: bool) -> None:
        kernel.ipset.create([SetSpec(PEERS.name, PEERS.type, PEERS.family, 10)])
        count = 30 if by_netlink else 300
        with pytest.raises(KernelError):
            kernel.ipset.change([(PEERS.name, Member(f"10.0.{n // 256}.{n % 256}")) for n in range(count)])

    @pytest.mark.parametrize("count", [1, 100])
    def test_members_of_a_set_that_is_not_there_are_refused(self, kernel: Kernel, count: int) -> None:
        with pytest.raises(KernelError):
            kernel.ipset.change([(SetName("tt4-nosuch"), Member(f"10.0.0.{n}")) for n in range(count)])

    def test_hash_net_refuses_every_address(self, kernel: Kernel) -> None:
        kernel.ipset.create([SetSpec(SetName("tt4-n"), SetType.NETWORKS, Family.IPV4)])
        with pytest.raises(KernelError):
            kernel.ipset.change([(SetName("tt4-n"), Member("0.0.0.0/0"))])

    @pytest.mark.parametrize(
        ("length", "fits"), [pytest.param(31, True, id="31 bytes"), pytest.param(32, False, id="32 bytes")]
    )
    def test_a_set_name_has_at_most_31_bytes(self, kernel: Kernel, length: int, fits: bool) -> None:
        name = SetName("tt4-" + "x" * (length - 4))
        if fits:
            kernel.ipset.create([SetSpec(name, SetType.ADDRESSES, Family.IPV4)])
            assert name in kernel.ipset.read()
            return
        with pytest.raises(KernelError):
            kernel.ipset.create([SetSpec(name, SetType.ADDRESSES, Family.IPV4)])


ROUTES = {
    Route(ip_network("10.65.0.0/26")),
    Route(ip_network("10.65.1.0/26"), gateway=ip_address("10.0.0.9")),
    Route(ip_network("10.65.0.7/32"), interface="va"),
    Route(ip_network("fd65::/122")),
    Route(ip_network("fd65:1::/122"), gateway=ip_address("fd00::9")),
    Route(ip_network("fd65::7/128"), interface="va"),
}


class TestRoutes:
    async def test_routes_come_back_as_they_were_written_and_twice_is_once(self, kernel: Kernel) -> None:
        for _ in range(2):
            kernel.routes.change(ROUTES)
            assert await kernel.routes.read() == ROUTES

    async def test_removing_is_idempotent(self, kernel: Kernel) -> None:
        kernel.routes.change(ROUTES)
        for _ in range(2):
            kernel.routes.change([], ROUTES)
            assert await kernel.routes.read() == set()

    async def test_a_route_moves_to_another_gateway(self, kernel: Kernel) -> None:
        before = Route(ip_network("10.65.1.0/26"), gateway=ip_address("10.0.0.9"))
        after = Route(ip_network("10.65.1.0/26"), gateway=ip_address("10.0.0.8"))
        kernel.routes.change([before])
        kernel.routes.change([after])
        assert await kernel.routes.read() == {after}

    async def test_a_route_by_an_interface_that_is_not_there_is_refused(self, kernel: Kernel) -> None:
        with pytest.raises(KernelError):
            kernel.routes.change([Route(ip_network("10.65.0.9/32"), interface="tortnone")])

    async def test_a_thousand_routes_go_in_and_all_of_them_go(self, kernel: Kernel) -> None:
        many = {
            Route(ip_network((int(IPv4Address("10.66.0.0")) + number * 64, 26)), gateway=ip_address("10.0.0.9"))
            for number in range(1000)
        }
        kernel.routes.change(many)
        assert await kernel.routes.read() == many
        kernel.routes.change([], many)
        assert await kernel.routes.read() == set()
