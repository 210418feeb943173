"""Netlink by hand: many messages in one send, every acknowledgement read.

pyroute2's encoder takes 0.2-1 ms a message; ADD has about twenty of them and a budget of two milliseconds in all.
Packing them with struct takes microseconds. Only the hot paths are here:
a pod's link, addresses and routes, set members, conntrack entries. Listing is `kernel.netlink`'s, events are
`kernel.changes`'s.

A batch is not a transaction: the kernel goes on after a message that it refused. So what must not happen after a
failure (changing a link that turned out to be another's) goes into a send of its own.

Sources: linux/netlink.h, RFC 3549 section 2.2 (message header, NLMSGERR), netlink(7).
"""

import errno
import os
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kernel.errors import NetlinkError

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12

F_REQUEST = 0x001
F_ACK = 0x004
F_EXCL = 0x200
F_CREATE = 0x400
F_APPEND = 0x800
F_REPLACE = 0x100
F_DUMP = 0x300

NESTED = 1 << 15
NET_BYTE_ORDER = 1 << 14

_ERROR = 2
_DONE = 3
_F_CAPPED = 0x100
_F_ACK_TLVS = 0x200
_ERROR_ATTR_MESSAGE = 1
_SOL_NETLINK = 270
_OPTION_EXT_ACK = 11
_OPTION_CAP_ACK = 10
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_RECEIVE_BYTES = 1 << 17
_WAIT_S = 30
"""A message waits for the kernel's rtnl lock, which a namespace being torn down can hold for long; then ETIMEDOUT."""


@dataclass(frozen=True, slots=True)
class Message:
    """One request: `body` is the family's header and attributes; errnos in `fine` count as success."""

    kind: int
    flags: int
    body: bytes
    what: str
    """For the error message, such as `route 10.65.0.2/32`."""
    fine: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Answer:
    """A message that the kernel sent back; `index` says which request it answers."""

    index: int
    kind: int
    body: bytes


class NetlinkSocket:
    """A netlink socket on which batches are sent, one at a time: a second thread waits for the first's answers."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._one_at_a_time = threading.Lock()
        self._sequence = 0
        sock.setsockopt(_SOL_NETLINK, _OPTION_EXT_ACK, 1)
        sock.setsockopt(_SOL_NETLINK, _OPTION_CAP_ACK, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", _WAIT_S, 0))

    @classmethod
    def open(cls, protocol: int = NETLINK_ROUTE) -> "NetlinkSocket":
        """A socket in the calling thread's network namespace."""
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        sock.bind((0, 0))
        return cls(sock)

    @classmethod
    def adopt(cls, fd: int) -> "NetlinkSocket":
        """A socket that somebody else opened in another namespace; `fd` is ours from now on."""
        return cls(socket.socket(fileno=fd))

    @classmethod
    def borrow(cls, fd: int) -> "NetlinkSocket":
        """The same for a descriptor that stays the caller's to close."""
        return cls(socket.socket(fileno=os.dup(fd)))

    def fileno(self) -> int:
        """The descriptor."""
        return self._socket.fileno()

    def detach(self) -> int:
        """Give the descriptor away, still open."""
        return self._socket.detach()

    def close(self) -> None:
        """Close the descriptor; closing twice is fine."""
        self._socket.close()

    def transact(self, messages: Sequence[Message]) -> list[Answer]:
        """Send all of them at once and read every acknowledgement.

        Raises:
            NetlinkError: the first message that was refused with an errno not in its `fine`; others may have been
                applied, before it and after it.
        """
        if not messages:
            return []
        with self._one_at_a_time:
            return self._collect(messages, self._send(messages))

    def datagrams(self, listing: Message) -> Iterator[bytes]:
        """What the kernel sends for a listing (F_DUMP), a datagram of many messages at a time; see `split`.

        Raises:
            NetlinkError: the listing was refused.
        """
        with self._one_at_a_time:
            first = self._send([listing])
            ended = False
            while not ended:
                data = self._receive()
                for number, kind, _, body in split(data):
                    if number == first and kind in (_ERROR, _DONE):
                        ended = True
                        if _code(body):
                            raise NetlinkError(listing.what, _code(body))
                yield data

    def _send(self, messages: Sequence[Message]) -> int:
        first = self._sequence + 1
        self._sequence += len(messages)
        packed = bytearray()
        for number, message in enumerate(messages, first):
            length = _HEADER.size + len(message.body)
            packed += _HEADER.pack(length, message.kind, message.flags | F_REQUEST | F_ACK, number, 0)
            packed += message.body + bytes(-length % 4)
        self._socket.sendto(packed, (0, 0))
        return first

    def _collect(self, messages: Sequence[Message], first: int) -> list[Answer]:
        answers: list[Answer] = []
        failure: NetlinkError | None = None
        waiting = len(messages)
        while waiting:
            for number, kind, flags, body in split(self._receive()):
                index = number - first
                if not 0 <= index < len(messages):
                    continue  # an answer to an earlier batch whose wait was given up
                if kind not in (_ERROR, _DONE):
                    answers.append(Answer(index, kind, body))
                    continue
                waiting -= 1
                code = _code(body)
                if code and code not in messages[index].fine and failure is None:
                    failure = NetlinkError(messages[index].what, code, _explanation(flags, body))
        if failure is not None:
            raise failure
        return answers

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            raise NetlinkError(f"no answer within {_WAIT_S} s", errno.ETIMEDOUT) from None


def split(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """The messages of a datagram: sequence number, type, flags, body."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, number, _ = _HEADER.unpack_from(data, offset)
        yield number, kind, flags, data[offset + _HEADER.size : offset + length]
        offset += length + -length % 4


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def text(kind: int, value: str) -> bytes:
    """A NUL-terminated attribute."""
    return attribute(kind, value.encode() + b"\0")


def u8(kind: int, value: int) -> bytes:
    """A one-byte attribute."""
    return attribute(kind, value.to_bytes(1, "little"))


def u32(kind: int, value: int) -> bytes:
    """A 32-bit attribute in the machine's byte order."""
    return attribute(kind, struct.pack("=I", value))


def nested(kind: int, *values: bytes) -> bytes:
    """An attribute made of attributes."""
    return attribute(kind | NESTED, b"".join(values))


def attributes(body: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes from `offset` on, by kind; flags in the kind are dropped, the last of a kind wins."""
    found: dict[int, bytes] = {}
    while offset + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < _ATTRIBUTE.size:
            break
        found[kind & ~(NESTED | NET_BYTE_ORDER)] = body[offset + _ATTRIBUTE.size : offset + length]
        offset += length + -length % 4
    return found


def _code(body: bytes) -> int:
    """The errno of an acknowledgement, 0 for success; the end of a listing may come without one."""
    return -int.from_bytes(body[:4], "little", signed=True) if len(body) >= 4 else 0


def _explanation(flags: int, body: bytes) -> str:
    """The kernel's own words (extended acknowledgement), where it gave any."""
    if not flags & _F_ACK_TLVS:
        return ""
    # The refused message's header comes back, its body only without CAP_ACK.
    offset = 4 + _HEADER.size
    if not flags & _F_CAPPED:
        (length,) = struct.unpack_from("=I", body, 4)
        offset = 4 + length + -length % 4
    words = attributes(body, offset).get(_ERROR_ATTR_MESSAGE, b"").rstrip(b"\0").decode(errors="replace")
    return f"{words}; {os.strerror(_code(body))}" if words else ""
