"""The wait for the xtables lock is known, and has an end."""

import fcntl
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from kernel.errors import CommandFailed
from kernel.fake import FakeKernel
from kernel.iptables import Backend, Iptables
from kernel.tables import Family
from kernel.xtables_lock import waited


def test_a_lock_that_nobody_holds_costs_nothing_and_one_that_isnt_there_neither(tmp_path: Path) -> None:
    lock = tmp_path / "xtables.lock"
    assert waited(str(lock), 5) == 0
    lock.touch()
    assert waited(str(lock), 5) < 1


def test_who_holds_it_is_waited_for_as_long_as_is_allowed(tmp_path: Path) -> None:
    lock = tmp_path / "xtables.lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert waited(str(lock), 0.2) >= 0.2
        threading.Timer(0.3, lambda: fcntl.flock(held, fcntl.LOCK_UN)).start()
        assert 0.1 < waited(str(lock), 30) < 20


@pytest.mark.parametrize("backend", Backend)
def test_each_restore_is_told_with_its_wait_which_legacy_alone_has(backend: Backend, tmp_path: Path) -> None:
    lock = tmp_path / "xtables.lock"
    told: list[tuple[Family, bool, bool]] = []
    lock.touch()

    def tell(family: Family, waited: float, seconds: float, ok: bool) -> None:
        told.append((family, waited > 0, ok))

    iptables = Iptables(FakeKernel(), backend, str(lock))
    iptables.on_restored = tell
    with suppress(CommandFailed):  # the fake has nft alone
        iptables.restore(Family.IPV4, "*mangle\nCOMMIT\n")
    assert told == [(Family.IPV4, backend is Backend.LEGACY, backend is Backend.NFT)]
