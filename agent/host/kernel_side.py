"""Everything of ours in this host's kernel, removed: rules, sets, routes, links; others' things are not looked at.

Pods' links first, so that no packet passes while the rules go; then rules, because the kernel keeps a set that a rule
names; then sets and routes.
"""

import time

from agent.backend import leave
from agent.host.doing import Doing
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


async def clean(doing: Doing) -> None:
    """Remove all of it, and tell what there was; a dry run tells the same.

    Raises:
        KernelError: something can't be removed.
    """
    runner = CommandRunner()
    await _links(doing)
    for backend in Backend:
        for left in leave(backend, runner, dry=doing.dry):
            doing.note(f"rules in {left}", "removed")
    _sets(runner, doing)
    await _routes(doing)


async def _links(doing: Doing) -> None:
    found = [link for link in await netlink.links() if is_host_interface(link.name)]
    sock = NetlinkSocket.open()
    try:
        if not doing.dry:
            sock.transact([podlink.delete_link(link.index, link.name) for link in found])
    finally:
        sock.close()
    for link in found:
        doing.note(f"link {link.name}", "removed")


def _sets(runner: CommandRunner, doing: Doing) -> None:
    sock = NetlinkSocket.open(NETLINK_NETFILTER)
    try:
        ipset = Ipset(runner, NetlinkMembers(sock))
        names = ipset.read()
        if not doing.dry:
            _destroy(ipset)
    finally:
        sock.close()
    if names:
        doing.note(f"{len(names)} sets", "removed")


def _destroy(ipset: Ipset) -> None:
    for attempt in range(_IN_USE_TRIES):
        try:
            ipset.destroy(sorted(ipset.read()))
            return
        except CommandFailed:
            if attempt == _IN_USE_TRIES - 1:
                raise
            time.sleep(_IN_USE_PAUSE_S)


async def _routes(doing: Doing) -> None:
    sock = NetlinkSocket.open()
    try:
        routes = netlink.NetlinkRoutes(sock)
        # Routes by pods' links have gone with those, or will.
        found = {route for route in await routes.read() if not is_host_interface(route.interface)}
        if not doing.dry:
            routes.change((), found)
    finally:
        sock.close()
    for route in sorted(found, key=str):
        doing.note(f"route {route.destination}", "removed")
