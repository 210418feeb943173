"""Namespaces of its own for a bench: it makes interfaces, and kernel state of others would be measured with it."""

import os
import sys

_MARK = "TORTIE_BENCH_SANDBOX"
_PREPARE = 'mount -n -t tmpfs tmpfs /run && mkdir /run/netns && ip link set lo up && exec "$@"'


def enter(module: str) -> None:
    """Go on in a new network and mount namespace, as another process in this one's place; return if that was done."""
    if os.environ.get(_MARK):
        return
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    command = ["unshare", "-nm", "sh", "-c", _PREPARE, "sh", sys.executable, "-m", module, *sys.argv[1:]]
    os.execvpe(command[0], command, {**os.environ, _MARK: "1", "PATH": path})  # noqa: S606
