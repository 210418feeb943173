"""A Store that fails as a network does, when and how a test says.

    store = FaultyStore(MemoryStore(), gate)

    async def gate(call: Call) -> Fate:        # asked before every call but watch; may wait as long as it likes
        return Fate.LOST_LATER if call.verb == "update" else Fate.OK

    fate            the inner store            the caller
    OK              does it                    gets its answer
    REFUSED         isn't asked                Unavailable: certainly not applied
    LOST_APPLIED    does it                    Unknown
    LOST            isn't asked                Unknown
    LOST_LATER      does it at `land()`        Unknown at once

A write that lands late meets whatever is there by then, and its compare-and-swap decides as ever. Of a read only the
answer can be lost, so for `get` and `list` every fate but OK is Unavailable.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal, TypeVar

from datastore.errors import StoreError, Unavailable, Unknown
from datastore.resources.value import Resource, key_of
from datastore.store import Batch, Listing, Revision, Store, Where

R = TypeVar("R", bound=Resource)
T = TypeVar("T")


class Fate(Enum):
    """What becomes of a call."""

    OK = auto()
    REFUSED = auto()
    LOST_APPLIED = auto()
    LOST = auto()
    LOST_LATER = auto()


@dataclass(frozen=True, slots=True)
class Call:
    """A call that is about to be made."""

    verb: Literal["get", "list", "create", "update", "delete"]
    key: str
    """As messages name the object; the kind's name for a list."""
    resource: Resource | None = None
    """What is to be written."""


Gate = Callable[[Call], Awaitable[Fate]]
Write = Callable[[], Awaitable[object]]


async def always_ok(_: Call) -> Fate:
    """The gate of a store that doesn't fail."""
    return Fate.OK


class FaultyStore:
    """`inner` behind a gate; `gate` may be exchanged at any time."""

    def __init__(self, inner: Store, gate: Gate = always_ok) -> None:
        self.inner = inner
        self.gate = gate
        self.late: list[tuple[Call, Write]] = []
        """Writes on their way, oldest first."""

    async def land(self, index: int = 0) -> None:
        """Let a write of `late` arrive; nobody hears whether it was applied."""
        _, write = self.late.pop(index)
        with suppress(StoreError):
            await write()

    async def get(self, kind: type[R], name: str, namespace: str = "") -> R:
        """See `Reader.get`."""
        await self._read(Call("get", key_of(kind, name, namespace)))
        return await self.inner.get(kind, name, namespace)

    async def list(self, kind: type[R], where: Where | None = None) -> Listing[R]:
        """See `Reader.list`."""
        await self._read(Call("list", kind.KIND.name))
        return await self.inner.list(kind, where)

    def watch(self, kind: type[R], start: Revision, where: Where | None = None) -> AsyncGenerator[Batch[R], None]:
        """The inner store's."""
        return self.inner.watch(kind, start, where)

    async def create(self, resource: R) -> R:
        """See `Writer.create`."""
        return await self._write(Call("create", resource.key, resource), lambda: self.inner.create(resource))

    async def update(self, resource: R) -> R:
        """See `Writer.update`."""
        return await self._write(Call("update", resource.key, resource), lambda: self.inner.update(resource))

    async def delete(self, resource: Resource) -> None:
        """See `Writer.delete`."""
        await self._write(Call("delete", resource.key, resource), lambda: self.inner.delete(resource))

    async def close(self) -> None:
        """Close the inner store; what hasn't landed never will."""
        self.late.clear()
        await self.inner.close()

    async def _read(self, call: Call) -> None:
        if await self.gate(call) is not Fate.OK:
            raise Unavailable(f"{call.verb} {call.key}: no answer")

    async def _write(self, call: Call, write: Callable[[], Awaitable[T]]) -> T:
        match await self.gate(call):
            case Fate.OK:
                return await write()
            case Fate.REFUSED:
                raise Unavailable(f"{call.verb} {call.key}: refused")
            case Fate.LOST_APPLIED:
                with suppress(StoreError):
                    await write()
            case Fate.LOST_LATER:
                self.late.append((call, write))
            case Fate.LOST:
                pass
        raise Unknown(f"{call.verb} {call.key}: the answer was lost")
