"""A process that can be killed between any two of its effects.

Tasks belong to the process in whose context they were made. A killed process has no effect any more: whatever it tries
on its disk or in its kernel raises `Died`, its calls to the store are never sent, and its tasks are unwound at once.
What it had sent is the store's business.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

from tests.simulation.kernel import Kernel
from tests.simulation.trace import Trace

T = TypeVar("T")

_ROUNDS = 200
"""Cancellations until a task's `finally`s are through; each can swallow one."""

current: ContextVar["Process | None"] = ContextVar("current", default=None)


class Died(BaseException):
    """This process has been killed: not for any `except Exception` to see."""


class Process:
    """Some tasks with one fate."""

    def __init__(self, name: str, kernel: Kernel, trace: Trace) -> None:
        self.name = name
        self.kernel = kernel
        self.dead = False
        self.on_failure: Callable[[BaseException], None] = lambda _: None
        """Told what ended a task without which this process can't be; it is dead then."""
        self.on_kill: Callable[[], None] = lambda: None
        self._trace = trace
        self._tasks: dict[asyncio.Task[Any], None] = {}

    def start(self, work: Coroutine[Any, Any, T], *, vital: bool = False) -> "asyncio.Task[T]":
        """Run something in this process; where it is vital, it takes the process along if it fails."""
        context = copy_context()
        context.run(current.set, self)
        task = asyncio.get_running_loop().create_task(work, context=context)
        if vital:
            task.add_done_callback(self._failed)
        return task

    def adopt(self, task: "asyncio.Task[Any]") -> None:
        """Count a task among this process's."""
        self._tasks[task] = None
        task.add_done_callback(self._ended)

    def check(self) -> None:
        """Return if this process lives.

        Raises:
            Died: it doesn't.
        """
        if self.dead:
            raise Died(self.name)

    def kill(self) -> None:
        """No further effect, from this instant on."""
        if not self.dead:
            self.dead = True
            self._trace.note(self.name, "dies")
            self.on_kill()
            asyncio.get_running_loop().call_soon(self._unwind, _ROUNDS, context=outside())

    def _failed(self, task: "asyncio.Task[Any]") -> None:
        if not self.dead and not task.cancelled() and (error := task.exception()) is not None:
            self.kill()
            self.on_failure(error)

    def _unwind(self, rounds: int) -> None:
        if not self._tasks:
            return
        if not rounds:
            raise AssertionError(f"{self.name} is dead and its tasks go on: {list(self._tasks)}")
        for task in list(self._tasks):
            task.cancel()
        asyncio.get_running_loop().call_soon(self._unwind, rounds - 1, context=outside())

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        del self._tasks[task]
        if not task.cancelled():
            task.exception()  # seen: whoever waits for it is told, and of a dead process nobody does


def outside() -> Context:
    """A context of no process: for what goes on whoever dies."""
    context = copy_context()
    context.run(current.set, None)
    return context


def task_factory(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], context: Context | None = None
) -> "asyncio.Task[T]":
    """Every task to its process."""
    task = asyncio.Task(work, loop=loop, context=context)
    process = current.get() if context is None else context.get(current)
    if process is not None:
        process.adopt(task)
    return task
