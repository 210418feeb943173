"""Whether packets pass: from another machine to a container, and from its namespace to the host."""

from lab.probe import probe
from tests.host import INSIDE, Host
from tests.runtimes.image import PORT
from tests.runtimes.machine import until_empty

_SECONDS = 2.0


def answers(host: Host, *addresses: str, port: int = PORT) -> None:
    """Wait until a container answers to another machine, at each of these addresses.

    Raises:
        AssertionError: it doesn't.
    """
    until_empty(lambda: [one for one in ((to, tried(host, to, port)) for to in addresses) if one[1] != "open"])


def tried(host: Host, address: str, port: int = PORT) -> str:
    """What another machine that connects to a port sees: open, closed or silent."""
    return host.outside.inside(lambda: probe(address, port, "TCP", _SECONDS))


def ping_of_host(family: int) -> tuple[str, ...]:
    """What a container runs to reach its host."""
    return ("busybox", "ping", "-c", "1", "-W", "5", INSIDE[family])
