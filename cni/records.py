"""What this node remembers of its attachments, in files: records, and the journal of those being removed.

    STATE/attachments/KEY.json    an attachment; not `complete` while its ADD is under way
    STATE/journal/KEY.json        the same, once its DEL has begun: everything still to be undone

KEY is a hash of (network, container id, interface). A file appears whole or not at all (written beside, then renamed);
moving one into the journal is a single rename, so an attachment is never in neither place. Nothing is synced to disk:
a machine that lost power has no pods left that a record could be about, and `agent.reboot` frees their addresses.
"""

import errno
import logging
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import msgspec

from cni.config import Attachment
from cni.delegate import Delegated
from cni.result import DNS
from ipam.block import Held
from ipam.handles import lock_name

log = logging.getLogger(__name__)


class Port(msgspec.Struct, frozen=True):
    """A named port of the pod."""

    name: str
    port: int
    protocol: str


class HeldAddress(msgspec.Struct, frozen=True):
    """An allocation, as text."""

    block: str
    ordinal: int
    id: str
    address: str

    def held(self) -> Held:
        """The allocation that IPAM knows."""
        return Held(self.block, self.ordinal, self.id, ip_address(self.address))


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One attachment: enough to undo it, to answer for it again and to publish its endpoint."""

    network: str
    container_id: str
    interface: str
    host_interface: str
    netns: str = ""
    namespace: str = ""
    pod: str = ""
    uid: str = ""
    labels: Mapping[str, str] = {}
    ports: tuple[Port, ...] = ()
    held: tuple[HeldAddress, ...] = ()
    mac: str = ""
    mtu: int = 0
    routes: tuple[str, ...] = ()
    """Destinations by way of the node that the pod was given instead of default routes."""
    dns: DNS = DNS()
    delegated: Delegated | None = None
    """The IPAM plugin of others that the addresses are of; then `held` names no blocks."""
    on_link: bool = False
    """The addresses are on another plugin's link: no interface is ours, no policy applies, no endpoint is published."""
    complete: bool = False

    @property
    def attachment(self) -> Attachment:
        """What the record is about."""
        return Attachment(self.network, self.container_id, self.interface)

    @property
    def addresses(self) -> tuple[IPv4Address | IPv6Address, ...]:
        """The pod's addresses, IPv4 first."""
        return tuple(_parsed(one.address) for one in self.held)


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Record)


class Records:
    """The records and the journal of one node."""

    def __init__(self, state: Path) -> None:
        self._attachments = state / "attachments"
        self._journal = state / "journal"
        for folder in (self._attachments, self._journal):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def write(self, record: Record) -> None:
        """Keep a record, new or changed."""
        _write(self._attachments / _key(record.attachment.handle), record)

    def read(self, attachment: Attachment) -> Record | None:
        """An attachment's record, if there is one that isn't in the journal."""
        return _read(self._attachments / _key(attachment.handle))

    def all(self) -> Iterator[Record]:
        """Every record that isn't in the journal."""
        return _read_all(self._attachments)

    def has_handle(self, handle: str) -> bool:
        """Whether a handle is an attachment's of this node, or one's whose removal isn't finished."""
        return any((folder / _key(handle)).exists() for folder in (self._attachments, self._journal))

    def retire(self, attachment: Attachment) -> Record | None:
        """Move a record into the journal and give it; None where there was none."""
        there = self._journal / _key(attachment.handle)
        try:
            os.replace(self._attachments / _key(attachment.handle), there)
        except FileNotFoundError:
            return None
        return _read(there)

    def journal(self, record: Record) -> None:
        """Put into the journal what has no record: a removal that can't be finished now."""
        _write(self._journal / _key(record.attachment.handle), record)

    def journalled(self, attachment: Attachment) -> Record | None:
        """An attachment's journal entry, if its removal isn't finished."""
        return _read(self._journal / _key(attachment.handle))

    def unfinished(self) -> Iterator[Record]:
        """Every journal entry."""
        return _read_all(self._journal)

    def half_written(self) -> list[tuple[Path, str]]:
        """What processes left that died while they wrote, each with the name of its handle's lock."""
        return [(path, path.stem) for folder in (self._attachments, self._journal) for path in folder.glob("*.tmp")]

    def drop(self, attachment: Attachment) -> None:
        """Forget a journal entry: its removal is finished."""
        (self._journal / _key(attachment.handle)).unlink(missing_ok=True)


@lru_cache(maxsize=4096)
def _parsed(address: str) -> IPv4Address | IPv6Address:
    """Everything that looks at a record wants its addresses; parsing one costs as much as reading the record."""
    return ip_address(address)


def _key(handle: str) -> str:
    return lock_name(handle) + ".json"


def _write(path: Path, record: Record) -> None:
    temporary = path.with_suffix(".tmp")
    body = _ENCODER.encode(record)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        if os.write(fd, body) < len(body):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(temporary))
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink()
        raise
    finally:
        os.close(fd)


def _read(path: Path) -> Record | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return _DECODER.decode(os.read(fd, os.fstat(fd).st_size))
    except msgspec.DecodeError as error:
        # Only a machine that lost power leaves half a file; whose it was can't be told from its name.
        log.warning("removed the unreadable record %s: %s", path, error)
        path.unlink(missing_ok=True)
        return None
    finally:
        os.close(fd)


def _read_all(folder: Path) -> Iterator[Record]:
    for path in sorted(folder.glob("*.json")):
        record = _read(path)
        if record is not None:
            yield record
