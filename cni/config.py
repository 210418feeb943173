"""One CNI call, checked: the environment, the network configuration, and what of it we act on.

Everything here comes from outside and reaches names, paths and rules later on, so it is checked here once
(invariant 8).

Sources: CNI SPEC 1.1.0 section 2; containernetworking/cni CONVENTIONS.md (CNI_ARGS); pkg/skel of the reference plugins
for the order of checks and the regular expression.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cni.addressing import Addressing, addressing, mac_of
from cni.errors import IncompatibleVersion, InvalidConfig, InvalidEnvironment
from cni.netconf import Netconf, decode, is_name
from cni.result import SUPPORTED_VERSIONS, Result
from cni.result import parse as parse_result
from datastore.errors import Invalid
from datastore.resources import names

_REQUIRED = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
    "GC": (),
    "STATUS": (),
}
_SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
_IPAM_PROGRAM = "-ipam"
_KNOWN_ARGS = frozenset(
    {"IgnoreUnknown", "IP", "MAC", "K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_UID", "K8S_POD_INFRA_CONTAINER_ID"}
)


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
    addressing: Addressing
    mac: bytes
    """What the pod's interface is to have; empty for any."""
    previous: Result | None
    """What earlier plugins of the chain made (ADD), or all of them together (CHECK)."""
    alone: bool
    """We are the IPAM plugin of another main plugin."""
    environment: Mapping[str, str]
    stdin: bytes
    """Both as they came, for plugins below this one."""

    def with_config(self, config: Netconf) -> "Call":
        """The same call, with a configuration of which more is known."""
        return replace(self, config=config)


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
    leaving = command == "DEL"
    config = decode(stdin, lenient=leaving)
    since = _SINCE.get(command, "")
    if since and SUPPORTED_VERSIONS.index(config.cni_version) < SUPPORTED_VERSIONS.index(since):
        raise IncompatibleVersion(
            f"config version does not allow {command}",
            f"it came with {since}; the configuration is {config.cni_version}",
        )
    container = environment.get("CNI_CONTAINERID", "")
    args = {} if leaving else _arguments(environment.get("CNI_ARGS", ""))
    alone = environment.get("TORTIE_PROGRAM", "").endswith(_IPAM_PROGRAM)
    return Call(
        command=command,
        attachment=Attachment(config.name, container, environment.get("CNI_IFNAME", "")),
        netns=environment.get("CNI_NETNS", ""),
        pod=_pod(args, container),
        config=config,
        addressing=addressing(Netconf() if leaving else config, args.get("IP", ""), alone=alone),
        mac=b"" if leaving else mac_of(config, args.get("MAC", "")),
        previous=_previous(command, config),
        alone=alone,
        environment=environment,
        stdin=stdin,
    )


def _previous(command: str, config: Netconf) -> Result | None:
    if command == "CHECK" and config.previous is None:
        raise InvalidConfig("prevResult is missing", "CHECK compares with it")
    if command not in ("ADD", "CHECK") or config.previous is None:
        return None
    return parse_result(config.previous, config.cni_version)


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


def _arguments(text: str) -> Mapping[str, str]:
    pairs: dict[str, str] = {}
    for pair in text.split(";") if text else ():
        key, equals, value = pair.partition("=")
        if not key or not equals or "=" in value:
            raise InvalidEnvironment("CNI_ARGS is no list of KEY=VALUE", pair[:80])
        pairs[key] = value
    ignore = pairs.get("IgnoreUnknown", "").lower() in ("1", "true")
    unknown = sorted(pairs.keys() - _KNOWN_ARGS)
    if unknown and not ignore:
        raise InvalidEnvironment(f"CNI_ARGS has unknown keys [{','.join(unknown)[:200]}] without IgnoreUnknown=1")
    return pairs


def _pod(pairs: Mapping[str, str], container: str) -> PodIdentity:
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
