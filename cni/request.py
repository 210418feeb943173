r"""The relay's frame, taken apart: environment, standard input, descriptors.

    u32 length (host order), then length bytes: "NAME=value\0"..., "\0", standard input

For ADD and CHECK descriptors come with the first bytes: the pod's network namespace, a netlink socket opened inside it,
and, where the configuration speaks of allow_ip_forwarding, the files that say so inside. A tombstone is the same bytes
without the length. The writer is `relay.c`.

TORTIE_RELAY is the number of what is said in a frame and of what comes with it: PROTOCOL here and in `relay.c`, moved
together when an older agent couldn't carry out what a newer relay sends, or the other way round. Where they differ the
agent carries out DELs, whose meaning doesn't change, and refuses the rest with what to do.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

PROTOCOL = 1
"""Relays before the number was sent speak it, too."""
RELAY = "TORTIE_RELAY"
REQUEST_MAX = 17 << 20
"""Bytes; the relay stops at 16 MiB of standard input."""


class BadFrame(Exception):
    """Not a relay's frame."""


@dataclass(frozen=True, slots=True)
class Request:
    """One call as it came in; the descriptors are the receiver's to close."""

    environment: Mapping[str, str]
    stdin: bytes
    fds: tuple[int, ...] = ()

    @property
    def command(self) -> str:
        """CNI_COMMAND."""
        return self.environment.get("CNI_COMMAND", "")

    @property
    def protocol(self) -> str:
        """What the relay speaks, as it says."""
        return self.environment.get(RELAY, str(PROTOCOL))

    def close(self) -> None:
        """Close the descriptors."""
        for fd in self.fds:
            os.close(fd)


def parse(payload: bytes, fds: tuple[int, ...] = ()) -> Request:
    """The call in a frame's bytes.

    Raises:
        BadFrame: it isn't one; the descriptors are left to the caller.
    """
    head, end, stdin = payload.partition(b"\0\0")
    if not end and payload[:1] != b"\0":
        raise BadFrame("no end of the environment")
    if payload[:1] == b"\0":
        head, stdin = b"", payload[1:]
    environment: dict[str, str] = {}
    for variable in head.split(b"\0") if head else ():
        name, equals, value = variable.decode(errors="surrogateescape").partition("=")
        if not equals:
            raise BadFrame(f"a variable without a value: {name[:80]!r}")
        environment[name] = value
    return Request(environment, stdin, fds)


def pack(environment: Mapping[str, str], stdin: bytes) -> bytes:
    """The frame's bytes, without the length."""
    variables = [f"{name}={value}".encode(errors="surrogateescape") for name, value in environment.items()]
    return b"\0".join([*variables, b"", stdin]) if variables else b"\0" + stdin
