"""What a node owes when it goes: pods detached as their DELs would, and everything that is its given back.

It does what the agent does, with the agent's own parts, once no agent runs any more.
"""

from collections.abc import Sequence
from pathlib import Path

from agent.publish import Publisher
from cni.detach import remove, replay
from cni.records import Records
from cni.standalone import without_agent
from cni.tombstones import Tombstones
from datastore.errors import Conflict, NotFound, Unavailable, Unknown
from datastore.resources import kinds
from datastore.resources.ipblock import IPBlock
from datastore.resources.ippool import IPPool
from datastore.resources.lease import Lease
from datastore.resources.node import Node as NodeResource
from datastore.resources.value import Resource
from datastore.store import Store, Where
from ipam.allocator import Allocator
from ipam.block import Block
from ipam.handles import is_attachments

_TRIES = 8


async def attached(store: Store | None, state: Path, node: str) -> list[str]:
    """The handles of what is attached here, by records and, where there is a store, by addresses.

    Raises:
        StoreError: the store can't be read.
    """
    recorded = {record.attachment.handle for record in Records(state).all()}
    owned = await _owned(store, node) if store is not None else {}
    return sorted(recorded | owned.keys())


async def leave(store: Store, state: Path, socket: Path, node: str, machine: str) -> list[str]:
    """Detach every pod, pay what is owed and give everything back; gives what was done, in words.

    Raises:
        StoreError, IpamError: the store can't be used; what is owed stays in the journal.
        KernelError: a link can't be taken down.
    """
    done = []
    allocator, publisher = Allocator(store, node, machine), Publisher(store, node)
    await allocator.load()
    async with without_agent(node, allocator, state, publisher) as services:
        tombstones = Tombstones(socket)
        for record in list(services.records.all()):
            async with services.handles.hold(record.attachment.handle) as hold:
                await remove(services, record.attachment, hold)
            done.append(f"pod {record.namespace}/{record.pod}: detached")
        left = await replay(services) + await tombstones.replay(services)
        if left:
            raise Unavailable(f"{left} removals are still owed to the datastore")
        for handle, addresses in sorted((await _owned(store, node)).items()):
            await services.allocator.release_handle(handle)
            done.append(f"address {', '.join(addresses)} of {handle}: freed")
        await publisher.reconcile([])
    return done + await _give_back(store, node, machine)


async def other_nodes(store: Store, node: str) -> list[str]:
    """The names of the nodes besides one.

    Raises:
        StoreError: the store can't be read.
    """
    return sorted(found.name for found in (await store.list(NodeResource)).items if found.name != node)


async def others(store: Store, pools: Sequence[str]) -> list[str]:
    """What is in a datastore besides pools of these names, and who led: `Node node-2`.

    Raises:
        StoreError: the store can't be read.
    """
    found: list[Resource] = [one for kind in kinds.KINDS for one in (await store.list(kind)).items]
    return [
        one.key for one in found if not isinstance(one, Lease) and not (isinstance(one, IPPool) and one.name in pools)
    ]


async def _owned(store: Store, node: str) -> dict[str, list[str]]:
    """The addresses that attachments of a node own, by handle; not what was taken by hand."""
    found: dict[str, list[str]] = {}
    for record in (await store.list(IPBlock, Where("node", node))).items:
        block = Block.read(record)
        for ordinal, allocation in record.spec.allocations.items():
            if allocation.node == node and is_attachments(allocation.handle):
                found.setdefault(allocation.handle, []).append(str(block.address_of(int(ordinal))))
    return found


async def _give_back(store: Store, node: str, machine: str) -> list[str]:
    done = []
    for block in (await store.list(IPBlock, Where("node", node))).items:
        if (block.spec.node, block.spec.machine) != (node, machine):
            continue
        if await _deleted(store, block):
            done.append(f"block {block.spec.cidr}: given back")
        else:
            done.append(f"block {block.spec.cidr}: stays, for it has addresses of others")
    try:
        found = await store.get(NodeResource, node)
    except NotFound:
        return done
    if found.spec.machine == machine and await _deleted(store, found):
        done.append(f"Node {node}: removed")
    return done


async def _deleted(store: Store, resource: Resource) -> bool:
    """Delete an object, read again whenever it has moved on; False for a block that isn't empty."""
    for _ in range(_TRIES):
        if isinstance(resource, IPBlock) and resource.spec.allocations:
            return False
        try:
            await store.delete(resource)
            return True
        except NotFound:
            return True
        except (Conflict, Unknown):
            try:
                resource = await store.get(type(resource), resource.name)
            except NotFound:
                return True
    raise Unknown(f"{resource.key} may or may not be deleted")
