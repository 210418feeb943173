"""Two halves of one index: objects by their labels, and selectors by a label that they need.

A requirement such as `app=api` or `app in (api,web)` narrows: whatever matches has one of these labels. So a new
selector looks only at the objects that have one, and a new object only at the selectors that need one of its labels.
Selectors without such a requirement (`{}`, `!app`) are looked at by everything in their scope.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from policy.selectors import Selector

Label = tuple[str, str]
T = TypeVar("T", bound=Hashable)


class Labelled(Generic[T]):
    """Objects by label."""

    def __init__(self) -> None:
        self._by_label: dict[Label, set[T]] = {}

    def add(self, item: T, labels: Mapping[str, str]) -> None:
        """Take in an object with its labels."""
        _file(self._by_label, item, labels.items())

    def discard(self, item: T, labels: Mapping[str, str]) -> None:
        """Forget an object that was added with these labels."""
        _unfile(self._by_label, item, labels.items())

    def narrowed(self, selector: Selector) -> list[set[T]] | None:
        """The least sets that together hold all that the selector may match; None where nothing narrows."""
        choices = []
        for requirement in selector.narrowing():
            labels = ((requirement.key, value) for value in requirement.values)
            choices.append([self._by_label[label] for label in labels if label in self._by_label])
        return min(choices, key=lambda sets: sum(map(len, sets)), default=None)


class Needing(Generic[T]):
    """Things with a selector, by labels of which it needs one."""

    def __init__(self) -> None:
        self._by_label: dict[Label, set[T]] = {}
        self._rest: set[T] = set()

    def add(self, item: T, selector: Selector) -> None:
        """Take in a thing with its selector."""
        if selector.narrowing():
            _file(self._by_label, item, _needed(selector))
        else:
            self._rest.add(item)

    def discard(self, item: T, selector: Selector) -> None:
        """Forget a thing that was added with this selector."""
        if selector.narrowing():
            _unfile(self._by_label, item, _needed(selector))
        else:
            self._rest.discard(item)

    def candidates(self, labels: Mapping[str, str]) -> Iterator[T]:
        """Everything whose selector may match these labels, each once."""
        for label in labels.items():
            yield from self._by_label.get(label, ())
        yield from self._rest

    def __iter__(self) -> Iterator[T]:
        yield from {item for items in self._by_label.values() for item in items}
        yield from self._rest

    def __bool__(self) -> bool:
        return bool(self._by_label or self._rest)


def _needed(selector: Selector) -> Iterator[Label]:
    """The labels of the requirement with the fewest values: an object has one of them at most."""
    fewest = min(selector.narrowing(), key=lambda requirement: len(requirement.values))
    return ((fewest.key, value) for value in fewest.values)


def _file(shelves: dict[Label, set[T]], item: T, labels: Iterable[Label]) -> None:
    for label in labels:
        shelves.setdefault(label, set()).add(item)


def _unfile(shelves: dict[Label, set[T]], item: T, labels: Iterable[Label]) -> None:
    for label in labels:
        shelf = shelves.get(label)
        if shelf is not None:
            shelf.discard(item)
            if not shelf:
                del shelves[label]
