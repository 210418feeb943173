"""One holder of a handle at a time, and a note on disk of what may be in flight for it.

A runtime may call ADD and DEL of one attachment at once, through the agent and, with the agent down, through
`python -m cni`: a flock on the handle's file puts them in a row across processes, an asyncio lock within one.

The same file is the intent: while it has content, a write for this handle may have been sent whose outcome nobody
recorded. The next holder then looks the handle up by a fresh list instead of trusting its mirror, and sees to it that
what isn't there yet never comes (`Hold.sent`). It needs no fsync: a machine that lost power has lost its pods too, and
their handles never come back.

    the handle                      first line
    BLOCK ID                        then one line for each write that assigns: where, and under which allocation id

Source: flock(2). The file is removed by its holder only while it is locked, and a lock won on a file that has been
removed since is taken again (the usual race of lock files).
"""

import asyncio
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ipam.errors import HandleBusy

WAIT_S = 30.0
"""How long a call waits for another of the same handle; a runtime gives an ADD minutes."""
_POLL_S = 0.01


def is_attachments(handle: str) -> bool:
    """Whether a handle is of the form that attachments have (network:container:interface), not one taken by hand."""
    return handle.count(":") == 2 and "/" not in handle


def lock_of(folder: Path, handle: str) -> Path:
    """The file by which a handle is held."""
    return folder / lock_name(handle)


def lock_name(handle: str) -> str:
    """What a handle's lock is called."""
    return hashlib.sha256(handle.encode()).hexdigest()[:40]


def handle_in(intent: bytes) -> str:
    """The handle that an intent is about; empty where there is none."""
    return intent.partition(b"\n")[0].decode(errors="replace")


def is_held(lock: Path) -> bool:
    """Whether somebody works on a handle now, by its file; a moment later he may have ended."""
    try:
        fd = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


class Hold:
    """A handle, held."""

    def __init__(self, handle: str, fd: int, path: str, size: int) -> None:
        self.handle = handle
        self.uncertain = size > 0
        """An earlier holder left with a write in flight, or died: look up by a fresh list."""
        self._fd = fd
        self._path = path
        self._intent = self.uncertain
        self._size = size
        """Of the intent, in bytes: nobody else writes it while it is held."""

    def intend(self) -> None:
        """Note that a write for this handle is about to be sent."""
        if not self._intent:
            self._size = os.pwrite(self._fd, self.handle.encode(), 0)
            self._intent = True

    def sending(self, block: str, allocation_id: str) -> None:
        """Note where a write that is about to be sent will put an address, and under which id."""
        before = "" if self._intent else self.handle
        self._size = os.pwrite(self._fd, f"{before}\n{block} {allocation_id}".encode(), self._size) + self._size
        self._intent = True

    def sent(self) -> tuple[tuple[str, str], ...]:
        """(block, allocation id) of every write that this and earlier holders sent and didn't settle."""
        if not self._intent:
            return ()
        lines = os.pread(self._fd, self._size, 0).decode(errors="replace").split("\n")[1:]
        return tuple((block, text) for block, _, text in (line.partition(" ") for line in lines) if text)

    def settle(self) -> None:
        """Note that the outcome of every write is known and recorded."""
        self._intent = False

    def leave(self) -> None:
        """Let the next holder in; `Handles.hold` calls it."""
        if not self._intent:
            with suppress(FileNotFoundError):
                os.unlink(self._path)
        os.close(self._fd)


@dataclass
class _Row:
    """Who waits for one handle within this process."""

    lock: asyncio.Lock
    users: int = 0


class Handles:
    """The handles of one node, in a folder shared by everything that assigns there."""

    def __init__(self, folder: Path, wait_s: float = WAIT_S) -> None:
        self._folder = folder
        self._wait_s = wait_s
        self._rows: dict[str, _Row] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @asynccontextmanager
    async def hold(self, handle: str, wait_s: float | None = None) -> AsyncIterator[Hold]:
        """Be the only one who works on this handle; waits for others as long as the handles were told, or `wait_s`.

        Raises:
            HandleBusy: somebody else still is, after the wait.
        """
        row = self._rows.setdefault(handle, _Row(asyncio.Lock()))
        row.users += 1
        try:
            wait_s = self._wait_s if wait_s is None else wait_s
            await _take(row, handle, wait_s)
            try:
                hold = await self._lock_file(handle, wait_s)
                try:
                    yield hold
                finally:
                    hold.leave()
            finally:
                row.lock.release()
        finally:
            row.users -= 1
            if not row.users:
                del self._rows[handle]

    def is_held(self, lock: str) -> bool:
        """Whether somebody works on a handle now, by the name of its lock."""
        return is_held(self._folder / lock)

    def abandoned(self) -> list[str]:
        """The handles whose holder died with a write in flight; locks of those that died without one are removed."""
        found = []
        for path in sorted(self._folder.iterdir()):
            try:
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not _is_at(os.fstat(fd), path):
                    continue
                handle = handle_in(os.pread(fd, os.fstat(fd).st_size, 0))
                if handle:
                    found.append(handle)
                else:
                    path.unlink(missing_ok=True)
            except BlockingIOError:
                continue
            finally:
                os.close(fd)
        return found

    def is_uncertain(self, handle: str) -> bool:
        """Whether an intent says that a write for a handle may be in flight, or was when its holder died."""
        try:
            return self._path(handle).stat().st_size > 0
        except FileNotFoundError:
            return False

    def _path(self, handle: str) -> Path:
        return lock_of(self._folder, handle)

    async def _lock_file(self, handle: str, wait_s: float) -> Hold:
        path = f"{self._folder}/{lock_name(handle)}"  # a Path costs as much as the calls below
        for _ in range(int(wait_s / _POLL_S) + 1):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                here = os.fstat(fd)
                if _is_at(here, path):
                    return Hold(handle, fd, path, here.st_size)
            except BlockingIOError:
                await asyncio.sleep(_POLL_S)
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
        raise HandleBusy(handle)


async def _take(row: _Row, handle: str, wait_s: float) -> None:
    if not row.lock.locked():
        await row.lock.acquire()  # which doesn't wait, and so needs no timer
        return
    try:
        async with asyncio.timeout(wait_s):
            await row.lock.acquire()
    except TimeoutError:
        raise HandleBusy(handle) from None


def _is_at(here: os.stat_result, path: Path | str) -> bool:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
