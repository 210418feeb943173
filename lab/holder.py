"""Namespaces kept alive by sleeping processes, and the way into them.

The outer one holds the underlay, each node has its own inside it: a network namespace, and a mount namespace whose /run
is a tmpfs, so that xtables.lock, /run/netns and sockets are the node's own. As another user than root all of it lies in
a user namespace, in which that user is root.

Sources: unshare(1), nsenter(1), mount_namespaces(7), user_namespaces(7).
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from kernel.process import Process
from lab.state import Folder, LabError, LabState, ProcessRecord

_PREPARE = """
set -e
exec 3<"$1"
mount -n -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/netns
case "$1" in /run/*)
    mkdir -p "$1"
    mount -n -c --bind /proc/self/fd/3 "$1"
esac
ip link set lo up
exec 3<&-
echo ready
exec sleep infinity
"""
"""$1 is the lab's folder: where /run hides it, it is bound at its own path again, by a descriptor opened before
(-c: mount would look up where the descriptor points to, which by then is the tmpfs; -n: it would leave /run/mount)."""
_IDENTITY = "TORTIE_LAB"
"""In the environment of a keeper, and of what isn't in a node: which lab it is of."""
_APPARMOR = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
_CLONE = Path("/proc/sys/kernel/unprivileged_userns_clone")


def start_outer(folder: Folder) -> tuple[ProcessRecord, bool]:
    """The outer namespaces; gives the process that keeps them and whether they are a user's, not root's.

    Raises:
        LabError: this machine allows no such namespaces; says why, and what to do.
    """
    rootless = os.geteuid() != 0
    flags = "-Urnm" if rootless else "-nm"
    tried = subprocess.run(("unshare", flags, "true"), capture_output=True, text=True, check=False)
    if tried.returncode:
        raise LabError(f"unshare {flags} is refused here: {_why(tried.stderr, rootless)}", _what_next(rootless), 3)
    return _keep(("unshare", flags), folder), rootless


def start_node(state: LabState, folder: Folder) -> ProcessRecord:
    """A node's namespaces, inside the outer ones.

    Raises:
        LabError: they can't be made.
    """
    return _keep((*enter(state.holder, rootless=state.rootless), "unshare", "-nm"), folder)


def enter(keeper: ProcessRecord, *, rootless: bool, netns: str = "") -> tuple[str, ...]:
    """The nsenter command into what `keeper` keeps, or into another network namespace in its mount namespace."""
    user = ("-U", "--preserve-credentials") if rootless else ()
    net = f"--net={netns}" if netns else "-n"
    return ("nsenter", "-t", str(keeper.pid), *user, "-m", net, "--")


def outside(state: LabState) -> tuple[str, ...]:
    """The nsenter command to where the lab's networks can be entered from, but this machine's own is at hand.

    In the outer mount namespace, so that the end of the lab finds what runs there.
    """
    user = ("-U", "--preserve-credentials") if state.rootless else ()
    return ("nsenter", "-t", str(state.holder.pid), *user, "-m", "--")


def environment(folder: Folder) -> dict[str, str]:
    """What processes of a lab find in theirs: by it they are known as its, also one that no file names yet."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return {**os.environ, "PATH": path, _IDENTITY: folder.identity}


def namespace_path(keeper: ProcessRecord, name: str) -> str:
    """The path, from anywhere, of a namespace in a node's /run/netns."""
    return f"/proc/{keeper.pid}/root/run/netns/{name}"


def keepers(identity: str) -> Iterator[Process]:
    """Every process that carries this lab's identity: its namespaces' keepers, above all those that no file names."""
    wanted = f"{_IDENTITY}={identity}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    yield Process.of(int(entry.name))


def _keep(inside: Sequence[str], folder: Folder) -> ProcessRecord:
    process = subprocess.Popen(
        (*inside, "sh", "-c", _PREPARE, "sh", str(folder.path)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment(folder),
    )
    said = process.stdout.readline() if process.stdout else ""
    if said.strip() != "ready":
        _, stderr = process.communicate()
        raise LabError(f"namespaces can't be prepared: {stderr.strip() or 'no message'}")
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    process.returncode = 0  # it outlives this process on purpose: no warning that it still runs
    kept = Process.of(process.pid)
    return ProcessRecord(kept.pid, kept.start)


def _why(stderr: str, rootless: bool) -> str:
    said = stderr.strip().removeprefix("unshare: ") or "no message"
    if rootless and _read(_APPARMOR) == "1":
        return f"{said} (AppArmor: kernel.apparmor_restrict_unprivileged_userns is 1)"
    if rootless and _read(_CLONE) == "0":
        return f"{said} (kernel.unprivileged_userns_clone is 0)"
    if not rootless:
        return f"{said} (a container without CAP_SYS_ADMIN?)"
    return said


def _what_next(rootless: bool) -> str:
    if not rootless:
        return "run it on the machine itself, or in a container started with --privileged"
    command = f"sudo {os.path.abspath(os.path.join(os.environ.get('VIRTUAL_ENV', '.venv'), 'bin', 'tortiectl'))} lab up"
    return f"run it as root: {command}"


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
