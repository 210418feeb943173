"""One agent for one state folder: two would take each other's sockets, and write each other's records and rules away.

The lock is flock(2)'s: the kernel lets go of it when the process ends, however it ends, and a container's agent and a
host's meet in it, for the folder is the host's. An agent that is just being replaced is waited for.
"""

import asyncio
import errno
import fcntl
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

NAME = "agent.lock"
WAIT_S = 15.0
"""More than an agent takes to end: its calls have 10 s."""
_LOOK_S = 0.1
_MODE = 0o600


class NotAlone(Exception):
    """Another agent serves with this state folder."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"another tortie-agent serves this node already, and holds {path}; one of the two must go: on Kubernetes "
            f"see kubectl get daemonsets -A -l app.kubernetes.io/name=tortie-agent, on a host fuser -v {path}"
        )
        self.path = path


async def alone(state: Path, wait_s: float = WAIT_S) -> int:
    """Become the only agent of this folder; the descriptor holds the lock until it is closed.

    Raises:
        NotAlone: another one is there still after the wait.
        OSError: the lock can't be made.
    """
    path = state / NAME
    fd = _opened(path)
    try:
        for look in range(int(wait_s / _LOOK_S) + 1):
            if _locked(fd):
                return fd
            if look == 0:
                log.info("waiting for another agent to end, which holds %s", path)
            await asyncio.sleep(_LOOK_S)
        raise NotAlone(path)
    except BaseException:
        os.close(fd)
        raise


def _opened(path: Path) -> int:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EINTR):
            raise
        return False
    return True
