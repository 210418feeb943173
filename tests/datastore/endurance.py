"""Writers and watchers that go on whatever fails, and what cuts them off: what tests of faults have in common."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from datastore.errors import Compacted, Conflict, StoreError, Unavailable, Unknown
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.store import Gone, Revision, Store
from tests.datastore.drivers import PATIENCE_S, Follower
from tests.datastore.samples import policy, relabelled
from tests.servers.proxy import Proxy

T = TypeVar("T")


async def again(call: Callable[[], Awaitable[T]]) -> T:
    """The result of `call`, once the server can be reached."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await call()
            except Unavailable:
                await asyncio.sleep(0.02)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():
            await asyncio.sleep(0.01)


@dataclass
class Cutter:
    """Cuts every connection at each `gap`th chunk, so often that much is hurt, and so seldom that there is an end."""

    proxy: Proxy
    gap: int
    cuts: int = 12
    chunks: int = 0

    def __call__(self, _: bytes) -> None:
        self.chunks += 1
        if self.cuts and self.chunks % self.gap == 0:
            self.cuts -= 1
            self.proxy.cut()

    async def is_done(self) -> bool:
        return self.cuts == 0


@dataclass
class Load:
    """Writers that create object after object, and what each was told of each name."""

    store: Store
    told: dict[str, NetworkPolicy | StoreError] = field(default_factory=dict)
    stopped: bool = False

    async def write(self, writer: int) -> None:
        number = 0
        while not self.stopped:
            name = f"w{writer}-{number}"
            number += 1
            try:
                self.told[name] = await self.store.create(policy(name))
            except StoreError as error:
                self.told[name] = error
                await asyncio.sleep(0.005)

    def acknowledged(self) -> int:
        return sum(isinstance(told, NetworkPolicy) for told in self.told.values())

    async def until_acknowledged(self, more: int) -> None:
        wanted = self.acknowledged() + more

        async def enough() -> bool:
            return self.acknowledged() >= wanted

        await until(enough)

    def check(self, listed: dict[str, NetworkPolicy]) -> None:
        """What each writer was told is so."""
        for name, told in self.told.items():
            if isinstance(told, NetworkPolicy):
                assert listed[name] == told
            else:
                assert isinstance(told, Unavailable | Unknown)
                assert isinstance(told, Unknown) or name not in listed
        assert set(listed) <= set(self.told)


@dataclass
class Mirror:
    """A consumer of a watch that goes on from its last batch whenever the watch fails.

    Where the server's history ends with its life, it lists again, as every consumer does.
    """

    store: Store
    follower: Follower[NetworkPolicy]
    revision: Revision
    revisions: set[str] = field(default_factory=set)
    """Of all states it was ever given."""
    forgets: bool = False

    @classmethod
    async def of(cls, store: Store, *, forgets: bool = False) -> "Mirror":
        follower, revision = await _listing_follower(store)
        return cls(store, follower, revision, forgets=forgets)

    async def follow(self) -> None:
        while True:
            try:
                batch = await self.follower.next()
            except Unavailable:
                self.follower.watch = self.store.watch(NetworkPolicy, self.revision)
                await asyncio.sleep(0.01)
                continue
            except Compacted:
                if not self.forgets:
                    raise
                self.follower, self.revision = await _listing_follower(self.store)
                continue
            self.revision = batch.revision
            states = [change.revision for change in batch.changes if not isinstance(change, Gone)]
            assert self.revisions.isdisjoint(states)  # nothing twice
            self.revisions.update(states)

    async def until_holds(self, listed: dict[str, NetworkPolicy]) -> None:
        following = asyncio.create_task(self.follow())

        async def same() -> bool:
            if following.done():
                following.result()
            return {name: found for (_, name), found in self.follower.mirror.items()} == listed

        try:
            await until(same)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await self.follower.watch.aclose()


async def _listing_follower(store: Store) -> tuple[Follower[NetworkPolicy], Revision]:
    listing = await again(lambda: store.list(NetworkPolicy))
    mirror = {(item.namespace, item.name): item for item in listing.items}
    return Follower(store.watch(NetworkPolicy, listing.revision), mirror), listing.revision


async def listed(direct: Store) -> dict[str, NetworkPolicy]:
    return {item.name: item for item in (await again(lambda: direct.list(NetworkPolicy))).items}


async def increment(store: Store, writer: int, number: int) -> None:
    """Add one to the counter that all share, exactly once, whatever happens."""
    mine = {f"w{writer}": str(number)}
    while True:
        counter = await again(lambda: store.get(NetworkPolicy, "counter", "shop"))
        labels = {**counter.metadata.labels, "n": str(int(counter.metadata.labels["n"]) + 1), **mine}
        wanted = msgspec.structs.replace(counter, metadata=msgspec.structs.replace(counter.metadata, labels=labels))
        with suppress(Conflict, Unavailable):
            try:
                await store.update(wanted)
            except Unknown:
                if not await settled(store, counter, mine):
                    continue
            return


async def settled(store: Store, counter: NetworkPolicy, mine: dict[str, str]) -> bool:
    """Whether a write on `counter` of which nothing is known was done; if not, it never will be."""
    while True:
        now = await again(lambda: store.get(NetworkPolicy, "counter", "shop"))
        if now.revision != counter.revision:
            return mine.items() <= now.metadata.labels.items()
        with suppress(Conflict, Unavailable, Unknown):
            await store.update(counter)
            return False


async def change_things(direct: Store, rounds: int, after_each: Callable[[int], None]) -> None:
    """Create, update and delete a few objects again and again."""
    held = await listed(direct)
    for number in range(rounds):
        name = f"p{number % 5}"
        if name not in held:
            held[name] = await direct.create(policy(name))
        elif number % 3:
            held[name] = await direct.update(relabelled(held[name], round=str(number)))
        else:
            await direct.delete(held.pop(name))
        after_each(number)
        await asyncio.sleep(0)
