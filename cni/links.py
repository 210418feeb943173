"""A pod's link, made and retired: the few batches of which an ADD and a DEL consist on the kernel's side.

    create   NEWLINK: the veth pair, its inner end straight in the pod's namespace. Alone in its send, because nothing
             may be configured if it is refused
             host end: alias, settings, up                    inner end: lo and eth0 up, index and MAC
    connect  pod: addresses, link route to the gateway, defaults by it, permanent neighbours (a head start only)
             host: fe80:: gateway address where IPv6 is, a route to each address, ARP proxy for 169.254.1.1
    retire   host end down and into the reaper's group: its routes go with it

The host end has no static neighbour for the pod: a chained plugin may change the pod's MAC, so one ARP or ND on first
use is the price of being right.
"""

import asyncio
import errno
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from kernel import podlink, podview, sysctl
from kernel.batch import Message, NetlinkSocket
from kernel.errors import NetlinkError
from kernel.links import GATEWAY_IPV4, GATEWAY_IPV6, GATEWAY_MAC, Link
from kernel.podlink import Address
from kernel.podview import FoundRoute

_HOST_SETTINGS = {podlink.IPV4_FORWARDING: 1, podlink.IPV4_SEND_REDIRECTS: 0}
_IPV6_SETTINGS = ("disable_ipv6", "accept_ra")
_GATEWAY_ROUTE = ip_network(f"{GATEWAY_IPV4}/32")
_EVERYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))
_BEHIND_OTHERS = 1024
"""Added to an interface's index it is the metric of routes that come second: IPv6 without a metric is 1024, IPv4 0."""

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class NewPair:
    """A veth pair that is wanted."""

    host_interface: str
    alias: str
    interface: str
    netns: int
    """A descriptor of the pod's namespace."""
    mtu: int
    mac: bytes = b""
    """The inner end's; empty: the kernel draws one."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A veth pair that is up: indexes on both sides, and the inner end's MAC."""

    host_index: int
    pod_index: int
    mac: bytes


class Taken(Exception):
    """The host end's name or the pod's interface exists; nothing was made. `host` says whether it is the former."""

    def __init__(self, host: Link | None) -> None:
        super().__init__("the interface exists")
        self.host = host


class HostLinks:
    """The host ends of one node; blocking calls take as long as the kernel's rtnl lock is held by others.

    Pairs are made in a thread with a socket of its own: NEWLINK takes half of an ADD's time and runs beside the CAS.
    More threads than one would only queue for the same lock in the kernel.
    """

    def __init__(self, sock: NetlinkSocket, making: NetlinkSocket) -> None:
        self._socket = sock
        self._making = making
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="veth")

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()

    async def create(self, wanted: NewPair, inside: NetlinkSocket) -> Pair:
        """See `create_now`; doesn't block the caller's loop."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.create_now, wanted, inside)

    def create_now(self, wanted: NewPair, inside: NetlinkSocket) -> Pair:
        """The pair, both ends up.

        Raises:
            Taken: one of the names exists.
            KernelError: refused; the pair may be half configured.
        """
        name, interface = wanted.host_interface, wanted.interface
        try:
            self._making.transact(
                [podlink.new_veth(name, GATEWAY_MAC, interface, wanted.netns, wanted.mtu, wanted.mac)]
            )
        except NetlinkError as error:
            if error.code == errno.EEXIST:
                raise Taken(podview.link(self._making, name)) from None
            raise
        # Neither a kernel without IPv6 nor a link whose MTU is too small for it has such settings.
        ipv6 = bool(sysctl.read(f"net/ipv6/conf/{name}/{_IPV6_SETTINGS[0]}"))
        configure = podlink.configure_host_end(name, wanted.alias, _HOST_SETTINGS, ipv6=ipv6)
        (host,) = self._making.transact([configure, podlink.get_link(name)])
        for setting in _IPV6_SETTINGS if ipv6 else ():
            sysctl.write(f"net/ipv6/conf/{name}/{setting}", "0")
        (pod,) = inside.transact([podlink.bring_up("lo"), podlink.bring_up(interface), podlink.get_link(interface)])
        link, mac = podlink.link_of(pod.body)
        return Pair(podlink.link_of(host.body)[0].index, link.index, mac)

    def connect(
        self, pair: Pair, addresses: tuple[Address, ...], inside: NetlinkSocket, routes: tuple[Network, ...] = ()
    ) -> None:
        """Addresses and routes on both sides; the pod's `routes` by way of the node, none meaning default routes.

        What leads somewhere by another of the pod's interfaces already goes on to; ours come behind it.

        Raises:
            KernelError: refused, such as a node's route that is there already for another interface.
        """
        for version in (4, 6):
            own = tuple(address for address in addresses if address.version == version)
            wanted = tuple(route for route in routes or _EVERYWHERE if route.version == version)
            if own:
                _connect_pod(inside, pair.pod_index, own, wanted)
        self._socket.transact(_host_messages(pair.host_index, addresses))

    def retire(self, name: str) -> None:
        """Take a host end down and leave it to the reaper; one that isn't there is fine.

        Raises:
            KernelError: refused.
        """
        self._socket.transact([podlink.retire_host_end(name)])

    def find(self, name: str) -> Link | None:
        """A link of this node, if it is there."""
        return podview.link(self._socket, name)

    def route_to(self, address: Address) -> FoundRoute | None:
        """The route by which this node reaches an address."""
        return podview.route_to(self._socket, address)


def host_network(address: Address) -> IPv4Network | IPv6Network:
    """The /32 or /128 of an address."""
    return IPv4Network(address) if address.version == 4 else IPv6Network(address)


def _connect_pod(
    inside: NetlinkSocket, index: int, addresses: tuple[Address, ...], routes: tuple[Network, ...]
) -> None:
    try:
        inside.transact(_pod_messages(index, addresses, routes))
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise
        inside.transact(_pod_messages(index, addresses, routes, _BEHIND_OTHERS + index))


def _pod_messages(
    index: int, addresses: tuple[Address, ...], routes: tuple[Network, ...], metric: int = 0
) -> list[Message]:
    """For addresses and routes of one family."""
    gateway = GATEWAY_IPV4 if addresses[0].version == 4 else GATEWAY_IPV6
    messages = [podlink.add_address(index, address, address.max_prefixlen) for address in addresses]
    if gateway.version == 4:
        messages.append(podlink.add_pod_neighbourhood(index, _GATEWAY_ROUTE))
    messages += [podlink.add_pod_route(index, route, gateway, metric) for route in routes]
    return [*messages, podlink.add_neighbour(index, gateway, GATEWAY_MAC)]


def _host_messages(index: int, addresses: tuple[Address, ...]) -> list[Message]:
    ipv6 = any(address.version == 6 for address in addresses)
    return [
        *([podlink.add_address(index, GATEWAY_IPV6, 64)] if ipv6 else []),
        *(podlink.add_host_route(index, host_network(address)) for address in addresses),
        podlink.add_proxy_neighbour(index, GATEWAY_IPV4),
        podlink.answer_arp_at_once(index),
    ]
