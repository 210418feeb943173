"""Records and the journal: whole or not there, and never in neither place."""

from pathlib import Path

import msgspec
import pytest

from cni.config import Attachment
from cni.records import HeldAddress, Port, Record, Records

RECORD = Record(
    network="net",
    container_id="c1",
    interface="eth0",
    host_interface="tort0123456789a",
    labels={"app": "web"},
    ports=(Port("http", 80, "TCP"),),
    held=(HeldAddress("10-65-0-0-26", 2, "00000000000000aa", "10.65.0.2"),),
    complete=True,
)
ELSE = Attachment("net", "c2", "eth0")


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path)


def test_a_record_comes_back_as_it_was_written(records: Records) -> None:
    records.write(RECORD)
    assert records.read(RECORD.attachment) == RECORD
    assert records.read(ELSE) is None
    assert list(records.all()) == [RECORD]


def test_retiring_moves_it_into_the_journal(records: Records) -> None:
    records.write(RECORD)
    assert records.retire(RECORD.attachment) == RECORD
    assert records.read(RECORD.attachment) is None
    assert records.journalled(RECORD.attachment) == RECORD
    assert list(records.unfinished()) == [RECORD]
    assert records.retire(RECORD.attachment) is None


def test_dropping_forgets_it_and_twice_is_once(records: Records) -> None:
    records.journal(RECORD)
    for _ in range(2):
        records.drop(RECORD.attachment)
    assert list(records.unfinished()) == []


def test_attachments_that_differ_in_any_part_are_apart(records: Records) -> None:
    others = [
        msgspec.structs.replace(RECORD, **change)
        for change in ({"network": "other"}, {"container_id": "c2"}, {"interface": "eth1"})
    ]
    for record in (RECORD, *others):
        records.write(record)
    assert len(list(records.all())) == 4


@pytest.mark.parametrize("content", [b"", b"{", b'{"network": 1}'], ids=["empty", "half", "of another kind"])
def test_a_file_that_a_power_cut_left_is_removed_and_told(
    records: Records, tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    records.write(RECORD)
    (path,) = (tmp_path / "attachments").iterdir()
    path.write_bytes(content)
    assert records.read(RECORD.attachment) is None
    assert not path.exists()
    assert str(path) in caplog.text


def test_nobody_else_may_read_them(records: Records, tmp_path: Path) -> None:
    records.write(RECORD)
    (path,) = (tmp_path / "attachments").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
