"""Half-written files of processes that were killed; what a reboot took is in tests/faults/test_reboot.py."""

import os
import time
from pathlib import Path

from agent.reboot import forget_half_written


def test_old_temporaries_go_and_records_and_new_temporaries_stay(tmp_path: Path) -> None:
    for name in ("record.json", "old.tmp", "new.tmp"):
        (tmp_path / name).touch()
    for name in ("record.json", "old.tmp"):
        os.utime(tmp_path / name, (0, time.time() - 100))
    forget_half_written(tmp_path, tmp_path / "not-there")
    assert {path.name for path in tmp_path.iterdir()} == {"record.json", "new.tmp"}
