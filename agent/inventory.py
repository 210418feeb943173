"""One look at a node: its files, its kernel, the store; nothing is changed, not even a file that can't be read."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from agent.leftovers import Inventory, Leftover, Owned, leftovers
from cni.config import Attachment, parse
from cni.errors import CniError
from cni.records import Record
from cni.request import BadFrame
from cni.request import parse as parse_frame
from datastore.resources.ipblock import IPBlock
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.store import Reader, Where
from ipam.block import Block
from ipam.handles import handle_in, is_attachments, is_held, lock_of
from kernel import netlink
from kernel.ipset import parse_save
from kernel.runner import CommandRunner

_LOOKS = 6
_BETWEEN_S = 0.5


@dataclass(frozen=True, slots=True)
class Place:
    """A node, and where to look."""

    node: str
    state: Path
    socket: Path


async def left_at(place: Place, store: Reader) -> list[Leftover]:
    """What is left on a node, at every one of several looks; the first that finds nothing is the last.

    Raises:
        StoreError: the store can't be read.
        KernelError: the kernel can't be.
    """
    found = set(leftovers(await look(place, store)))
    for _ in range(_LOOKS - 1):
        if not found:
            break
        await asyncio.sleep(_BETWEEN_S)
        found &= set(leftovers(await look(place, store)))
    return sorted(found)


async def look(place: Place, store: Reader) -> Inventory:
    """Everything there is now.

    Raises:
        StoreError: the store can't be read.
        KernelError: the kernel can't be.
    """
    records, journal, unreadable = _records(place.state)
    blocks = [Block.read(record) for record in (await store.list(IPBlock, Where("node", place.node))).items]
    mine = [
        (block.address_of(int(ordinal)), found)
        for block in blocks
        for ordinal, found in block.record.spec.allocations.items()
    ]
    owned = tuple(Owned(address, found.handle, found.id) for address, found in mine if found.node == place.node)
    endpoints = (await store.list(WorkloadEndpoint, Where("node", place.node))).items
    locks = place.state / "handles"
    handles = {record.attachment.handle for record in (*records, *journal)} | {one.handle for one in owned}
    return Inventory(
        records=records,
        journal=journal,
        held=frozenset(handle for handle in handles if is_held(lock_of(locks, handle))),
        files=(*unreadable, *_locks(locks, handles), *_tombstones(place.socket.parent / "tombstones")),
        links=frozenset(link.name for link in await netlink.links()),
        routes=frozenset(await netlink.routes()),
        sets=parse_save(CommandRunner().run(("ipset", "save"))),
        networks=tuple(block.network for block in blocks if block.record.spec.node == place.node),
        owned=owned,
        lent=frozenset(address for address, found in mine if found.node != place.node),
        endpoints=frozenset(f"{found.namespace}/{found.name}" for found in endpoints),
    )


def _records(state: Path) -> tuple[tuple[Record, ...], tuple[Record, ...], tuple[Leftover, ...]]:
    """Records, journal, and files that are neither."""
    found: tuple[list[Record], list[Record]] = ([], [])
    strange = []
    for folder, into in zip((state / "attachments", state / "journal"), found, strict=True):
        for path in _files(folder):
            if path.suffix == ".tmp":
                if not is_held(state / "handles" / path.stem):
                    strange.append(Leftover("file", str(path), "half of a record"))
                continue
            try:
                into.append(msgspec.json.decode(path.read_bytes(), type=Record))
            except FileNotFoundError:
                continue
            except msgspec.DecodeError:
                strange.append(Leftover("file", str(path), "can't be read"))
    return tuple(found[0]), tuple(found[1]), tuple(strange)


def _locks(folder: Path, owners: set[str]) -> Iterator[Leftover]:
    known = {lock_of(folder, handle) for handle in owners}
    for path in _files(folder):
        if path in known or is_held(path):
            continue
        try:
            intent = handle_in(path.read_bytes())
        except FileNotFoundError:
            continue
        if intent and not is_attachments(intent):
            continue  # taken by hand: whoever asks again is given the same
        why = f"a write for {intent} may be under way, and nobody looks after it" if intent else "nobody holds it"
        yield Leftover("file", str(path), why)


def _tombstones(folder: Path) -> Iterator[Leftover]:
    for path in _files(folder):
        if path.suffix == ".tmp":
            yield Leftover("file", str(path), "half of a DEL, whose relay was killed")
            continue
        attachment = _attachment(path)
        what = f"tombstone of {attachment.handle}" if attachment is not None else str(path)
        yield Leftover("file", what, "no agent has carried out this DEL" if attachment is not None else "is no DEL")


def _attachment(path: Path) -> Attachment | None:
    try:
        request = parse_frame(path.read_bytes())
        return parse(request.environment, request.stdin).attachment
    except (OSError, BadFrame, CniError):
        return None


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
