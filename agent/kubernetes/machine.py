"""What the Kubernetes Node says of this machine: who it is, where it is reached; and what it is told of its network.

The uid is given at the Node's creation and never again, so a machine that comes back under its name after its Node was
deleted is another one (as its pods are gone then, too). InternalIPs change seldom: they are asked for now and then,
since a watch would have the API server keep one more stream for each node of the cluster.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_address

from agent.surroundings import Replaced
from datastore.errors import NotFound, StoreError
from datastore.kubernetes.cluster import Cluster, NodeFacts
from datastore.resources.kubernetes import KubernetesNode
from datastore.store import Reader
from ipam.block import Address

log = logging.getLogger(__name__)

FOLLOW_S = 300.0
"""Between looks, at random a half more or less: of 5,000 nodes 17 ask in a second."""
_AGAIN_S = 2.0
_ASKED_S = 5.0
"""How long the API may take, where there is a copy."""
_MESSAGE = "tortie routes pods of this node"


async def known_node(cluster: Cluster, name: str, copied_into: Reader | None = None) -> NodeFacts:
    """The Kubernetes Node, once its kubelet has registered it and it has an address.

    While the API can't say, what was copied of it counts: an agent is started anew without the API, too.
    """
    while True:
        try:
            found = await _node(cluster, name, copied_into)
            if internal_ips(found):
                return found
            log.warning("Kubernetes Node %s has no InternalIP yet; or give --node-ip", name)
        except NotFound:
            log.warning("there is no Kubernetes Node %s yet: its kubelet registers it; or --node is wrong", name)
        except StoreError as error:
            log.warning("Kubernetes Node %s can't be read yet: %s", name, error)
        await asyncio.sleep(_AGAIN_S)


async def _node(cluster: Cluster, name: str, copied_into: Reader | None) -> NodeFacts:
    try:
        async with asyncio.timeout(_ASKED_S if copied_into is not None else None):
            return await cluster.node(name)
    except NotFound:
        raise
    except (StoreError, TimeoutError):
        if copied_into is None:
            raise
    copy = await copied_into.get(KubernetesNode, name)
    log.info("Kubernetes Node %s is taken from the datastore's copy: the API can't be asked", name)
    return NodeFacts(copy.metadata.uid, copy.status.addresses, "")


def internal_ips(node: NodeFacts) -> tuple[Address, ...]:
    """The first InternalIP of each family."""
    found: dict[int, Address] = {}
    for entry in node.addresses:
        if entry.type == "InternalIP":
            address = ip_address(entry.address)
            found.setdefault(address.version, address)
    return tuple(found.values())


class NodeKeeper:
    """Follows the Kubernetes Node, and keeps its condition; `run` it as a task."""

    def __init__(self, cluster: Cluster, name: str, uid: str, *, given: bool) -> None:
        self._cluster = cluster
        self._name = name
        self._uid = uid
        """As it was at first; empty where a machine's identity was given."""
        self._given = given
        """Whether addresses were given, and are so not followed."""

    async def run(self, moved: Callable[[tuple[Address, ...]], None], serves: asyncio.Event) -> None:
        """Look now and then, and once when ADDs are first served, without end.

        Raises:
            Replaced: another Node has the name now.
        """
        await serves.wait()
        while True:
            try:
                await self._look(moved)
            except NotFound:
                log.warning("there is no Kubernetes Node %s any more", self._name)
            except StoreError as error:
                log.info("Kubernetes Node %s can't be looked at now: %s", self._name, error)
            await asyncio.sleep(FOLLOW_S * random.uniform(0.5, 1.5))  # noqa: S311  # no secret

    async def _look(self, moved: Callable[[tuple[Address, ...]], None]) -> None:
        found = await self._cluster.node(self._name)
        if self._uid and found.uid != self._uid:
            raise Replaced(self._name)
        addresses = internal_ips(found)
        if addresses and not self._given:
            moved(addresses)
        if found.network_unavailable != "False":
            await self._cluster.say_network_is_available(self._name, _MESSAGE, datetime.now(UTC))
