"""Work comes to its end, and its caller's cancellation is never lost: an ADD that nobody waits for must know."""

import asyncio
from collections.abc import Callable

import pytest

from cni.ending import to_the_end


class Work:
    """Takes one turn of the loop, and cancels its caller at a moment."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.ended = False
        self._failure = failure

    async def run(self, cancel: Callable[[], object], turns_after: int) -> str:
        await asyncio.sleep(0)
        cancel()
        for _ in range(turns_after):
            await asyncio.sleep(0)
        self.ended = True
        if self._failure is not None:
            raise self._failure
        return "done"


@pytest.mark.parametrize(
    "failure", [None, ValueError("the work failed")], ids=["work that succeeds", "work that fails"]
)
@pytest.mark.parametrize("turns_after", [0, 1, 5], ids=["in the turn of the end", "in the turn before", "earlier"])
async def test_a_cancelled_caller_is_told_so_once_the_work_has_ended(
    turns_after: int, failure: Exception | None
) -> None:
    work = Work(failure)
    caller: asyncio.Task[str] = asyncio.ensure_future(to_the_end(work.run(lambda: caller.cancel(), turns_after)))
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert work.ended


@pytest.mark.parametrize("turns", [0, 3])
async def test_the_caller_gets_what_the_work_gave_or_raised(turns: int) -> None:
    assert await to_the_end(Work().run(lambda: None, turns)) == "done"
    with pytest.raises(ValueError, match="the work failed"):
        await to_the_end(Work(ValueError("the work failed")).run(lambda: None, turns))


async def test_work_that_is_cancelled_itself_says_so() -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await to_the_end(work())
