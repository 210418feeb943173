"""Routes of this node: to its pods, to other nodes' blocks, and blackholes for its own.

    10.65.0.2/32 dev tort...        a local pod, from its record (made by ADD; here for repair)
    10.65.0.0/26 blackhole          an own block: an address nobody has must not leave by the default route; but not
                                    where another plugin's link has some of it, by the shorter route of that link,
                                    nor for a block of one address, whose pod's route has the same destination
    10.65.0.64/26 via 172.30.0.2    another node's block, by its underlay address of the same family
    10.1.2.0/24 via 172.30.0.2      another node's own CIDR, whose addresses another IPAM plugin gives
    10.65.0.7/32 via 172.30.0.2     an address that another node borrowed
    169.254.1.1/32 dev lo           the pods' gateway, so that each host end answers ARP for it as a proxy

Everything is computed from the Nodes of the store and the local records, then compared with the kernel's routes of our
protocol number; nothing else is looked at. A route that the kernel refuses (a node that isn't on any of our subnets)
doesn't keep the others from being made.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from agent.graph import Graph
from cni.links import host_network
from datastore.resources.node import Node
from ipam.allocator import Allocator
from ipam.block import Address
from kernel.errors import KernelError
from kernel.links import GATEWAY_IPV4, HOST_PREFIX, Route
from kernel.routes import Routes

log = logging.getLogger(__name__)

Network = IPv4Network | IPv6Network
_GATEWAY = Route(IPv4Network(GATEWAY_IPV4), interface="lo")


class RouteKeeper:
    """Brings the kernel's routes to what the graph and the allocator say."""

    def __init__(self, node: str, graph: Graph, allocator: Allocator, routes: Routes) -> None:
        self.on_synced: Callable[[float], None] = lambda seconds: None
        """Told how long each change and each comparison took."""
        self._node = node
        self._graph = graph
        self._allocator = allocator
        self._routes = routes
        self._wanted = asyncio.Event()
        self._applied: frozenset[Route] = frozenset()
        self._busy = asyncio.Lock()
        self._by_node: dict[str, tuple[str, tuple[Route, ...]]] = {}
        """Routes by way of each node, with the revision of the Node that they follow from."""

    def desired(self) -> frozenset[Route]:
        """Every route that should be there but those to local pods; of two for one destination the more local one."""
        local = {address for record in self._graph.local.values() for address in record.addresses}
        chosen: dict[Network, Route] = {}
        for route in self._in_order():
            destination = route.destination
            if destination.prefixlen < destination.max_prefixlen or destination.network_address not in local:
                chosen.setdefault(route.destination, route)
        return frozenset(chosen.values())

    def to_pods(self) -> frozenset[Route]:
        """The routes to local pods, which ADD makes: here for repair."""
        return frozenset(
            Route(host_network(address), record.host_interface)
            for record in self._graph.local.values()
            for address in record.addresses
        )

    def soon(self) -> None:
        """Something changed that routes depend on."""
        self._wanted.set()

    async def run(self) -> None:
        """Apply changes as they come, without end."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await self.apply()

    async def apply(self) -> None:
        """Apply what differs from what was applied last; returns when the kernel has it."""
        async with self._busy:
            desired = self.desired()
            if desired != self._applied:
                began = time.perf_counter()
                self._change(desired - self._applied, self._applied - desired)
                self._applied = desired
                self.on_synced(time.perf_counter() - began)

    async def refresh(self) -> tuple[str, ...]:
        """Compare with the kernel and mend; gives what differed from what was applied, in words.

        A route by a host end is never removed here: it may be of an ADD under way, and it goes with its link.

        Raises:
            KernelError: the routes can't be listed.
        """
        async with self._busy:
            began = time.perf_counter()
            first, before = not self._applied, self._applied | self.to_pods()
            actual = await self._routes.read()
            desired = self.desired()
            missing = (desired | self.to_pods()) - actual
            extra = {route for route in actual - desired if not route.interface.startswith(HOST_PREFIX)}
            refused = self._change(missing, extra)
            self._applied = desired
            self.on_synced(time.perf_counter() - began)
        replaced = {route.destination for route in missing}
        lost = {route for route in missing - refused if first or route in before}
        strange = {route for route in extra if route.destination not in replaced and (first or route not in before)}
        return (
            *(f"route {route.destination} was missing or different" for route in lost),
            *(f"route {route.destination} was nobody's" for route in strange),
        )

    def _in_order(self) -> Iterable[Route]:
        yield _GATEWAY
        for name, node in sorted(self._graph.nodes.items()):
            if name == self._node:
                continue
            known = self._by_node.get(name)
            if known is None or known[0] != node.revision:
                known = self._by_node[name] = (node.revision, tuple(_by_node(node)))
            yield from known[1]
        own = self._allocator.networks() - self._allocator.on_links()
        # A blackhole for a block of one address would stand where its pod's route is to go.
        yield from (Route(network) for network in own if network.prefixlen < network.max_prefixlen)

    def _change(self, added: Iterable[Route], removed: Iterable[Route]) -> set[Route]:
        """Remove, then add each; gives those that were refused."""
        wanted = list(added)
        replaced = {route.destination for route in wanted}
        try:
            self._routes.change(wanted, [route for route in removed if route.destination not in replaced])
        except KernelError:
            return {route for route in wanted if not self._add(route)}
        return set()

    def _add(self, route: Route) -> bool:
        try:
            self._routes.change([route])
        except KernelError as error:
            # A pod whose namespace went away took its link along; its DEL will come.
            level = logging.DEBUG if route.interface.startswith(HOST_PREFIX) else logging.WARNING
            log.log(level, "%s", error)
            return False
        return True


def _by_node(node: Node) -> Iterable[Route]:
    gateways: dict[int, Address] = {}
    for text in node.spec.addresses:
        gateways.setdefault(ip_address(text).version, ip_address(text))
    destinations = [ip_network(text) for text in (*node.spec.borrowed, *node.spec.blocks, *node.spec.pod_cidrs)]
    for destination in destinations:
        gateway = gateways.get(destination.version)
        if gateway is not None:
            yield Route(destination, gateway=gateway)
