"""Which addresses a call asks for: families, pools, ranges as host-local writes them, or the very address.

    ipam.assign_ipv4, assign_ipv6, ipv4_pools, ipv6_pools     Calico's keys
    ipam.subnet, rangeStart, rangeEnd, gateway, ranges        host-local's: addresses of a link that pods share
    runtimeConfig.ips, args.cni.ips, CNI_ARGS IP=             this very address; the first of the three that is there

Addresses of a shared link carry its prefix length and its gateway; its gateway, and in IPv4 its network and broadcast
addresses, are nobody's. All other addresses are /32 or /128.

Sources: containernetworking/plugins host-local (backend/allocator/config.go, range.go), CONVENTIONS.md.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_address, ip_interface, ip_network

from cni.errors import InvalidConfig, UnsupportedField
from cni.netconf import OURS, IpamConfig, Netconf, RangeConfig, boolean
from ipam.allocator import Wanted
from ipam.block import Address, Among, Range

_WITH_SUBNETS = frozenset({"bridge", "macvlan", "ipvlan", "ptp"})
"""Main plugins that can do nothing with a /32: their pods share a link, or want a gateway in their own subnet."""
_MTU_IPV6 = 1280
"""The least that IPv6 lives with (RFC 8200 section 5); below, the kernel takes it away from the link."""


@dataclass(frozen=True, slots=True)
class Subnet:
    """A link's network and its gateway there."""

    network: IPv4Network | IPv6Network
    gateway: Address


@dataclass(frozen=True, slots=True)
class Addressing:
    """What is wanted, and on which links: no subnets for /32s."""

    wanted: Wanted
    subnets: tuple[Subnet, ...] = ()

    def subnet_of(self, address: Address) -> Subnet | None:
        """The link's network that an address lies in."""
        return next((one for one in self.subnets if address in one.network), None)


def addressing(config: Netconf, asked: str, *, alone: bool) -> Addressing:
    """What a call asks for; `asked` is CNI_ARGS' IP, `alone` says that we are the IPAM plugin of another.

    Raises:
        InvalidConfig, UnsupportedField: says which key.
    """
    ipam = config.ipam
    if not alone and ipam.type not in OURS:
        return Addressing(Wanted(()))  # another plugin's to say
    subnets, ranges = _ranges(ipam)
    ips = _asked(config, asked)
    families = _families(ipam, [*(one.network.version for one in ranges), *(one.version for one in ips)])
    if 6 in families and config.mtu and config.mtu < _MTU_IPV6:
        raise InvalidConfig(f"mtu {config.mtu} is too small for IPv6", f"which is asked for: {_MTU_IPV6}")
    if alone and config.type in _WITH_SUBNETS and not ranges:
        raise InvalidConfig(f"ipam.subnet is missing, which pods of {config.type} need", "such as 10.1.0.0/16")
    among = {}
    for family in families:
        own = tuple(one for one in ranges if one.network.version == family)
        if own:
            among[family] = Among(own)
    for one in ips:
        if one.version in among and not among[one.version].has(one):
            raise InvalidConfig(f"address {one} was asked for, which ipam's ranges don't give")
        among[one.version] = Among.only(one)
    pools = {4: ipam.ipv4_pools, 6: ipam.ipv6_pools}
    return Addressing(Wanted(families, pools, among), subnets)


def _families(ipam: IpamConfig, given: Iterable[int]) -> tuple[int, ...]:
    """Those of the ranges where there are some, else those of the booleans; of addresses asked for in any case."""
    found = set(given)
    if not (ipam.subnet or ipam.ranges):
        chosen = {4: boolean(ipam.assign_ipv4, "ipam.assign_ipv4"), 6: boolean(ipam.assign_ipv6, "ipam.assign_ipv6")}
        found |= {family for family, wanted in chosen.items() if wanted}
    return tuple(sorted(found))


def _ranges(ipam: IpamConfig) -> tuple[tuple[Subnet, ...], tuple[Range, ...]]:
    written: list[tuple[str, RangeConfig]] = [("ipam", ipam)] if ipam.subnet else []
    for place, group in enumerate(ipam.ranges):
        written += [(f"ipam.ranges[{place}][{number}]", one) for number, one in enumerate(group)]
    found = [_range(path, one) for path, one in written]
    return tuple(subnet for subnet, _ in found), tuple(one for _, one in found)


def _range(path: str, written: RangeConfig) -> tuple[Subnet, Range]:
    try:
        network = ip_network(written.subnet, strict=False)
    except ValueError:
        raise InvalidConfig(f"{path}.subnet is no network", written.subnet[:80]) from None
    if network.num_addresses < 4:
        raise InvalidConfig(f"{path}.subnet {network} is too small for a link", "a /30 or larger")
    gateway = _inside(f"{path}.gateway", written.gateway, network) or network[1]
    last = network[-2] if network.version == 4 else network[-1]  # IPv4's last address is the broadcast
    first = _inside(f"{path}.rangeStart", written.range_start, network) or network[1]
    end = _inside(f"{path}.rangeEnd", written.range_end, network) or last
    if int(first) > int(end):
        raise InvalidConfig(f"{path}.rangeStart {first} lies behind rangeEnd {end}")
    edges = {network[0], *((network[-1],) if network.version == 4 else ())}
    return Subnet(network, gateway), Range(network, first, end, frozenset({gateway, *edges}))


def _inside(path: str, text: str, network: IPv4Network | IPv6Network) -> Address | None:
    if not text:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        raise InvalidConfig(f"{path} is no address", text[:80]) from None
    if address not in network:
        raise InvalidConfig(f"{path} {address} is not in {network}")
    return address


def _asked(config: Netconf, args: str) -> tuple[Address, ...]:
    for source, texts in (
        ("runtimeConfig.ips", config.runtime.ips),
        ("args.cni.ips", config.args.cni.ips),
        ("CNI_ARGS IP", tuple(one for one in args.split(",") if one)),
    ):
        if texts:
            return _one_of_each(source, [_address(source, text) for text in texts])
    return ()


def _address(source: str, text: str) -> Address:
    try:
        found: IPv4Interface | IPv6Interface = ip_interface(text.strip())
    except ValueError:
        raise InvalidConfig(f"{source} holds what is no address", text[:80]) from None
    return found.ip


def _one_of_each(source: str, addresses: Sequence[Address]) -> tuple[Address, ...]:
    if len({address.version for address in addresses}) < len(addresses):
        raise UnsupportedField(f"{source}={','.join(map(str, addresses))} has two addresses of one family")
    return tuple(addresses)


def mac_of(config: Netconf, args: str) -> bytes:
    """The MAC that the pod's interface is to have: runtimeConfig.mac, args.cni.mac or CNI_ARGS MAC; empty for any.

    Raises:
        InvalidConfig: it is none that an interface can have.
    """
    for source, text in (("runtimeConfig.mac", config.runtime.mac), ("args.cni.mac", config.args.cni.mac)):
        if text:
            return mac(source, text)
    return mac("CNI_ARGS MAC", args) if args else b""


def mac(source: str, text: str) -> bytes:
    """The MAC that a text is, for messages from `source`.

    Raises:
        InvalidConfig: it is none that an interface can have.
    """
    try:
        found = bytes.fromhex(text.replace(":", "").replace("-", ""))
    except ValueError:
        found = b""
    if len(found) != 6 or found[0] & 1 or not any(found):
        raise InvalidConfig(f"{source} is no MAC address of one interface", text[:80])
    return found
