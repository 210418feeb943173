"""A network configuration, as far as it means something to us.

Keys that we don't know are accepted: conflists carry other programs' keys, and a Calico conflist should need its two
`type`s changed and nothing else (docs/cni.md lists what becomes of each of its keys).

Sources: CNI SPEC 1.1.0 section 1; containernetworking/cni CONVENTIONS.md (args.cni, runtimeConfig); the reference
plugins' host-local (subnet, ranges, routes); projectcalico/calico cni-plugin/pkg/types.
"""

import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

import msgspec

from cni.errors import IncompatibleVersion, InvalidConfig, Undecodable
from cni.result import DNS, NEWEST_VERSION, SUPPORTED_VERSIONS, Route, without_nulls
from datastore.errors import Invalid
from datastore.resources import names
from datastore.resources.networkpolicy import PROTOCOLS, check_port, check_port_name

DEFAULT_VERSION = SUPPORTED_VERSIONS[0]
"""What a configuration without cniVersion means (pkg/version)."""
OURS = ("", "tortie-ipam")
"""Values of `ipam.type` that mean tortie's own addresses."""
_VALID_ATTACHMENTS = "cni.dev/valid-attachments"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
_NAME_MAX = 253
_NO_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for what isn't JSON, isn't UTF-8, or is nested too deep."""
_MTU_RANGE = range(68, 65536)
_BOOLEANS = {"true": True, "false": False}
_DRIVERLESS = frozenset({"etcdv3", "etcd", "kubernetes", "postgresql"})
_ESSENTIAL = ("cniVersion", "name", "type", "datastore", "datastore_type", "nodename", "machine", "state")


class RangeConfig(msgspec.Struct, frozen=True):
    """One range of `ipam.ranges`, or `ipam` itself, as host-local has it."""

    subnet: str = ""
    range_start: str = msgspec.field(default="", name="rangeStart")
    range_end: str = msgspec.field(default="", name="rangeEnd")
    gateway: str = ""


class IpamConfig(RangeConfig, frozen=True):
    """`ipam`; the booleans may be strings, as in Calico's conflists."""

    type: str = ""
    assign_ipv4: bool | str = True
    assign_ipv6: bool | str = False
    ipv4_pools: tuple[str, ...] = ()
    ipv6_pools: tuple[str, ...] = ()
    ranges: tuple[tuple[RangeConfig, ...], ...] = ()
    routes: tuple[Route, ...] = ()


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
    ips: tuple[str, ...] = ()
    mac: str = ""
    annotations: Mapping[str, str] = msgspec.field(default_factory=dict, name="tortie.dev/annotations")
    """The pod's, where no Pod in an API has them."""


class Args(msgspec.Struct, frozen=True):
    """`args`."""

    cni: CniArgs = CniArgs()


class RuntimeDNS(msgspec.Struct, frozen=True):
    """`runtimeConfig.dns` (CONVENTIONS.md)."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class RuntimeConfig(msgspec.Struct, frozen=True):
    """`runtimeConfig`: the declared capabilities that the runtime makes use of."""

    ips: tuple[str, ...] = ()
    mac: str = ""
    dns: RuntimeDNS = RuntimeDNS()


class ContainerSettings(msgspec.Struct, frozen=True):
    """`container_settings`."""

    allow_ip_forwarding: bool | None = None


class ValidAttachment(msgspec.Struct, frozen=True):
    """One of `cni.dev/valid-attachments`: what GC must leave."""

    container_id: str = msgspec.field(name="containerID")
    interface: str = msgspec.field(name="ifname")


class Netconf(msgspec.Struct, frozen=True):
    """The keys of a network configuration that mean something to us."""

    name: str = ""
    type: str = ""
    cni_version: str = msgspec.field(default=DEFAULT_VERSION, name="cniVersion")
    mtu: int = 0
    ipam: IpamConfig = IpamConfig()
    policy: PolicyConfig | None = None
    args: Args = Args()
    runtime: RuntimeConfig = msgspec.field(default=RuntimeConfig(), name="runtimeConfig")
    dns: DNS = DNS()
    container_settings: ContainerSettings = ContainerSettings()
    include_default_routes: bool = False
    datastore: str = ""
    """This and the next four serve `python -m cni` without an agent: the datastore's address."""
    datastore_type: str = ""
    nodename: str = ""
    machine: str = ""
    state: str = ""
    """The node's state folder."""
    log_level: str = ""
    log_file_path: str = ""
    previous: Mapping[str, Any] | None = msgspec.field(default=None, name="prevResult")
    valid: tuple[ValidAttachment, ...] | None = msgspec.field(default=None, name=_VALID_ATTACHMENTS)
    """None: the key is absent, and GC has nothing to go by."""

    @property
    def resolver(self) -> DNS:
        """What the result's `dns` says unless a delegate knows better: the runtime's wish before the file's."""
        asked = self.runtime.dns
        if asked == RuntimeDNS():
            return self.dns
        return DNS(asked.servers, self.dns.domain, asked.searches, asked.options)


def is_name(text: str) -> bool:
    """Whether a network, container or pod may be called this (pkg/utils of containernetworking/cni)."""
    return len(text) <= _NAME_MAX and _NAME.fullmatch(text) is not None


def version_of(stdin: bytes) -> str:
    """The cniVersion to answer an error in, as far as it can be read."""
    try:
        document = msgspec.json.decode(stdin)
    except _NO_JSON:
        return NEWEST_VERSION
    found = document.get("cniVersion") or DEFAULT_VERSION if isinstance(document, dict) else NEWEST_VERSION
    return found if found in SUPPORTED_VERSIONS else NEWEST_VERSION


def decode(stdin: bytes, *, lenient: bool = False) -> Netconf:
    """The configuration on standard input, checked.

    With `lenient` (DEL) a wrong key that a removal doesn't need is passed over: a file that was broken after its pods
    came must not keep them from leaving.

    Raises:
        Undecodable, InvalidConfig, IncompatibleVersion: says which key.
    """
    try:
        document = msgspec.json.decode(stdin)
    except _NO_JSON as error:
        raise Undecodable("the network configuration is no JSON", str(error)) from None
    if not isinstance(document, dict):
        raise Undecodable("the network configuration is no JSON object", type(document).__name__)
    _check_identity(document)
    try:
        return _converted(document)
    except InvalidConfig:
        if not lenient:
            raise
        return _converted({key: document[key] for key in _ESSENTIAL if isinstance(document.get(key), str)})


def boolean(value: bool | str, key: str) -> bool:
    """A boolean that may be a string.

    Raises:
        InvalidConfig: it is another string.
    """
    if isinstance(value, bool):
        return value
    try:
        return _BOOLEANS[value.lower()]
    except KeyError:
        raise InvalidConfig(f"{key} is neither true nor false", value[:80]) from None


def check_datastore_type(config: Netconf) -> None:
    """Where no agent answers, the configuration's own datastore is used, and needs a driver.

    Raises:
        InvalidConfig: there is none for `datastore_type`; names it.
    """
    if config.datastore_type in _DRIVERLESS:
        raise InvalidConfig(f"datastore_type {config.datastore_type!r} has no driver", "there is one for sqlite")


def _check_identity(document: Mapping[str, Any]) -> None:
    version, name = document.get("cniVersion") or DEFAULT_VERSION, document.get("name")
    if version not in SUPPORTED_VERSIONS:
        supported = " ".join(SUPPORTED_VERSIONS)
        raise IncompatibleVersion(
            "incompatible CNI versions", f'config is "{str(version)[:80]}", plugin supports [{supported}]'
        )
    if not name:
        raise InvalidConfig("missing network name", "key name")
    if not isinstance(name, str) or not is_name(name):
        raise InvalidConfig("invalid characters found in network name", str(name)[:80])


def _converted(document: Mapping[str, Any]) -> Netconf:
    present = {key: value for key, value in document.items() if value is not None and value != ""}
    if _VALID_ATTACHMENTS in document and document[_VALID_ATTACHMENTS] is None:
        present[_VALID_ATTACHMENTS] = []  # how Go writes an empty list: nothing is valid
    try:
        config = msgspec.convert(without_nulls(present), Netconf)
    except (msgspec.ValidationError, RecursionError) as error:
        raise InvalidConfig("the network configuration has a wrong key", str(error)) from None
    if config.mtu and config.mtu not in _MTU_RANGE:
        raise InvalidConfig(f"mtu {config.mtu} is no MTU", "0 lets tortie choose; otherwise 68 to 65535")
    _check_routes(config.ipam.routes)
    try:
        _check_args(config.args.cni)
    except Invalid as error:
        raise InvalidConfig("the network configuration has a wrong key", str(error.below("args.cni"))) from None
    return config


def _check_routes(routes: Sequence[Route]) -> None:
    for index, route in enumerate(routes):
        try:
            ip_network(route.dst, strict=False)
            if route.gw:
                ip_address(route.gw)
        except ValueError as error:
            raise InvalidConfig(f"ipam.routes[{index}] is no route", str(error)) from None


def _check_args(args: CniArgs) -> None:
    for index, label in enumerate(args.labels):
        names.check_label_key(label.key, f"labels[{index}].key")
        names.check_label_value(label.value, f"labels[{index}].value")
    for key in args.annotations:
        names.check_label_key(key.lower(), "[tortie.dev/annotations]")
    for index, port in enumerate(args.ports):
        path = f"[tortie.dev/ports][{index}]"
        check_port_name(port.name, f"{path}.name")
        check_port(port.port, f"{path}.port")
        if port.protocol not in PROTOCOLS:
            raise names.invalid(f"{path}.protocol", port.protocol, f"is no protocol here ({', '.join(PROTOCOLS)})")
