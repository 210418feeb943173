"""Routes of ours: reading them back and changing many at once.

Other protocols' routes, even to the same destinations, are neither listed nor touched (our protocol number is in
`kernel.links`).
"""

import errno
from collections.abc import Callable, Iterable
from typing import Protocol

from kernel import podlink
from kernel.batch import Message, NetlinkSocket
from kernel.errors import NetlinkError
from kernel.links import Route

_AT_ONCE = 200
"""Messages in one send: their acknowledgements must fit into the socket's receive buffer (212,992 bytes)."""


class Routes(Protocol):
    """The main table's routes with our protocol number."""

    async def read(self) -> set[Route]:
        """Those that are there.

        Raises:
            KernelError: they can't be listed.
        """
        ...

    def change(self, added: Iterable[Route], removed: Iterable[Route] = ()) -> None:
        """Remove, then add or replace; what is so already stays so.

        Raises:
            KernelError: a route was refused, such as one by an interface that isn't there.
        """
        ...


def change_messages(added: Iterable[Route], removed: Iterable[Route], index_of: Callable[[str], int]) -> list[Message]:
    """The messages of a change; `index_of` gives an interface's index, 0 for one that has gone.

    Raises:
        NetlinkError: an added route's interface isn't there.
    """
    messages = []
    for route in removed:
        index = index_of(route.interface) if route.interface else 0
        if index or not route.interface:
            messages.append(podlink.delete_route(route.destination, index, blackhole=route.blackhole))
    for route in added:
        index = index_of(route.interface) if route.interface else 0
        if route.interface and not index:
            raise NetlinkError(f"route {route.destination}: no interface {route.interface}", errno.ENODEV)
        messages.append(podlink.replace_route(route.destination, index, route.gateway))
    return messages


def send(sock: NetlinkSocket, messages: list[Message]) -> None:
    """Send many messages in bounded portions.

    Raises:
        NetlinkError: one was refused; later portions are not sent.
    """
    for start in range(0, len(messages), _AT_ONCE):
        sock.transact(messages[start : start + _AT_ONCE])
