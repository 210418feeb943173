"""GC: what the runtime doesn't name any more is removed, of this network and this node alone.

    key absent      nothing to go by: nothing is removed
    null, []        nothing is valid: everything of the network goes
    a list          everything else of the network goes

Attachments with a record go by DEL's own steps; so do addresses that the store says are this network's on this node
and of which no record is left. What somebody is busy with isn't stale. A failure doesn't stop the others.
Source: CNI SPEC 1.1.0 section 2, "GC".
"""

import logging

from cni import delegate
from cni.config import Attachment, Call
from cni.detach import remove
from cni.errors import NotCollected
from cni.node import Node
from datastore.errors import StoreError
from ipam.errors import HandleBusy, IpamError
from kernel.errors import KernelError

log = logging.getLogger(__name__)

_PARTS = 3


async def collect(node: Node, call: Call) -> None:
    """Remove what is stale.

    Raises:
        NotCollected: some of it could not be; the rest is gone.
    """
    if call.config.valid is None:
        return
    network = call.config.name
    valid = {Attachment(network, one.container_id, one.interface) for one in call.config.valid}
    failures: list[str] = []
    stale = await _known(node, network, failures) - valid
    for attachment in sorted(stale, key=lambda one: one.handle):
        try:
            async with node.handles.hold(attachment.handle, wait_s=0) as hold:
                node.freed.pop(attachment.handle, None)  # whatever a DEL freed once, the store has something now
                await remove(node, attachment, hold)
            log.info("collected %s, which its runtime doesn't know", attachment.handle)
        except HandleBusy:
            log.info("%s is left alone: somebody is busy with it", attachment.handle)
        except (IpamError, KernelError, OSError) as error:
            failures.append(f"{attachment.handle}: {error}")
    failures += await _below(node, call)
    if failures:
        raise NotCollected("not everything stale could be removed", "; ".join(failures))


async def _known(node: Node, network: str, failures: list[str]) -> set[Attachment]:
    found = {record.attachment for record in node.records.all() if record.network == network}
    try:
        owned = await node.allocator.handles()
    except StoreError as error:
        failures.append(f"the datastore's addresses: {error}")
        return found
    for handle in owned:
        parts = handle.split(":")
        if len(parts) == _PARTS and parts[0] == network:
            found.add(Attachment(*parts))
    return found


async def _below(node: Node, call: Call) -> list[str]:
    """The same for the plugin that the addresses are of."""
    plugin = None if call.alone else delegate.delegated(call, node.pod_cidrs)
    if plugin is None:
        return []
    try:
        await delegate.run(plugin, "GC", call.attachment)
    except delegate.DelegateFailed as error:
        return [str(error)]
    return []
