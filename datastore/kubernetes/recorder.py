"""Events of one program, written to the API at a bounded rate.

    the same thing again      once in `AGAIN_S` at most; the next Event counts what was left out
    anything at all           `BURST` at once, then one in `EACH_S`; beyond, it is dropped: the log has it
    what many programs see    under a name made of what it says: the first of them to write it is enough

An Event that can't be written is dropped, too. Kubernetes itself forgets Events after an hour (--event-ttl).
"""

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from datastore.errors import AlreadyExists, StoreError
from datastore.events import Event
from datastore.kubernetes.cluster import Cluster, Note
from datastore.kubernetes.stamp import uid_of

log = logging.getLogger(__name__)

AGAIN_S = 300.0
"""kubectl shows Events of the last hour: a dozen of one thing."""
BURST = 25
EACH_S = 5.0
"""Together client-go's limits are of this order (tools/record, defaultSpamBurst 25, one in 5 minutes for an object)."""
_KEPT = 512
"""Different things remembered; the oldest are forgotten, and so told again."""
_MESSAGE_MAX = 1024
"""Characters (events.k8s.io NoteLengthLimit)."""
_WAIT_S = 5.0


@dataclass(slots=True)
class _Known:
    first: datetime
    told_at: float
    left_out: int = 0


class Recorder:
    """See `datastore.events.Events`; for one event loop."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float]) -> None:
        self._cluster = cluster
        self._clock = clock
        self._known: dict[tuple[object, ...], _Known] = {}
        self._left = float(BURST)
        self._counted_at = clock()
        self._writing: set[asyncio.Task[None]] = set()

    def tell(self, event: Event) -> None:
        """See `Events.tell`."""
        now, moment = self._clock(), datetime.now(UTC)
        key = (event.about, event.reason, "" if event.alike else event.message)
        known = self._known.get(key)
        if known is not None and now - known.told_at < AGAIN_S:
            known.left_out += 1
            return
        if not self._may_write(now):
            log.debug("no Event of %s %s: there are too many", event.reason, event.about.name)
            return
        first, count = (moment, 1) if known is None else (known.first, known.left_out + 1)
        self._known.pop(key, None)
        self._known[key] = _Known(first, now)
        if len(self._known) > _KEPT:
            del self._known[next(iter(self._known))]
        task = asyncio.create_task(self._write(_note(event, first, moment, count)))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def told(self) -> None:
        """See `Events.told`."""
        if self._writing:
            await asyncio.wait(self._writing, timeout=_WAIT_S)

    def _may_write(self, now: float) -> bool:
        self._left = min(float(BURST), self._left + (now - self._counted_at) / EACH_S)
        self._counted_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    async def _write(self, note: Note) -> None:
        try:
            await self._cluster.note(note)
        except AlreadyExists:
            pass  # another program saw the same
        except StoreError as error:
            log.info("the Event %s about %s can't be written: %s", note.reason, note.name, error)


def _note(event: Event, first: datetime, last: datetime, count: int) -> Note:
    about, uid = event.about, event.about.uid or uid_of(event.about.revision)
    said = "\0".join((about.kind.KIND.full_name, uid, event.reason, event.message))
    digits = hashlib.sha256(said.encode()).hexdigest()[:16] if event.shared else secrets.token_hex(8)
    return Note(
        kind=about.kind,
        namespace=about.namespace,
        name=about.name,
        uid=uid,
        reason=event.reason,
        message=event.message[:_MESSAGE_MAX],
        type="Warning" if event.warning else "Normal",
        count=count,
        first=first,
        last=last,
        own_name=f"{about.name[:200].rstrip('.-')}.{digits}",
    )
