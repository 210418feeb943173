"""Files that appear whole or not at all, for whoever watches their folder and whatever dies meanwhile.

The temporary file lies in the same folder, because containerd's watcher hears of a rename within it and of no other;
its name begins with a dot and ends in `.tmp`, because every `*.conf`, `*.conflist` and `*.json` there is read.
Source: containerd internal/cri/server/cni_conf_syncer.go; rename(2).
"""

import os
import stat
from contextlib import suppress
from pathlib import Path


def put(path: Path, content: bytes, mode: int) -> None:
    """Write a file, new or in the place of another; on disk when this returns.

    Raises:
        OSError: it can't be written; what was there is as it was.
    """
    temporary = _temporary(path)
    with suppress(FileNotFoundError):
        temporary.unlink()  # of a run that died
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, mode)  # whatever the umask is
            file.write(content)
            file.flush()
            os.fsync(fd)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)


def is_so(path: Path, content: bytes, mode: int) -> bool:
    """Whether a file has this content and mode already, and is no link."""
    try:
        found = path.lstat()
        return stat.S_ISREG(found.st_mode) and stat.S_IMODE(found.st_mode) == mode and path.read_bytes() == content
    except OSError:
        return False


def remove(path: Path) -> bool:
    """Remove a file, and what a `put` of it that died left; gives whether there was one.

    Raises:
        OSError: it can't be removed.
    """
    try:
        _temporary(path).unlink(missing_ok=True)
        path.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return False
    _sync_folder(path.parent)
    return True


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
