"""Copying every kind from one datastore to another, pass after pass: each makes the target as the source is now.

A pass lists both sides and writes what differs; one that has nothing to write has compared everything, read back from
the target itself. Blocks are frozen, so their first pass is their last. What people and programs change meanwhile goes
with the next pass; `stragglers` brings over what was written to the source in the end.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ParamSpec

import msgspec

from datastore.errors import AlreadyExists, Conflict, NotFound
from datastore.resources.clusterconfiguration import ClusterConfiguration
from datastore.resources.ipblock import IPBlock
from datastore.resources.kubernetes import Namespace
from datastore.resources.node import Node
from datastore.resources.value import Resource
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.store import Store
from datastore.transfer import settled
from datastore.transfer.errors import Refused
from datastore.transfer.objects import NATIVE, ORDER, at, bare, covers, kept_out, same
from datastore.transfer.settled import Pause

_SHOWN = 5
_OF_AGENTS = (Node, WorkloadEndpoint)
"""What agents write again by themselves when they come to the target."""

P = ParamSpec("P")

Key = tuple[str, str]
Work = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Side:
    """A datastore, opened, and its address."""

    store: Store
    url: str

    @property
    def scheme(self) -> str:
        """What the address begins with."""
        return self.url.partition(":")[0].lower()

    async def all_of(self, kind: type[Resource]) -> dict[Key, Resource]:
        """Every object of a kind by namespace and name.

        Raises:
            StoreError: the store can't be read.
        """
        return {(one.namespace, one.name): one for one in (await self.store.list(kind)).items}


@dataclass(frozen=True, slots=True)
class Differences:
    """What would make the target's objects of a kind the source's."""

    missing: tuple[Resource, ...]
    """The source's, not in the target."""
    other: tuple[tuple[Resource, Resource], ...]
    """The source's, and what the target has instead."""
    extra: tuple[Resource, ...]
    """The target's, not in the source."""

    def __len__(self) -> int:
        return len(self.missing) + len(self.other) + len(self.extra)

    @property
    def keys(self) -> list[str]:
        """Those of the target that are in the way."""
        return [one.key for _, one in self.other] + [one.key for one in self.extra]


@dataclass
class Copy:
    """Copies from one side to the other."""

    source: Side
    target: Side
    pause: Pause = asyncio.sleep
    guard: Callable[[], Awaitable[None]] | None = None
    """Raises once the target may be in use. It is asked after the target was listed and before it is written: what was
    listed is older then, and a write over it loses its compare-and-swap to whoever uses the target since."""
    frozen_by: str = ""
    """With which the target's blocks are made: where somebody may still be at the target, they thaw at the very end."""
    _known: dict[type[Resource], dict[Key, tuple[Resource, Resource]]] = field(default_factory=dict)
    """By kind and key, what the last pass saw in the source and left in the target."""

    @property
    def kinds(self) -> tuple[type[Resource], ...]:
        """Those that are copied; the configuration isn't, for it carries the marks."""
        some = (kind for kind in ORDER if kind is not ClusterConfiguration)
        return tuple(kind for kind in some if not kept_out(kind, self.source.scheme, self.target.scheme))

    async def in_the_way(self) -> list[str]:
        """What the target has that the source hasn't just so, by name.

        Raises:
            StoreError: one can't be read.
        """
        found: list[str] = []
        for kind in self.kinds:
            theirs = await self.target.all_of(kind)
            if theirs:
                found += self._differences(kind, await self.source.all_of(kind), theirs).keys
        return found

    async def check_namespaces(self) -> None:
        """See that namespaces are there which aren't ours to make.

        Raises:
            Refused: names those that aren't.
            StoreError: one can't be read.
        """
        if self.target.scheme not in NATIVE:
            return
        there = {name for _, name in await self.target.all_of(Namespace)}
        needed = {
            namespace for kind in self.kinds if kind.KIND.namespaced for namespace, _ in await self.source.all_of(kind)
        }
        missing = sorted(needed - there)
        if missing:
            raise Refused(f"namespaces {some(missing)} aren't in the target", "kubectl create namespace NAME")

    async def once(self) -> int:
        """One pass; gives how many objects it had to write.

        What another's write got in the way of is for the next pass: writes of a pass that died may still arrive.

        Raises:
            Refused: the target loses something of what it is given.
            StoreError: one can't be used.
        """
        written = 0
        for kind in self.kinds:
            ours, theirs = await self.source.all_of(kind), await self.target.all_of(kind)
            differences = self._differences(kind, ours, theirs)
            if differences and self.guard is not None:
                await self.guard()
            left = {key: (one, theirs[key]) for key, one in ours.items() if key in theirs}
            await settled.several(self._writes(differences, left))
            self._known[kind] = left
            written += len(differences)
        return written

    async def stragglers(self) -> list[str]:
        """Bring over what the source was told since the last pass, unless the target has moved on; gives what hasn't.

        Raises:
            StoreError: one can't be used.
        """
        late: list[str] = []
        for kind in self.kinds:
            if kind is IPBlock or kind not in self._known:
                continue
            ours, known = await self.source.all_of(kind), self._known[kind]
            missed: list[str] = []
            changed = [(one, known.get(key)) for key, one in ours.items()]
            works: list[Work] = [
                partial(self._straggle, one, before, missed)
                for one, before in changed
                if before is None or not same(one, before[0])
            ]
            works += [partial(self._forget, made, missed) for key, (_, made) in known.items() if key not in ours]
            await settled.several(works)
            late += missed if kind not in _OF_AGENTS else []
        return late

    async def differing(self) -> list[str]:
        """What people write and the two don't have alike, by name.

        Raises:
            StoreError: one can't be read.
        """
        found: list[str] = []
        for kind in self.kinds:
            if kind not in (IPBlock, *_OF_AGENTS):
                ours, theirs = await self.source.all_of(kind), await self.target.all_of(kind)
                differences = self._differences(kind, ours, theirs)
                found += [one.key for one in differences.missing] + differences.keys
        return found

    def _differences(
        self, kind: type[Resource], ours: Mapping[Key, Resource], theirs: Mapping[Key, Resource]
    ) -> Differences:
        wanted = {key: one for key, one in ours.items() if not _is_claim(one)}
        keeps_others = self.target.scheme in NATIVE and kind.KIND.group != IPBlock.KIND.group
        return Differences(
            tuple(one for key, one in wanted.items() if key not in theirs),
            tuple(
                (one, theirs[key]) for key, one in wanted.items() if key in theirs and not self._agree(one, theirs[key])
            ),
            () if keeps_others else tuple(one for key, one in theirs.items() if key not in wanted),
        )

    def _agree(self, one: Resource, there: Resource) -> bool:
        """Whether the target has an object of the source: just so, or as it made it of just this."""
        if same(one, there):
            return True
        known = self._known.get(type(one), {}).get((one.namespace, one.name))
        return known is not None and same(known[0], one) and same(known[1], there)

    def _kept(self, one: Resource, by: str) -> Resource:
        if not by or not isinstance(one, IPBlock):
            return one
        return msgspec.structs.replace(one, spec=msgspec.structs.replace(one.spec, frozen=by))

    def _writes(self, differences: Differences, left: dict[Key, tuple[Resource, Resource]]) -> Iterator[Work]:
        def keep(one: Resource, made: Resource) -> None:
            if not covers(made, one):
                raise Refused(f"the target doesn't keep all of {one.key}", "see which fields it knows: is it older?")
            left[one.namespace, one.name] = one, made

        @_unless_overtaken
        async def create(one: Resource) -> None:
            keep(one, await settled.create(self.target.store, self._kept(bare(one), self.frozen_by), self.pause))

        @_unless_overtaken
        async def update(one: Resource, there: Resource) -> None:
            by = there.spec.frozen if isinstance(there, IPBlock) else ""
            keep(one, await settled.update(self.target.store, self._kept(at(bare(one), there), by), self.pause))

        yield from (partial(create, one) for one in differences.missing)
        yield from (partial(update, one, there) for one, there in differences.other)
        delete = _unless_overtaken(settled.delete)
        yield from (partial(delete, self.target.store, one, self.pause) for one in differences.extra)

    async def _straggle(self, one: Resource, known: tuple[Resource, Resource] | None, late: list[str]) -> None:
        try:
            if known is None:
                await settled.create(self.target.store, bare(one), self.pause)
            else:
                await settled.update(self.target.store, at(bare(one), known[1]), self.pause)
        except (AlreadyExists, Conflict, NotFound):
            late.append(one.key)

    async def _forget(self, one: Resource, late: list[str]) -> None:
        try:
            await settled.delete(self.target.store, one, self.pause)
        except Conflict:
            late.append(one.key)


def _unless_overtaken(write: Callable[P, Awaitable[None]]) -> Callable[P, Awaitable[None]]:
    async def written(*args: P.args, **kwargs: P.kwargs) -> None:
        with contextlib.suppress(AlreadyExists, Conflict, NotFound):
            await write(*args, **kwargs)

    return written


def some(names: Sequence[str]) -> str:
    """A few of many, for people."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _is_claim(one: Resource) -> bool:
    """Whether it is a block that never became anybody's: its node claims another one when it needs it."""
    return isinstance(one, IPBlock) and not one.spec.ready
