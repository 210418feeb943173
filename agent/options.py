"""tortie-agent's command line, checked before anything is touched."""

import argparse
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address
from pathlib import Path

from datastore.errors import Invalid
from datastore.resources import names
from ipam.block import Address, Network
from kernel.iptables import Backend
from monitoring import address as http_address
from monitoring.address import HttpAddress

DEFAULT_SOCKET = Path("/run/tortie/cni.sock")
DEFAULT_STATE = Path("/var/lib/tortie")
DEFAULT_REFRESH_S = 30.0
DEFAULT_CONFLIST_FOLDER = Path("/etc/cni/net.d")
_ON_HOST = "TORTIE_CONFLIST_DIR_ON_HOST"
_MACHINE_ID = Path("/etc/machine-id")
_SOCKET_MAX = 100
"""Bytes of a socket's path; sun_path has 108 with its NUL, and a name with `.new` is bound first."""


class EndpointKind(Enum):
    """What pods are known by to other nodes."""

    PODS = "pods"
    WORKLOAD_ENDPOINTS = "workloadendpoints"


@dataclass(frozen=True, slots=True)
class Options:
    """How an agent is to run."""

    node: str
    datastore: str
    """Where this cluster's network is."""
    node_ips: tuple[Address, ...]
    """Underlay addresses; none: those of the default route's interface."""
    pod_cidrs: tuple[Network, ...]
    """CIDRs of this node alone, for IPAM plugins of others."""
    labels: Mapping[str, str]
    """Of this node's Node, beside those that administrators give it."""
    socket: Path
    state: Path
    machine: str
    """Empty where the Kubernetes Node is to say it."""
    backend: Backend | None
    """None: the one this node uses."""
    refresh_s: float
    log_level: str
    endpoints: EndpointKind = EndpointKind.WORKLOAD_ENDPOINTS
    http: HttpAddress | None = None
    """Where probes and Prometheus ask."""
    conflist: Path | None = None
    """What is to be installed in `conflist_folder`."""
    conflist_folder: Path = DEFAULT_CONFLIST_FOLDER
    kubernetes: str = ""
    """The Kubernetes API whose Pods are this node's, where the datastore is another; empty otherwise."""
    conflist_on_host: Path | None = None
    """What people call that folder on the host, where this agent is in a container."""

    @property
    def control(self) -> Path:
        """Where tools ask this agent."""
        return self.state / "agent.sock"

    @property
    def ipam(self) -> Path:
        """Where the IPAM service listens."""
        return self.state / "ipam.sock"


def parse(argv: Sequence[str]) -> Options:
    """The options in `argv`.

    Raises:
        SystemExit: with status 2 and a line that says what is wrong.
    """
    parser = _parser()
    given = parser.parse_args(argv)
    try:
        return _checked(given)
    except Invalid as error:
        parser.error(str(error))


def check(argv: Sequence[str]) -> None:
    """Judge a command line that a program has put together.

    Raises:
        Invalid: names the option.
    """
    _checked(_parser().parse_args(argv))


def machine_id() -> str:
    """What tells this machine from others; empty where nobody has said."""
    return _MACHINE_ID.read_text().strip() if _MACHINE_ID.exists() else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tortie-agent", description="One node of a tortie network.")
    parser.add_argument("--node", default=socket.gethostname(), help="this node's name (default: the host's)")
    parser.add_argument("--datastore", required=True, metavar="URL", help="such as sqlite:///var/lib/tortie/tortie.db")
    parser.add_argument(
        "--kubernetes", default="", metavar="URL", help="the API beside another datastore, such as kubernetes:"
    )
    parser.add_argument("--node-ip", action="append", default=[], metavar="IP", help="underlay address, one per family")
    parser.add_argument(
        "--endpoints",
        choices=["auto", *(kind.value for kind in EndpointKind)],
        default="auto",
        help="what pods are known by (auto: pods on Kubernetes)",
    )
    parser.add_argument(
        "--pod-cidr",
        action="append",
        default=[],
        metavar="CIDR",
        help="this node's own, for usePodCidr",
    )
    parser.add_argument(
        "--label", action="append", default=[], metavar="KEY=VALUE", help="of this node, for pools that select nodes"
    )
    parser.add_argument("--socket", type=Path, default=DEFAULT_SOCKET, help="where the CNI relay finds this agent")
    parser.add_argument("--state", type=Path, default=DEFAULT_STATE, help="folder of this node's records")
    parser.add_argument("--machine-id", default="", help=f"identity of this machine (default: {_MACHINE_ID})")
    parser.add_argument("--iptables", choices=["auto", *(backend.value for backend in Backend)], default="auto")
    parser.add_argument("--refresh", type=float, default=DEFAULT_REFRESH_S, metavar="SECONDS", help="between looks")
    parser.add_argument("--http", default="", metavar="ADDRESS:PORT", help="where /livez, /readyz and /metrics are")
    parser.add_argument("--conflist", type=Path, metavar="FILE", help="to be installed once this agent serves")
    parser.add_argument("--conflist-dir", type=Path, default=DEFAULT_CONFLIST_FOLDER, metavar="DIR", help="where")
    parser.add_argument("--log-level", choices=["debug", "info", "warning", "error"], default="info")
    return parser


def _checked(given: argparse.Namespace) -> Options:
    names.check_subdomain(given.node, "--node")
    if given.refresh < 1:
        raise Invalid("--refresh", "takes at least 1 second")
    kubernetes = _kubernetes(given.kubernetes, given.datastore)
    endpoints = _endpoints(given.endpoints, kubernetes or given.datastore)
    machine = given.machine_id or ("" if endpoints is EndpointKind.PODS else machine_id())
    if not machine and endpoints is not EndpointKind.PODS:
        raise Invalid("--machine-id", f"is needed where there is no {_MACHINE_ID}")
    addresses = tuple(_address(text) for text in given.node_ip)
    if len({address.version for address in addresses}) < len(addresses):
        raise Invalid("--node-ip", "takes one address of each family")
    pod_cidrs = tuple(names.parse_cidr(text, "--pod-cidr") for text in given.pod_cidr)
    if len({network.version for network in pod_cidrs}) < len(pod_cidrs):
        raise Invalid("--pod-cidr", "takes one CIDR of each family")
    labels = dict(_label(text) for text in given.label)
    names.check_labels(labels, "--label")
    options = Options(
        node=given.node,
        datastore=given.datastore,
        node_ips=addresses,
        pod_cidrs=pod_cidrs,
        labels=labels,
        socket=given.socket.absolute(),
        state=given.state.absolute(),
        machine=machine,
        backend=None if given.iptables == "auto" else Backend(given.iptables),
        refresh_s=given.refresh,
        log_level=given.log_level.upper(),
        endpoints=endpoints,
        http=_http(given.http),
        conflist=given.conflist.absolute() if given.conflist is not None else None,
        conflist_folder=given.conflist_dir.absolute(),
        kubernetes=kubernetes,
        conflist_on_host=Path(os.environ[_ON_HOST]) if os.environ.get(_ON_HOST) else None,
    )
    for path in (options.socket, options.control, options.ipam):
        if len(str(path).encode()) > _SOCKET_MAX:
            raise Invalid("--socket or --state", f"{path} is too long for a unix socket ({_SOCKET_MAX} bytes)")
    return options


def _kubernetes(url: str, datastore: str) -> str:
    """The API beside the datastore; none if the datastore is one itself."""
    if url and not _is_kubernetes(url):
        raise Invalid("--kubernetes", f"{url!r} is no address of a Kubernetes API, such as kubernetes:")
    return "" if _is_kubernetes(datastore) else url


def _is_kubernetes(url: str) -> bool:
    return url.partition(":")[0].lower() == "kubernetes"


def _endpoints(choice: str, datastore: str) -> EndpointKind:
    on_kubernetes = _is_kubernetes(datastore)
    if choice == "auto":
        return EndpointKind.PODS if on_kubernetes else EndpointKind.WORKLOAD_ENDPOINTS
    if choice == EndpointKind.PODS.value and not on_kubernetes:
        raise Invalid("--endpoints", "pods are in a Kubernetes API: say where it is by --kubernetes")
    return EndpointKind(choice)


def _http(text: str) -> HttpAddress | None:
    try:
        return http_address.parse(text) if text else None
    except ValueError as error:
        raise Invalid("--http", str(error)) from None


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise Invalid("--label", f"{text[:100]!r} is no label; write KEY=VALUE")
    return key, value


def _address(text: str) -> Address:
    try:
        return ip_address(text)
    except ValueError:
        raise Invalid("--node-ip", f"{text!r} is no IP address") from None
