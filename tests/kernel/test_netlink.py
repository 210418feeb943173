"""What is read of links on the real kernel."""

import asyncio
from ipaddress import ip_address

import pytest

from kernel import netlink
from kernel.links import Link
from tests.sandbox import Namespace, namespaces, needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]


def uplink(node: Namespace, *addresses: str) -> Link | None:
    wanted = [ip_address(address) for address in addresses]
    return node.inside(lambda: asyncio.run(netlink.interface_of(wanted)))


def test_the_link_that_holds_an_address_is_found_among_others() -> None:
    with namespaces("node") as [node]:
        node.ip("link add up0 mtu 1400 type bridge", "link add up1 mtu 1300 type bridge")
        node.ip("addr add 172.30.0.1/24 dev up0", "addr add 172.31.0.1/32 dev up1", "addr add fd30::1/64 dev up1")
        found = [uplink(node, *wanted) for wanted in (["172.30.0.1"], ["172.31.0.1"], ["fd30::1"])]
        assert [(link.name, link.mtu) for link in found if link] == [("up0", 1400), ("up1", 1300), ("up1", 1300)]
        assert uplink(node, "172.30.0.2") is None
        assert uplink(node) is None
