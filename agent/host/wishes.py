"""How a host is to be, as a person asked for it: what wasn't said stays as it was, or is the default."""

import socket
from pathlib import Path

import msgspec

from cni.conflist import PLUGIN_FOLDERS

DEFAULT_CONF = Path("/etc/cni/net.d")
DEFAULT_UNITS = Path("/etc/systemd/system")


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The options of one run; None and empty ones weren't given."""

    node: str | None = None
    datastore: str | None = None
    node_ips: tuple[str, ...] = ()
    machine: str | None = None
    pools: tuple[str, ...] = ()
    chain: tuple[str, ...] | None = None
    bin_dir: str | None = None
    conf_dir: str | None = None
    unit_dir: str | None = None


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    node: str
    datastore: str
    node_ips: tuple[str, ...] = ()
    machine: str = ""
    """Empty: the host's own."""
    pools: tuple[str, ...] = ()
    """CIDRs; none: those that the datastore has."""
    chain: tuple[str, ...] = ()
    bin_dir: str = str(PLUGIN_FOLDERS[0])
    conf_dir: str = str(DEFAULT_CONF)
    unit_dir: str = str(DEFAULT_UNITS)


def default_datastore(state: Path) -> str:
    """Where the datastore is unless somebody says otherwise: a file in the state folder."""
    return f"sqlite://{state}/tortie.db"


def merged(asked: Asked, before: Wishes | None, state: Path) -> Wishes:
    """What is wished now."""
    start = before or Wishes(node=socket.gethostname().lower(), datastore=default_datastore(state))
    said = {name: value for name, value in msgspec.structs.asdict(asked).items() if value not in (None, ())}
    if asked.chain is not None:
        said["chain"] = asked.chain
    return msgspec.structs.replace(start, **said)
