"""`tortie-ipam` as the IPAM plugin of another main plugin: addresses alone, on a link that isn't ours.

The same journal, records and handles as an attachment of our own, so nothing is leaked or given twice; but no
interface, no route to the pod, no policy and no endpoint, for all of these are the main plugin's. With `ipam.subnet`
addresses carry the link's prefix length and gateway, otherwise they are /32 and /128 without one.

Source: CNI SPEC 1.1.0 section 4 (delegated plugins: an abbreviated result, without interfaces).
"""

import msgspec

from cni.attach import owner, texts, told, with_annotations
from cni.config import Call
from cni.detach import Unfinished, remove, settle
from cni.ending import to_the_end
from cni.errors import TryAgainLater
from cni.node import Node
from cni.records import Record
from cni.result import IP, Result
from datastore.errors import StoreError
from ipam.errors import HandleBusy, IpamError
from ipam.handles import Hold
from kernel.errors import KernelError


async def lend(node: Node, call: Call) -> Result:
    """Addresses for another plugin's interface, persisted.

    Raises:
        CniError: with the SPEC's code; nothing of the attempt is left, or what is left is owed by the journal.
    """
    if not call.addressing.wanted.families:
        raise TryAgainLater("no address family to assign", "ipam.assign_ipv4 and ipam.assign_ipv6 are both false")
    try:
        async with node.handles.hold(call.attachment.handle) as hold:
            return await _lend(node, call, hold)
    except HandleBusy as error:
        raise TryAgainLater("the attachment is busy", str(error)) from error
    except Unfinished as error:
        raise TryAgainLater("an earlier removal of this attachment is still owed", error.reason) from error
    except (StoreError, IpamError, KernelError) as error:
        raise told(error) from error


async def _lend(node: Node, call: Call, hold: Hold) -> Result:
    await settle(node, call.attachment, hold)
    before = node.records.read(call.attachment)
    again = before is not None and before.on_link and before.complete
    if before is not None and not again:
        await remove(node, call.attachment, hold)
    record = Record(
        network=call.attachment.network,
        container_id=call.attachment.container_id,
        interface=call.attachment.interface,
        host_interface="",
        netns=call.netns,
        namespace=call.pod.namespace,
        pod=call.pod.name,
        uid=call.pod.uid,
        on_link=True,
    )
    if not again:
        node.freed.pop(call.attachment.handle, None)
        node.records.write(record)
    try:
        # To its end: what a write that is under way will have given can't be undone before.
        wanted = (await with_annotations(node, call)).addressing.wanted
        held = await to_the_end(node.allocator.assign(owner(node, call), wanted, hold, again=again))
        await node.flows.forgotten(tuple(one.address for one in held if not one.fresh))
        record = msgspec.structs.replace(record, held=texts(held), complete=True)
        node.records.write(record)
    except BaseException:
        if not again:
            await to_the_end(remove(node, call.attachment, hold))
        raise
    hold.settle()
    return _answer(call, record)


def _answer(call: Call, record: Record) -> Result:
    ips = []
    for address in record.addresses:
        subnet = call.addressing.subnet_of(address)
        if subnet is not None:
            ips.append(IP(f"{address}/{subnet.network.prefixlen}", gateway=str(subnet.gateway)))
            continue
        ips.append(IP(f"{address}/{address.max_prefixlen}"))
    return Result(ips=tuple(ips), routes=call.config.ipam.routes, dns=call.config.resolver)
