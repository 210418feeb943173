"""A node's name, claimed with a machine's identity: two that believed in one name would share blocks unknowingly.

A name is claimed by creating its Node; while that is there it is one machine's. Nobody assigns an address under a name
that isn't claimed: without a Node object the controller takes a node for departed (`ipam.reclaim`).
"""

import asyncio

from datastore.errors import AlreadyExists, NotFound, Unknown
from datastore.resources.node import Node
from datastore.store import Store
from ipam.group_commit import Pause

_TRIES = 12
_PAUSE_S = 0.05


class NameTaken(Exception):
    """Another machine has this node's name."""

    def __init__(self, name: str, machine: str) -> None:
        super().__init__(
            f"node name {name!r} belongs to machine {machine!r}; choose another name, "
            f"or, if that machine is gone, run `tortiectl delete nodes.tortie.dev {name} --force`"
        )
        self.name = name
        self.machine = machine


async def claim(store: Store, wanted: Node, pause: Pause = asyncio.sleep) -> tuple[Node, bool]:
    """The Node of this name, and whether it was created just now, as `wanted`; otherwise it is as it was found.

    Raises:
        NameTaken: it is another machine's.
        StoreError: the store can't be used.
    """
    lost = False
    for _ in range(_TRIES):
        try:
            return await store.create(wanted), True
        except AlreadyExists:
            try:
                found = await store.get(Node, wanted.name)
            except NotFound:
                continue
            if found.spec.machine != wanted.spec.machine:
                raise NameTaken(wanted.name, found.spec.machine) from None
            return found, lost  # an answer that was lost may have been of this very creation
        except Unknown:
            lost = True
            await pause(_PAUSE_S)
    raise Unknown(f"Node {wanted.name} may or may not be created")
