"""What a node takes back of its own: addresses that neither its records, nor its kernel, nor the API know any more.

    a record that was lost               state wiped, a file that couldn't be read
    a write that landed too late         of an ADD that was undone meanwhile, or died
    another machine's, of this name      pods of the machine that had the name before (`ipam.takeover`)

Most of the time there is nothing to ask anybody: what the mirror says is compared with the records, in memory. Only
what no record has is looked for in the kernel and in the store, at every look until it has been ownerless for the
grace; then everything is asked once more, with the handle held, so that no ADD or DEL of it is under way.

A WorkloadEndpoint of this node that no record has is as dead as its record: it goes first.
"""

import logging
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Protocol

from datastore.errors import Conflict, NotFound, Unknown
from datastore.resources.clusterconfiguration import ClusterConfigurationSpec
from datastore.resources.ipblock import Allocation
from datastore.resources.node import Node
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.store import Store
from ipam import claims
from ipam.allocator import Allocator
from ipam.block import Address, Held
from ipam.claims import Claimant, Claims
from ipam.errors import HandleBusy
from ipam.handles import Handles, lock_name
from ipam.reclaim import Evidence, Grace, Here, Kind, Verdict, home_of, judge, kind_of
from ipam.reclaim_departed import told

log = logging.getLogger(__name__)

AT_ONCE = 64
"""Addresses freed in one look, at most: each has its handle held meanwhile."""


class Witness(Protocol):
    """What a node knows of attachments beside the store."""

    def recorded(self, handle: str, address: Address | None) -> bool:
        """Whether a record or journal entry has the address, or the handle has one that doesn't say its addresses yet.

        Without an address: whether the handle has any.
        """
        ...

    async def routed(self) -> frozenset[Address]:
        """The addresses to which a route leads by a pod's link.

        Raises:
            KernelError: the kernel can't be asked.
        """
        ...


class OwnReclaim:
    """Looks at a node's own allocations, again and again; `look` it at intervals below the grace."""

    def __init__(
        self,
        store: Store,
        allocator: Allocator,
        handles: Handles,
        witness: Witness,
        *,
        node: str,
        machine: str,
        clock: Callable[[], float] = time.monotonic,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._tell = tell
        self._told: list[str] = []
        self._allocator = allocator
        self._handles = handles
        self._witness = witness
        self._node = node
        self._machine = machine
        self._addresses: Grace[Held] = Grace(clock)
        self._endpoints: Grace[tuple[str, str, str]] = Grace(clock)

    async def look(self, settings: ClusterConfigurationSpec, *, fresh: bool = False) -> tuple[str, ...]:
        """Take back what has been ownerless for the grace; tells and gives what was done, in words.

        The mirror chooses what is looked at, unless `fresh`, which lists this node's blocks first: only so is seen
        what another process, or a write that was believed lost, has put there.

        Raises:
            StoreError, IpamError: the store can't be used; the next look goes on.
            KernelError: the kernel can't be asked.
        """
        if fresh:
            await self._allocator.load()
        grace_s = settings.reclaim_grace_seconds
        suspects = {} if settings.migration is not None else self._unrecorded()
        ownerless: list[Held] = []
        dead: list[tuple[str, str, str]] = []
        if suspects:
            known = await claims.read(self._store)
            verdicts = await self._verdicts(suspects, known, lambda one: not self._is_dead(one))
            ownerless = [held for held, verdict in verdicts.items() if verdict.ownerless]
            dead = [(one.namespace, one.name, one.node) for one in known.endpoints() if self._is_dead(one)]
        aged = self._endpoints.look(dead, grace_s)
        due = [held for held, age in self._addresses.look(ownerless, grace_s).items() if age >= grace_s]
        self._told = []
        for place in dead:
            if aged[place] >= grace_s:
                await self._forget(*place)
        await self._free({held: suspects[held] for held in due[:AT_ONCE]})
        return tuple(self._told)

    def _unrecorded(self) -> dict[Held, Allocation]:
        """Attachments' allocations of this node that no record has and nobody is at work on."""
        return {
            held: allocation
            for held, allocation in self._allocator.allocations()
            if home_of(allocation.handle, allocation.node) == self._node
            and kind_of(allocation.handle) is Kind.ATTACHMENT
            and not self._witness.recorded(allocation.handle, held.address)
            and not self._busy(allocation.handle)
        }

    def _busy(self, handle: str) -> bool:
        return self._handles.is_uncertain(handle) or self._handles.is_held(lock_name(handle))

    def _is_dead(self, claimant: Claimant) -> bool:
        """Whether this is an endpoint of this node that no record has."""
        if claimant.kind is not WorkloadEndpoint or claimant.node != self._node:
            return False
        return not any(self._is_known(identity) for identity in claimant.identities)

    def _is_known(self, identity: str) -> bool:
        handle = identity.removeprefix(claims.HANDLE)
        return self._witness.recorded(handle, None) or self._busy(handle)

    async def _verdicts(
        self, suspects: dict[Held, Allocation], known: Claims, counts: claims.Counts, *, held: bool = False
    ) -> dict[Held, Verdict]:
        """What is to be thought of each; `held`: by who holds the handles, whose locks say nothing then."""
        machine = await self._whose()
        routed = await self._witness.routed()
        verdicts = {}
        for one, allocation in suspects.items():
            here = Here(
                self._node,
                self._machine,
                recorded=self._witness.recorded(allocation.handle, one.address),
                routed=None if allocation.on_link else one.address in routed,
                busy=not held and self._busy(allocation.handle),
            )
            home = home_of(allocation.handle, allocation.node)
            api = known.of(one.address, allocation, counts)
            verdicts[one] = judge(Evidence(allocation.handle, home, machine, api, here))
        return verdicts

    async def _whose(self) -> str | None:
        try:
            return (await self._store.get(Node, self._node)).spec.machine
        except NotFound:
            return None

    async def _free(self, due: dict[Held, Allocation]) -> None:
        async with AsyncExitStack() as stack:
            free: dict[Held, Allocation] = {}
            for one, allocation in due.items():
                if await self._hold(stack, allocation.handle, free):
                    free[one] = allocation
            if not free:
                return
            fresh = await claims.read(self._store)
            for one, verdict in (await self._verdicts(free, fresh, lambda _: True, held=True)).items():
                if verdict.ownerless:
                    await self._allocator.release([one])
                    self._say(f"reclaimed {told(one, free[one])}: {verdict.reason}")

    async def _hold(self, stack: AsyncExitStack, handle: str, before: dict[Held, Allocation]) -> bool:
        """Hold a handle; False where it is another's, or a write for it may be in flight."""
        if any(known.handle == handle for known in before.values()):
            return True
        try:
            return not (await stack.enter_async_context(self._handles.hold(handle, wait_s=0))).uncertain
        except HandleBusy:
            return False

    async def _forget(self, namespace: str, name: str, node: str) -> None:
        try:
            found = await self._store.get(WorkloadEndpoint, name, namespace)
            if found.spec.node != node:
                return
            await self._store.delete(found)
        except (NotFound, Conflict, Unknown):
            return  # gone, or it has moved on: the next look sees which
        self._say(f"deleted endpoint {namespace}/{name}: this node has no record of it")

    def _say(self, line: str) -> None:
        self._told.append(line)
        self._tell(line)
