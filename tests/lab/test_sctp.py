"""The packets are what RFC 9260 says; that kernels and firewalls take them for SCTP is tried in the cluster's tests."""

import struct

import pytest

from lab import sctp


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        pytest.param(b"123456789", 0xE3069283, id="the check value of every CRC catalogue"),
        pytest.param(bytes(32), 0x8A9136AA, id="RFC 3720 B.4: 32 bytes of zeroes"),
        pytest.param(b"\xff" * 32, 0x62A8AB43, id="RFC 3720 B.4: 32 bytes of ones"),
        pytest.param(bytes(range(32)), 0x46DD794E, id="RFC 3720 B.4: incrementing"),
    ],
)
def test_the_checksum_is_crc32c(data: bytes, checksum: int) -> None:
    assert sctp.crc32c(data) == checksum


def sealed(packet: bytes) -> bool:
    """Whether the checksum is that of the packet with zeroes in its place, written little-endian."""
    (found,) = struct.unpack_from("<I", packet, 8)
    return bool(found == sctp.crc32c(packet[:8] + bytes(4) + packet[12:]))


def test_an_init_is_answered_and_the_answer_recognised() -> None:
    packet = sctp.init(40000, 3868, 0x1234)
    assert sealed(packet)
    assert struct.unpack_from("!HHI", packet) == (40000, 3868, 0), "an INIT has verification tag 0"
    answer = sctp.init_ack(packet, frozenset({3868}))
    assert answer is not None
    assert sealed(answer)
    assert struct.unpack_from("!HHI", answer) == (3868, 40000, 0x1234), "an answer has the INIT's tag"
    assert sctp.is_init_ack(answer, 40000, 3868)


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(sctp.init(40000, 3869, 1), id="another port"),
        pytest.param(sctp.init(40000, 3868, 1)[:20], id="half a packet"),
        pytest.param(sctp.init_ack(sctp.init(3868, 3868, 1), frozenset({3868})), id="an answer"),
    ],
)
def test_what_is_no_init_for_a_port_of_ours_is_not_answered(packet: bytes) -> None:
    assert sctp.init_ack(packet, frozenset({3868})) is None


@pytest.mark.parametrize(
    ("source", "port"), [pytest.param(40001, 3868, id="another's source"), pytest.param(40000, 80, id="another port")]
)
def test_an_answer_to_somebody_else_is_not_ours(source: int, port: int) -> None:
    answer = sctp.init_ack(sctp.init(40000, 3868, 7), frozenset({3868}))
    assert answer is not None
    assert not sctp.is_init_ack(answer, source, port)
