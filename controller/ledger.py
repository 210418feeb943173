"""One kind of the copy: what is wanted, what is there, and what is to be done next. No I/O, and no clock of its own.

    wanted     from the API: a whole listing, then changes
    there      from the datastore: a whole listing; then our own writes, and looks. Its watch only casts doubt
    due        looks, then writes, then deletions: every object for which the two differ, and since when

The datastore's watch tells our own writes again, late. Revisions can be compared for equality alone, so what is told at
another revision than we know is neither older nor newer: it is looked at.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec

from controller.copies import copy_of
from datastore.resources.value import Resource
from datastore.store import Gone

Key = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True)
class Look:
    """Read it again: what is there isn't known."""

    key: Key


@dataclass(frozen=True, slots=True)
class Create:
    """It isn't there."""

    key: Key
    resource: Resource


@dataclass(frozen=True, slots=True)
class Update:
    """It is there, and otherwise; carries the revision that it replaces."""

    key: Key
    resource: Resource


@dataclass(frozen=True, slots=True)
class Delete:
    """It is there and isn't wanted."""

    key: Key
    resource: Resource


Step = Look | Create | Update | Delete


@dataclass(frozen=True, slots=True)
class _There:
    revision: str
    resource: Resource
    """Without its revision."""


class Ledger:
    """See the module; of one kind."""

    def __init__(self, kind: type[Resource], clock: Callable[[], float]) -> None:
        self.kind = kind
        self.refused: dict[Key, str] = {}
        """What the datastore won't take, and why; until it is wanted otherwise."""
        self.on_due: Callable[[], None] = lambda: None
        """Called when something has become due."""
        self._clock = clock
        self._wanted: dict[Key, Resource] = {}
        self._there: dict[Key, _There] = {}
        self._doubtful: dict[Key, str] = {}
        """Told at this revision, by the datastore; empty: gone, or nobody knows."""
        self._knows_wanted = False
        self._knows_there = False
        self._since: dict[Key, float] = {}
        self._looks: dict[Key, None] = {}
        self._writes: dict[Key, None] = {}
        self._deletions: dict[Key, None] = {}

    # What is told

    def wanted_listed(self, listed: Sequence[Resource]) -> None:
        """Everything that the API has."""
        told = {(one.namespace, one.name): one for one in listed}
        gone = [Gone(*key) for key in self._wanted if key not in told]
        if not self._knows_wanted:
            self._knows_wanted = True
            gone = [Gone(*key) for key in self._there if key not in told]
        self.wanted_changed([*gone, *listed])

    def wanted_changed(self, changes: Iterable[Resource | Gone]) -> None:
        """What came, changed or went, as the API tells."""
        for change in changes:
            key = change.namespace, change.name
            copy = None if isinstance(change, Gone) else copy_of(change)
            if copy is None:
                self._wanted.pop(key, None)
            elif self._wanted.get(key) == copy:
                continue
            else:
                self._wanted[key] = copy
            self.refused.pop(key, None)
            self._judge(key)
        self.on_due()

    def there_listed(self, listed: Sequence[Resource]) -> None:
        """Everything that the datastore has: taken as it is at first, later as what the watch tells."""
        if not self._knows_there:
            self._knows_there = True
            self._there = {(one.namespace, one.name): _there(one) for one in listed}
            for key in {**self._there, **self._wanted}:
                self._judge(key)
            self.on_due()
            return
        told = {(one.namespace, one.name) for one in listed}
        self.there_changed([*(Gone(*key) for key in list(self._there) if key not in told), *listed])

    def there_changed(self, changes: Iterable[Resource | Gone]) -> None:
        """What the datastore's watch tells, of our writes and of others'."""
        for change in changes:
            key = change.namespace, change.name
            revision = "" if isinstance(change, Gone) else change.revision
            if self._revision(key) != revision:
                self._doubtful[key] = revision
            else:
                self._doubtful.pop(key, None)
            self._judge(key)
        self.on_due()

    # What is to be done

    def steps(self, limit: int) -> list[Step]:
        """Up to so many, all of one sort; they stay due until their outcome is told."""
        if not self.complete:
            return []
        for pile in (self._looks, self._writes, self._deletions):
            for key in [key for key, _ in zip(pile, range(limit), strict=False)]:
                self._judge(key)  # an echo of our own write may have come before its answer
            if pile:
                return [self._step(key) for key, _ in zip(pile, range(limit), strict=False)]
        return []

    def written(self, key: Key, resource: Resource) -> None:
        """A create or an update succeeded."""
        self._there[key] = _there(resource)
        self._judge(key)

    def gone(self, key: Key) -> None:
        """A delete succeeded, or a look found nothing."""
        self._doubtful.pop(key, None)
        self._there.pop(key, None)
        self._judge(key)

    def seen(self, key: Key, resource: Resource) -> None:
        """A look found it."""
        self._doubtful.pop(key, None)
        self.written(key, resource)

    def doubt(self, key: Key) -> None:
        """Nobody knows what is there: another was quicker, or an answer was lost."""
        self._doubtful[key] = _NOBODY_KNOWS
        self._judge(key)

    def refuse(self, key: Key, why: str) -> None:
        """The datastore won't ever take what is wanted."""
        self.refused[key] = why
        self._judge(key)

    # How it is

    @property
    def complete(self) -> bool:
        """Whether both sides have been listed as a whole."""
        return self._knows_wanted and self._knows_there

    @property
    def objects(self) -> int:
        """How many are wanted."""
        return len(self._wanted)

    @property
    def due(self) -> int:
        """For how many objects the two sides differ, or may."""
        return len(self._since)

    def behind_s(self) -> float:
        """For how long the oldest of them has been due."""
        return max(0.0, self._clock() - min(self._since.values())) if self._since else 0.0

    def wanted(self, namespace: str, name: str) -> Resource | None:
        """What is wanted of one object."""
        return self._wanted.get((namespace, name))

    def wanted_names(self) -> dict[str, Resource]:
        """Everything of a kind without namespaces, by name."""
        return {name: one for (_, name), one in self._wanted.items()}

    def there(self, namespace: str, name: str) -> Resource | None:
        """What is known to be there; nothing is known of what is still to be looked at."""
        found = self._there.get((namespace, name))
        return found.resource if found is not None and (namespace, name) not in self._doubtful else None

    def _revision(self, key: Key) -> str:
        found = self._there.get(key)
        return found.revision if found is not None else ""

    def _judge(self, key: Key) -> None:
        """Put an object on the pile where it belongs now, if any."""
        if self._doubtful.get(key) == self._revision(key):
            del self._doubtful[key]
        found, wanted = self._there.get(key), self._wanted.get(key)
        pile: dict[Key, None] | None = None
        if key in self._doubtful:
            pile = self._looks
        elif wanted is not None and key not in self.refused and (found is None or found.resource != wanted):
            pile = self._writes
        elif wanted is None and found is not None and self._knows_wanted:
            pile = self._deletions
        for one in (self._looks, self._writes, self._deletions):
            if one is not pile:
                one.pop(key, None)
        if pile is None:
            self._since.pop(key, None)
        else:
            pile.setdefault(key, None)
            self._since.setdefault(key, self._clock())

    def _step(self, key: Key) -> Step:
        found, wanted = self._there.get(key), self._wanted.get(key)
        if key in self._doubtful:
            return Look(key)
        if found is None:
            return Look(key) if wanted is None else Create(key, wanted)
        if wanted is None:
            return Delete(key, _at(found.resource, found.revision))
        return Update(key, _at(wanted, found.revision))


_NOBODY_KNOWS = "?"
"""No revision."""


def _there(resource: Resource) -> _There:
    return _There(resource.revision, _at(resource, ""))


def _at(resource: Resource, revision: str) -> Resource:
    metadata = msgspec.structs.replace(resource.metadata, resource_version=revision)
    return msgspec.structs.replace(resource, metadata=metadata)
