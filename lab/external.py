"""A datastore that isn't the lab's own file: what must be so before, and what the lab takes away with it.

A lab puts nodes and pools into its datastore. So one that has nodes already is refused, for it is somebody's cluster;
and at the end everything goes that is of the lab's nodes: endpoints, blocks, Nodes, and the pools if nobody uses them.
"""

import asyncio
import re
from urllib.parse import unquote

from datastore.errors import Conflict, NotFound, StoreError, Unknown
from datastore.resources.ipblock import IPBlock
from datastore.resources.ippool import IPPool
from datastore.resources.node import Node
from datastore.resources.value import Resource
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.store import Store, Where
from datastore.urls import open_store, parse
from lab.state import LabError, LabNode, LabState

_TRIES = 8
_SHOWN = 5
_HIDDEN = ("/run/", "/var/run/")


async def check(url: str) -> None:
    """Return if a lab may use a datastore.

    Raises:
        LabError: it has nodes, or other processes can't see it.
        Invalid, UnsupportedDatastore, StoreError: it can't be used.
    """
    address = parse(url)
    if not address.shared:
        raise LabError(f"{url} would be each process's own", "give one that the nodes share", 2)
    hidden = [one for one in (str(address.path or ""), *_words(url)) if one.startswith(_HIDDEN)]
    if hidden:
        raise LabError(f"{hidden[0]} isn't there for a node, which has a /run of its own", "put it elsewhere", 2)
    if address.path is not None and not address.path.exists():
        return
    store = await address.open()
    try:
        nodes = sorted(node.name for node in (await store.list(Node)).items)
    finally:
        await store.close()
    if nodes:
        shown = ", ".join(nodes[:_SHOWN]) + (f" and {len(nodes) - _SHOWN} more" if len(nodes) > _SHOWN else "")
        hint = "give a lab one of its own; of a lab that was killed: tortiectl delete nodes.tortie.dev NAME --force"
        raise LabError(f"the datastore is a cluster's, with nodes {shown}", hint, 2)


def _words(url: str) -> list[str]:
    """What may be a unix socket's folder, wherever it stands in an address."""
    return [unquote(word) for word in re.split(r"[=&?@,]|://", url)]


def leave(state: LabState) -> list[str]:
    """Take away what is the lab's, its processes being gone; gives in words what couldn't be."""
    try:
        asyncio.run(_leave(state))
    except StoreError as error:
        return [f"the lab, but its datastore keeps its nodes: {error}"]
    return []


async def _leave(state: LabState) -> None:
    store = await open_store(state.datastore)
    try:
        for node in state.nodes:
            await _leave_node(store, node)
        used = {block.spec.pool for block in (await store.list(IPBlock)).items}
        for pool in (await store.list(IPPool)).items:
            if pool.name in state.pools and pool.name not in used:
                await _delete(store, pool)
    finally:
        await store.close()


async def _leave_node(store: Store, node: LabNode) -> None:
    try:
        found = await store.get(Node, node.name)
    except NotFound:
        return
    if found.spec.machine != node.machine:
        return
    where = Where("node", node.name)
    for endpoint in (await store.list(WorkloadEndpoint, where)).items:
        await _delete(store, endpoint)
    for block in (await store.list(IPBlock, where)).items:
        if (block.spec.node, block.spec.machine) == (node.name, node.machine):
            await _delete(store, block)
    await _delete(store, found)


async def _delete(store: Store, resource: Resource) -> None:
    for _ in range(_TRIES):
        try:
            await store.delete(resource)
            return
        except NotFound:
            return
        except (Conflict, Unknown):
            try:
                resource = await store.get(type(resource), resource.name, resource.namespace)
            except NotFound:
                return
    raise Unknown(f"{resource.key} may or may not be deleted")
