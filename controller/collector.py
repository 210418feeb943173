"""Nodes of ours whose Kubernetes Node has gone, in another datastore than the Kubernetes API.

In the API Kubernetes' own collector deletes them, by their owner's uid; elsewhere nobody does, and what their machines
had would never come back. The Node of an agent on Kubernetes names its Kubernetes Node as its owner. One without an
owner is an administrator's to delete, as ever. Before anything is deleted the API is asked for that very Node; the
delete is a compare-and-swap.
"""

import logging
from collections.abc import Callable, Mapping

from datastore.errors import NotFound, StoreError
from datastore.resources.kubernetes import KubernetesNode
from datastore.resources.node import Node
from datastore.resources.value import Resource
from datastore.store import Reader, Store

log = logging.getLogger(__name__)


def owner_of(node: Node) -> str:
    """The uid of the Kubernetes Node that a Node of ours lives and dies with; empty if it has none."""
    owners = node.metadata.unknown.get("ownerReferences")
    for owner in owners if isinstance(owners, list) else ():
        if isinstance(owner, Mapping) and (owner.get("apiVersion"), owner.get("kind")) == ("v1", "Node"):
            return str(owner.get("uid", ""))
    return ""


async def collect(
    api: Reader, store: Store, owners: Mapping[str, str], machines: Mapping[str, Resource], tell: Callable[[str], None]
) -> None:
    """Delete those of ours, by name and owner's uid, whose owner isn't among the Kubernetes Nodes any more.

    What watches said of both chooses; the API, and the Node itself, are asked again.
    """
    for name, uid in owners.items():
        there = machines.get(name)
        if not uid or (there is not None and there.metadata.uid == uid):
            continue
        try:
            if await _uid(api, name) == uid:
                continue
            found = await store.get(Node, name)
            if owner_of(found) == uid:
                await store.delete(found)
                tell(f"deleted node {name}: its Kubernetes Node (uid {uid}) is gone")
        except StoreError as error:
            log.info("Node %s waits for the next look: %s", name, error)


async def _uid(api: Reader, name: str) -> str:
    """The uid of the Kubernetes Node of a name; empty if there is none."""
    try:
        return (await api.get(KubernetesNode, name)).metadata.uid
    except NotFound:
        return ""
