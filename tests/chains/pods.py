"""A pod in a network whose plugins are tortie and reference plugins behind it; and what is left of it after its DEL."""

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cni.chain import Chain, Container, Document
from ipam.rpc.client import connect
from tests.chains.asking import until
from tests.host import RELAY, Host
from tests.sandbox import Namespace

PORTMAP: Document = {"type": "portmap", "capabilities": {"portMappings": True}}
BANDWIDTH: Document = {"type": "bandwidth", "capabilities": {"bandwidth": True}}
TUNING: Document = {"type": "tuning", "capabilities": {"mac": True}, "sysctl": {"net.core.somaxconn": "321"}}
SBR: Document = {"type": "sbr"}
FIREWALL: Document = {"type": "firewall", "backend": "iptables"}
_TORTIE: Document = {
    "type": "tortie",
    "policy": {"type": "k8s"},
    "ipam": {"type": "tortie-ipam", "assign_ipv4": True, "assign_ipv6": True},
}
_LINKS = ("tort", "bwp")
"""How links of ours, and of `bandwidth`, begin."""


def network(*chained: Document, version: str = "1.0.0", main: Document = _TORTIE) -> Document:
    """A conflist: tortie, or another main plugin, and what is chained behind it."""
    return {"cniVersion": version, "name": "net", "plugins": [main, *chained]}


@dataclass(frozen=True, slots=True)
class ChainedPod:
    """A pod that is attached."""

    host: Host
    namespace: Namespace
    chain: Chain
    container: Container
    result: Document
    before: frozenset[str]
    """What of other pods was there before it."""

    @property
    def addresses(self) -> list[str]:
        """IPv4, then IPv6."""
        return [ip["address"].partition("/")[0] for ip in self.result["ips"]]

    def detach(self) -> None:
        """DEL of the whole chain, after which nothing of the pod is left."""
        self.chain.delete(self.container)
        left = until([], self._left)
        if left:
            raise AssertionError(f"left after DEL: {left}")

    def _left(self) -> list[str]:
        return [one for one in present(self.host) if one not in self.before] + mentions(self.host, self.addresses)


@contextmanager
def attached(
    host: Host,
    plugins: Path,
    conflist: Document,
    *,
    labels: Mapping[str, str] | None = None,
    capabilities: Mapping[str, object] | None = None,
    name: str = "pod",
    interface: str = "eth0",
    inside: Namespace | None = None,
) -> Iterator[ChainedPod]:
    """A pod made by a chain, or a further interface of one that is there (`inside`).

    It is detached at the end, and if the test didn't fail nothing of it may be left.
    """
    namespace = inside or host.pod()
    container = Container(
        id=namespace.name,
        netns=namespace.path,
        interface=interface,
        args=f"IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={name}",
        extra={"args": {"cni": {"labels": [{"key": key, "value": value} for key, value in (labels or {}).items()]}}},
        capabilities=capabilities or {},
    )
    chain = host.chain(conflist, [RELAY.parent, plugins])
    before = frozenset(present(host))
    pod = ChainedPod(host, namespace, chain, container, chain.add(container), before)
    try:
        yield pod
    except BaseException:
        chain.delete(container)
        raise
    pod.detach()


def present(host: Host) -> list[str]:
    """What there is of pods on a host: links, files, addresses that are owned."""
    links = [str(link["ifname"]) for link in host.shown("link")]
    return [*(link for link in links if link.startswith(_LINKS)), *_files(host), *_owned(host)]


def _files(host: Host) -> list[str]:
    folders = [host.state / name for name in ("attachments", "journal", "handles")]
    folders += [host.place / name for name in ("tombstones", "results")]
    return [str(path.relative_to(host.place)) for folder in folders for path in folder.glob("*")]


def _owned(host: Host) -> list[str]:
    async def ask() -> list[str]:
        async with connect(host.state / "ipam.sock") as client:
            return [one.address for one in await client.list()]

    return asyncio.run(ask())


def mentions(host: Host, addresses: Sequence[str]) -> list[str]:
    """Lines of routes, neighbours, rules and sets that name one of the addresses."""
    commands = [("ip", family, *words) for family in ("-4", "-6") for words in _TABLES]
    commands += [("iptables-save",), ("ip6tables-save",), ("ipset", "save")]
    lines = [line for command in commands for line in host.namespace.run(*command).splitlines()]
    named = re.compile("|".join(map(_alone, addresses)))
    return [line for line in lines if named.search(line)]


_TABLES = (("route", "show", "table", "all"), ("neighbour", "show"), ("neighbour", "show", "proxy"), ("rule", "show"))


def _alone(address: str) -> str:
    """Matches an address by itself or as a /32 or /128, not as the beginning of a block or of a longer one."""
    end = r"[\w./:]" if ":" in address else r"[\w./]"
    return rf"(?<![\w.:]){re.escape(address)}(?:/32|/128|(?!{end}))"
