"""A node's agent, put together as `agent.agent` does it; everything in it that decides is the real thing.

Real: the CNI plugin from the request on, handles, records, journal, tombstones, allocator, Node object, endpoints,
upkeep, what a reboot takes, takeover, regain, reclaim, the watches of pools, settings and Nodes. Modelled: the putting
together, whose other half needs a kernel; links; the enforcing of policy.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from ipaddress import ip_address
from typing import Any, TypeVar

from agent import upkeep
from agent.endpoints import endpoint_key
from agent.identity import NodeObject
from agent.publish import Publisher
from agent.reboot import free_what_a_reboot_took
from agent.reclaim import reclaim, take_over_blocks
from agent.regain import keep_regaining, regain_all
from cni.node import Endpoints, Node
from cni.plugin import Plugin
from cni.records import Record
from cni.standalone import NoEndpoints, NoPolicy
from cni.tombstones import Tombstones
from datastore.errors import StoreError
from datastore.resources.clusterconfiguration import ClusterConfiguration, ClusterConfigurationSpec
from datastore.resources.ippool import IPPool
from datastore.resources.node import Node as NodeResource
from datastore.store import Gone
from datastore.sync import KindSync
from ipam.allocator import Allocator, Settings, Wanted
from ipam.block import Owner
from ipam.errors import IpamError
from ipam.identity import NameTaken
from tests.simulation.disk import Hand, MortalHandles, MortalRecords
from tests.simulation.kernel import SimulatedFlows, SimulatedLinks, SimulatedReaper
from tests.simulation.machine import Machine
from tests.simulation.process import Process

T = TypeVar("T")

_AGAIN_S = 1.0


class _Policy(NoPolicy):
    """Keeps the records in memory, as the policy graph does."""

    def __init__(self) -> None:
        self.local: dict[str, Record] = {}

    async def admit(self, record: Record) -> None:
        """See `Policy.admit`."""
        self.local[endpoint_key(record)] = record

    async def dismiss(self, record: Record) -> None:
        """See `Policy.dismiss`."""
        self.local.pop(endpoint_key(record), None)


class Agent:
    """An agent's process."""

    def __init__(self, machine: Machine, on_failure: Callable[[str], None]) -> None:
        self.machine = machine
        self.process = machine.new_process("agent")
        self.process.on_failure = self._failed
        self.listening = False
        self.refused = False
        """Another machine has the node's name."""
        self._on_failure = on_failure
        self._store = store = machine.server.connect(self.process, machine.place)
        self._allocator = allocator(machine, self.process)
        address = ip_address(f"192.0.2.{1 + sum(machine.identity.encode()) % 250}")
        self._node_object = NodeObject(store, machine.node, machine.identity, (address,), self._allocator)
        self._publisher = Publisher(store, machine.node)
        self._policy = _Policy()
        endpoints = NoEndpoints() if machine.habits.kubernetes else self._publisher
        self._node = node(machine, self.process, self._allocator, endpoints, self._policy)
        self._tombstones = Tombstones(machine.socket)
        self.plugin = Plugin(self._node, self._tombstones)
        self._pools: dict[str, IPPool] = {}
        self._settings = ClusterConfigurationSpec()
        self._syncs: list[Any] = [
            KindSync(store, IPPool, self._pools_listed, self._pools_changed),
            KindSync(store, ClusterConfiguration, self._settings_listed, self._settings_changed),
            KindSync(store, NodeResource, self._nodes_listed, self._nodes_changed),
        ]
        self._allocator.on_change = self._node_object.soon
        self._node_is_lost = False

    def start(self) -> None:
        """Begin."""
        self.process.start(self._run(), vital=True)

    async def take(self, handle: str) -> list[str]:
        """An address by hand: see `ipam.rpc.server`; none where it failed."""
        try:
            async with self._node.handles.hold(handle) as hold:
                held = await self._allocator.assign(Owner(handle, self.machine.node), Wanted((4,)), hold)
                hold.settle()
        except (StoreError, IpamError):
            return []
        return [str(one.address) for one in held]

    async def give_back(self, handle: str) -> bool:
        """Free it again."""
        try:
            async with self._node.handles.hold(handle) as hold:
                await self._allocator.release_handle(handle)
                hold.settle()
        except (StoreError, IpamError):
            return False
        return True

    async def _run(self) -> None:
        await self._become_part_of_the_cluster()
        for sync in self._syncs:
            self.process.start(sync.run(), vital=True)
        await asyncio.gather(*(sync.listed.wait() for sync in self._syncs))
        for work in self._lasting_work():
            self.process.start(work, vital=True)
        await self._finish_what_was_left()
        self.process.start(keep_regaining(self._node, self._node_object), vital=True)
        self.listening = True
        self.plugin.not_ready = ""
        if self._node_is_lost:
            self._node_object.lost()
        await upkeep.pay_once(self._node, self._tombstones)

    async def _become_part_of_the_cluster(self) -> None:
        await _until_the_store_answers(self._node_object.claim)
        await _until_the_store_answers(lambda: take_over_blocks(self._store, self.machine.node, self.machine.identity))
        await _until_the_store_answers(self._allocator.load)
        for record in self._records():
            await self._policy.admit(record)

    async def _finish_what_was_left(self) -> None:
        await _until_the_store_answers(lambda: free_what_a_reboot_took(self._node, self.machine.state))
        await upkeep.undo_incomplete(self._node)
        await upkeep.undo_abandoned(self._node)
        await upkeep.pay_once(self._node, self._tombstones)
        created = self._node_object.created
        everything = created.is_set()
        created.clear()
        if await regain_all(self._node, everything=everything):
            created.set()
        if not self.machine.habits.kubernetes:
            await _until_the_store_answers(lambda: self._publisher.reconcile(self._records()))

    def _lasting_work(self) -> list[Coroutine[Any, Any, None]]:
        habits = self.machine.habits
        return [
            *([self._reclaim()] if habits.reclaim else []),
            self._node_object.run(),
            self._pay(),
            upkeep.give_back(self._node, self._node_object),
            upkeep.undo_until_done(self._node),
            upkeep.free_lost(
                self._node,
                lambda: self._settings.reclaim_grace_seconds,
                clock=asyncio.get_running_loop().time,
            ),
            self._publisher.run(habits.look_every_s),
        ]

    def _reclaim(self) -> Coroutine[Any, Any, None]:
        local = self._policy.local.values
        return reclaim(self._node, self._store, self.machine.identity, local, lambda: self._settings)

    def _records(self) -> list[Record]:
        return [record for record in self._node.records.all() if record.complete and not record.on_link]

    async def _pay(self) -> None:
        """See `upkeep.pay_what_is_owed`."""
        while True:
            await asyncio.sleep(self.machine.habits.look_every_s)
            await upkeep.pay_once(self._node, self._tombstones)

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, NameTaken):
            self.refused = True
        else:
            self._on_failure(f"{self.process.name} ended with {error!r}")

    def _pools_listed(self, listed: Sequence[IPPool]) -> None:
        self._pools = {pool.name: pool for pool in listed}
        self._allocator.set_pools(self._pools.values())

    def _pools_changed(self, changes: Sequence[IPPool | Gone]) -> None:
        for change in changes:
            if isinstance(change, Gone):
                self._pools.pop(change.name, None)
            else:
                self._pools[change.name] = change
        self._allocator.set_pools(self._pools.values())

    def _settings_listed(self, listed: Sequence[ClusterConfiguration]) -> None:
        self._settings = listed[0].spec if listed else ClusterConfigurationSpec()
        self._allocator.settings = Settings.of(self._settings)

    def _settings_changed(self, changes: Sequence[ClusterConfiguration | Gone]) -> None:
        self._settings_listed([change for change in changes if not isinstance(change, Gone)])

    def _nodes_listed(self, listed: Sequence[NodeResource]) -> None:
        if (self.machine.node, self.machine.identity) not in {(one.name, one.spec.machine) for one in listed}:
            self._nodes_changed([Gone("", self.machine.node)])

    def _nodes_changed(self, changes: Sequence[NodeResource | Gone]) -> None:
        for change in changes:
            if change.name != self.machine.node:
                continue
            self._node_is_lost = isinstance(change, Gone) or change.spec.machine != self.machine.identity
            if self._node_is_lost and not self.plugin.not_ready:
                self._node_object.lost()


def allocator(machine: Machine, process: Process) -> Allocator:
    """An allocator of one process."""
    store = machine.server.connect(process, machine.place)
    return Allocator(store, machine.node, machine.identity, clock=machine.clock, draw=machine.draw)


def node(machine: Machine, process: Process, allocating: Allocator, endpoints: Endpoints, policy: NoPolicy) -> Node:
    """The services of one process."""
    hand = Hand(process, machine.random, lambda: machine.habits.risk)
    return Node(
        name=machine.node,
        allocator=allocating,
        handles=MortalHandles(machine.state / "handles", hand),
        records=MortalRecords(machine.state, hand),
        links=SimulatedLinks(machine.kernel, process.check, machine.random),
        reaper=SimulatedReaper(),
        policy=policy,
        endpoints=endpoints,
        flows=SimulatedFlows(),
        mtu=lambda: 1400,
    )


async def _until_the_store_answers(work: Callable[[], Awaitable[T]]) -> T:
    while True:
        try:
            return await work()
        except StoreError:
            await asyncio.sleep(_AGAIN_S)
