"""IPPool: where addresses come from, for whom, and how they leave the node.

Fields, values and defaults are those of Calico's projectcalico.org/v3 IPPool
(docs.tigera.io/calico/latest/reference/resources/ippool).
"""

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import ClassVar

import msgspec

from datastore.errors import Invalid
from datastore.resources import names
from datastore.resources.condition import Condition
from datastore.resources.selector_parser import parse
from datastore.resources.value import Kind, Resource, Value, check_below

DEFAULT_BLOCK = {4: 26, 6: 122}
"""Bits of a block's prefix by IP version: 64 addresses, about a node's pods."""
BLOCK_RANGE = {4: range(20, 33), 6: range(116, 129)}
"""Prefix lengths a block may have; the largest is a cell (see `ipblock`)."""
ENCAPSULATIONS = ("Always", "CrossSubnet", "Never")
USES = ("Workload", "Tunnel", "LoadBalancer")
ASSIGNMENT_MODES = ("Automatic", "Manual")
_NOT_FOR_PODS = (
    *map(ip_network, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")),
    *map(ip_network, ("::/96", "::ffff:0:0/96", "fe80::/10", "ff00::/8")),
)
"""This host, loopback, link-local (the pods' gateway is one), multicast and reserved; IPv4-mapped (RFC 6890)."""
COUNT_MAX = (1 << 53) - 1
"""The largest number that every JSON reader takes; an IPv6 /64 has more addresses."""
EVERYTHING = "all()"
"""The selector, in Calico's grammar, that selects everything."""


class IPPoolSpec(Value, frozen=True, kw_only=True):
    """What a pool holds and who may use it."""

    cidr: str
    block_size: int | None = None
    """Bits of prefix; None is the default of the family."""
    disabled: bool = False
    """No new addresses; those given stay."""
    nat_outgoing: bool = False
    """Packets to outside every pool leave with the node's address."""
    node_selector: str = EVERYTHING
    namespace_selector: str = EVERYTHING
    allowed_uses: tuple[str, ...] = ("Workload", "Tunnel")
    assignment_mode: str = "Automatic"
    """Manual: only who asks for an address of this pool gets one."""
    ipip_mode: str = "Never"
    vxlan_mode: str = "Never"
    disable_bgp_export: bool = msgspec.field(default=False, name="disableBGPExport")

    def check(self) -> None:
        """Judge the CIDR, its blocks and the choices.

        Raises:
            Invalid: names the field within the spec.
        """
        network = names.parse_cidr(self.cidr, "cidr")
        if any(network.overlaps(other) for other in _NOT_FOR_PODS if other.version == network.version):
            raise names.invalid("cidr", self.cidr, "has addresses that no pod can have")
        self._check_block_size(network)
        for path, text in (("nodeSelector", self.node_selector), ("namespaceSelector", self.namespace_selector)):
            _check_selector(path, text)
        _check_choice("ipipMode", self.ipip_mode, ENCAPSULATIONS)
        _check_choice("vxlanMode", self.vxlan_mode, ENCAPSULATIONS)
        _check_choice("assignmentMode", self.assignment_mode, ASSIGNMENT_MODES)
        if self.ipip_mode != "Never" and (self.vxlan_mode != "Never" or network.version == 6):
            raise Invalid("ipipMode", "stands beside neither vxlanMode nor an IPv6 cidr")
        if not self.allowed_uses:
            raise Invalid("allowedUses", f"is empty; name some of {', '.join(USES)}")
        for index, use in enumerate(self.allowed_uses):
            _check_choice(f"allowedUses[{index}]", use, USES)
        if "LoadBalancer" in self.allowed_uses and len(set(self.allowed_uses)) > 1:
            raise Invalid("allowedUses", "LoadBalancer stands alone")

    def _check_block_size(self, network: IPv4Network | IPv6Network) -> None:
        allowed = BLOCK_RANGE[network.version]
        size = DEFAULT_BLOCK[network.version] if self.block_size is None else self.block_size
        if size not in allowed:
            reason = f"is no block size for IPv{network.version} ({allowed.start} to {allowed.stop - 1})"
            raise names.invalid("blockSize", size, reason)
        if size < network.prefixlen:
            raise names.invalid("blockSize", size, f"makes blocks larger than the pool {network}")


class IPPoolStatus(Value, frozen=True, kw_only=True):
    """What the controller last counted."""

    capacity: int = 0
    """Addresses of the pool, at most `COUNT_MAX`."""
    used: int = 0
    """Addresses that somebody owns."""
    free: int = 0
    """Addresses that could be given: neither owned nor reserved; at most `COUNT_MAX`."""
    blocks: int = 0
    conflicts_with: str = ""
    """The pool that this one overlaps, and because of which it isn't used."""
    conditions: tuple[Condition, ...] = ()
    """`Ready`: addresses are given from it. `Effective`: all that it asks for is done."""
    observed_generation: int = 0
    """Of the spec that was counted, where the store knows one (Kubernetes)."""


class IPPool(Resource, frozen=True, kw_only=True):
    """tortie.dev/v1 IPPool."""

    KIND: ClassVar[Kind] = Kind("tortie.dev", "v1", "IPPool", "ippools", False, ("ipp",))

    spec: IPPoolSpec
    status: IPPoolStatus = IPPoolStatus()

    @property
    def block_prefix_len(self) -> int:
        """Bits of the prefix of this pool's blocks, the default filled in."""
        return self.spec.block_size or DEFAULT_BLOCK[names.parse_cidr(self.spec.cidr, "spec.cidr").version]

    def check(self) -> None:
        """Judge metadata and spec.

        Raises:
            Invalid: names the field.
        """
        super().check()
        check_below(self.spec, "spec")


def _check_selector(path: str, text: str) -> None:
    try:
        parse(text)
    except Invalid as error:
        raise error.below(path) from None


def _check_choice(path: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise names.invalid(path, value, f"is none of {', '.join(choices)}")
