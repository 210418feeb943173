"""Who leads: a Lease in the store, as Kubernetes' own controllers hold theirs.

    holder      writes the Lease anew every few seconds; stops leading when that fails for `deadline_s`
    others      watch its revision: unchanged for the Lease's own duration by their own clocks, it is anybody's
    the end     the holder empties it, and the next to look takes over at once

Nobody compares a time in the Lease with a clock. `deadline_s` is shorter than the duration, so that a holder that can't
write stops before another begins, if their clocks run alike; where they don't, two work at once for a while: everything
they do is safe by compare-and-swap, and leading is for load alone.

Source: k8s.io/client-go/tools/leaderelection (leaderelection.go), whose fields and order of checks these are.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, auto

import msgspec

from datastore.errors import AlreadyExists, Conflict, NotFound, StoreError, Unknown
from datastore.resources.lease import Lease, LeaseSpec
from datastore.resources.value import Metadata
from datastore.store import Store

log = logging.getLogger(__name__)

NAME = "tortie-controller"
_TRIES = 5
"""Writes by which the Lease is given up."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds; client-go's duration and deadline, and fewer writes."""

    duration_s: int = 15
    deadline_s: float = 10.0
    every_s: float = 4.0


class _Tried(Enum):
    HELD = auto()
    ANOTHERS = auto()
    UNSURE = auto()
    """The store didn't say, or somebody was quicker."""


class Election:
    """One candidate."""

    def __init__(
        self,
        store: Store,
        identity: str,
        namespace: str,
        timing: Timing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.identity = identity
        self.leads = False
        self.holder = ""
        """Who was seen to lead last."""
        self.failure = ""
        """What the store said last, empty while it answers."""
        self._store = store
        self._namespace = namespace
        self._timing = timing or Timing()
        self._clock = clock
        self._renewed = 0.0
        """When this candidate last took or renewed the Lease."""
        self._seen = ("", 0.0)
        """The Lease's revision, and when it was first seen."""

    def surely_leads(self) -> bool:
        """Whether nobody else can have begun: not so for one that was stopped for a while and hasn't noticed."""
        return self.leads and self._clock() - self._renewed < self._timing.deadline_s

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work` whenever this candidate leads, without end; the Lease is given up when it is cancelled.

        Raises:
            BaseExceptionGroup, Exception: what `work` raised.
        """
        try:
            while True:
                if await self._try() is _Tried.HELD:
                    log.info("%s leads", self.identity)
                    self.leads = True
                    await self._lead(work)
                    self.leads = False
                    log.warning("%s leads no more: %s", self.identity, self.failure or f"now {self.holder or 'nobody'}")
                await asyncio.sleep(self._timing.every_s * random.uniform(1, 1.2))  # noqa: S311  # not a secret
        finally:
            await self._give_up()

    async def _lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """Work and renew, until the Lease is lost."""
        self._renewed = self._clock()
        working = asyncio.ensure_future(work())
        try:
            while True:
                done, _ = await asyncio.wait((working,), timeout=self._timing.every_s)
                if done:
                    working.result()
                    return
                tried = await self._try(self._renewed + self._timing.deadline_s - self._clock())
                if tried is _Tried.HELD:
                    self._renewed = self._clock()
                elif tried is _Tried.ANOTHERS or self._clock() - self._renewed >= self._timing.deadline_s:
                    return
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    async def _try(self, limit_s: float | None = None) -> _Tried:
        """Take or renew the Lease, once."""
        try:
            async with asyncio.timeout(max(0.0, self._timing.deadline_s if limit_s is None else limit_s)):
                tried = await self._taken_or_renewed()
        except TimeoutError:
            self.failure = "the datastore doesn't answer"
            return _Tried.UNSURE
        except (AlreadyExists, Conflict, NotFound):
            return _Tried.UNSURE
        except StoreError as error:
            if not self.failure:
                log.warning("the Lease can't be read or written: %s", error)
            self.failure = str(error)
            return _Tried.UNSURE
        self.failure = ""
        return tried

    async def _taken_or_renewed(self) -> _Tried:
        try:
            found = await self._store.get(Lease, NAME, self._namespace)
        except NotFound:
            metadata = Metadata(name=NAME, namespace=self._namespace)
            self._see(await self._store.create(Lease(metadata=metadata, spec=self._spec(None))))
            return _Tried.HELD
        self._see(found)
        if found.spec.holder_identity not in ("", self.identity) and not self._is_expired(found.spec):
            return _Tried.ANOTHERS
        self._see(await self._store.update(msgspec.structs.replace(found, spec=self._spec(found.spec))))
        return _Tried.HELD

    def _see(self, lease: Lease) -> None:
        self.holder = lease.spec.holder_identity
        if lease.revision != self._seen[0]:
            self._seen = (lease.revision, self._clock())

    def _is_expired(self, spec: LeaseSpec) -> bool:
        return self._clock() - self._seen[1] >= spec.lease_duration_seconds

    def _spec(self, before: LeaseSpec | None) -> LeaseSpec:
        """The Lease as this candidate holds it from now on."""
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        held = before is not None and before.holder_identity == self.identity
        changes = {
            "holder_identity": self.identity,
            "lease_duration_seconds": self._timing.duration_s,
            "renew_time": now,
            "acquire_time": before.acquire_time if before is not None and held else now,
            "lease_transitions": 0 if before is None else before.lease_transitions + (not held),
        }
        return msgspec.structs.replace(before or LeaseSpec(), **changes)

    async def _give_up(self) -> None:
        """Empty the Lease if it is ours, so that nobody waits for it to expire.

        A renewal whose caller was cancelled may still land: then it is read again.
        """
        self.leads = False
        try:
            async with asyncio.timeout(self._timing.deadline_s):
                for _ in range(_TRIES):
                    found = await self._store.get(Lease, NAME, self._namespace)
                    if found.spec.holder_identity != self.identity:
                        return
                    spec = msgspec.structs.replace(found.spec, holder_identity="", lease_duration_seconds=1)
                    with contextlib.suppress(Conflict, Unknown):
                        await self._store.update(msgspec.structs.replace(found, spec=spec))
        except (StoreError, TimeoutError) as error:
            log.info("the Lease runs out by itself: %s", error)
