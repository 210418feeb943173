"""Revisions inside a driver: a number that only grows, and the identity of the store that gave it.

A store that was restored or imported counts from some other number, so a bare number could name two states. Its new
identity makes every revision given before foreign: `Conflict` for a write, `Compacted` for a watch.
"""

import secrets
from dataclasses import dataclass

from datastore.errors import Compacted
from datastore.store import Revision

_MAX_DIGITS = 18
"""Digits that surely fit a 64-bit column."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """One revision; its text is `42-5f0c9a1e77b2`."""

    number: int
    identity: str

    @property
    def text(self) -> Revision:
        """What callers see and give back."""
        return Revision(f"{self.number}-{self.identity}")


def new_identity() -> str:
    """The identity of a store that is being made: 48 random bits."""
    return secrets.token_hex(6)


def number_of(text: str, identity: str) -> int | None:
    """The number of a revision that the store `identity` gave; None for any other text."""
    number, dash, given_by = text.partition("-")
    if not dash or given_by != identity or not (number.isascii() and number.isdigit()) or len(number) > _MAX_DIGITS:
        return None
    return int(number)


@dataclass(frozen=True, slots=True)
class History:
    """How far a store's log reaches: entries after `compacted`, up to `newest`."""

    identity: str
    compacted: int
    newest: int

    @property
    def revision(self) -> Revision:
        """The newest, as callers see it."""
        return Stamp(self.newest, self.identity).text

    def position(self, start: str, kind: str) -> int:
        """Where a watch of `kind` from `start` begins to read.

        Raises:
            Compacted: entries after `start` are gone, or it is another store's, or this one never reached it.
        """
        number = number_of(start, self.identity)
        if number is None or not self.compacted <= number <= self.newest:
            raise Compacted(kind, start)
        return number

    def compact_to(self, keep: int) -> int:
        """The new `compacted` that leaves `keep` entries; the old one until a tenth more than that has gathered.

        The newest entry always stays: it says what the newest revision is.
        """
        wanted = self.newest - max(keep, 1)
        return wanted if wanted > self.compacted + keep // 10 else self.compacted
