"""tortie-controller's command line, checked before anything is touched."""

import argparse
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from controller import defaults
from datastore import urls
from datastore.errors import Invalid, UnsupportedDatastore
from datastore.resources import names
from datastore.resources.value import Resource
from monitoring import address as http_address
from monitoring.address import HttpAddress

DEFAULT_STATE = Path("/var/lib/tortie")
DEFAULT_NAMESPACE = "kube-system"
"""Where the Lease is: Kubernetes always has this namespace, and elsewhere a namespace needn't exist."""
SOCKET = "controller.sock"
_SOCKET_MAX = 100
"""Bytes of a socket's path; sun_path has 108 with its NUL."""
_IDENTITY_MAX = 253


@dataclass(frozen=True, slots=True)
class Options:
    """How a controller is to run."""

    datastore: str
    """Where this cluster's network is."""
    identity: str
    """Who holds the Lease: no two processes have the same."""
    namespace: str
    state: Path
    log_level: str
    defaults: tuple[Resource, ...] = ()
    """What a new cluster begins with."""
    http: HttpAddress | None = None
    """Where probes and Prometheus ask."""
    kubernetes: str = ""
    """The Kubernetes API whose objects are copied into the datastore; empty where there is nothing to copy."""

    @property
    def control(self) -> Path:
        """Where tools ask this controller."""
        return self.state / SOCKET


def parse(argv: Sequence[str]) -> Options:
    """The options in `argv`.

    Raises:
        SystemExit: with status 2 and a line that says what is wrong.
    """
    parser = _parser()
    given = parser.parse_args(argv)
    try:
        return _checked(given)
    except (Invalid, UnsupportedDatastore) as error:
        parser.error(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tortie-controller",
        description="Takes back what departed nodes left, and says how full pools are. Of several one leads.",
    )
    parser.add_argument("--datastore", required=True, metavar="URL", help="the cluster's, as its agents have it")
    parser.add_argument(
        "--kubernetes",
        default="",
        metavar="URL",
        help="the Kubernetes API whose Pods, policies... are copied into another datastore, such as kubernetes:",
    )
    parser.add_argument("--identity", default="", metavar="NAME", help="in the Lease (default: the host's and more)")
    parser.add_argument("--state", type=Path, default=DEFAULT_STATE, help=f"folder of {SOCKET}, where tools ask")
    parser.add_argument("--lease-namespace", default=DEFAULT_NAMESPACE, metavar="NAMESPACE", help="where the Lease is")
    parser.add_argument(
        "--defaults", type=Path, metavar="FILE", help="pools and settings that a new cluster begins with"
    )
    parser.add_argument("--http", default="", metavar="ADDRESS:PORT", help="where /livez, /readyz and /metrics are")
    parser.add_argument("--log-level", choices=["debug", "info", "warning", "error"], default="info")
    return parser


def _checked(given: argparse.Namespace) -> Options:
    names.check_label_name(given.lease_namespace, "--lease-namespace")
    # As client-go's: a name alone may come back while another process still believes that it is the holder.
    identity = f"{given.identity or socket.gethostname()}_{secrets.token_hex(4)}"
    if not identity.isascii() or not identity.isprintable() or len(identity) > _IDENTITY_MAX:
        raise Invalid("--identity", f"{given.identity[:80]!r} is no name")
    state = given.state.absolute()
    if len(str(state / SOCKET).encode()) > _SOCKET_MAX:
        raise Invalid("--state", f"{state / SOCKET} is too long for a unix socket ({_SOCKET_MAX} bytes)")
    return Options(
        given.datastore,
        identity,
        given.lease_namespace,
        state,
        given.log_level.upper(),
        defaults.read(given.defaults) if given.defaults is not None else (),
        _http(given.http),
        _kubernetes(given.kubernetes, given.datastore),
    )


def _kubernetes(url: str, datastore: str) -> str:
    """Where to copy from; nowhere if the datastore is a Kubernetes API itself, which has everything."""
    if not url:
        return ""
    if urls.parse(url).scheme != "kubernetes":
        raise Invalid("--kubernetes", f"{url!r} is no address of a Kubernetes API, such as kubernetes:")
    return url if urls.parse(datastore).scheme != "kubernetes" else ""


def _http(text: str) -> HttpAddress | None:
    try:
        return http_address.parse(text) if text else None
    except ValueError as error:
        raise Invalid("--http", str(error)) from None
