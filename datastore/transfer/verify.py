"""Looking a datastore over: what is in it can be read and found, and it does what the Store contract says.

    every object      decodes, passes its own check, and is found by every indexed field that it has
    revisions         the same for an object that wasn't written, another for one that was
    compare-and-swap  of two writes at one revision the second is refused
    watch             tells a create, a change and a delete
    identity          one for the whole store
    migration         none is under way, and the store wasn't left for another

What needs a write is tried on an IPReservation that reserves nothing. Objects change while they are looked at: what
seems wrong is read again before it is told.
"""

import asyncio
import contextlib
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial

import msgspec

from datastore.errors import Conflict, Forbidden, Invalid, NotFound, StoreError
from datastore.resources.ipreservation import IPReservation
from datastore.resources.kinds import KINDS
from datastore.resources.value import Metadata, Resource
from datastore.store import Gone, Revision, Store, Where
from datastore.transfer import mark, settled
from datastore.transfer.objects import identity_of

SCRATCH = "tortie-check-"
"""How the names of the objects begin that this makes and removes."""
WATCH_S = 20.0
"""How long a watch may take to tell a write; a hundredth of a second, mostly."""
_WRITES = 5
_LEFT_S = 3600.0
"""A scratch object that is older was left by a check that died."""
_MADE = "tortie.dev/made-at"


@dataclass(frozen=True, slots=True)
class Flaw:
    """One thing that is wrong."""

    subject: str
    what: str


@dataclass
class Checked:
    """What was found."""

    identity: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    """Objects by kind."""
    flaws: list[Flaw] = field(default_factory=list)
    untried: str = ""
    """Why nothing was written, if so."""
    write_s: float | None = None
    """The median of a few compare-and-swaps, one after the other."""


async def check(store: Store, *, write: bool = True, clock: Callable[[], float] = time.perf_counter) -> Checked:
    """Look everything over; with `write` a scratch object is written, too.

    Raises:
        Unavailable, Forbidden: the store can't be read.
    """
    checked = Checked()
    await _migration(store, checked)
    for kind in KINDS:
        await _kind(store, kind, checked)
    if not write:
        checked.untried = "not asked for"
        return checked
    try:
        await _writes(store, checked, clock)
    except Forbidden as error:
        checked.untried = str(error)
    return checked


async def _migration(store: Store, checked: Checked) -> None:
    try:
        found = await mark.read(store)
    except Invalid:
        return  # told with its kind
    migration = mark.migration_of(found)
    if found is None or migration is None:
        return
    where = mark.said(migration.to)
    if migration.phase == mark.MOVED:
        what = f"this datastore was left for {where}: what is written here counts for nothing"
    elif mark.moved_by(found) == migration.id:
        what = f"migration {migration.id} to here hasn't ended: run it again"
    else:
        what = f"migration {migration.id} to {where} hasn't ended: run it again, or give it up with --abort"
    checked.flaws.append(Flaw(found.key, what))


# Reading


async def _kind(store: Store, kind: type[Resource], checked: Checked) -> None:
    try:
        listing = await store.list(kind)
    except Invalid as error:
        checked.flaws.append(Flaw(kind.KIND.plural, str(error)))
        return
    checked.counts[kind.KIND.full_name] = len(listing.items)
    identity = identity_of(listing.revision)
    if checked.identity not in ("", identity):
        what = f"is of a store {identity}, while others are of {checked.identity}"
        checked.flaws.append(Flaw(kind.KIND.plural, what))
    checked.identity = identity
    known = {(one.namespace, one.name): one for one in listing.items}
    if len(known) != len(listing.items):
        checked.flaws.append(Flaw(kind.KIND.plural, "a name is listed twice"))
    checked.flaws += [flaw for one in listing.items for flaw in _of_object(one)]
    holders: dict[Where, set[tuple[str, str]]] = defaultdict(set)
    for key, one in known.items():
        for name, values in one.indexed().items():
            for value in values:
                holders[Where(name, value)].add(key)

    async def look(where: Where) -> None:
        checked.flaws += [flaw async for flaw in _of_index(store, kind, where, holders[where], known)]

    await settled.several(partial(look, where) for where in holders)


def _of_object(one: Resource) -> Iterator[Flaw]:
    try:
        one.check()
    except Invalid as error:
        yield Flaw(one.key, str(error))


async def _of_index(
    store: Store,
    kind: type[Resource],
    where: Where,
    holders: set[tuple[str, str]],
    known: Mapping[tuple[str, str], Resource],
) -> AsyncIterator[Flaw]:
    """What is wrong with the part of a kind whose field has a value."""
    found = {(one.namespace, one.name): one for one in (await store.list(kind, where)).items}
    for key, one in found.items():
        if where.value not in one.indexed().get(where.field, ()):
            yield Flaw(one.key, f"is found by {where.field} {where.value!r}, which it hasn't")
        before = known.get(key)
        if before is not None and before.revision == one.revision and before != one:
            yield Flaw(one.key, f"has two states at revision {one.revision}")
    for key in holders - found.keys():
        if await _is_as(store, known[key]):
            yield Flaw(known[key].key, f"isn't found by {where.field} {where.value!r}, which it has")


async def _is_as(store: Store, known: Resource) -> bool:
    """Whether an object hasn't changed since."""
    try:
        return (await store.get(type(known), known.name, known.namespace)).revision == known.revision
    except NotFound:
        return False


# Writing


class _Seen:
    """What a watch has told of one object: each revision, and at last that it is gone."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._told: list[str] = []
        self._news = asyncio.Condition()

    async def follow(self, store: Store, start: Revision) -> None:
        async with aclosing(store.watch(IPReservation, start)) as batches:
            async for batch in batches:
                async with self._news:
                    for one in batch.changes:
                        if one.name == self._name:
                            self._told.append("" if isinstance(one, Gone) else one.revision)
                    self._news.notify_all()

    async def has(self, revision: str) -> bool:
        """Whether a revision was told in time, or that it is gone (no revision)."""
        try:
            async with asyncio.timeout(WATCH_S), self._news:
                await self._news.wait_for(lambda: self._told[-1:] == [revision])
        except TimeoutError:
            return False
        return True


async def _writes(store: Store, checked: Checked, clock: Callable[[], float]) -> None:
    listing = await store.list(IPReservation)
    await _remove_left(store, listing.items)
    name = f"{SCRATCH}{secrets.token_hex(6)}"
    seen = _Seen(name)
    following = asyncio.create_task(seen.follow(store, listing.revision))
    try:
        async for what in _tried(store, name, seen, checked, clock):
            checked.flaws.append(Flaw("a scratch object", what))  # one by one: the next step may fail
    except Forbidden:
        raise
    except StoreError as error:
        checked.flaws.append(Flaw("a scratch object", str(error)))
    finally:
        following.cancel()
        (failure,) = await asyncio.gather(following, return_exceptions=True)
        await _remove(store, name)
    if isinstance(failure, StoreError):
        checked.flaws.append(Flaw("a watch", str(failure)))


async def _tried(
    store: Store, name: str, seen: _Seen, checked: Checked, clock: Callable[[], float]
) -> AsyncIterator[str]:
    metadata = Metadata(name=name, annotations={_MADE: f"{time.time():.0f}"})
    first = await store.create(IPReservation(metadata=metadata))
    if not await seen.has(first.revision):
        yield f"a watch doesn't tell that it was created within {WATCH_S:.0f} s"
    now, took = first, []
    for number in range(_WRITES):
        began = clock()
        written = await store.update(_numbered(now, number))
        took.append(clock() - began)
        if written.revision == now.revision:
            yield f"a write left it at revision {now.revision}"
        now = written
    checked.write_s = sorted(took)[len(took) // 2]
    if (await store.get(IPReservation, name)) != now:
        yield "it isn't as it was last written"
    try:
        await store.update(_numbered(first, -1))
        yield "a write at an old revision was done"
    except Conflict:
        pass
    try:
        await store.delete(first)
        yield "a delete at an old revision was done"
    except Conflict:
        pass
    if not await seen.has(now.revision):
        yield f"a watch doesn't tell that it was changed within {WATCH_S:.0f} s"
    await store.delete(now)
    if not await seen.has(""):
        yield f"a watch doesn't tell that it was deleted within {WATCH_S:.0f} s"
    if await _is_as(store, now):
        yield "it is there after it was deleted"


def _numbered(one: IPReservation, number: int) -> IPReservation:
    annotations = {**one.metadata.annotations, "tortie.dev/number": str(number)}
    return msgspec.structs.replace(one, metadata=msgspec.structs.replace(one.metadata, annotations=annotations))


async def _remove_left(store: Store, there: Sequence[IPReservation]) -> None:
    for one in there:
        made = one.metadata.annotations.get(_MADE, "")
        if one.name.startswith(SCRATCH) and made.isdigit() and int(made) + _LEFT_S < time.time():
            await _remove(store, one.name)


async def _remove(store: Store, name: str) -> None:
    with contextlib.suppress(StoreError):
        await settled.delete(store, await store.get(IPReservation, name))
