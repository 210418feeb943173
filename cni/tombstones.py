"""DELs that came while no agent answered, left by the relay in a folder beside the agent's socket.

The agent replays them at start, now and then, and before an ADD of the same attachment. A tombstone is the relay's
request; replaying it twice is harmless. A relay that is killed while it writes one leaves half of it under another
name: its DEL was not answered, so the runtime asks again.
"""

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

from cni.config import Attachment, parse
from cni.detach import remove
from cni.errors import CniError
from cni.node import Node
from cni.request import BadFrame
from cni.request import parse as parse_frame
from ipam.errors import HandleBusy
from kernel.errors import KernelError

log = logging.getLogger(__name__)

_WRITTEN_S = 10.0
"""A relay takes less than a millisecond; one that comes back later than this finds its file gone, and answers 11."""


class Tombstones:
    """The tombstones beside one socket."""

    def __init__(self, socket: Path) -> None:
        self._folder = socket.parent / "tombstones"

    async def replay(self, node: Node, only: Attachment | None = None) -> int:
        """Carry out every DEL that was left (or one attachment's only); gives how many could not be."""
        left = 0
        if only is None:
            self._remove_half_written()
        for path, attachment in list(self._all()):
            if only is not None and attachment != only:
                continue
            try:
                async with node.handles.hold(attachment.handle) as hold:
                    if not path.exists():
                        continue  # carried out while we waited, and the attachment may have been added again since
                    await remove(node, attachment, hold)
                    path.unlink(missing_ok=True)
                log.info("carried out the DEL of %s that was left while no agent answered", attachment.handle)
            except (HandleBusy, KernelError, OSError) as error:
                left += 1
                log.warning("the DEL of %s waits: %s", attachment.handle, error)
        return left

    def _names(self) -> list[str]:
        # Every ADD looks here, and mostly at nothing: os.listdir takes a tenth of what Path.glob does.
        try:
            return sorted(name for name in os.listdir(self._folder) if name.endswith(".del"))
        except FileNotFoundError:
            return []

    def _remove_half_written(self) -> None:
        for path in self._folder.glob("*.tmp"):
            with contextlib.suppress(FileNotFoundError):
                if abs(time.time() - path.stat().st_mtime) > _WRITTEN_S:
                    path.unlink()

    def _all(self) -> Iterator[tuple[Path, Attachment]]:
        for name in self._names():
            path = self._folder / name
            try:
                request = parse_frame(path.read_bytes())
                yield path, parse(request.environment, request.stdin).attachment
            except FileNotFoundError:
                continue
            except (BadFrame, CniError) as error:
                log.warning("removed the tombstone %s, which is no DEL: %s", path, error)
                path.unlink(missing_ok=True)
