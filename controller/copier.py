"""Kubernetes' own objects, copied into the datastore that agents read: does what the ledgers say is due.

    API        list, watch ─┐
                            ├─> `ledger` of each kind ──> rounds: at most `AT_ONCE` steps of one kind and sort
    datastore  list, watch ─┘         ▲                        │
                                      └──── outcomes ──────────┘

A round begins with the first kind that has something due. What fails for now stays due; the next round is later by a
pause that grows. A leader alone runs this, and only while it surely leads.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from controller.copies import COPIED
from controller.ledger import Create, Delete, Key, Ledger, Look, Step, Update
from datastore.errors import AlreadyExists, Conflict, Invalid, NotFound, StoreError, Unknown
from datastore.resources.kubernetes import Namespace
from datastore.resources.value import Resource, key_of
from datastore.store import Gone, Reader, Store
from datastore.sync import KindSync

log = logging.getLogger(__name__)

AT_ONCE = 16
"""Writes under way: etcd commits them together, and one that is slow keeps fifteen others waiting, no more."""
LATE_S = 10.0
"""Behind for longer, somebody should look."""
HOME = "kube-system"
"""The namespace whose uid says which cluster this is."""
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_UNSURE_S = 0.5
"""Until it is looked again whether this one leads."""

Told = Mapping[type[Resource], tuple[Callable[[Sequence[Any]], None], Callable[[Sequence[Any]], None]]]
"""Who else is told what the API has, of a kind: listings and changes."""


class Copier:
    """One leader's; `run` it beside its `syncs`."""

    def __init__(
        self,
        api: Reader,
        store: Store,
        *,
        leads: Callable[[], bool] = lambda: True,
        also: Told | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ledgers = {kind: Ledger(kind, clock) for kind in COPIED}
        self.failure = ""
        """Why nothing can be written now; empty if it can."""
        self.done: Counter[tuple[str, str]] = Counter()
        """How many writes succeeded, by plural and verb."""
        self.on_refused: Callable[[Resource, str], None] = lambda resource, why: None
        self._store = store
        self._leads = leads
        self._due = asyncio.Event()
        self.from_api = [KindSync(api, kind, *self._wanted(kind, also or {})) for kind in COPIED]
        self.from_store = [KindSync(store, kind, *self._there(kind)) for kind in COPIED]
        for ledger in self.ledgers.values():
            ledger.on_due = self._due.set

    @property
    def syncs(self) -> list[KindSync[Resource]]:
        """To be run as tasks, each."""
        return [*self.from_api, *self.from_store]

    async def run(self) -> None:
        """Write what is due, without end."""
        pause_s = _FIRST_PAUSE_S
        while True:
            await self._due.wait()
            self._due.clear()
            while self._may_write():
                ledger, steps = self._next()
                if ledger is None:
                    self.failure = ""
                    break
                if await self._round(ledger, steps):
                    self.failure, pause_s = "", _FIRST_PAUSE_S
                else:
                    await asyncio.sleep(pause_s)
                    pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            else:
                await asyncio.sleep(_UNSURE_S)
                self._due.set()

    # How it is

    def status(self) -> dict[str, object]:
        """For tools."""
        kinds = {
            ledger.kind.KIND.full_name: {
                "objects": ledger.objects,
                "behind": ledger.due,
                "behindSeconds": round(self.behind_s(ledger), 1),
                "refused": sorted(key_of(ledger.kind, name, namespace) for namespace, name in ledger.refused),
            }
            for ledger in self.ledgers.values()
        }
        return {"failure": self.failure, "kinds": kinds}

    def behind_s(self, ledger: Ledger) -> float:
        """For how long something of a kind has been due, or has not been known, because the API can't be watched."""
        sync = next(one for one, kind in zip(self.from_api, COPIED, strict=True) if kind is ledger.kind)
        unheard_s = time.monotonic() - sync.failing_since if sync.failure else 0.0
        return max(ledger.behind_s(), unheard_s)

    def complaints(self) -> Iterator[str]:
        """Which objects to look at; what fails as a whole is in `failure`, or told by who runs the watches."""
        for ledger in self.ledgers.values():
            if ledger.behind_s() > LATE_S:
                yield (
                    f"{ledger.due} {ledger.kind.KIND.plural} of the Kubernetes API aren't in the datastore as they are "
                    f"now, the first since {ledger.behind_s():.0f} s"
                )
            for (namespace, name), why in list(ledger.refused.items())[:3]:
                yield f"{key_of(ledger.kind, name, namespace)} can't be copied into the datastore: {why}"

    # What is told

    def _wanted(
        self, kind: type[Resource], also: Told
    ) -> tuple[Callable[[Sequence[Resource]], None], Callable[[Sequence[Resource | Gone]], None]]:
        ledger, more = self.ledgers[kind], also.get(kind)

        def listed(resources: Sequence[Resource]) -> None:
            ledger.wanted_listed(resources)
            if more is not None:
                more[0](resources)

        def changed(changes: Sequence[Resource | Gone]) -> None:
            ledger.wanted_changed(changes)
            if more is not None:
                more[1](changes)

        return listed, changed

    def _there(
        self, kind: type[Resource]
    ) -> tuple[Callable[[Sequence[Resource]], None], Callable[[Sequence[Resource | Gone]], None]]:
        ledger = self.ledgers[kind]
        return ledger.there_listed, ledger.there_changed

    # What is done

    def _may_write(self) -> bool:
        if not all(ledger.complete for ledger in self.ledgers.values()) or not self._leads():
            return False
        namespaces = self.ledgers[Namespace]
        # Where that is in doubt, looks come first, and then this again.
        ours, theirs = namespaces.wanted("", HOME), namespaces.there("", HOME)
        if ours is None or theirs is None or not theirs.metadata.uid or theirs.metadata.uid == ours.metadata.uid:
            return True
        self.failure = (
            f"the datastore has the copy of another cluster (kube-system is {theirs.metadata.uid} there, "
            f"{ours.metadata.uid} here): give each cluster a prefix of its own; if the other is gone for good: "
            "tortiectl delete namespaces kube-system"
        )
        return False

    def _next(self) -> tuple[Ledger | None, list[Step]]:
        for ledger in self.ledgers.values():
            if steps := ledger.steps(AT_ONCE):
                return ledger, steps
        return None, []

    async def _round(self, ledger: Ledger, steps: list[Step]) -> bool:
        """Do these steps at once; whether the datastore did what it was asked."""
        return all(await asyncio.gather(*(self._tried(ledger, step) for step in steps)))

    async def _tried(self, ledger: Ledger, step: Step) -> bool:
        try:
            await self._do(ledger, step)
        except (AlreadyExists, Conflict, NotFound):
            ledger.doubt(step.key)
        except Unknown as error:
            ledger.doubt(step.key)
            return self._failed(ledger.kind, step.key, error)
        except Invalid as error:
            self._refused(ledger, step, error)
        except StoreError as error:
            return self._failed(ledger.kind, step.key, error)
        return True

    async def _do(self, ledger: Ledger, step: Step) -> None:
        key, plural = step.key, ledger.kind.KIND.full_name
        match step:
            case Look():
                try:
                    ledger.seen(key, await self._store.get(ledger.kind, key[1], key[0]))
                except NotFound:
                    ledger.gone(key)
            case Create(resource=resource):
                ledger.written(key, await self._store.create(resource))
                self.done[plural, "create"] += 1
            case Update(resource=resource):
                ledger.written(key, await self._store.update(resource))
                self.done[plural, "update"] += 1
            case Delete(resource=resource):
                await self._store.delete(resource)
                ledger.gone(key)
                self.done[plural, "delete"] += 1

    def _failed(self, kind: type[Resource], key: Key, error: StoreError) -> bool:
        if not self.failure:
            log.warning("%s can't be copied now: %s", key_of(kind, key[1], key[0]), error)
        self.failure = f"the datastore refuses copies: {error}"
        return False

    def _refused(self, ledger: Ledger, step: Step, error: Invalid) -> None:
        log.warning("%s can't be copied: %s", key_of(ledger.kind, step.key[1], step.key[0]), error)
        ledger.refuse(step.key, str(error))
        if isinstance(step, Create | Update):
            self.on_refused(step.resource, str(error))
