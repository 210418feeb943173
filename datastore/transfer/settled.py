"""Writes whose outcome is known when they return: a lost answer is settled as the Store contract says.

create lost    try again under the same name: made now, or it was, or another's is there
update lost    read: at another revision it is decided; at the same one, win a write on it
delete lost    read: gone, or the same with the delete sent again
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from datastore.codec import stamped
from datastore.errors import AlreadyExists, Conflict, NotFound, Unknown
from datastore.resources.value import Resource
from datastore.store import Store
from datastore.transfer.objects import same

R = TypeVar("R", bound=Resource)

Pause = Callable[[float], Awaitable[None]]

_AT_ONCE = 16
"""Writes in flight."""
_TRIES = 12
"""With the pauses below about 3 s of lost answers."""
_FIRST_PAUSE_S = 0.002
_LONGEST_PAUSE_S = 1.0


async def several(works: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Do all of it, a few at a time; the first failure ends it.

    Raises:
        Exception: what the first that failed raised.
    """
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(work: Callable[[], Awaitable[object]]) -> None:
        async with room:
            await work()

    try:
        async with asyncio.TaskGroup() as tasks:
            for work in works:
                tasks.create_task(one(work))
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def create(store: Store, wanted: R, pause: Pause = asyncio.sleep) -> R:
    """Make an object; one just so that was made by a lost write counts.

    Raises:
        AlreadyExists: another is there.
        Unknown: answers were lost again and again.
        StoreError: as `Writer.create`.
    """
    pause_s = _FIRST_PAUSE_S
    for attempt in range(_TRIES):
        try:
            return await store.create(wanted)
        except AlreadyExists:
            if not attempt:
                raise
            found = await store.get(type(wanted), wanted.name, wanted.namespace)
            if not same(found, wanted):
                raise
            return found
        except Unknown:
            await pause(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    raise Unknown(f"{wanted.key} may or may not be created")


async def update(store: Store, wanted: R, pause: Pause = asyncio.sleep) -> R:
    """Replace the object that is at `wanted.revision`.

    Raises:
        Conflict, NotFound: it has moved on, or is gone.
        Unknown: answers were lost again and again.
        StoreError: as `Writer.update`.
    """
    pause_s = _FIRST_PAUSE_S
    for attempt in range(_TRIES):
        try:
            return await store.update(wanted)
        except Conflict:
            if not attempt:
                raise
            found = await store.get(type(wanted), wanted.name, wanted.namespace)
            if stamped(found, "") != stamped(wanted, ""):
                raise
            return found
        except Unknown:
            await pause(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    raise Unknown(f"{wanted.key} may or may not be changed")


async def delete(store: Store, known: Resource, pause: Pause = asyncio.sleep) -> None:
    """Remove the object that is at `known.revision`; one that is gone is fine.

    Raises:
        Conflict: it has moved on.
        Unknown: answers were lost again and again.
        StoreError: as `Writer.delete`.
    """
    pause_s = _FIRST_PAUSE_S
    for _ in range(_TRIES):
        try:
            return await store.delete(known)
        except NotFound:
            return None
        except Unknown:
            await pause(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    raise Unknown(f"{known.key} may or may not be deleted")
