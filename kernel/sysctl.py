"""Kernel settings by /proc/sys: paths, because an interface's name may hold a dot.

In a container that isn't privileged /proc/sys is read-only, and runtimes mount nothing below /proc: there the host's
/proc/sys/net is mounted elsewhere, and `TORTIE_PROC_SYS_NET` says where. Which network's settings they are follows from
who opens them, not from where they are mounted (net/sysctl_net.c, net_ctl_header_lookup).

Source: proc(5); Documentation/networking/ip-sysctl.rst; runc, libcontainer/rootfs_linux.go, checkProcMount.
"""

import os
from pathlib import Path

from kernel.errors import KernelError

_ROOT = Path("/proc/sys")
_NET = Path(os.environ.get("TORTIE_PROC_SYS_NET") or _ROOT / "net")


class SettingRefused(KernelError):
    """`path` can't be set to `value`."""

    def __init__(self, path: str, value: str, reason: str) -> None:
        super().__init__(f"{path} can't be set to {value}: {reason}")
        self.path = path
        self.value = value


def read(path: str) -> str:
    """The setting at a path such as net/ipv4/ip_forward; empty where there is none."""
    try:
        return _file(path).read_text().strip()
    except OSError:
        return ""


def matching(pattern: str) -> list[str]:
    """The paths of the settings that a pattern such as net/ipv4/conf/*/forwarding names, in order."""
    top, _, below = pattern.partition("/")
    root = _file(top)
    return sorted(f"{top}/{found.relative_to(root)}" for found in root.glob(below))


def write(path: str, value: str) -> None:
    """Set it, unless it is so already (a read-only /proc/sys is fine then).

    Raises:
        SettingRefused: it can't be set.
    """
    if read(path) == value:
        return
    try:
        _file(path).write_text(value)
    except OSError as error:
        raise SettingRefused(path, value, error.strerror or str(error)) from error


def _file(path: str) -> Path:
    top, _, below = path.partition("/")
    return _NET / below if top == "net" else _ROOT / path
