"""The netlink messages of one pod's link: veth pair, addresses, routes, neighbours, and its end.

Each function gives one `Message`; `cni.attach` and `cni.detach` put them into as few sends as order allows. What was
tried: the host end may be up at creation but then makes its own link-local address, so it comes up in a second
message, after `addr_gen_mode none`; the peer may not be up at creation (ENOTCONN).

Sources: linux/if_link.h, if_addr.h, rtnetlink.h, neighbour.h, veth.h; net/core/rtnetlink.c (IFLA_AF_SPEC is read when
a link is changed, not when it is made).
"""

import errno
import struct
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from kernel import batch
from kernel.batch import F_APPEND, F_CREATE, F_DUMP, F_EXCL, F_REPLACE, Message
from kernel.links import REAP_GROUP, ROUTE_PROTOCOL, Link

IPV4_FORWARDING, IPV4_SEND_REDIRECTS = 1, 6
"""IPV4_DEVCONF_* (linux/ip.h): keys of `configure_host_end`'s settings."""

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

NEWLINK = 16
"""RTM_NEWLINK: how the kernel answers a request for links."""
_DELLINK, _GETLINK, _SETLINK = 17, 18, 19
_NEWADDR = 20
_NEWROUTE, _DELROUTE = 24, 25
_NEWNEIGH = 28
_SETNEIGHTBL = 67

_AF_INET, _AF_INET6 = 2, 10
_IFF_UP = 1
_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=BBBBBBBBI")
_NDMSG = struct.Struct("=BxxxiHBB")
_NDTMSG = struct.Struct("=Bxxx")

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_IFALIAS = 1, 3, 4, 18, 20
_IFLA_AF_SPEC, _IFLA_GROUP, _IFLA_NET_NS_FD = 26, 27, 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFLA_INET_CONF, _IFLA_INET6_ADDR_GEN_MODE, _ADDR_GEN_MODE_NONE = 1, 8, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS, _IFA_F_NODAD = 1, 2, 8, 0x02
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY = 1, 4, 5, 6
_RT_TABLE_MAIN, _RTN_UNICAST, _RTN_BLACKHOLE = 254, 1, 6
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK, _RTPROT_BOOT = 0, 253, 3
_RT_SCOPE_NOWHERE = 255
"""When deleting: a route of any scope (any other value must equal the route's)."""
_NDA_DST, _NDA_LLADDR, _NUD_PERMANENT, _NTF_PROXY = 1, 2, 0x80, 0x08
_NDTA_NAME, _NDTA_PARMS, _NDTPA_IFINDEX, _NDTPA_PROXY_DELAY = 1, 6, 1, 13

_GONE = frozenset({errno.ENODEV, errno.ESRCH, errno.ENOENT})
_THERE = frozenset({errno.EEXIST})


def new_veth(name: str, mac: bytes, peer: str, peer_netns: int, mtu: int, peer_mac: bytes = b"") -> Message:
    """A veth pair: `name` here with `mac`, `peer` straight in the namespace behind descriptor `peer_netns`.

    Without `peer_mac` the kernel draws one.

    EEXIST means that either name is taken, and nothing was made.
    """
    inside = _IFINFO.pack(0, 0, 0, 0, 0) + batch.text(_IFLA_IFNAME, peer) + batch.u32(_IFLA_MTU, mtu)
    inside += batch.u32(_IFLA_NET_NS_FD, peer_netns)
    if peer_mac:
        inside += batch.attribute(_IFLA_ADDRESS, peer_mac)
    info = batch.nested(
        _IFLA_LINKINFO,
        batch.text(_IFLA_INFO_KIND, "veth"),
        batch.nested(_IFLA_INFO_DATA, batch.nested(_VETH_INFO_PEER, inside)),
    )
    body = _IFINFO.pack(0, 0, 0, 0, 0) + batch.text(_IFLA_IFNAME, name) + batch.attribute(_IFLA_ADDRESS, mac)
    body += batch.u32(_IFLA_MTU, mtu) + info
    return Message(NEWLINK, F_CREATE | F_EXCL, body, f"veth {name} to {peer}")


def get_link(name: str) -> Message:
    """Ask for one link; read the answer with `link_of`."""
    return Message(_GETLINK, 0, _IFINFO.pack(0, 0, 0, 0, 0) + batch.text(_IFLA_IFNAME, name), f"link {name}")


def list_links() -> Message:
    """Ask for every link; read the answers with `link_of`."""
    return Message(_GETLINK, F_DUMP, _IFINFO.pack(0, 0, 0, 0, 0), "links")


def link_of(body: bytes) -> tuple[Link, bytes]:
    """A link and its MAC from an answer to `get_link`."""
    _, _, index, flags, _ = _IFINFO.unpack_from(body)
    found = batch.attributes(body, _IFINFO.size)
    words = {kind: found.get(kind, b"").rstrip(b"\0").decode() for kind in (_IFLA_IFNAME, _IFLA_IFALIAS)}
    link = Link(
        index=index,
        name=words[_IFLA_IFNAME],
        up=bool(flags & _IFF_UP),
        group=int.from_bytes(found.get(_IFLA_GROUP, b""), "little"),
        alias=words[_IFLA_IFALIAS],
        mtu=int.from_bytes(found.get(_IFLA_MTU, b""), "little"),
    )
    return link, found.get(_IFLA_ADDRESS, b"")


def bring_up(name: str) -> Message:
    """Set a link up, by name."""
    return Message(_SETLINK, 0, _IFINFO.pack(0, 0, 0, _IFF_UP, _IFF_UP) + batch.text(_IFLA_IFNAME, name), f"{name} up")


def configure_host_end(name: str, alias: str, ipv4_conf: Mapping[int, int], *, ipv6: bool = True) -> Message:
    """Bring the host end up with its alias and settings, and without a link-local address of its own making.

    `ipv4_conf` is by IPV4_DEVCONF_* number: per-link IPv4 sysctls in the same message, not by way of /proc. `ipv6`
    says whether the link has IPv6 at all; where it hasn't, the kernel refuses the whole message for a setting of it.
    """
    conf = batch.nested(_IFLA_INET_CONF, *(batch.u32(key, value) for key, value in ipv4_conf.items()))
    families = [batch.nested(_AF_INET, conf)]
    if ipv6:
        families.append(batch.nested(_AF_INET6, batch.u8(_IFLA_INET6_ADDR_GEN_MODE, _ADDR_GEN_MODE_NONE)))
    body = _IFINFO.pack(0, 0, 0, _IFF_UP, _IFF_UP) + batch.text(_IFLA_IFNAME, name)
    body += batch.text(_IFLA_IFALIAS, alias) + batch.nested(_IFLA_AF_SPEC, *families)
    return Message(_SETLINK, 0, body, f"host end {name}")


def retire_host_end(name: str) -> Message:
    """Take the host end down and into the reaper's group, in one message: its routes go, no packet passes."""
    body = _IFINFO.pack(0, 0, 0, 0, _IFF_UP) + batch.text(_IFLA_IFNAME, name) + batch.u32(_IFLA_GROUP, REAP_GROUP)
    return Message(_SETLINK, 0, body, f"host end {name} down", _GONE)


def delete_group() -> Message:
    """Delete every link of the reaper's group: one RCU wait for all of them."""
    return Message(
        _DELLINK, 0, _IFINFO.pack(0, 0, 0, 0, 0) + batch.u32(_IFLA_GROUP, REAP_GROUP), "links to reap", _GONE
    )


def delete_link(index: int, name: str) -> Message:
    """Delete one link."""
    return Message(_DELLINK, 0, _IFINFO.pack(0, 0, index, 0, 0), f"link {name}", _GONE)


def add_address(index: int, address: Address, prefix_len: int) -> Message:
    """Give a link an address; IPv6 without duplicate address detection, so that it is usable at once."""
    body = _IFADDR.pack(_af(address), prefix_len, 0, _RT_SCOPE_UNIVERSE, index)
    body += batch.attribute(_IFA_LOCAL, address.packed) + batch.attribute(_IFA_ADDRESS, address.packed)
    if address.version == 6:
        body += batch.u32(_IFA_FLAGS, _IFA_F_NODAD)
    return Message(_NEWADDR, F_CREATE | F_EXCL, body, f"address {address}/{prefix_len}", _THERE)


def add_pod_route(index: int, destination: Network, gateway: Address, metric: int = 0) -> Message:
    """A route inside the pod; `proto boot`, as `ip route` itself would write.

    Without a metric it is refused (EEXIST) where the pod has such a route already, by whichever interface; a metric is
    the interface's own, so what has it is replaced.
    """
    return _route(destination, index, gateway, _RTPROT_BOOT, F_CREATE | (F_REPLACE if metric else F_EXCL), metric)


def add_pod_neighbourhood(index: int, destination: Network) -> Message:
    """A route inside the pod that says what is on the link itself, beside those of other interfaces."""
    found = _route(destination, index, None, _RTPROT_BOOT, F_CREATE | F_APPEND)
    return Message(found.kind, found.flags, found.body, found.what, _THERE)


def add_host_route(index: int, destination: Network) -> Message:
    """The node's route to a pod, with our protocol number; refused (EEXIST) where the route exists already."""
    return _route(destination, index, None, ROUTE_PROTOCOL, F_CREATE | F_EXCL)


def replace_route(destination: Network, index: int = 0, gateway: Address | None = None) -> Message:
    """A route of ours, whether or not one is there; with neither `index` nor `gateway` a blackhole."""
    return _route(destination, index, gateway, ROUTE_PROTOCOL, F_CREATE | F_REPLACE)


def delete_route(destination: Network, index: int = 0, *, blackhole: bool = False) -> Message:
    """Remove a route of ours; another protocol's to the same destination stays."""
    kind = _RTN_BLACKHOLE if blackhole else _RTN_UNICAST
    header = _route_header(destination, ROUTE_PROTOCOL, _RT_SCOPE_NOWHERE, kind)
    body = header + (batch.u32(_RTA_OIF, index) if index else b"")
    return Message(_DELROUTE, 0, body, f"route {destination}", _GONE)


def add_neighbour(index: int, address: Address, mac: bytes) -> Message:
    """A permanent neighbour: no ARP or ND for the first packet."""
    body = _NDMSG.pack(_af(address), index, _NUD_PERMANENT, 0, 0)
    body += batch.attribute(_NDA_DST, address.packed) + batch.attribute(_NDA_LLADDR, mac)
    return Message(_NEWNEIGH, F_CREATE | F_REPLACE, body, f"neighbour {address}")


def add_proxy_neighbour(index: int, address: Address) -> Message:
    """Answer ARP for `address` on a link, whatever proxy_arp says."""
    body = _NDMSG.pack(_af(address), index, _NUD_PERMANENT, _NTF_PROXY, 0) + batch.attribute(_NDA_DST, address.packed)
    return Message(_NEWNEIGH, F_CREATE | F_REPLACE, body, f"proxy neighbour {address}")


def answer_arp_at_once(index: int) -> Message:
    """proxy_delay 0 on a link: a proxied ARP answer otherwise waits up to 0.8 s."""
    parms = batch.nested(
        _NDTA_PARMS,
        batch.u32(_NDTPA_IFINDEX, index),
        batch.attribute(_NDTPA_PROXY_DELAY, struct.pack("=Q", 0)),
    )
    body = _NDTMSG.pack(_AF_INET) + batch.text(_NDTA_NAME, "arp_cache") + parms
    return Message(_SETNEIGHTBL, 0, body, "proxy_delay")


def _route(
    destination: Network, index: int, gateway: Address | None, protocol: int, flags: int, metric: int = 0
) -> Message:
    blackhole = not index and gateway is None
    on_link = gateway is None and not blackhole and destination.version == 4
    scope = _RT_SCOPE_LINK if on_link else _RT_SCOPE_UNIVERSE
    body = _route_header(destination, protocol, scope, _RTN_BLACKHOLE if blackhole else _RTN_UNICAST)
    if index:
        body += batch.u32(_RTA_OIF, index)
    if gateway is not None:
        body += batch.attribute(_RTA_GATEWAY, gateway.packed)
    if metric:
        body += batch.u32(_RTA_PRIORITY, metric)
    return Message(_NEWROUTE, flags, body, f"route {destination}")


def _route_header(destination: Network, protocol: int, scope: int, kind: int) -> bytes:
    address, length = destination.network_address, destination.prefixlen
    header = _RTMSG.pack(_af(address), length, 0, 0, _RT_TABLE_MAIN, protocol, scope, kind, 0)
    return header + (batch.attribute(_RTA_DST, address.packed) if length else b"")


def _af(address: Address) -> int:
    return _AF_INET if address.version == 4 else _AF_INET6
