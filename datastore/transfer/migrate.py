"""Moving a cluster from one datastore to another while its pods run.

    1. mark the source        ClusterConfiguration.spec.migration {id, to, Frozen}: no block is claimed from here on
    2. mark the target        whose it is; nobody claims a block there either
    3. freeze                 every block of the source: no address is given or freed from here on
    4. copy                   every kind, pass after pass, until one finds nothing to write: then both are alike
    5. leave the source       phase Moved, by compare-and-swap on what was read before the last pass
    6. open the target        its mark goes; agents that see Moved go there, and open it, too
    7. stragglers             what people wrote to the source during the last pass

Between 3 and 5 no pod gets an address (the plugin says "try again"), removals wait in their nodes' journals, and pods
that run notice nothing. Whatever dies between two steps, running it again goes on; `abort` goes back, up to 5. What
was acknowledged before 5 is in the target when this returns.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from datastore.errors import AlreadyExists, Conflict, Invalid, NotFound
from datastore.resources.clusterconfiguration import ClusterConfiguration, Migration
from datastore.resources.ipblock import IPBlock
from datastore.store import Store
from datastore.transfer import mark
from datastore.transfer.copying import Copy, Side, some
from datastore.transfer.errors import Disturbed, Refused
from datastore.transfer.freezing import freeze, thaw
from datastore.transfer.mark import FROZEN, MOVED
from datastore.transfer.objects import ORDER, kept_out, same
from datastore.transfer.settled import Pause

PASSES = 100
"""Of copying, before it is told that the source changes too fast; the first takes longest."""
_BETWEEN_PASSES_S = 0.05
_TRIES = 8

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Moved:
    """How it ended."""

    id: str
    again: bool
    """It had been done before."""
    differing: tuple[str, ...]
    """What the source was told too late, or differs, and wasn't brought over; by name."""


def draw_id() -> str:
    """An id for a migration: 48 random bits as 12 hex digits."""
    return secrets.token_hex(6)


async def migrate(
    source: Side, target: Side, tell: Tell, *, pause: Pause = asyncio.sleep, draw: Callable[[], str] = draw_id
) -> Moved:
    """Move everything; return once the target counts.

    Raises:
        Invalid: the target's address has a password.
        Refused: it can't be done as asked.
        Disturbed: somebody else works on one of the two; again goes on.
        StoreError: one can't be used; again goes on.
    """
    if mark.has_password(target.url):
        raise Invalid("--to", "has a password, which everybody would see who reads the source; give it by a file")
    copy = Copy(source, target, pause)
    migration = await _mark_source(copy, draw)
    if migration.phase == MOVED:
        await _open(target.store, migration.id, pause)
        return Moved(migration.id, True, tuple(await copy.differing()))
    tell(f"migration {migration.id}: {mark.said(source.url)} to {mark.said(target.url)}")
    await _mark_target(copy, migration)
    copy.guard = partial(_check_closed, target.store, migration)
    for kind in ORDER:
        why = kept_out(kind, source.scheme, target.scheme)
        if why:
            tell(f"{kind.KIND.plural}: not copied: {why}")
    await _copy_and_leave(copy, migration, tell)
    await _open(target.store, migration.id, pause)
    late = await copy.stragglers()
    return Moved(migration.id, False, tuple(late))


async def arrive(target: Store, by: str, pause: Pause = asyncio.sleep) -> bool:
    """Open a migration's target, the source having been left; False if the target isn't that one's.

    One that was come back to is opened by who migrates alone, for its blocks thaw first.

    Raises:
        Disturbed: its ClusterConfiguration changes without end.
        StoreError: it can't be used.
    """
    found = await mark.read(target)
    if mark.moved_by(found) != by:
        return False
    if not mark.filled_anew(found):
        await _open(target, by, pause)
    return True


async def _open(target: Store, by: str, pause: Pause) -> None:
    """Take the mark off a target, if it is there; what thaws goes first."""
    for _ in range(_TRIES):
        found = await mark.read(target)
        there = mark.migration_of(found)
        if there is None or there.id != by:
            return
        if mark.filled_anew(found):
            await thaw(target, lambda _: True, pause)
        with contextlib.suppress(Conflict, NotFound):
            await mark.write(target, mark.opened(found), pause)
    raise Disturbed("the target's ClusterConfiguration changes all the time", "run this again")


async def abort(source: Side, tell: Tell, *, pause: Pause = asyncio.sleep) -> bool:
    """Thaw everything and take the mark off; False if there was nothing to do. The target stays as it is.

    Raises:
        Refused: the target counts already.
        StoreError: the source can't be used; again goes on.
    """
    dead = {block.spec.frozen for block in (await source.store.list(IPBlock)).items if block.spec.frozen}
    for _ in range(_TRIES):
        found = await mark.read(source.store)
        migration = mark.migration_of(found)
        if migration is None:
            break
        if migration.phase == MOVED:
            where = mark.said(migration.to)
            raise Refused(f"{mark.said(source.url)} was left for {where}, which counts now", "migrate back from there")
        dead.add(migration.id)
        try:
            await mark.write(source.store, mark.marked(found, None), pause)
        except (Conflict, NotFound):
            continue
        tell(f"migration {migration.id}: given up")
        break
    else:
        raise Disturbed("the ClusterConfiguration changes all the time", "run this again")
    thawed = await thaw(source.store, lambda by: by in dead, pause)
    if dead:
        tell(f"{thawed} blocks thawed")
    return bool(dead)


async def _mark_source(copy: Copy, draw: Callable[[], str]) -> Migration:
    """The migration that the source is marked with now: ours, new or gone on with."""
    source, target = copy.source, copy.target
    for _ in range(_TRIES):
        found = await mark.read(source.store)
        migration = mark.migration_of(found)
        if migration is not None:
            if migration.to == target.url:
                return migration
            hint = "migrate to there, or give it up with --abort" if migration.phase == FROZEN else "migrate from there"
            raise Refused(f"{mark.said(source.url)} is being left for {mark.said(migration.to)}, or was", hint)
        migration = Migration(id=draw(), to=target.url, phase=FROZEN)
        await _check_target(copy, migration.id)
        try:
            await mark.write(source.store, mark.marked(found, migration), copy.pause)
        except (AlreadyExists, Conflict, NotFound):
            continue
        return migration
    raise Disturbed("the source's ClusterConfiguration changes all the time", "run this again")


async def _mark_target(copy: Copy, migration: Migration) -> None:
    """Make the target ours; what is in it from then on may be written over."""
    for _ in range(_TRIES):
        found = await mark.read(copy.target.store)
        there = mark.migration_of(found)
        if there is not None and there.id == migration.id and mark.moved_by(found) != migration.id:
            await abort(copy.source, lambda _: None, pause=copy.pause)
            raise Refused("--from and --to are one datastore", "give two")
        if mark.moved_by(found) == migration.id:
            copy.frozen_by = migration.id if mark.filled_anew(found) else ""
            return
        try:
            await _check_target(copy, migration.id)
        except Refused:
            await abort(copy.source, lambda _: None, pause=copy.pause)
            raise
        source = await mark.read(copy.source.store)
        left_by = there.id if there is not None and _was_left_for(there, copy, source) else mark.filled_anew(found)
        wanted = mark.for_target(source, found, migration, left_by)
        with contextlib.suppress(AlreadyExists, Conflict, NotFound):
            await mark.write(copy.target.store, wanted, copy.pause)
    raise Disturbed("the target's ClusterConfiguration changes all the time", "run this again")


async def _check_target(copy: Copy, by: str) -> None:
    """See that nothing in the target is in the way.

    What a migration that never ended has filled may be filled anew: nobody claims blocks there, and no agent was sent.
    So may what was left for just this source: who is still there can change nothing, its blocks being frozen.

    Raises:
        Refused: something is; names it.
    """
    found, source = await mark.read(copy.target.store), await mark.read(copy.source.store)
    there, filled_by = mark.migration_of(found), mark.moved_by(found)
    await copy.check_namespaces()
    if filled_by == by or (there is not None and there.id == filled_by and there.phase == FROZEN):
        return
    if there is not None and _was_left_for(there, copy, source):
        return
    if there is not None and there.id != by:
        raise Refused(f"the target is being left for {mark.said(there.to)}, or was", "give an empty one")
    names = await copy.in_the_way()
    if found is not None and not (source is not None and same(source, found)):
        names = [found.key, *names]
    if names:
        raise Refused(f"the target has {some(names)}, which the source hasn't just so", "give an empty one")


def _was_left_for(there: Migration, copy: Copy, source: ClusterConfiguration | None) -> bool:
    """Whether the target is marked as left for just this source."""
    return there.phase == MOVED and there.to == copy.source.url and there.id == mark.moved_by(source)


async def _copy_and_leave(copy: Copy, migration: Migration, tell: Tell) -> None:
    for number in range(PASSES):
        before = await _still_ours(copy.source, migration)
        if before is None:
            return  # by a write of a migrator that died, or by one who was quicker
        frozen = await freeze(copy.source.store, migration.id, copy.pause)
        written = await copy.once()
        if frozen or written:
            tell(f"pass {number + 1}: {frozen} blocks frozen, {written} objects written")
            await copy.pause(_BETWEEN_PASSES_S)
            continue
        if await _leave(copy, migration, before):
            return
    changing = some(await copy.differing()) or "something"
    raise Disturbed(f"{changing} changes all the time in the source", "stop who writes it, and run this again")


async def _still_ours(source: Side, migration: Migration) -> ClusterConfiguration | None:
    """The source's configuration; None if it was left by this migration.

    Raises:
        Disturbed: the migration was ended otherwise.
    """
    found = await mark.read(source.store)
    now = mark.migration_of(found)
    if found is None or now is None or now.id != migration.id:
        hint = "thaw what it left: --abort" if now is None else "see who migrates besides"
        raise Disturbed(f"migration {migration.id} was ended by somebody else", hint)
    return found if now.phase == FROZEN else None


async def _check_closed(target: Store, migration: Migration) -> None:
    """Return while nobody may use the target.

    Raises:
        Disturbed: somebody may.
    """
    now = mark.migration_of(await mark.read(target))
    if now is None or now.id != migration.id:
        raise Disturbed(f"migration {migration.id} was ended by somebody else", "run this again to see how it ended")


async def _leave(copy: Copy, migration: Migration, before: ClusterConfiguration) -> bool:
    """Leave the source, if its configuration is as it was `before` the last pass; the target has the same settings."""
    try:
        there = await mark.read(copy.target.store)
        wanted = mark.for_target(before, there, migration, mark.filled_anew(there))
        if wanted != there:
            await mark.write(copy.target.store, wanted, copy.pause)
        moved = Migration(id=migration.id, to=migration.to, phase=MOVED)
        await mark.write(copy.source.store, mark.marked(before, moved), copy.pause)
    except (AlreadyExists, Conflict, NotFound):
        return False
    return True
