"""A DHCP server on a node's links, by packet sockets as ISC's dhcpd is: one process, every `tort` link that appears.

    python -I -m tests.delegation.dhcp_server FIRST_ADDRESS SERVER_ADDRESS

Prints a line for each message that it answers: `offer`, `ack` or `release`, and the address.
Sources: RFC 2131 (messages), RFC 2132 (options).
"""

import socket
import struct
import sys
from ipaddress import IPv4Address

_ALL = 0x0003
_UDP = 17
_DISCOVER, _OFFER, _REQUEST, _ACK, _RELEASE = 1, 2, 3, 5, 7
_COOKIE = bytes.fromhex("63825363")
_FIXED = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")


def main(first: IPv4Address, server: IPv4Address) -> None:
    """Serve without end; a client keeps its address by its MAC."""
    given: dict[bytes, IPv4Address] = {}
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL)) as sock:
        print("ready", flush=True)
        while True:
            data, origin = sock.recvfrom(2048)
            asked = _dhcp(data)
            if asked is None or origin[2] == socket.PACKET_OUTGOING:
                continue
            kind, transaction, mac = asked
            address = given.setdefault(mac, first + len(given))
            if kind == _RELEASE:
                print("release", address, flush=True)
                continue
            answer = _OFFER if kind == _DISCOVER else _ACK
            packet = _answer(answer, transaction, mac, address, server)
            sock.sendto(packet, (origin[0], 0x0800, 0, 0, mac[:6]))
            print("offer" if answer == _OFFER else "ack", address, flush=True)


def _dhcp(data: bytes) -> tuple[int, int, bytes] | None:
    if len(data) < 20 or data[0] >> 4 != 4 or data[9] != _UDP:
        return None
    start = (data[0] & 15) * 4
    _, port = struct.unpack_from("!HH", data, start)
    body = data[start + 8 :]
    if port != 67 or len(body) < _FIXED.size or body[0] != 1:
        return None
    fields, options = _FIXED.unpack_from(body), body[_FIXED.size :]
    while options and options[0] != 255:
        if options[0] == 53:
            return options[2], fields[4], fields[11][:6]
        options = options[2 + options[1] :] if options[0] else options[1:]
    return None


def _answer(kind: int, transaction: int, mac: bytes, address: IPv4Address, server: IPv4Address) -> bytes:
    options = b"".join(
        bytes([code, len(value)]) + value
        for code, value in (
            (53, bytes([kind])),
            (54, server.packed),
            (51, struct.pack("!I", 3600)),
            (1, b"\xff\xff\xff\x00"),
            (3, server.packed),
        )
    )
    nothing = b""
    body = _FIXED.pack(2, 1, 6, 0, transaction, 0, 0, b"\0" * 4, address.packed, server.packed, b"\0" * 4, mac,
                       nothing, nothing, _COOKIE) + options + b"\xff"  # fmt: skip
    datagram = struct.pack("!HHHH", 67, 68, 8 + len(body), 0) + body
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(datagram), 0, 0, 64, _UDP, 0, server.packed, b"\xff" * 4)
    return header[:10] + _checksum(header) + header[12:] + datagram


def _checksum(header: bytes) -> bytes:
    total = sum(struct.unpack("!10H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


if __name__ == "__main__":
    main(IPv4Address(sys.argv[1]), IPv4Address(sys.argv[2]))
