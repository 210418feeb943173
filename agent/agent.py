"""One node put together, in the order in which it may act.

    claim the node's name, read its blocks and records
    list every kind ──> policy graph ──> compare with the kernel: sets, chains, routes
    undo what died half-way, carry out what is owed
    serve: the CNI socket (what makes this node usable), IPAM, the tools' questions
    keep up: watches, changes to the kernel, repairs, upkeep, until told to stop

Stopping leaves the kernel as it is: pods talk on.
"""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from agent import before, events
from agent.backend import leave_other_than
from agent.control import Control
from agent.dataplane import Dataplane
from agent.gate import Gate
from agent.graph import Graph
from agent.health import Health
from agent.identity import NodeObject
from agent.options import Options
from agent.reboot import free_what_a_reboot_took
from agent.reclaim import reclaim, take_over_blocks
from agent.refresh import Refresher
from agent.regain import keep_regaining, regain_all
from agent.routes import RouteKeeper
from agent.surroundings import Following, Surroundings
from agent.telling import Telling
from agent.tunnels import TunnelKeeper
from agent.upkeep import (
    forget_idle_groups,
    free_lost,
    give_back,
    pay_once,
    pay_what_is_owed,
    undo_abandoned,
    undo_incomplete,
    undo_until_done,
)
from cni import removals
from cni.flows import Flows
from cni.links import HostLinks
from cni.node import Node
from cni.plugin import Plugin
from cni.reaper import Reaper
from cni.records import Record, Records
from cni.server import Server
from cni.tombstones import Tombstones
from datastore.errors import StoreError
from datastore.resources.clusterconfiguration import ClusterConfiguration
from datastore.resources.ippool import IPPool
from datastore.resources.ipreservation import IPReservation
from datastore.resources.kubernetes import Namespace
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.node import Node as NodeResource
from datastore.resources.value import Resource
from datastore.store import Store
from datastore.sync import KindSync
from datastore.transfer import follow
from datastore.transfer.mark import MOVED
from ipam.allocator import Allocator, Settings
from ipam.block import Address
from ipam.handles import Handles
from ipam.rpc.server import IpamServer, IpamService
from kernel import netlink
from kernel.batch import NETLINK_NETFILTER, NetlinkSocket
from kernel.changes import route_changes, table_changes
from kernel.errors import KernelError
from kernel.ipset import Ipset, NetlinkMembers
from kernel.iptables import Iptables, detect
from kernel.runner import CommandRunner
from kernel.xtables_lock import LOCK
from policy.compiler import Compiler

log = logging.getLogger(__name__)

T = TypeVar("T")
_WATCHED: tuple[type[Resource], ...] = (
    Namespace,
    NetworkPolicy,
    NodeResource,
    IPPool,
    IPReservation,
    ClusterConfiguration,
)
"""And what pods are known by here."""
_AGAIN_S = 1.0
_DEFAULT_MTU = 1500


class Agent:
    """One node's agent; `run` it until it is cancelled."""

    def __init__(self, options: Options, store: Store, surroundings: Surroundings, telling: Telling) -> None:
        self._options = options
        self._store = store
        self._surroundings = surroundings
        self._telling = telling
        self._stack = AsyncExitStack()
        self._mtu = _DEFAULT_MTU
        self.graph = Graph(options.node, Compiler(options.node))
        self.allocator = Allocator(store, options.node, options.machine)
        self._tombstones = Tombstones(options.socket)
        self._changed = asyncio.Event()
        self._left = asyncio.Event()
        self._serves = asyncio.Event()
        self._syncs = [self._sync(kind) for kind in (*_WATCHED, surroundings.endpoint_kind)]
        self._changed_at = 0.0
        """When the first of the changes came that the kernel hasn't; 0: it has all."""

    async def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Start, serve and keep up, without end.

        Raises:
            NameTaken: the node's name is another machine's.
            KernelError: what every node needs (netlink, iptables) isn't there.
            Left: the datastore was left for another.
            Replaced: the Kubernetes Node was deleted and registered anew.
        """
        async with self._stack:
            await self._make()
            reaping = asyncio.create_task(self._node.reaper.run())
            self._stack.push_async_callback(_ended, reaping)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_without_end(reaping))
                await self._become_part_of_the_cluster()
                for sync in self._syncs:
                    tasks.create_task(sync.run())
                await asyncio.gather(*(sync.listed.wait() for sync in self._syncs))
                await self._bring_the_kernel_up_to_date()
                for work in self._lasting_work():
                    tasks.create_task(work)
                await self._finish_what_was_left()
                tasks.create_task(keep_regaining(self._node, self._node_object))
                await self._serve()
                tasks.create_task(self._telling.keep_conflist())
                on_ready()

    # Making

    async def _make(self) -> None:
        options, backend = self._options, self._options.backend or detect(CommandRunner())
        before.turn_forwarding_on(options.state)
        uplink = await netlink.interface_of(options.node_ips) or await netlink.default_interface()
        self._mtu = uplink.mtu if uplink is not None else _DEFAULT_MTU
        addresses = options.node_ips or await _addresses_of(uplink.index if uplink is not None else 0)
        self._backend = backend
        self._iptables = Iptables(CommandRunner(), backend, os.environ.get("XTABLES_LOCKFILE", LOCK))
        self._ipset = Ipset(CommandRunner(), NetlinkMembers(self._socket(NETLINK_NETFILTER)))
        self.dataplane = Dataplane(self.graph.compiler, self._iptables, self._ipset)
        self.routes = RouteKeeper(options.node, self.graph, self.allocator, netlink.NetlinkRoutes(self._socket()))
        self._node_object = NodeObject(
            self._store,
            options.node,
            options.machine,
            addresses,
            self.allocator,
            options.pod_cidrs,
            options.labels,
            self._surroundings.of_node_object(),
        )
        self._publisher = self._surroundings.publisher(self.graph)
        self._stack.push_async_callback(self._publisher.close)
        links = HostLinks(self._socket(), self._socket())
        self._stack.callback(links.close)
        flows = Flows(self._socket(NETLINK_NETFILTER))
        self._stack.push_async_callback(flows.close)
        gate = Gate(self.graph, self.dataplane)
        self._node = Node(
            name=options.node,
            allocator=self.allocator,
            handles=Handles(options.state / "handles"),
            records=Records(options.state),
            links=links,
            reaper=Reaper(self._socket()),
            policy=gate,
            endpoints=self._publisher,
            flows=flows,
            mtu=lambda: self._mtu,
            health=Health(self._syncs, self._node_object, self.dataplane),
            namespaces=self.graph,
            pods=self._surroundings.pods(self.graph),
            pod_cidrs=lambda: options.pod_cidrs,
            refused=self._telling.refused,
        )
        self._tunnels = TunnelKeeper(options.node, self.allocator, self._node.handles, self._node_object.soon)
        self._node_object.tunnel_addresses = self._tunnels.addresses
        self._plugin = Plugin(self._node, self._tombstones)
        self._control = Control(self._store, self.graph, self.dataplane, self.status)
        self._telling.about(self.graph, self.dataplane, gate, self._plugin, self._syncs)
        self.graph.on_change = self._on_graph_change
        self.graph.on_lost = self._publisher.publish
        self.allocator.on_change = self._on_allocator_change
        log.info("node %s: iptables %s, addresses %s", options.node, backend.value, ", ".join(map(str, addresses)))

    def _socket(self, protocol: int = 0) -> NetlinkSocket:
        sock = NetlinkSocket.open(protocol)
        self._stack.callback(sock.close)
        return sock

    def _sync(self, kind: type[Resource]) -> KindSync[Resource]:
        return KindSync(
            self._store,
            kind,
            lambda listed: self.graph.on_listed(kind, listed),
            lambda changes: self.graph.on_changed(kind, changes),
        )

    # Starting

    async def _become_part_of_the_cluster(self) -> None:
        await _until_the_store_answers("claim the node's name", self._node_object.claim)
        await _until_the_store_answers("take over this node's blocks", self._take_over)
        await _until_the_store_answers("read this node's blocks", self.allocator.load)
        for record in self._records():
            self.graph.set_local(record)

    async def _take_over(self) -> None:
        await take_over_blocks(self._store, self._options.node, self._options.machine)

    async def _bring_the_kernel_up_to_date(self) -> None:
        """Bring sets, rules and routes up to date, before anything is served."""
        while True:
            try:
                found = await self.dataplane.start()
                found += await self.routes.refresh()
                break
            except KernelError as error:
                log.warning("the kernel can't be brought up to date, trying again: %s", error)
                await asyncio.sleep(_AGAIN_S)
        await asyncio.to_thread(leave_other_than, self._backend, CommandRunner())
        log.info("in sync; %d differences from what the kernel had", len(found))

    async def _finish_what_was_left(self) -> None:
        await _until_the_store_answers("free what a reboot took", self._free_what_a_reboot_took)
        await undo_incomplete(self._node)  # what is busy now is left to `undo_until_done`
        await undo_abandoned(self._node)
        await pay_once(self._node, self._tombstones)
        await self._regain()
        await _until_the_store_answers("publish endpoints", self._reconcile)

    async def _free_what_a_reboot_took(self) -> None:
        await free_what_a_reboot_took(self._node, self._options.state)

    async def _regain(self) -> None:
        created = self._node_object.created
        everything = created.is_set()
        created.clear()
        if await regain_all(self._node, everything=everything):
            created.set()  # `keep_regaining` goes on

    async def _reconcile(self) -> None:
        await self._publisher.reconcile(self._records())

    def _records(self) -> list[Record]:
        """The attachments of this node whose interfaces are ours."""
        return [record for record in self._node.records.all() if record.complete and not record.on_link]

    async def _serve(self) -> None:
        self._stack.push_async_callback(lambda: removals.ended(self._node))
        await self._control.start(self._options.control)
        self._stack.push_async_callback(self._control.close)
        service = IpamService(
            self.allocator, self._node.handles, self._store, self._options.node, self._node.records.has_handle
        )
        ipam = IpamServer(service)
        await ipam.start(self._options.ipam)
        self._stack.push_async_callback(ipam.close)
        server = Server(self._plugin, self._options.socket)
        await server.start()
        self._stack.push_async_callback(server.close)
        self._plugin.not_ready = ""
        self._serves.set()
        self._on_graph_change()  # its Node may have been deleted since it was claimed, and nothing else may change
        await pay_once(self._node, self._tombstones)  # left while the socket was being made

    # Keeping up

    def _lasting_work(self) -> list[Coroutine[Any, Any, None]]:
        every_s = self._options.refresh_s
        tables = Refresher(events.TABLES, self.dataplane.refresh, table_changes(self._backend), every_s)
        routes = Refresher(events.ROUTES, self.routes.refresh, route_changes(), every_s)
        self._refreshers = (tables, routes)
        self._telling.measure(self._iptables, self.routes, self.allocator, {"policy": tables, "routes": routes})
        return [
            self._apply_changes(),
            self.routes.run(),
            self._node_object.run(),
            tables.run(),
            routes.run(),
            pay_what_is_owed(self._node, self._tombstones),
            give_back(self._node, self._node_object),
            forget_idle_groups(self.graph.compiler, self.dataplane),
            undo_until_done(self._node),
            free_lost(self._node, lambda: 2 * self.graph.configuration.reclaim_grace_seconds),
            reclaim(
                self._node,
                self._store,
                self._options.machine,
                self.graph.local.values,
                lambda: self.graph.configuration,
            ),
            self._publisher.run(),
            self._follow(),
            self._tunnels.run(),
            *self._surroundings.work(Following(self._node_object.moved, self._serves)),
        ]

    async def _follow(self) -> None:
        """Wait until the datastore was left for another that can be used, then say so."""
        while True:
            await self._left.wait()
            try:
                to = await follow.destination(self._store)
            except StoreError as error:
                log.warning("where the datastore was moved to can't be read: %s", error)
                to = ""
            if to:
                raise follow.Left(to)
            await asyncio.sleep(_AGAIN_S)

    async def _apply_changes(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            began, self._changed_at = self._changed_at, 0.0
            try:
                await self.dataplane.settled()
                if began:
                    self._telling.programmed(time.perf_counter() - began)
            except KernelError as error:
                log.warning("a change can't be applied, trying again: %s", error)
                await asyncio.sleep(_AGAIN_S)
                self._changed.set()

    def _on_graph_change(self) -> None:
        self.allocator.set_pools(self.graph.pools.values())
        self.allocator.settings = Settings.of(self.graph.configuration)
        migration = self.graph.configuration.migration
        if migration is not None and migration.phase == MOVED:
            self._left.set()
        self.allocator.set_reservations(self.graph.reservations.values())
        own = self.graph.nodes.get(self._options.node)
        self.allocator.node_labels = own.metadata.labels if own is not None else self._options.labels
        self._tunnels.soon()
        self._changed_at = self._changed_at or time.perf_counter()
        self._changed.set()
        self.routes.soon()
        self._control.look_again()
        if not self._plugin.not_ready and (own is None or own.spec.machine != self._options.machine):
            self._node_object.lost()

    def _on_allocator_change(self) -> None:
        self._node_object.soon()
        self.routes.soon()

    def status(self) -> Mapping[str, Any]:
        """How this agent is, for tools."""
        return {
            "node": self._options.node,
            "pid": os.getpid(),
            "ready": not (self._plugin.not_ready or self._plugin.other_relay),
            "reason": self._plugin.not_ready or self._plugin.other_relay,
            "iptables": self._backend.value,
            "datastore": self._options.datastore,
            "failures": [sync.failure for sync in self._syncs if sync.failure],
            "pods": len(self.graph.local),
            "blocks": sorted(str(network) for network in self.allocator.networks()),
            "borrowed": sorted(str(address) for address in self.allocator.borrowed()),
            "owed": sum(1 for _ in self._node.records.unfinished()),
            "repairs": sum(refresher.repairs for refresher in self._refreshers),
        }


async def _until_the_store_answers(what: str, work: Callable[[], Awaitable[T]]) -> T:
    while True:
        try:
            return await work()
        except StoreError as error:
            log.warning("can't %s yet: %s", what, error)
            await asyncio.sleep(_AGAIN_S)


async def _without_end(task: asyncio.Task[None]) -> None:
    """Wait for a task without ending it when this is cancelled."""
    await asyncio.shield(task)


async def _ended(task: asyncio.Task[None]) -> None:
    """End a task that others need until they have ended themselves."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _addresses_of(index: int) -> tuple[Address, ...]:
    found: dict[int, Address] = {}
    for address in await netlink.addresses(index) if index else ():
        found.setdefault(address.version, address)
    return tuple(found.values())
