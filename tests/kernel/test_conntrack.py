"""conntrack of an address is forgotten whole, and only that address's."""

import socket
from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import ip_address

import pytest

from kernel import conntrack
from kernel.batch import NETLINK_NETFILTER, NetlinkSocket
from tests.sandbox import Namespace, namespaces, needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]

ADDRESSES = {4: ("10.9.0.1", "10.9.0.2", "10.9.0.3"), 6: ("fd09::1", "fd09::2", "fd09::3")}


@pytest.fixture
def node() -> Iterator[Namespace]:
    with namespaces("node") as [namespace]:
        namespace.ip(*(f"addr add {address} dev lo" for addresses in ADDRESSES.values() for address in addresses))
        for command in ("iptables", "ip6tables"):
            namespace.run(command, "-A", "OUTPUT", "-m", "conntrack", "--ctstate", "NEW", "-j", "ACCEPT")
        yield namespace


def flow(source: str, destination: str) -> None:
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as server, socket.socket(family, socket.SOCK_DGRAM) as client:
        server.bind((destination, 0))
        client.bind((source, 0))
        client.sendto(b"x", server.getsockname())


def flows(node: Namespace) -> list[tuple[str, str]]:
    """(source, destination) of every entry, from the kernel's own list."""
    lines = node.run("cat", "/proc/net/nf_conntrack").splitlines()
    fields = [dict(word.split("=", 1) for word in reversed(line.split()) if "=" in word) for line in lines]
    return sorted((str(ip_address(field["src"])), str(ip_address(field["dst"]))) for field in fields)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("forget", [conntrack.forget, conntrack.forget_one_by_one], ids=["by filter", "one by one"])
def test_flows_begun_and_answered_by_the_address_go_and_others_stay(
    node: Namespace, forget: Callable[[NetlinkSocket, conntrack.Address], None], version: int
) -> None:
    first, second, third = ADDRESSES[version]
    pairs = [(first, second), (second, first), (second, third), (third, first), (third, third)]
    for pair in pairs:
        node.inside(partial(flow, *pair))
    assert flows(node) == sorted(pairs)
    sock = node.inside(lambda: NetlinkSocket.open(NETLINK_NETFILTER))
    for _ in range(2):
        forget(sock, ip_address(first))
        assert flows(node) == sorted([(second, third), (third, third)])
    sock.close()
