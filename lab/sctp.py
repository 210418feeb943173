"""Just enough SCTP to ask "does this port answer": an INIT, and the INIT ACK to it, as raw packets.

Not every kernel has SCTP sockets, but firewalls and conntrack know the protocol everywhere, and check it: the checksum
must be right, or conntrack calls the packet INVALID.

Sources: RFC 9260 sections 3.1 (common header), 3.3.2 (INIT), 3.3.3 (INIT ACK); RFC 3309 (CRC32c).
"""

import struct

PROTOCOL = 132
_INIT, _INIT_ACK = 1, 2
_HEADER = struct.Struct("!HHII")
_CHUNK = struct.Struct("!BBHIIHHI")
_COOKIE = struct.Struct("!HH4s")
_WINDOW = 65535
_STREAMS = 1
_STATE_COOKIE = 7
_POLYNOMIAL = 0x82F63B78


def init(source_port: int, port: int, tag: int) -> bytes:
    """An INIT: may I open an association to `port`."""
    chunk = _CHUNK.pack(_INIT, 0, _CHUNK.size, tag, _WINDOW, _STREAMS, _STREAMS, 1)
    return _sealed(source_port, port, 0, chunk)


def init_ack(packet: bytes, ports: frozenset[int]) -> bytes | None:
    """The answer to an INIT for one of `ports`; None for anything else."""
    parsed = _parse(packet)
    if parsed is None or parsed[2] != _INIT or parsed[1] not in ports:
        return None
    source_port, port, _, tag = parsed
    cookie = _COOKIE.pack(_STATE_COOKIE, _COOKIE.size, b"tort")
    chunk = _CHUNK.pack(_INIT_ACK, 0, _CHUNK.size + len(cookie), 1, _WINDOW, _STREAMS, _STREAMS, 1) + cookie
    return _sealed(port, source_port, tag, chunk)


def is_init_ack(packet: bytes, source_port: int, port: int) -> bool:
    """Whether a packet answers the INIT that was sent from `source_port` to `port`."""
    parsed = _parse(packet)
    return parsed is not None and parsed[:3] == (port, source_port, _INIT_ACK)


def crc32c(data: bytes) -> int:
    """The Castagnoli checksum."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _parse(packet: bytes) -> tuple[int, int, int, int] | None:
    """Source port, port, chunk type and initiate tag, if it is an INIT or INIT ACK."""
    if len(packet) < _HEADER.size + _CHUNK.size:
        return None
    source_port, port, _, _ = _HEADER.unpack_from(packet)
    kind, _, _, tag, *_ = _CHUNK.unpack_from(packet, _HEADER.size)
    return source_port, port, kind, tag


def _sealed(source_port: int, port: int, verification_tag: int, chunk: bytes) -> bytes:
    bare = _HEADER.pack(source_port, port, verification_tag, 0) + chunk
    # The checksum goes in little-endian (RFC 9260 appendix A).
    return _HEADER.pack(source_port, port, verification_tag, 0)[:8] + struct.pack("<I", crc32c(bare)) + chunk


def _entry(index: int) -> int:
    for _ in range(8):
        index = (index >> 1) ^ (_POLYNOMIAL if index & 1 else 0)
    return index


_TABLE = tuple(_entry(index) for index in range(256))
