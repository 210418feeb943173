"""One CNI call, checked: the environment, the network configuration, and what of it we act on.

Everything here comes from outside and reaches names, paths and rules later on, so it is checked here once (invariant
8). Keys that we don't know are accepted: conflists carry other programs' keys, and a Calico conflist should need its
`type` changed and nothing else.

Sources: CNI SPEC 1.1.0 sections 1 and 2; containernetworking/cni CONVENTIONS.md (args.cni.labels, CNI_ARGS);
pkg/skel of the reference plugins for the order of checks and the regular expression.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from cni.errors import IncompatibleVersion, InvalidConfig, InvalidEnvironment, Undecodable, UnsupportedField
from datastore.errors import Invalid
from datastore.resources import names
from datastore.resources.networkpolicy import PROTOCOLS, check_port, check_port_name

SUPPORTED_VERSIONS = ("1.0.0", "1.1.0")
NEWEST_VERSION = SUPPORTED_VERSIONS[-1]
DEFAULT_VERSION = "0.1.0"
"""What a configuration without cniVersion means (pkg/version)."""

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
_NAME_MAX = 253
_MTU_RANGE = range(68, 65536)
_MTU_IPV6 = 1280
"""The least that IPv6 lives with (RFC 8200 section 5); below, the kernel takes it away from the link."""
_BOOLEANS = {"true": True, "false": False}
_DRIVERLESS = frozenset({"etcdv3", "etcd", "kubernetes", "postgresql"})
_REQUIRED = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
    "GC": (),
    "STATUS": (),
}
_KNOWN_ARGS = frozenset(
    {"IgnoreUnknown", "K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_UID", "K8S_POD_INFRA_CONTAINER_ID"}
)


class IpamConfig(msgspec.Struct, frozen=True):
    """`ipam`; the booleans may be strings, as in Calico's conflists."""

    type: str = ""
    assign_ipv4: bool | str = True
    assign_ipv6: bool | str = False
    ipv4_pools: tuple[str, ...] = ()
    ipv6_pools: tuple[str, ...] = ()


class PolicyConfig(msgspec.Struct, frozen=True):
    """`policy`."""

    type: str = ""


class Label(msgspec.Struct, frozen=True):
    """One of `args.cni.labels` (CONVENTIONS.md)."""

    key: str
    value: str


class PortArg(msgspec.Struct, frozen=True):
    """One of `args.cni["tortie.dev/ports"]`: a named port of the pod."""

    name: str
    port: int
    protocol: str = "TCP"


class CniArgs(msgspec.Struct, frozen=True):
    """`args.cni`."""

    labels: tuple[Label, ...] = ()
    ports: tuple[PortArg, ...] = msgspec.field(default=(), name="tortie.dev/ports")


class Args(msgspec.Struct, frozen=True):
    """`args`."""

    cni: CniArgs = CniArgs()


class Netconf(msgspec.Struct, frozen=True):
    """The keys of a network configuration that mean something to us."""

    name: str = ""
    type: str = ""
    cni_version: str = msgspec.field(default=DEFAULT_VERSION, name="cniVersion")
    mtu: int = 0
    ipam: IpamConfig = IpamConfig()
    policy: PolicyConfig | None = None
    args: Args = Args()
    datastore: str = ""
    """This and the next four serve `python -m cni` without an agent: the datastore's address."""
    datastore_type: str = ""
    nodename: str = ""
    machine: str = ""
    state: str = ""
    """The node's state folder."""
    log_level: str = ""
    log_file_path: str = ""
    previous: Mapping[str, object] | None = msgspec.field(default=None, name="prevResult")


@dataclass(frozen=True, slots=True)
class Attachment:
    """One interface of one container in one network: the key of everything we keep (SPEC 0.4.0, "state")."""

    network: str
    container_id: str
    interface: str

    @property
    def handle(self) -> str:
        """The owner's name in IPAM; none of its parts has a colon."""
        return f"{self.network}:{self.container_id}:{self.interface}"


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """Whose interface it is, as CNI_ARGS says; without them the container stands for the pod."""

    namespace: str
    name: str
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """A CNI call that passed every check."""

    command: str
    attachment: Attachment
    netns: str
    pod: PodIdentity
    config: Netconf
    assign_ipv4: bool
    assign_ipv6: bool


def is_name(text: str) -> bool:
    """Whether a network, container or pod may be called this (pkg/utils of containernetworking/cni)."""
    return len(text) <= _NAME_MAX and _NAME.fullmatch(text) is not None


def version_of(stdin: bytes) -> str:
    """The cniVersion to answer an error in, as far as it can be read."""
    try:
        found = json.loads(stdin)["cniVersion"]
    except (ValueError, KeyError, TypeError):
        return NEWEST_VERSION
    return found if found in SUPPORTED_VERSIONS else NEWEST_VERSION


def parse(environment: Mapping[str, str], stdin: bytes) -> Call:
    """Check a call in the reference plugins' order: environment, JSON, version, configuration, arguments.

    Raises:
        CniError: with the SPEC's code, naming the variable or key.
    """
    command = environment.get("CNI_COMMAND", "")
    if command not in _REQUIRED:
        raise InvalidEnvironment(f"unknown CNI_COMMAND: {command[:80]!r}")
    missing = [name for name in _REQUIRED[command] if not environment.get(name)]
    if missing:
        raise InvalidEnvironment(f"required env variables [{','.join(missing)}] missing")
    _check_environment(environment)
    config = _decode(stdin)
    _check_config(config)
    container = environment.get("CNI_CONTAINERID", "")
    interface = environment.get("CNI_IFNAME", "")
    assign_ipv6 = _boolean(config.ipam.assign_ipv6, "ipam.assign_ipv6")
    if assign_ipv6 and config.mtu and config.mtu < _MTU_IPV6:
        raise InvalidConfig(f"mtu {config.mtu} is too small for IPv6", f"which ipam.assign_ipv6 asks for: {_MTU_IPV6}")
    return Call(
        command=command,
        attachment=Attachment(config.name, container, interface),
        netns=environment.get("CNI_NETNS", ""),
        pod=_pod(environment.get("CNI_ARGS", ""), container),
        config=config,
        assign_ipv4=_boolean(config.ipam.assign_ipv4, "ipam.assign_ipv4"),
        assign_ipv6=assign_ipv6,
    )


def check_datastore_type(config: Netconf) -> None:
    """Where no agent answers, the configuration's own datastore is used, and needs a driver.

    Raises:
        InvalidConfig: there is none for `datastore_type`; names it.
    """
    if config.datastore_type in _DRIVERLESS:
        raise InvalidConfig(f"datastore_type {config.datastore_type!r} has no driver", "there is one for sqlite")


def _check_environment(environment: Mapping[str, str]) -> None:
    container = environment.get("CNI_CONTAINERID", "")
    if container and not is_name(container):
        raise InvalidEnvironment("CNI_CONTAINERID has characters that are not allowed", container[:80])
    interface = environment.get("CNI_IFNAME", "")
    try:
        if interface:
            names.check_interface(interface, "CNI_IFNAME")
    except Invalid as error:
        raise InvalidEnvironment(str(error)) from None


def _decode(stdin: bytes) -> Netconf:
    try:
        document = msgspec.json.decode(stdin)
    except msgspec.DecodeError as error:
        raise Undecodable("the network configuration is no JSON", str(error)) from None
    if not isinstance(document, dict):
        raise Undecodable("the network configuration is no JSON object", type(document).__name__)
    try:
        return msgspec.convert({key: value for key, value in document.items() if value is not None}, Netconf)
    except msgspec.ValidationError as error:
        raise InvalidConfig("the network configuration has a wrong key", str(error)) from None


def _check_config(config: Netconf) -> None:
    if config.cni_version not in SUPPORTED_VERSIONS:
        supported = " ".join(SUPPORTED_VERSIONS)
        raise IncompatibleVersion(
            "incompatible CNI versions", f'config is "{config.cni_version}", plugin supports [{supported}]'
        )
    if not config.name:
        raise InvalidConfig("missing network name", "key name")
    if not is_name(config.name):
        raise InvalidConfig("invalid characters found in network name", config.name[:80])
    if config.mtu and config.mtu not in _MTU_RANGE:
        raise InvalidConfig(f"mtu {config.mtu} is no MTU", "0 lets tortie choose; otherwise 68 to 65535")
    for key in ("interfaces", "ips", "routes"):
        rows = (config.previous or {}).get(key)
        if rows is not None and not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
            raise InvalidConfig(f"prevResult.{key} is no list of objects")
    try:
        _check_args(config.args.cni)
    except Invalid as error:
        raise InvalidConfig("the network configuration has a wrong key", str(error.below("args.cni"))) from None


def _check_args(args: CniArgs) -> None:
    for index, label in enumerate(args.labels):
        names.check_label_key(label.key, f"labels[{index}].key")
        names.check_label_value(label.value, f"labels[{index}].value")
    for index, port in enumerate(args.ports):
        path = f"[tortie.dev/ports][{index}]"
        check_port_name(port.name, f"{path}.name")
        check_port(port.port, f"{path}.port")
        if port.protocol not in PROTOCOLS:
            raise names.invalid(f"{path}.protocol", port.protocol, f"is no protocol here ({', '.join(PROTOCOLS)})")


def _pod(text: str, container: str) -> PodIdentity:
    pairs: dict[str, str] = {}
    for pair in text.split(";") if text else ():
        key, equals, value = pair.partition("=")
        if not key or not equals or "=" in value:
            raise InvalidEnvironment("CNI_ARGS is no list of KEY=VALUE", pair[:80])
        pairs[key] = value
    ignore = pairs.get("IgnoreUnknown", "").lower() in ("1", "true")
    asked = sorted({"IP", "MAC"} & pairs.keys())
    if asked:
        raise UnsupportedField(f"CNI_ARGS {asked[0]}={pairs[asked[0]][:80]} is not supported")
    unknown = sorted(pairs.keys() - _KNOWN_ARGS)
    if unknown and not ignore:
        raise InvalidEnvironment(f"CNI_ARGS has unknown keys [{','.join(unknown)[:200]}] without IgnoreUnknown=1")
    namespace, name = pairs.get("K8S_POD_NAMESPACE") or "default", pairs.get("K8S_POD_NAME") or container
    uid = pairs.get("K8S_POD_UID", "")
    for key, value in (("K8S_POD_NAME", name), ("K8S_POD_UID", uid)):
        if value and not is_name(value):
            raise InvalidEnvironment(f"CNI_ARGS {key} is no name", value[:80])
    try:
        names.check_label_name(namespace, "K8S_POD_NAMESPACE")
    except Invalid as error:
        raise InvalidEnvironment(f"CNI_ARGS {error}") from None
    return PodIdentity(namespace, name, uid)


def _boolean(value: bool | str, key: str) -> bool:
    if isinstance(value, bool):
        return value
    try:
        return _BOOLEANS[value.lower()]
    except KeyError:
        raise InvalidConfig(f"{key} is neither true nor false", value[:80]) from None
