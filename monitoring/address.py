"""ADDRESS:PORT, as `--http` takes it."""

from dataclasses import dataclass
from ipaddress import ip_address

_PORT_MAX = 65535


@dataclass(frozen=True, slots=True)
class HttpAddress:
    """Where to listen."""

    host: str
    """Empty: every address of this machine."""
    port: int


def parse(text: str) -> HttpAddress:
    """The address that `text` is: 127.0.0.1:9470, [::1]:9470, :9470.

    Raises:
        ValueError: it is none; says how one is written.
    """
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    wrong = ValueError(f"{text[:100]!r} is no ADDRESS:PORT, such as 127.0.0.1:9470, [::1]:9470 or :9470")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) <= _PORT_MAX:
        raise wrong
    if bare:
        try:
            if (ip_address(bare).version == 6) == (bare is host):
                raise wrong  # an IPv6 address stands in brackets, no other does
        except ValueError:
            raise wrong from None
    return HttpAddress(bare, int(port))
