"""A node that changes its iptables backend keeps nothing of ours in the old one, and all of others'."""

from collections.abc import Iterator

import pytest

from agent.backend import leave_other_than
from agent.dataplane import Dataplane
from kernel.batch import NETLINK_NETFILTER, NetlinkSocket
from kernel.ipset import Ipset, NetlinkMembers
from kernel.iptables import Backend, Iptables
from kernel.tables import Family
from policy.compiler import Compiler
from tests.sandbox import Namespace, namespaces, needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]


@pytest.fixture
def node() -> Iterator[Namespace]:
    with namespaces("node") as [namespace]:
        yield namespace


@pytest.mark.parametrize(("before", "after"), [(Backend.NFT, Backend.LEGACY), (Backend.LEGACY, Backend.NFT)])
async def test_our_rules_leave_the_old_backend_and_others_stay(
    node: Namespace, before: Backend, after: Backend
) -> None:
    node.run(f"iptables-{before.value}", "-A", "FORWARD", "-s", "192.0.2.1", "-j", "DROP")
    sock = node.inside(lambda: NetlinkSocket.open(NETLINK_NETFILTER))
    for backend in (before, after):
        iptables = Iptables(node.runner, backend)
        await Dataplane(Compiler("node-1"), iptables, Ipset(node.runner, NetlinkMembers(sock))).start()
    leave_other_than(after, node.runner)
    old, new = (Iptables(node.runner, backend) for backend in (before, after))
    for family in Family:
        assert all((actual.chains, actual.hooks) == ({}, {}) for actual in old.read_all(family).values())
        assert any(actual.hooks for actual in new.read_all(family).values())
    assert "192.0.2.1" in node.run(f"iptables-{before.value}-save")
    leave_other_than(after, node.runner)
    sock.close()
