"""Nothing of ours in the iptables backend that this node doesn't use: its rules would filter beside the others.

A node changes backends when its kubelet, its distribution or an administrator does; both sets of tables stay in force
in the kernel until somebody empties one (calico#5760, #8243: rules that nobody saw any more dropped packets).
"""

import logging

from kernel.delta import removal_text
from kernel.errors import CommandFailed
from kernel.iptables import Backend, Iptables
from kernel.runner import Runner
from kernel.tables import Family

log = logging.getLogger(__name__)


def leave_other_than(used: Backend, runner: Runner) -> None:
    """Remove our rules from the backends that aren't `used`; one that isn't installed has none.

    Raises:
        CommandFailed: rules are there and can't be removed.
    """
    for backend in Backend:
        if backend is not used:
            for left in leave(backend, runner):
                log.warning("removed our rules from %s", left)


def leave(backend: Backend, runner: Runner, *, dry: bool = False) -> list[str]:
    """Remove our rules from a backend, and give the tables that had some; one that isn't installed has none.

    With `dry` they are only told.

    Raises:
        CommandFailed: rules are there and can't be removed.
    """
    iptables = Iptables(runner, backend)
    return [
        f"{family.iptables} {backend.value} {table}" for family in Family for table in _leave(iptables, family, dry)
    ]


def _leave(iptables: Iptables, family: Family, dry: bool) -> list[str]:
    try:
        tables = iptables.read_all(family)
    except CommandFailed as error:
        log.debug("iptables %s isn't there: %s", iptables.backend.value, error)
        return []
    texts = {table: removal_text(table, actual) for table, actual in reversed(tables.items())}
    for text in filter(None, () if dry else texts.values()):
        iptables.restore(family, text)
    return [table.value for table, text in texts.items() if text]
