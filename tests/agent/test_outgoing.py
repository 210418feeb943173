"""natOutgoing with real packets: who has no route back is reached, and pods see each other's own addresses."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.runtime import CONFIG
from tests.host import OUTSIDE, POOLS, Host, hosts, pool
from tests.sandbox import Namespace, needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]

_PORT = 7777
_SAYS_WHO_ASKS = f"""
import socket
with socket.create_server(("::", {_PORT}), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
    print("ready", flush=True)
    while True:
        connection, (peer, *_) = listener.accept()
        with connection:
            connection.sendall(peer.removeprefix("::ffff:").encode())
"""


@contextmanager
def answering(where: Namespace) -> Iterator[None]:
    server = where.python(_SAYS_WHO_ASKS)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield
    finally:
        server.kill()
        server.communicate()


def seen_as(asking: Namespace, address: str) -> str:
    """The address by which a server sees who asks from a namespace; empty if nothing comes back."""

    def ask() -> str:
        try:
            with socket.create_connection((address, _PORT), timeout=3) as connection:
                return connection.recv(100).decode()
        except OSError:
            return ""

    return asking.inside(ask)


def say(host: Host, *, nat: bool, disabled: bool = False) -> None:
    spec = {"natOutgoing": nat, "disabled": disabled}
    host.apply(*({**pool(name, cidr), "spec": {"cidr": cidr, **spec}} for name, cidr in POOLS.items()))


def eventually_seen(asking: Namespace, expected: list[str]) -> None:
    limit = time.monotonic() + 30
    while (found := [seen_as(asking, address) for address in OUTSIDE]) != expected:
        assert time.monotonic() < limit, found


def add(host: Host, container: str) -> tuple[Namespace, list[str]]:
    where = host.pod()
    said = host.call("ADD", CONFIG, container, where.path)
    assert said.status == 0, said.out
    return where, [one["address"].partition("/")[0] for one in json.loads(said.out)["ips"]]


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_pods_leave_with_their_nodes_address_and_meet_each_other_with_their_own(tmp_path: Path, backend: str) -> None:
    with hosts(tmp_path, start=False) as host:
        host.start("--iptables", backend)
        host.namespace.ip(*(f"route add default via {address}" for address in OUTSIDE))
        host.outside.ip(*(f"route del {cidr}" for cidr in POOLS.values()))  # there is no way back to pods
        (asking, own), (other, others) = add(host, "c1"), add(host, "c2")
        with answering(host.outside), answering(other), answering(host.namespace):
            assert [seen_as(asking, address) for address in OUTSIDE] == ["", ""]
            say(host, nat=True)
            eventually_seen(asking, ["172.30.0.1", "fd30::1"])
            assert [seen_as(asking, address) for address in others] == own
            assert [seen_as(asking, address) for address in ("172.30.0.1", "fd30::1")] == own
            assert [seen_as(host.namespace, address) for address in OUTSIDE] == ["172.30.0.1", "fd30::1"]
            say(host, nat=True, disabled=True)  # no new addresses; those given are pods as ever
            assert [seen_as(asking, address) for address in others] == own
            assert [seen_as(asking, address) for address in OUTSIDE] == ["172.30.0.1", "fd30::1"]
            say(host, nat=False)
            eventually_seen(asking, ["", ""])
            limit = time.monotonic() + 30
            while "TORTIE" in host.namespace.run(f"iptables-{backend}-save", "-t", "nat"):
                assert time.monotonic() < limit
        assert host.status()["repairs"] == 0
