"""The controller put together.

    candidate    asks for the Lease, answers tools; has no watch and no memory of the cluster
    leader       watches (`view`) ──> every look: what departed nodes left (`ipam.reclaim_departed`), pools' status
                 copies (`copier`) Kubernetes' objects, where the datastore is another: as they change

Whoever leads anew begins its graces anew: nothing is taken over from the one before but what the store says.
"""

import asyncio
import logging
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping

from controller import defaults
from controller.collector import collect
from controller.copier import Copier
from controller.copies import COPIED
from controller.divided import DividedStore
from controller.leader import Election, Timing
from controller.options import Options
from controller.pools import tell_usage
from controller.status import StatusServer
from controller.telling import Telling
from controller.view import WATCHED, View
from datastore.errors import StoreError
from datastore.resources.kubernetes import KubernetesNode
from datastore.resources.value import Resource
from datastore.store import Reader, Store
from datastore.sync import KindSync
from datastore.transfer import follow
from datastore.transfer.mark import MOVED
from datastore.urls import describe
from ipam.errors import IpamError
from ipam.reclaim_departed import DepartedReclaim

log = logging.getLogger(__name__)

LOOK_S = 30.0
"""Between looks; with a short grace three to a grace, for looks further apart than the grace begin anew."""
_PORTION_S = 1.0
_AGAIN_S = 2.0
"""After the datastore refused what a new cluster begins with."""
_REMEMBERED = 50
"""Lines of what was done that a status tells."""


class Controller:
    """One process; `run` it until it is cancelled."""

    def __init__(
        self,
        options: Options,
        store: Store,
        timing: Timing | None = None,
        telling: Telling | None = None,
        api: Reader | None = None,
    ) -> None:
        self._options = options
        self._telling = telling
        self._store = store
        self._api = api
        """Whose objects are copied into the store; None where the store has them itself, or there are none."""
        self._copier: Copier | None = None
        self._election = Election(store, options.identity, options.namespace, timing)
        self._view = View()
        self._syncs: list[KindSync[Resource]] = []
        self._done: deque[str] = deque(maxlen=_REMEMBERED)
        self._counts: Counter[str] = Counter()
        self._failure = ""
        if telling is not None:
            telling.about(lambda: self._election.leads, lambda: self._view, self._failures, lambda: self._copier)

    async def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Answer tools, and work whenever this one leads, without end.

        Raises:
            OSError: the socket can't be made.
        """
        server = StatusServer(self.status)
        await server.start(self._options.control)
        on_ready()
        try:
            await self._election.run(self._work)
        finally:
            await server.close()

    def status(self) -> Mapping[str, object]:
        """How this controller is, for tools."""
        view = self._view
        return {
            "ready": True,
            "pid": os.getpid(),
            "identity": self._options.identity,
            "leads": self._election.leads,
            "leader": self._election.holder,
            "datastore": describe(self._options.datastore),
            "failures": self._failures(),
            "nodes": len(view.nodes),
            "blocks": len(view.blocks),
            "departed": sorted(view.absent()),
            "done": dict(self._counts),
            "last": list(self._done),
            **({"copy": self._copier.status()} if self._copier is not None else {}),
        }

    async def _work(self) -> None:
        """What the leader does, until it is cancelled."""
        self._view, self._syncs = View(), []
        await self._begin()
        copier = self._copier = self._made_copier()
        store = self._store if self._api is None else DividedStore(self._store, self._api, COPIED)
        reclaim = DepartedReclaim(store, tell=self._tell)
        own = [kind for kind in WATCHED if copier is None or kind not in COPIED]
        self._syncs = [KindSync(self._store, kind, *self._view.told(kind)) for kind in own]
        self._syncs += copier.syncs if copier is not None else []
        try:
            async with asyncio.TaskGroup() as tasks:
                if copier is not None:
                    tasks.create_task(copier.run())
                for sync in self._syncs:
                    tasks.create_task(sync.run())
                await asyncio.gather(*(sync.listed.wait() for sync in self._syncs))
                while True:
                    await self._look(reclaim)
                    await self._pause()
        finally:
            self._view, self._syncs, self._copier = View(), [], None

    def _made_copier(self) -> Copier | None:
        if self._api is None:
            return None
        also = {kind: self._view.told(kind) for kind in WATCHED if kind in COPIED}
        copier = Copier(self._api, self._store, leads=self._election.surely_leads, also=also)
        if self._telling is not None:
            copier.on_refused = self._telling.refused
        return copier

    async def _begin(self) -> None:
        """Give a new cluster what it begins with, as soon as the datastore takes it."""
        while True:
            try:
                for line in await defaults.make(self._store, self._options.defaults):
                    self._tell(line)
                    if self._telling is not None:
                        self._telling.created(line)
                self._failure = ""
                return
            except StoreError as error:
                self._failure = str(error)
                log.warning("what a new cluster begins with can't be made now: %s", error)
                await asyncio.sleep(_AGAIN_S)

    async def _pause(self) -> None:
        """Wait for the next look, in portions: the grace may become shorter meanwhile."""
        view, began = self._view, time.monotonic()
        while time.monotonic() - began < min(LOOK_S, view.settings.reclaim_grace_seconds / 3):
            await asyncio.sleep(_PORTION_S)
            if _is_left(view):
                return

    async def _look(self, reclaim: DepartedReclaim) -> None:
        """One look at everything; what the store refuses waits for the next. Who can't watch doesn't judge."""
        if any(self._watch_failures()):
            return
        began = time.monotonic()
        if _is_left(self._view):
            await self._follow()
        try:
            view = self._view
            if self._api is not None and self._copier is not None:
                machines = self._copier.ledgers[KubernetesNode].wanted_names()
                await collect(self._api, self._store, dict(view.nodes), machines, self._tell)
            done = await reclaim.look(view.absent(), view.claims, view.settings)
            self._failure = ""
            if self._telling is not None:
                self._telling.taken_back(done)
        except (StoreError, IpamError) as error:
            self._failure = str(error)
            log.warning("departed nodes can't be looked over now: %s", error)
        written = await tell_usage(self._store, self._view)
        if self._telling is not None:
            self._telling.looked(time.monotonic() - began, ok=not self._failure, statuses=written)
            self._telling.about_pools(self._view.pools.values())
            self._telling.about_policies(self._view.selected, time.monotonic())
            self._telling.late(self._copier)
        log.debug("looked in %.3f s", time.monotonic() - began)

    async def _follow(self) -> None:
        """Go where the datastore was moved to, if that can be used.

        Raises:
            Left: it can.
        """
        try:
            to = await follow.destination(self._store)
        except StoreError as error:
            log.warning("where the datastore was moved to can't be read: %s", error)
            return
        if to:
            raise follow.Left(to)

    def _tell(self, line: str) -> None:
        log.info("%s", line)
        self._done.append(line)
        self._counts[" ".join(line.split()[: 1 if line.startswith("reclaimed") else 2])] += 1

    def _failures(self) -> list[str]:
        copying = (self._copier.failure, *self._copier.complaints()) if self._copier is not None else ()
        return [text for text in (self._election.failure, self._failure, *self._watch_failures(), *copying) if text]

    def _watch_failures(self) -> list[str]:
        return [sync.failure for sync in self._syncs if sync.failure]


def _is_left(view: View) -> bool:
    """Whether the datastore was left for another."""
    migration = view.settings.migration
    return migration is not None and migration.phase == MOVED
