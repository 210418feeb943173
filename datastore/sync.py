"""Keeping up with one kind of object: list it, watch from there, list again when the history is gone.

What arrives is told in two forms: a whole listing, which says what is there and so also what isn't any more, and
changes after it. Errors of the store are waited out; until the store is back, what was last told stays true.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Generic, TypeVar

from datastore.errors import Compacted, StoreError
from datastore.resources.value import Resource
from datastore.store import Gone, Reader, Revision

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Resource)

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0


class KindSync(Generic[R]):
    """One kind; `run` it as a task."""

    def __init__(
        self,
        reader: Reader,
        kind: type[R],
        on_listed: Callable[[Sequence[R]], None],
        on_changed: Callable[[Sequence[R | Gone]], None],
    ) -> None:
        self.listed = asyncio.Event()
        """Set once the first listing has been told."""
        self.failure = ""
        """What the store said last, empty while it answers."""
        self.failing_since = 0.0
        """Since when, by the monotonic clock; only meaningful while it fails."""
        self.heard_at = 0.0
        """When the store last said anything of this kind, if only that nothing has changed; seconds since 1970."""
        self.kind = kind
        self._reader = reader
        self._on_listed = on_listed
        self._on_changed = on_changed

    async def run(self) -> None:
        """Keep up, without end."""
        pause_s = _FIRST_PAUSE_S
        revision: Revision | None = None
        while True:
            try:
                if revision is None:
                    revision = await self._list()
                async with aclosing(self._reader.watch(self.kind, revision)) as batches:
                    async for batch in batches:
                        if batch.changes:
                            self._on_changed(batch.changes)
                        revision, self.failure, pause_s = batch.revision, "", _FIRST_PAUSE_S
                        self.heard_at = time.time()
            except Compacted:
                log.info("listing %s again: its history is gone", self.kind.KIND.plural)
                revision = None
            except StoreError as error:
                if not self.failure:
                    self.failing_since = time.monotonic()
                self.failure = str(error)
                log.warning("%s can't be watched, trying again in %.1f s: %s", self.kind.KIND.plural, pause_s, error)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def _list(self) -> Revision:
        listing = await self._reader.list(self.kind)
        self._on_listed(listing.items)
        self.failure, self.heard_at = "", time.time()
        self.listed.set()
        return listing.revision
