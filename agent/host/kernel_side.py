"""Everything of ours in this host's kernel, removed: rules, sets, routes, links; others' things are not looked at.

Pods' links first, so that no packet passes while the rules go; then rules, because the kernel keeps a set that a rule
names; then sets and routes.
"""

import time

from agent.backend import leave
from kernel import netlink, podlink
from kernel.batch import NETLINK_NETFILTER, NetlinkSocket
from kernel.errors import CommandFailed
from kernel.ipset import Ipset, NetlinkMembers
from kernel.iptables import Backend
from kernel.links import is_host_interface
from kernel.runner import CommandRunner

_IN_USE_TRIES = 20
"""nft lets go of a deleted rule's sets a moment after the transaction."""
_IN_USE_PAUSE_S = 0.05


async def clean() -> list[str]:
    """Remove all of it, and give what there was, in words.

    Raises:
        KernelError: something can't be removed.
    """
    runner = CommandRunner()
    links = await _links()
    rules = [f"rules in {left}" for backend in Backend for left in leave(backend, runner)]
    return [*links, *rules, *_sets(runner), *await _routes()]


async def _links() -> list[str]:
    found = [link for link in await netlink.links() if is_host_interface(link.name)]
    sock = NetlinkSocket.open()
    try:
        sock.transact([podlink.delete_link(link.index, link.name) for link in found])
    finally:
        sock.close()
    return [f"link {link.name}" for link in found]


def _sets(runner: CommandRunner) -> list[str]:
    sock = NetlinkSocket.open(NETLINK_NETFILTER)
    try:
        ipset = Ipset(runner, NetlinkMembers(sock))
        names = sorted(ipset.read())
        for attempt in range(_IN_USE_TRIES):
            try:
                ipset.destroy(sorted(ipset.read()))
                break
            except CommandFailed:
                if attempt == _IN_USE_TRIES - 1:
                    raise
                time.sleep(_IN_USE_PAUSE_S)
    finally:
        sock.close()
    return [f"{len(names)} sets"] if names else []


async def _routes() -> list[str]:
    sock = NetlinkSocket.open()
    try:
        routes = netlink.NetlinkRoutes(sock)
        found = await routes.read()
        routes.change((), found)
    finally:
        sock.close()
    return [f"route {route.destination}" for route in sorted(found, key=str)]
