"""Which journal mode a SQLite library may use where several processes share one file.

WAL commits with one fsync where a rollback journal takes four, but until March 2026 it could corrupt a database when a
checkpoint in one connection met a write in another that reset the log (the "WAL-reset bug", sqlite.org/wal.html,
section 11). Fixed in 3.51.3 and in the branches 3.50.7 and 3.44.6. Debian 12's 3.40.1 hasn't the fix.
"""

from dataclasses import dataclass
from typing import Literal

Version = tuple[int, int, int]

_FIXED: Version = (3, 51, 3)
_FIXED_BRANCHES: dict[tuple[int, int], int] = {(3, 50): 7, (3, 44): 6}
"""Patch level of the first fixed release, by branch."""


@dataclass(frozen=True, slots=True)
class Journal:
    """A journal mode, and why this one."""

    mode: Literal["wal", "persist"]
    reason: str


def has_wal_reset_fix(version: Version) -> bool:
    """Whether the SQLite library of this version may write a WAL that others write too."""
    branch_fix = _FIXED_BRANCHES.get(version[:2])
    return version >= _FIXED or (branch_fix is not None and version[2] >= branch_fix)


def journal_for(version: Version) -> Journal:
    """The journal mode for a library: WAL if it is safe, else a rollback journal whose file stays.

    A journal that is truncated or deleted at commit changes the file's size, which makes each of its fsyncs a commit of
    the file system's own journal, too: 0.3 to 0.7 ms more, measured on ext4.
    """
    named = ".".join(map(str, version))
    if has_wal_reset_fix(version):
        return Journal("wal", f"SQLite {named} has the WAL-reset fix")
    return Journal("persist", f"SQLite {named} lacks the WAL-reset fix (3.44.6, 3.50.7, 3.51.3 and later)")
