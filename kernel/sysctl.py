"""Kernel settings by /proc/sys: paths, because an interface's name may hold a dot.

Source: proc(5); Documentation/networking/ip-sysctl.rst.
"""

from pathlib import Path

from kernel.errors import KernelError

_ROOT = Path("/proc/sys")


class SettingRefused(KernelError):
    """`path` can't be set to `value`."""

    def __init__(self, path: str, value: str, reason: str) -> None:
        super().__init__(f"{path} can't be set to {value}: {reason}")
        self.path = path
        self.value = value


def read(path: str) -> str:
    """The setting at a path such as net/ipv4/ip_forward; empty where there is none."""
    try:
        return (_ROOT / path).read_text().strip()
    except OSError:
        return ""


def matching(pattern: str) -> list[str]:
    """The paths of the settings that a pattern such as net/ipv4/conf/*/forwarding names, in order."""
    return sorted(str(found.relative_to(_ROOT)) for found in _ROOT.glob(pattern))


def write(path: str, value: str) -> None:
    """Set it, unless it is so already (a read-only /proc/sys is fine then).

    Raises:
        SettingRefused: it can't be set.
    """
    if read(path) == value:
        return
    try:
        (_ROOT / path).write_text(value)
    except OSError as error:
        raise SettingRefused(path, value, error.strerror or str(error)) from error
