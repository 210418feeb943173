"""Listing links and routes, by pyroute2; the only module that names it.

Off the hot path only: its encoder takes 0.2-1 ms a message, which is nothing for a listing and too much for an ADD
(`kernel.batch`). Traps that shaped this module: its synchronous API refuses to run inside a running event loop, so
everything here is async; `get()` of an async socket yields one batch; `flush_routes` leaves routes behind, so routes
are deleted one by one (`kernel.routes`).
"""

import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from pyroute2 import AsyncIPRoute

from kernel.batch import NetlinkSocket
from kernel.errors import NetlinkError
from kernel.links import ROUTE_PROTOCOL, Link, Route
from kernel.podlink import get_link, link_of
from kernel.routes import change_messages, send

_MAIN = 254
_GLOBAL = 0
_BLACKHOLE = 6
_IFF_UP = 1


async def links(namespace: str | None = None) -> list[Link]:
    """Every link of this network namespace, or of the one at a path."""
    async with AsyncIPRoute(netns=namespace) as ipr:
        return [_link(message) async for message in await ipr.get_links()]


async def default_interface() -> Link | None:
    """The link of the default route (IPv4's, else IPv6's), or None where there is none."""
    async with AsyncIPRoute() as ipr:
        known = {link.index: link for link in [_link(message) async for message in await ipr.get_links()]}
        for family in (socket.AF_INET, socket.AF_INET6):
            async for message in await ipr.get_default_routes(family=family):
                found = known.get(message.get("oif") or 0)
                if found is not None:
                    return found
    return None


async def interface_of(addresses: Iterable[IPv4Address | IPv6Address]) -> Link | None:
    """The link that holds one of these addresses, or None."""
    wanted = set(addresses)
    async with AsyncIPRoute() as ipr:
        held = {_address(message): message["index"] async for message in await ipr.get_addr()}
        known = {link.index: link for link in [_link(message) async for message in await ipr.get_links()]}
    return next((known[held[address]] for address in wanted & held.keys() if held[address] in known), None)


async def addresses(index: int) -> list[IPv4Address | IPv6Address]:
    """The global addresses of a link, in the kernel's order."""
    async with AsyncIPRoute() as ipr:
        found = [message async for message in await ipr.get_addr(index=index, scope=_GLOBAL)]
    return [_address(message) for message in found]


async def routes(namespace: str | None = None) -> set[Route]:
    """Every route of ours in the main table."""
    found: set[Route] = set()
    async with AsyncIPRoute(netns=namespace) as ipr:
        names = {link.index: link.name for link in [_link(message) async for message in await ipr.get_links()]}
        for family in (socket.AF_INET, socket.AF_INET6):
            async for message in await ipr.route("dump", family=family):
                if message["proto"] == ROUTE_PROTOCOL and (message.get("table") or message["table"]) == _MAIN:
                    found.add(_route(message, names))
    return found


class NetlinkRoutes:
    """`kernel.routes.Routes` for the real kernel."""

    def __init__(self, sock: NetlinkSocket, namespace: str | None = None) -> None:
        self._socket = sock
        self._namespace = namespace

    async def read(self) -> set[Route]:
        """See `Routes.read`."""
        return await routes(self._namespace)

    def change(self, added: Iterable[Route], removed: Iterable[Route] = ()) -> None:
        """See `Routes.change`."""
        send(self._socket, change_messages(added, removed, self._index_of))

    def _index_of(self, name: str) -> int:
        try:
            (answer,) = self._socket.transact([get_link(name)])
        except NetlinkError:
            return 0
        return link_of(answer.body)[0].index


def _address(message: Any) -> IPv4Address | IPv6Address:  # noqa: ANN401
    return ip_address(message.get("local") or message.get("address"))


def _link(message: Any) -> Link:  # noqa: ANN401  # pyroute2's messages have no types
    return Link(
        index=message["index"],
        name=message.get("ifname") or "",
        up=bool(message["flags"] & _IFF_UP),
        group=message.get("group") or 0,
        alias=message.get("ifalias") or "",
        mtu=message.get("mtu") or 0,
    )


def _route(message: Any, names: dict[int, str]) -> Route:  # noqa: ANN401
    anywhere = "0.0.0.0" if message["family"] == socket.AF_INET else "::"  # noqa: S104  # a destination, not a listener
    destination = ip_network(f"{message.get('dst') or anywhere}/{message['dst_len']}")
    if message["type"] == _BLACKHOLE:
        return Route(destination)
    gateway = message.get("gateway")
    if gateway:
        return Route(destination, gateway=ip_address(gateway))
    return Route(destination, interface=names.get(message.get("oif") or 0, ""))
