"""Going where a datastore was moved to: for whoever has its address in a configuration that nobody changed.

    <state>/datastore-moved.json   {"from": the configured address, "to": where it counts now}

The note wins at each start as long as the configuration says what it said then; the datastore that was left may be gone
by now. Without a note the mark in the datastore that was left is followed, and noted.
"""

import logging
import os
from pathlib import Path

import msgspec

from datastore.errors import StoreError
from datastore.store import Store
from datastore.transfer import mark
from datastore.transfer.errors import TransferError
from datastore.transfer.migrate import arrive
from datastore.urls import open_store

log = logging.getLogger(__name__)

NAME = "datastore-moved.json"
_HOPS = 8
"""Moves in a row that are followed at once."""


class Left(Exception):
    """The datastore in use was left for the one at `to`, which can be used."""

    def __init__(self, to: str) -> None:
        super().__init__(f"the datastore was moved to {mark.said(to)}")
        self.to = to


class _Note(msgspec.Struct, frozen=True):
    configured: str = msgspec.field(name="from")
    to: str = msgspec.field()


def followed(state: Path, configured: str) -> str:
    """The address that counts for who is configured with another one, by the note in his state folder."""
    try:
        note = msgspec.json.decode((state / NAME).read_bytes(), type=_Note)
    except (FileNotFoundError, NotADirectoryError):
        return configured
    except (OSError, msgspec.DecodeError) as error:
        log.warning("%s can't be read: %s", state / NAME, error)
        return configured
    return note.to if note.configured == configured else configured


def note(state: Path, configured: str, to: str) -> None:
    """Remember where the configured datastore was moved to, over a crash of the machine, too.

    Raises:
        OSError: it can't be written.
    """
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = state / f".{NAME}.tmp"
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(msgspec.json.encode(_Note(configured, to)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, state / NAME)
    folder = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remember(state: Path, configured: str, to: str) -> None:
    """Note it if that can be done; without, the mark in the datastore that was left is followed again."""
    try:
        note(state, configured, to)
    except OSError as error:
        log.warning("where the datastore was moved to can't be noted: %s", error)


async def open_followed(configured: str, state: Path | None = None) -> tuple[Store, str]:
    """The datastore that counts, opened, and its address; the old one while the one it was moved to can't be used.

    Raises:
        UnsupportedDatastore, Invalid, Unavailable, Forbidden: as `urls.open_store`.
    """
    url = followed(state, configured) if state is not None else configured
    store = await open_store(url)
    for _ in range(_HOPS):
        next_one = await _next(store)
        if next_one is None:
            break
        await store.close()
        store, url = next_one
        if state is not None:
            remember(state, configured, url)
    return store, url


async def destination(store: Store) -> str:
    """Where a datastore was moved to, if it was and the other can be used; empty if not.

    Raises:
        StoreError: it can't be read.
    """
    next_one = await _next(store)
    if next_one is None:
        return ""
    await next_one[0].close()
    return next_one[1]


async def _next(store: Store) -> tuple[Store, str] | None:
    """The datastore that this one was left for, opened; None if it wasn't left, or the other can't be used yet."""
    migration = mark.migration_of(await mark.read(store))
    if migration is None or migration.phase != mark.MOVED:
        return None
    where = mark.said(migration.to)
    try:
        other = await open_store(migration.to)
    except StoreError as error:
        log.warning("the datastore was moved to %s, which can't be used: %s", where, error)
        return None
    try:
        if await arrive(other, migration.id):
            return other, migration.to
        log.warning("the datastore was moved to %s, but what is there isn't of that move", where)
    except (StoreError, TransferError) as error:
        log.warning("the datastore was moved to %s, which can't be used: %s", where, error)
    await other.close()
    return None
