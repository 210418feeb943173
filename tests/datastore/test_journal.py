"""Which SQLite libraries may use a write-ahead log."""

import pytest

from datastore.sql.journal import Version, journal_for


@pytest.mark.parametrize(
    ("version", "mode"),
    [
        pytest.param((3, 7, 0), "persist", id="the first with a WAL"),
        pytest.param((3, 40, 1), "persist", id="Debian 12's"),
        pytest.param((3, 44, 5), "persist", id="the branch 3.44 before its fix"),
        pytest.param((3, 44, 6), "wal", id="the branch 3.44 with it"),
        pytest.param((3, 45, 0), "persist", id="a branch without one"),
        pytest.param((3, 49, 9), "persist", id="a late release of such a branch"),
        pytest.param((3, 50, 6), "persist", id="the branch 3.50 before its fix"),
        pytest.param((3, 50, 7), "wal", id="the branch 3.50 with it"),
        pytest.param((3, 51, 1), "persist", id="pysqlite3-binary's"),
        pytest.param((3, 51, 2), "persist", id="the last one without"),
        pytest.param((3, 51, 3), "wal", id="the release with the fix"),
        pytest.param((3, 52, 0), "wal", id="after it"),
        pytest.param((4, 0, 0), "wal", id="long after it"),
    ],
)
def test_a_library_without_the_fix_gets_no_wal(version: Version, mode: str) -> None:
    journal = journal_for(version)
    assert journal.mode == mode
    assert ".".join(map(str, version)) in journal.reason
