"""How long legacy iptables has to wait for its lock: who holds it is another program, and nothing else says so.

iptables-legacy takes an exclusive flock for each command (iptables/xshared.c, xtables_lock; XTABLES_LOCKFILE in its
environment names another file). Waited for here first, and let go at once, the wait is known apart from the work; who
comes between is waited for by the command itself. The nft backend has no lock.
"""

import fcntl
import os
import time

LOCK = "/run/xtables.lock"
_PAUSE_S = 0.01


def waited(path: str, limit_s: float) -> float:
    """Return once nobody holds the lock, or after `limit_s`: the seconds it took; 0 where there is no such file."""
    began = time.perf_counter()
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0.0
    try:
        while time.perf_counter() - began < limit_s:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                time.sleep(_PAUSE_S)
            else:
                break
        return time.perf_counter() - began
    finally:
        os.close(fd)
