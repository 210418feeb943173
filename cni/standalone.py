"""The CNI commands without an agent: `python -I -m cni` opens the configured store itself.

DEL works as ever, its journal being the agent's. ADD works only where the configuration has no `policy` key: nobody
here could put a policy in force. The pod's endpoint is written by the agent when it starts, from the record.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from cni import removals
from cni.annotations import StoredNamespaces
from cni.config import Call, parse
from cni.errors import InvalidConfig, NotAvailable, TryAgainLater
from cni.flows import Flows
from cni.links import HostLinks
from cni.netconf import Netconf, check_datastore_type
from cni.node import Endpoints, Node
from cni.plugin import Output, Plugin
from cni.pods import StoredPods
from cni.reaper import Reaper
from cni.records import Record, Records
from cni.request import Request
from datastore.errors import Invalid, NotFound, StoreError, UnsupportedDatastore
from datastore.resources.clusterconfiguration import NAME as CLUSTER
from datastore.resources.clusterconfiguration import ClusterConfiguration
from datastore.resources.ipreservation import IPReservation
from datastore.resources.node import Node as NodeResource
from datastore.resources.node import NodeSpec
from datastore.resources.value import Metadata
from datastore.store import Store
from datastore.transfer.follow import open_followed
from datastore.urls import parse as parse_url
from ipam.allocator import Allocator
from ipam.handles import Handles
from ipam.identity import NameTaken, claim
from ipam.settings import Settings
from kernel.batch import NETLINK_NETFILTER, NetlinkSocket

DEFAULT_STATE = Path("/var/lib/tortie")
DEFAULT_DATASTORE = "sqlite:///var/lib/tortie/tortie.db"
_DEFAULT_MTU = 1500
_MACHINE_ID = Path("/etc/machine-id")


class NoPolicy:
    """No policy is in force, and none is asked for."""

    async def admit(self, record: Record) -> None:
        """See `Policy.admit`."""

    async def verify(self, record: Record) -> None:
        """See `Policy.verify`."""

    async def dismiss(self, record: Record) -> None:
        """See `Policy.dismiss`."""


class NoEndpoints:
    """The agent writes endpoints, from records."""

    def publish(self, record: Record) -> None:
        """See `Endpoints.publish`."""

    async def withdraw(self, record: Record) -> None:
        """See `Endpoints.withdraw`."""


async def run(request: Request) -> Output:
    """Run one call with a store of its own.

    Raises:
        CniError: the call is wrong, or can't be served without an agent.
    """
    call = parse(request.environment, request.stdin)
    if call.command in ("ADD", "CHECK", "STATUS") and call.config.policy is not None:
        refusal = NotAvailable if call.command == "STATUS" else TryAgainLater
        raise refusal("no tortie agent answers", "the configuration asks for policy, which needs one")
    try:
        return await _run(call, request)
    except TryAgainLater as error:
        if call.command != "STATUS":
            raise
        raise NotAvailable(error.message, error.details) from error


@asynccontextmanager
async def without_agent(name: str, allocator: Allocator, state: Path, endpoints: Endpoints) -> AsyncIterator[Node]:
    """A node's services for as long as no agent has them; what DELs left to be done is done at the end."""
    async with AsyncExitStack() as stack:
        sockets = [NetlinkSocket.open() for _ in range(3)] + [NetlinkSocket.open(NETLINK_NETFILTER)]
        for one in sockets:
            stack.callback(one.close)
        links = HostLinks(sockets[0], sockets[1])
        stack.callback(links.close)
        node = Node(
            name=name,
            allocator=allocator,
            handles=Handles(state / "handles"),
            records=Records(state),
            links=links,
            reaper=Reaper(sockets[2]),
            policy=NoPolicy(),
            endpoints=endpoints,
            flows=Flows(sockets[3]),
            mtu=lambda: _DEFAULT_MTU,
        )
        reaping = asyncio.create_task(node.reaper.run())
        try:
            yield node
            await removals.ended(node)
            await node.reaper.reaped()
            await node.flows.close()
        finally:
            reaping.cancel()
            await asyncio.gather(reaping, return_exceptions=True)


async def _run(call: Call, request: Request) -> Output:
    config = call.config
    async with AsyncExitStack() as stack:
        store = await _open(config)
        stack.push_async_callback(store.close)
        name = config.nodename or socket.gethostname()
        allocator = Allocator(store, name, config.machine or _machine())
        if call.command != "DEL":
            try:
                await allocator.load()
            except StoreError as error:
                raise TryAgainLater("the datastore can't be used", str(error)) from error
        if call.command == "ADD":
            await _claim(store, name, config.machine or _machine())
            await _follow_rules(store, allocator, name)
        async with without_agent(name, allocator, Path(config.state or DEFAULT_STATE), NoEndpoints()) as node:
            node.namespaces = StoredNamespaces(store)
            if parse_url(config.datastore or DEFAULT_DATASTORE).scheme == "kubernetes":
                node.pods = StoredPods(store)
            plugin = Plugin(node)
            plugin.not_ready = ""
            return await plugin.run(request)


async def _follow_rules(store: Store, allocator: Allocator, name: str) -> None:
    """Tell the allocator what administrators say of address management, and the node's labels.

    Raises:
        TryAgainLater: the datastore can't be used.
    """
    try:
        with suppress(NotFound):
            allocator.settings = Settings.of((await store.get(ClusterConfiguration, CLUSTER)).spec)
        allocator.set_reservations((await store.list(IPReservation)).items)
        allocator.node_labels = (await store.get(NodeResource, name)).metadata.labels
    except StoreError as error:
        raise TryAgainLater("the datastore can't be used", str(error)) from error


async def _claim(store: Store, name: str, machine: str) -> None:
    """Make sure that the node's name is this machine's: what is given under a name without a Node is taken back.

    Raises:
        InvalidConfig: this machine has no identity.
        TryAgainLater: the name is another machine's, or the datastore can't be used.
    """
    if not machine:
        raise InvalidConfig("machine is missing", f"there is no {_MACHINE_ID}: give this machine an identity")
    try:
        await claim(store, NodeResource(metadata=Metadata(name=name), spec=NodeSpec(machine=machine)))
    except NameTaken as error:
        raise TryAgainLater("the node's name is another machine's", str(error)) from error
    except StoreError as error:
        raise TryAgainLater("the datastore can't be used", str(error)) from error


async def _open(config: Netconf) -> Store:
    """The configured store.

    Raises:
        InvalidConfig: there is no driver for it.
        TryAgainLater: it can't be opened.
    """
    check_datastore_type(config)
    try:
        store, _ = await open_followed(config.datastore or DEFAULT_DATASTORE, Path(config.state or DEFAULT_STATE))
        return store
    except (UnsupportedDatastore, Invalid) as error:
        raise InvalidConfig("datastore can't be used", str(error)) from error
    except StoreError as error:
        raise TryAgainLater("the datastore can't be used", str(error)) from error


def _machine() -> str:
    return _MACHINE_ID.read_text().strip() if _MACHINE_ID.exists() else ""
