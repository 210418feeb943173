"""What is heard of changes on the real kernel, and what is passed over: an agent's own doings must not wake it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_network

import pytest

from kernel.changes import route_changes, table_changes
from kernel.iptables import Backend
from kernel.links import HOST_PREFIX, ROUTE_PROTOCOL
from tests.sandbox import Namespace, namespaces, needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]

_SOON_S = 3.0
_QUIET_S = 1.0
OWN = str(ROUTE_PROTOCOL)
NETWORK = str(ip_network("10.65.1.0/24"))


def hears(node: Namespace, listen: Callable[[], AsyncIterator[None]], wait_s: float, *change: str) -> bool:
    """Whether something is heard in this namespace within a time of a command that is run in it."""

    async def listening() -> bool:
        heard = asyncio.ensure_future(anext(listen()))
        await asyncio.sleep(0)  # its socket is open from here on
        node.run(*change)
        done, _ = await asyncio.wait([heard], timeout=wait_s)
        heard.cancel()
        return bool(done)

    return node.inside(lambda: asyncio.run(listening()))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(("ip", "route", "add", NETWORK, "dev", "lo"), id="another's route comes"),
        pytest.param(("ip", "route", "del", "10.65.9.0/24"), id="our route goes"),
        pytest.param(("ip", "-6", "route", "del", "fd65:9::/64"), id="our IPv6 route goes"),
        pytest.param(("ip", "link", "set", "up0", "down"), id="a link goes down"),
        pytest.param(("ip", "link", "del", "up0"), id="a link goes"),
    ],
)
def test_a_change_of_routes_or_links_is_heard(change: tuple[str, ...]) -> None:
    with namespaces("node") as [node]:
        node.run("ip", "link", "add", "up0", "up", "type", "bridge")
        node.run("ip", "link", "set", "lo", "up")
        node.run("ip", "route", "add", "10.65.9.0/24", "dev", "lo", "proto", OWN)
        node.run("ip", "-6", "route", "add", "fd65:9::/64", "dev", "lo", "proto", OWN)
        assert hears(node, route_changes, _SOON_S, *change)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(("ip", "route", "add", NETWORK, "dev", "lo", "proto", OWN), id="our route comes"),
        pytest.param(("ip", "link", "add", f"{HOST_PREFIX}1", "type", "bridge"), id="a pod's link comes"),
        pytest.param(("ip", "link", "del", f"{HOST_PREFIX}0"), id="a pod's link goes"),
    ],
)
def test_an_agents_own_doings_are_not_heard(change: tuple[str, ...]) -> None:
    with namespaces("node") as [node]:
        node.run("ip", "link", "set", "lo", "up")
        node.run("ip", "link", "add", f"{HOST_PREFIX}0", "type", "bridge")
        assert not hears(node, route_changes, _QUIET_S, *change)


@pytest.mark.parametrize("backend", list(Backend), ids=lambda backend: backend.value)
def test_a_flushed_table_is_heard(backend: Backend) -> None:
    with namespaces("node") as [node]:
        iptables = f"iptables-{backend.value}"
        node.run(iptables, "-t", "mangle", "-A", "FORWARD", "-j", "ACCEPT")

        def listen() -> AsyncIterator[None]:
            return table_changes(backend)

        assert hears(node, listen, _SOON_S, iptables, "-t", "mangle", "-F")
