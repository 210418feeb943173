"""Network namespaces: which descriptor is one, and doing a little in another one.

A thread that has entered another namespace must not be reused, so what has to run inside runs in a thread that ends.
Sources: setns(2), namespaces(7), ioctl_ns(2), linux/magic.h (NSFS_MAGIC), linux/nsfs.h.
"""

import ctypes
import fcntl
import os
import stat
import threading
from collections.abc import Callable
from typing import TypeVar

from kernel.errors import NotANamespace

CLONE_NEWNET = 0x40000000
_NS_GET_NSTYPE = 0xB703
_libc = ctypes.CDLL(None, use_errno=True)

T = TypeVar("T")


def open_namespace(path: str) -> int:
    """A descriptor of the network namespace at `path`; the caller closes it.

    Raises:
        NotANamespace: nothing is there, or something else.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise NotANamespace(path, getattr(error, "strerror", None) or str(error)) from error
    try:
        check_namespace(fd, path)
    except NotANamespace:
        os.close(fd)
        raise
    return fd


def check_namespace(fd: int, path: str) -> None:
    """Make sure that a descriptor is a network namespace.

    Raises:
        NotANamespace: it is something else.
    """
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise NotANamespace(path, "not a namespace file")
    try:
        kind = fcntl.ioctl(fd, _NS_GET_NSTYPE)
    except OSError as error:
        raise NotANamespace(path, "an ordinary file") from error
    if kind != CLONE_NEWNET:
        raise NotANamespace(path, "a namespace of another kind")


def same_namespace(fd: int, other: str = "/proc/thread-self/ns/net") -> bool:
    """Whether a descriptor and a path name one namespace."""
    here, there = os.fstat(fd), os.stat(other)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def run_inside(fd: int, work: Callable[[], T]) -> T:
    """`work()` in a new thread inside the namespace behind `fd`; needs CAP_SYS_ADMIN.

    Raises:
        OSError: the namespace can't be entered.
    """
    outcome: list[T] = []
    failure: list[BaseException] = []

    def inside() -> None:
        try:
            if _libc.setns(fd, CLONE_NEWNET):
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code), "setns")
            outcome.append(work())
        except BaseException as error:  # handed to the caller below, whatever it is
            failure.append(error)

    thread = threading.Thread(target=inside, name="netns")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]
