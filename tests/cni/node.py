"""A node for tests: the real kernel in a namespace of its own, a store in memory, no policy unless given one."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from cni import removals
from cni.config import Attachment
from cni.flows import Flows
from cni.links import HostLinks
from cni.node import Node
from cni.plugin import Output, Plugin
from cni.reaper import Reaper
from cni.records import Record, Records
from cni.request import Request
from cni.standalone import NoEndpoints, NoPolicy
from cni.tombstones import Tombstones
from datastore.memory import MemoryStore
from datastore.resources.ipblock import IPBlock
from datastore.resources.ippool import IPPool, IPPoolSpec
from datastore.resources.value import Metadata
from datastore.store import Store
from ipam.allocator import Allocator
from ipam.handles import Handles
from kernel import netns
from kernel.batch import NETLINK_NETFILTER, NetlinkSocket
from kernel.errors import KernelError
from kernel.links import GATEWAY_IPV4
from tests.sandbox import Namespace, namespaces

T = TypeVar("T")
CONFIG = {"cniVersion": "1.1.0", "name": "net", "type": "tortie", "ipam": {"assign_ipv4": True, "assign_ipv6": True}}
ATTACHMENT = Attachment("net", "c1", "eth0")


class Endpoints(NoEndpoints):
    """Says what it was told, in order."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def publish(self, record: Record) -> None:
        self.told.append(f"publish {record.pod}")

    async def withdraw(self, record: Record) -> None:
        self.told.append(f"withdraw {record.container_id}")


class Stubborn(HostLinks):
    """A kernel that refuses to take a link down."""

    def retire(self, name: str) -> None:
        raise KernelError("Operation not permitted")


@dataclass
class World:
    """A node and pods' namespaces; `run` works inside the node's."""

    namespace: Namespace
    pods: list[Namespace]
    state: Path
    store: Store = field(default_factory=MemoryStore)
    policy: NoPolicy = field(default_factory=NoPolicy)
    endpoints: Endpoints = field(default_factory=Endpoints)

    def run(self, scenario: Callable[["Running"], Awaitable[T]]) -> T:
        """Run a scenario in an event loop inside the node's namespace, on a node that has just started."""

        async def main() -> T:
            async with self.node() as running:
                return await scenario(running)

        return self.namespace.inside(lambda: asyncio.run(main()))

    @asynccontextmanager
    async def node(self) -> AsyncIterator["Running"]:
        sockets = [NetlinkSocket.open() for _ in range(3)] + [NetlinkSocket.open(NETLINK_NETFILTER)]
        links = HostLinks(sockets[0], sockets[1])
        allocator = Allocator(self.store, "node-1", "machine-1")
        await allocator.load()
        node = Node(
            name="node-1",
            allocator=allocator,
            handles=Handles(self.state / "handles"),
            records=Records(self.state),
            links=links,
            reaper=Reaper(sockets[2]),
            policy=self.policy,
            endpoints=self.endpoints,
            flows=Flows(sockets[3]),
            mtu=lambda: 1400,
        )
        plugin = Plugin(node, Tombstones(self.state / "cni.sock"))
        plugin.not_ready = ""
        reaping = asyncio.create_task(node.reaper.run())
        try:
            yield Running(self, node, plugin)
            await removals.ended(node)
            await node.reaper.reaped()
            await node.flows.close()
        finally:
            reaping.cancel()
            await asyncio.gather(reaping, return_exceptions=True)
            links.close()
            for sock in sockets:
                sock.close()

    def shown(self, where: Namespace, *argv: str) -> list[dict[str, Any]]:
        rows = json.loads(where.run("ip", "-d", "-j", *argv) or "[]")
        return [row for row in cast("list[dict[str, Any]]", rows) if row]

    def host_ends(self) -> list[str]:
        return [row["ifname"] for row in self.shown(self.namespace, "link") if row["ifname"].startswith("tort")]

    def left(self) -> dict[str, object]:
        """Everything an attachment can leave on the node; empty values mean that nothing is left."""
        return {
            "links": self.host_ends(),
            "routes": [row for row in self.shown(self.namespace, "route") if row["dst"] != str(GATEWAY_IPV4)],
            "files": [str(path) for path in self.state.rglob("*") if path.is_file()],
            "pods": [row["ifname"] for pod in self.pods for row in self.shown(pod, "link") if row["ifname"] != "lo"],
        }


@dataclass
class Running:
    """A node at work."""

    world: World
    node: Node
    plugin: Plugin

    async def call(
        self, command: str, *, container: str = "c1", pod: int = 0, interface: str = "eth0", **config: object
    ) -> Output:
        """A call as the relay brings it."""
        path = self.world.pods[pod].path
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": path,
            "CNI_IFNAME": interface,
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-{container}",
        }
        fds: tuple[int, ...] = ()
        if command == "ADD":
            fd = netns.open_namespace(path)
            fds = (fd, netns.run_inside(fd, NetlinkSocket.open).detach())
        request = Request(environment, json.dumps({**CONFIG, **config}).encode(), fds)
        try:
            return await self.plugin.run(request)
        finally:
            request.close()

    async def add(self, **parameters: Any) -> dict[str, Any]:  # noqa: ANN401
        output = await self.call("ADD", **parameters)
        if output.status:
            raise AssertionError(output.stdout.decode())
        return cast("dict[str, Any]", json.loads(output.stdout))

    async def refused(self, **parameters: Any) -> dict[str, Any]:  # noqa: ANN401
        output = await self.call("ADD", **parameters)
        if not output.status:
            raise AssertionError("the ADD succeeded")
        return cast("dict[str, Any]", json.loads(output.stdout))

    async def delete(self, **parameters: Any) -> Output:  # noqa: ANN401
        """DEL, and what goes on beside its answer."""
        output = await self.call("DEL", **parameters)
        await removals.ended(self.node)
        return output

    async def owned(self) -> list[str]:
        """The handles that own addresses, one for each address."""
        blocks = (await self.world.store.list(IPBlock)).items
        return sorted(found.handle for block in blocks for found in block.spec.allocations.values())


async def fill(store: Store, **cidrs: str) -> None:
    for name, cidr in cidrs.items():
        size = 32 if cidr.endswith("/32") else None
        await store.create(IPPool(metadata=Metadata(name=name), spec=IPPoolSpec(cidr=cidr, block_size=size)))


@contextmanager
def worlds(state: Path, pods: int = 2) -> Iterator[World]:
    with namespaces("node", *(f"pod{number}" for number in range(pods))) as [node, *others]:
        node.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        node.ip(
            f"route add {GATEWAY_IPV4}/32 dev lo proto 0x54", "addr add 172.30.0.1/32 dev lo", "addr add fd30::1 dev lo"
        )
        yield World(node, others, state)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
