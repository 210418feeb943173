"""The datastore as its clients meet it: a store in memory behind a network that loses, delays and refuses.

    sent ── travels ──> applied, atomically ── the answer travels ──> heard
              |                                      |
              refused: Unavailable                   lost: Unknown, although applied
              lost: Unknown, never applied
              late: Unknown now, applied minutes later, when its compare-and-swap decides as ever

Reads are linearizable: they see what is there at the instant at which they arrive. Watches lag behind, break and lose
their history. A write that was sent is applied or not whatever becomes of its sender.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Any, TypeVar

from datastore.errors import NotFound, StoreError, Unavailable, Unknown
from datastore.memory import MemoryStore
from datastore.record import Key, key_for
from datastore.resources.value import Resource, key_of
from datastore.store import Batch, Listing, Revision, Where
from tests.simulation.process import Process, outside
from tests.simulation.trace import Trace

R = TypeVar("R", bound=Resource)
T = TypeVar("T")


_STALL_S = (60.0, 400.0)


class Fate(Enum):
    """What becomes of a call."""

    OK = "ok"
    REFUSED = "refused"
    LOST_APPLIED = "answer lost"
    LOST = "lost"
    LATE = "late"


@dataclass
class Weather:
    """How the network is; changed while it runs."""

    latency_s: tuple[tuple[float, float], ...] = ((1.0, 0.002),)
    """Weight and mean of the exponential distributions that a journey's time is drawn from."""
    fates: tuple[tuple[float, Fate], ...] = ((1.0, Fate.OK),)
    """Weight and fate of a write; of a read every fate but OK is REFUSED."""
    reads_too: float = 1.0
    """How much of the trouble reads have."""
    late_s: float = 60.0
    """Mean of how much later a late write lands."""
    prompt: bool = False
    """What a process had sent when it died is applied in that instant or never: nothing lands behind anybody."""
    watch_lag_s: float = 0.01
    """Mean."""
    watch_stalls: float = 0.0
    """Of how many batches the watch stands still for minutes and says nothing."""
    watch_breaks: float = 0.0
    """Of how many batches the watch breaks instead."""


@dataclass(frozen=True, slots=True)
class Write:
    """What a write that was applied did to an object: its body before and after, None where it wasn't there."""

    by: str
    key: Key
    before: bytes | None
    after: bytes | None


class Server:
    """The store and the way to it."""

    def __init__(self, random: Random, trace: Trace, *, keep: int = 10_000) -> None:
        self.inner = MemoryStore(keep=keep, bookmark_s=1e9)
        self.weather = Weather()
        self.on_write: Callable[[Write], None] = lambda _: None
        self.on_refusal: Callable[[str, StoreError], None] = lambda *_: None
        """Told of an Invalid: a client wrote what no store may keep."""
        self.late = 0
        """Writes on their way."""
        self.calls = 0
        self._random = random
        self._trace = trace
        self._awaited: dict[str, asyncio.Event] = {}
        self._cut: dict[str, int] = {}
        self._flying: dict[Process, dict[asyncio.TimerHandle, Callable[[], None]]] = {}
        """Writes that were sent and haven't arrived."""

    def connect(self, process: Process, place: str) -> "Connection":
        """A client's store; `place` is what a partition cuts off."""
        process.on_kill = lambda: self._bereaved(process)
        return Connection(self, process, place)

    @contextmanager
    def cut_off(self, place: str) -> Generator[None]:
        """Nothing gets through from a place (`*`: from any)."""
        self._cut[place] = self._cut.get(place, 0) + 1
        try:
            yield
        finally:
            self._cut[place] -= 1

    def now(self, work: Coroutine[Any, Any, T], key: Key | None = None) -> T:
        """What a call of the inner store gives, done at this instant by an administrator; `key` is that of a write."""
        before = self.body(key) if key is not None else None
        result = run_now(work)
        if key is not None:
            self.on_write(Write("administrator", key, before, self.body(key)))
        return result

    def asked(self, what: str) -> asyncio.Event:
        """Set when somebody asks this next: for what is to happen at the worst moment."""
        return self._awaited.setdefault(what, asyncio.Event())

    async def ask(self, connection: "Connection", what: str, work: Callable[[], Coroutine[Any, Any, T]], key: Key) -> T:
        """A call, by way of the network; `key` is that of a write."""
        self.calls += 1
        if self._awaited.get(what):
            self._awaited.pop(what).set()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        fate = self._fate(connection.place, writes=bool(key.kind))
        journey_s = self._latency()

        def arrive() -> None:
            outcome = self._apply(connection, what, work, key)
            if fate is Fate.OK:
                loop.call_later(self._latency(), _deliver, answer, *outcome, context=outside())

        if fate is Fate.LATE:
            self.late += 1
            loop.call_later(journey_s + self._random.expovariate(1 / self.weather.late_s), self._land, arrive)
        elif _arrives(fate) and not key.kind:
            loop.call_later(journey_s, arrive, context=outside())
        elif _arrives(fate):
            self._send(connection.process, journey_s, arrive)
        if fate is not Fate.OK:
            error = Unavailable(what) if fate is Fate.REFUSED else Unknown(what)
            loop.call_later(journey_s + self._latency(), _deliver, answer, None, error, context=outside())
            if self._trace.on:
                self._trace.note(connection.process.name, f"{what}: {fate.value}")
        return await answer

    def _send(self, process: Process, journey_s: float, arrive: Callable[[], None]) -> None:
        flying = self._flying.setdefault(process, {})

        def arrived() -> None:
            del flying[timer]
            arrive()

        timer = asyncio.get_running_loop().call_later(journey_s, arrived, context=outside())
        flying[timer] = arrive

    def _bereaved(self, process: Process) -> None:
        flying = self._flying.pop(process, {})
        for timer, arrive in list(flying.items()) if self.weather.prompt else ():
            timer.cancel()
            if self._random.random() < 0.5:
                arrive()

    def _land(self, arrive: Callable[[], None]) -> None:
        self.late -= 1
        arrive()

    def _apply(
        self, connection: "Connection", what: str, work: Callable[[], Coroutine[Any, Any, T]], key: Key
    ) -> tuple[T | None, StoreError | None]:
        before = self.body(key) if key.kind else None
        result, error = None, None
        try:
            result = run_now(work())
        except StoreError as caught:
            error = caught
        if self._trace.on:
            told = f"{type(error).__name__}" if error is not None else "done"
            self._trace.note(connection.process.name, f"{what}: {told}")
        if key.kind and error is None:
            self.on_write(Write(connection.process.name, key, before, self.body(key)))
        elif error is not None and not isinstance(error, NotFound):
            self.on_refusal(connection.process.name, error)
        return result, error

    def body(self, key: Key) -> bytes | None:
        """An object as it is stored."""
        stored = self.inner._objects.get(key)
        return stored.record.body if stored is not None else None

    def bodies(self, kind: type[Resource]) -> dict[str, bytes]:
        """Every object of a kind as it is stored, by name."""
        objects = self.inner._objects
        return {key.name: objects[key].record.body for key in sorted(objects) if key.kind == kind.KIND.full_name}

    def lag_s(self) -> float:
        """How far a watch is behind now."""
        if self.weather.watch_stalls and self._random.random() < self.weather.watch_stalls:
            return self._random.uniform(*_STALL_S)
        return self._random.expovariate(1 / self.weather.watch_lag_s)

    def breaks(self) -> bool:
        """Whether a watch breaks now."""
        return bool(self.weather.watch_breaks) and self._random.random() < self.weather.watch_breaks

    def _latency(self) -> float:
        classes = self.weather.latency_s
        mean = classes[0][1]
        if len(classes) > 1:
            mean = self._random.choices([one for _, one in classes], [weight for weight, _ in classes])[0]
        return self._random.expovariate(1 / mean)

    def _fate(self, place: str, *, writes: bool) -> Fate:
        if self._cut.get(place) or self._cut.get("*"):
            return Fate.LOST if writes and self._random.random() < 0.3 else Fate.REFUSED
        fates = self.weather.fates
        if len(fates) == 1:
            return fates[0][1]
        fate = self._random.choices([one for _, one in fates], [weight for weight, _ in fates])[0]
        if writes or fate is Fate.OK:
            return fate
        return Fate.REFUSED if self._random.random() < self.weather.reads_too else Fate.OK


class Connection:
    """One process's Store."""

    def __init__(self, server: Server, process: Process, place: str) -> None:
        self.process = process
        self.place = place
        self._server = server
        self._inner = server.inner

    async def get(self, kind: type[R], name: str, namespace: str = "") -> R:
        """See `Reader.get`."""
        return await self._read(f"get {key_of(kind, name, namespace)}", lambda: self._inner.get(kind, name, namespace))

    async def list(self, kind: type[R], where: Where | None = None) -> Listing[R]:
        """See `Reader.list`."""
        what = f"list {kind.KIND.plural}" + (f" {where.field}={where.value}" if where else "")
        return await self._read(what, lambda: self._inner.list(kind, where))

    async def watch(self, kind: type[R], start: Revision, where: Where | None = None) -> AsyncGenerator[Batch[R], None]:
        """See `Reader.watch`; what it gives has been so a while ago."""
        self.process.check()
        async with aclosing(self._inner.watch(kind, start, where)) as batches:
            async for batch in batches:
                await asyncio.sleep(self._server.lag_s())
                self.process.check()
                if self._server.breaks():
                    raise Unavailable(f"the watch of {kind.KIND.plural} broke")
                yield batch

    async def create(self, resource: R) -> R:
        """See `Writer.create`."""
        return await self._write("create", resource, lambda: self._inner.create(resource))

    async def update(self, resource: R) -> R:
        """See `Writer.update`."""
        return await self._write("update", resource, lambda: self._inner.update(resource))

    async def delete(self, resource: Resource) -> None:
        """See `Writer.delete`."""
        await self._write("delete", resource, lambda: self._inner.delete(resource))

    async def close(self) -> None:
        """See `Store.close`."""

    async def _read(self, what: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        self.process.check()
        return await self._server.ask(self, what, work, _NO_KEY)

    async def _write(self, verb: str, resource: Resource, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        self.process.check()
        return await self._server.ask(self, f"{verb} {resource.key}", work, key_for(resource))


_NO_KEY = Key("", "", "")


def run_now(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine gives that waits for nothing but the next turn of the loop."""
    try:
        while True:
            work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result


def _arrives(fate: Fate) -> bool:
    return fate in (Fate.OK, Fate.LOST_APPLIED, Fate.LATE)


def _deliver(answer: "asyncio.Future[Any]", result: object, error: StoreError | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)
