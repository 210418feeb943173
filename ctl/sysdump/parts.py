"""The parts of an archive as they are collected, and the file that they become."""

import gzip
import io
import json
import os
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ctl.sysdump import redaction

_SUMMARY = "SUMMARY.txt"
_MOST = 8 << 20
"""Bytes of one part; a log's end says more than its beginning."""
_PRIVATE, _READABLE = 0o600, 0o644


@dataclass
class Parts:
    """Redacted on the way in; nothing unredacted is ever kept."""

    found: dict[str, bytes] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def text(self, name: str, said: str) -> None:
        """Keep a text."""
        content = redaction.text(said).encode()
        self.found[name] = content if len(content) <= _MOST else b"(beginning left out)\n" + content[-_MOST:]

    def body(self, name: str, body: bytes) -> None:
        """Keep a JSON answer."""
        self.found[name] = redaction.json_text(body).encode()[:_MOST]

    def json(self, name: str, value: Any) -> None:  # noqa: ANN401  # what becomes JSON
        """Keep a value."""
        self.body(name, json.dumps(value).encode())

    def failed(self, what: str, error: object) -> None:
        """Remember that something couldn't be collected."""
        self.failures.append(redaction.text(f"{what}: {' '.join(str(error).split())}"))


def write(path: Path, top: str, summary: str, parts: Parts, now: float) -> None:
    """Write the archive, the summary first; readable by its owner alone.

    Raises:
        OSError: it can't be written; what was there is as it was.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, _PRIVATE)
    try:
        with os.fdopen(fd, "wb") as file, gzip.GzipFile("", "wb", fileobj=file) as packed:
            _pack(packed, top, [(_SUMMARY, redaction.text(summary).encode()), *sorted(parts.found.items())], now)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _pack(packed: gzip.GzipFile, top: str, contents: Iterable[tuple[str, bytes]], now: float) -> None:
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in contents:
            about = tarfile.TarInfo(f"{top}/{name}")
            about.size, about.mtime, about.mode = len(content), int(now), _READABLE
            archive.addfile(about, io.BytesIO(content))
