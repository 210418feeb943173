"""Bringing the kernel's sets and tables to what the compiler desires.

Nothing happens before `start`. From then on `settled` applies what has changed and returns when the kernel has it; many
may wait, each takes whatever is new, one applies at a time. An apply that fails half-way leaves the kernel in a state
that nobody knows: the next one reads it back and compares (`plan.of_difference`), as `refresh` does on its own account.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from agent.plan import TABLES, Plan, of_changes, of_difference
from kernel.delta import difference, hooks_text
from kernel.errors import CommandFailed, KernelError
from kernel.ipset import ActualSet, Ipset
from kernel.iptables import ActualTable, Iptables
from kernel.sets import SetName
from kernel.tables import Family, Table, TableName
from policy.compiler import Compiler
from policy.desired import Changes, TableKey

log = logging.getLogger(__name__)

_BETWEEN_SETS_S = 0.010
"""How long a member that moves stays in both sets: without, 283 of 40,000 packets met neither dispatch rule."""
_IN_USE_TRIES = 5
"""nft lets go of a deleted rule's sets a moment after the transaction."""
_IN_USE_PAUSE_S = 0.02

T = TypeVar("T")
Snapshot = tuple[Mapping[SetName, ActualSet], Mapping[TableKey, ActualTable]]


class Dataplane:
    """The sets and tables of one node."""

    def __init__(self, compiler: Compiler, iptables: Iptables, ipset: Ipset) -> None:
        self.started = False
        self.failure = ""
        """What the kernel said to the last change that it refused; empty once it is as desired again."""
        self.succeeded_at = 0.0
        """When the kernel last was as desired, in seconds since 1970; 0 before."""
        self.on_applied: Callable[[float, bool], None] = lambda seconds, ok: None
        """Told of each change of the kernel: how long it took, and whether it was taken."""
        self._compiler = compiler
        self._iptables = iptables
        self._ipset = ipset
        self._applying = asyncio.Lock()
        self._unknown = True
        """Whether the kernel may differ from what was desired last: at first, and after a failure."""

    async def start(self) -> tuple[str, ...]:
        """Compare with the kernel and apply; call it once every first listing is in. Gives what differed.

        Raises:
            KernelError: refused; start again.
        """
        self.started = True
        await self._applying.acquire()
        return await self._alone(self._compare(first=True))

    async def settled(self) -> None:
        """Return once the kernel has everything that the compiler was told before this call.

        Raises:
            KernelError: refused; the next call compares everything.
        """
        if not self.started:
            return
        await self._applying.acquire()
        began = time.perf_counter()
        if self._unknown:
            await self._alone(self._compare())
            return
        try:
            plan = of_changes(self._compiler.take_changes(), self._compiler.desired)
            if plan.few_members:
                self._change_members(plan)
        except BaseException as error:
            self._unknown, self.failure = True, str(error)
            self._applying.release()
            self._tell(began, ok=False)
            raise
        if plan.few_members:
            self._applying.release()
            if plan:
                self._tell(began, ok=True)
        else:
            await self._alone(self._carry_out(plan))

    async def refresh(self) -> tuple[str, ...]:
        """Read the kernel back and mend what differs; gives what did, in words, changes on their way not counted.

        Raises:
            KernelError: refused; the next call compares everything.
        """
        await self._applying.acquire()
        return await self._alone(self._compare())

    async def _alone(self, work: Coroutine[Any, Any, T]) -> T:
        """Run work that holds the lock, and let the next one in when it ends, also if its caller has given up by then.

        A thread can't be stopped half-way: whoever came after it would compare with a kernel that still changes.
        """
        task, began = asyncio.ensure_future(work), time.perf_counter()
        task.add_done_callback(lambda done: self._end(done, began))
        return await asyncio.shield(task)

    def _end(self, task: asyncio.Task[object], began: float) -> None:
        self._applying.release()
        if not task.cancelled():
            failure = task.exception()  # seen: there may be nobody left to tell
            self.failure = str(failure) if failure is not None else ""
            self._tell(began, ok=failure is None)

    def _tell(self, began: float, *, ok: bool) -> None:
        if ok:
            self.succeeded_at = time.time()
        self.on_applied(time.perf_counter() - began, ok)

    async def _compare(self, *, first: bool = False) -> tuple[str, ...]:
        self._unknown = True
        sets, tables = await asyncio.to_thread(self._read)
        pending = self._compiler.take_changes()
        plan = of_difference(self._compiler.desired, sets, tables, Changes() if first else pending)
        await self._carry_out(plan)
        self._unknown = False
        return plan.found

    async def _carry_out(self, plan: Plan) -> None:
        if plan.few_members:
            self._change_members(plan)
            return
        tables = self._compiler.desired.tables if plan.hooks else {}
        copies = {key: Table(dict(table.chains), dict(table.hooks)) for key, table in tables.items()}
        try:
            await asyncio.to_thread(self._apply, plan, copies)
        except BaseException:
            self._unknown = True
            raise

    def _change_members(self, plan: Plan) -> None:
        try:
            if plan:
                self._ipset.change(plan.added, plan.removed)
        except BaseException:
            self._unknown = True
            raise

    # In a thread: nothing below looks at the compiler.

    def _read(self) -> Snapshot:
        tables = {(family, table): self._table(family, table) for table in TABLES for family in Family}
        return self._ipset.read(), tables

    def _table(self, family: Family, table: TableName) -> ActualTable:
        """What of a table is ours. A kernel without nat has nothing of ours there; who needs it finds out on writing.

        Raises:
            CommandFailed: it can't be read.
        """
        try:
            return self._iptables.read(family, table)
        except CommandFailed:
            if table is TableName.NAT:
                return ActualTable()
            raise

    def _apply(self, plan: Plan, tables: Mapping[TableKey, Table]) -> None:
        self._ipset.create(plan.new_sets)
        self._ipset.change(plan.added)
        for family, text in plan.restores:
            self._iptables.restore(family, text)
        if plan.hooks:
            self._install(tables)
        for family, text in plan.removals:
            self._iptables.restore(family, text)
        if plan.moves:
            time.sleep(_BETWEEN_SETS_S)
        self._ipset.change((), plan.removed)
        for name in plan.gone_sets:
            self._destroy(name)

    def _install(self, desired: Mapping[TableKey, Table]) -> None:
        """Jumps from the kernel's own chains, table by table, each after its chains were read back whole."""
        for table in TABLES:
            for family in Family:
                wanted = desired.get((family, table), Table())
                actual = self._table(family, table)
                found = difference(wanted, actual)
                if found.changed:
                    names = ", ".join(chain.name for chain in found.changed)
                    raise KernelError(f"{family.iptables} {table.value}: {names} didn't come out as written")
                if found.hooks:
                    self._iptables.restore(family, hooks_text(table, wanted, actual))

    def _destroy(self, name: SetName) -> None:
        for attempt in range(_IN_USE_TRIES):
            try:
                self._ipset.destroy([name])
            except CommandFailed as error:
                if attempt == _IN_USE_TRIES - 1:
                    log.warning("set %s stays until the next refresh: %s", name, error.stderr.strip())
                    return
                time.sleep(_IN_USE_PAUSE_S)
            else:
                return
