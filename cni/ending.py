"""Work that must come to its end although its caller is cancelled.

A relay that dies cancels its ADD. But a write that was sent can't be called back, and an undo that stops half-way
leaks: both are waited for, and the cancellation is delivered afterwards.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, however often the caller is cancelled meanwhile.

    Raises:
        CancelledError: the caller was cancelled; after `work` has ended.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if not task.cancelled():  # the caller was, perhaps in the very turn in which the work ended
                cancelled = error
        except Exception:  # the task's own; raised below by result()
            break
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # seen: the cancellation is what the caller is told
        raise cancelled
    return task.result()
