"""Links and routes as values, and the names and numbers by which ours are recognised.

Only what carries our mark is changed or removed: interfaces that begin with `tort`, routes with our protocol number.
"""

import hashlib
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

HOST_PREFIX = "tort"
"""Every host end of a pod's veth begins so; iptables matches them as `tort+`."""
ROUTE_PROTOCOL = 0x54
"""rtm_protocol of our routes ('T'); free in /etc/iproute2/rt_protos. Other protocols' routes are never touched."""
REAP_GROUP = 0x74726572
"""IFLA_GROUP of links about to be deleted ('trer'): fixed and never zero, which is every link's default group."""
GATEWAY_MAC = bytes.fromhex("eeeeeeeeeeee")
"""Every host end's MAC, so that a pod's neighbour entry outlives its node's changes."""
GATEWAY_IPV4 = IPv4Address("169.254.1.1")
"""A pod's default gateway: link-local, answered by each host end as a proxy."""
GATEWAY_IPV6 = IPv6Address("fe80::ecee:eeff:feee:eeee")
"""A pod's IPv6 default gateway: the address that RFC 4291 appendix A derives from GATEWAY_MAC, on every host end."""
_HEX_DIGITS = 11
"""IFNAMSIZ is 16 with its NUL: 15 less the four of the prefix."""
_HOST_INTERFACE = re.compile(rf"{HOST_PREFIX}[0-9a-f]{{{_HEX_DIGITS}}}")


def host_interface(network: str, container_id: str, interface: str) -> str:
    """The host end's name for one attachment: the same for the same (network, container id, interface)."""
    digest = hashlib.sha1("\0".join((network, container_id, interface)).encode(), usedforsecurity=False)
    return HOST_PREFIX + digest.hexdigest()[:_HEX_DIGITS]


def is_host_interface(name: str) -> bool:
    """Whether a link's name is one that `host_interface` gives: ours by more than its first four letters."""
    return _HOST_INTERFACE.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface as the kernel lists it."""

    index: int
    name: str
    up: bool
    group: int = 0
    alias: str = ""
    mtu: int = 0


@dataclass(frozen=True, slots=True)
class Route:
    """A route of ours in the main table.

    `interface` alone is a host route to a pod; `gateway` a route by another node; neither a blackhole for our own
    blocks, so that packets to an address that nobody has don't leave by the default route.
    """

    destination: IPv4Network | IPv6Network
    interface: str = ""
    gateway: IPv4Address | IPv6Address | None = None

    @property
    def blackhole(self) -> bool:
        """Whether the route drops."""
        return not self.interface and self.gateway is None
