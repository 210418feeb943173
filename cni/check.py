"""CHECK: is an attachment as its ADD left it, whatever other plugins of the chain have done since.

    prevResult     names our two interfaces and our addresses
    pod            its interface is there and up, has its addresses, and its routes in some table (`sbr` moves them)
    node           the host end is there and up, a route leads to each address by it
    store          each address is this attachment's, by a fresh read
    policy         in force, or made so

Neither MAC, MTU, neighbours nor sysctls are looked at: `tuning` may have changed them. All findings are told at once.
Source: CNI SPEC 1.1.0 section 2, "CHECK".
"""

from collections.abc import Iterator
from ipaddress import ip_network

from cni import delegate
from cni.attach import EVERYWHERE, Inside
from cni.config import Call
from cni.errors import NotAsMade, TryAgainLater
from cni.node import Node, NotEnforced
from cni.records import Record
from cni.result import Result
from datastore.errors import StoreError
from ipam.errors import HandleBusy, IpamError
from kernel import podview
from kernel.links import ROUTE_PROTOCOL


async def check(node: Node, call: Call, inside: Inside | None) -> None:
    """Return if all is well. `inside` is None for an address alone (`tortie-ipam`).

    Raises:
        NotAsMade: the details say what differs.
        TryAgainLater: it can't be found out now.
    """
    try:
        async with node.handles.hold(call.attachment.handle):
            record = node.records.read(call.attachment)
            if record is None or not record.complete:
                raise NotAsMade("tortie has no such attachment on this node", call.attachment.handle)
            found = [*_of_result(call.previous, record)] if inside is not None else []
            if inside is not None:
                found += [*_of_pod(record, inside), *_of_node(node, record)]
            found += await _of_store(node, record)
            if inside is not None:
                found += await _of_policy(node, record)
    except HandleBusy as error:
        raise TryAgainLater("the attachment is busy", str(error)) from error
    if found:
        raise NotAsMade("the attachment isn't as it was made", "; ".join(found))


def _of_result(previous: Result | None, record: Record) -> Iterator[str]:
    if previous is None:
        return
    names = {(one.name, bool(one.sandbox)) for one in previous.interfaces}
    for name, within in ((record.host_interface, False), (record.interface, True)):
        if previous.interfaces and (name, within) not in names:
            yield f"prevResult has no interface {name}"
    told = {one.address.partition("/")[0] for one in previous.ips}
    for address in record.addresses:
        if str(address) not in told:
            yield f"prevResult lacks address {address}"


def _of_pod(record: Record, inside: Inside) -> Iterator[str]:
    link = podview.link(inside.socket, record.interface)
    if link is None or not link.up:
        yield f"the pod's {record.interface} is {'down' if link else 'missing'}"
        return
    there = podview.addresses(inside.socket, link.index)
    for address in record.addresses:
        if address not in there:
            yield f"the pod's {record.interface} lacks {address}"
    leading = {route.destination for route in podview.routes(inside.socket) if route.index == link.index}
    versions = {address.version for address in record.addresses}
    for text in record.routes or EVERYWHERE:
        if ip_network(text).version in versions and ip_network(text) not in leading:
            yield f"the pod's route to {text} is missing"


def _of_node(node: Node, record: Record) -> Iterator[str]:
    link = node.links.find(record.host_interface)
    if link is None or not link.up:
        yield f"the host end {record.host_interface} is {'down' if link else 'missing'}"
        return
    for address in record.addresses:
        route = node.links.route_to(address)
        if route is None or (route.index, route.protocol) != (link.index, ROUTE_PROTOCOL):
            yield f"the node's route to {address} is missing or leads elsewhere"


async def _of_store(node: Node, record: Record) -> list[str]:
    if record.delegated is not None:
        try:
            await delegate.check(record.delegated, record.attachment)
        except delegate.DelegateFailed as error:
            return [str(error)]
        return []
    try:
        owned = {one.address for one in await node.allocator.find(record.attachment.handle)}
    except (StoreError, IpamError) as error:
        raise TryAgainLater("the datastore can't say whose the addresses are", str(error)) from error
    return [
        f"{address} isn't this attachment's in the datastore" for address in record.addresses if address not in owned
    ]


async def _of_policy(node: Node, record: Record) -> list[str]:
    try:
        await node.policy.verify(record)
    except NotEnforced as error:
        return [f"policy is not in force: {error.reason}"]
    return []
