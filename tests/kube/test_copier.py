"""Kubernetes' objects copied from a real API server into a real etcd, with either way there failing meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from controller.controller import Controller
from controller.copier import Copier
from controller.leader import Timing
from controller.options import Options
from datastore.kubernetes.address import KubernetesAddress
from datastore.kubernetes.store import KubernetesStore
from datastore.resources.kubernetes import Pod
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.node import Node, NodeSpec
from datastore.resources.value import Metadata, UnknownFields
from datastore.store import Store
from datastore.urls import open_store
from tests.controller.test_copier import agree, copying
from tests.kube.apiserver import ApiServer
from tests.kube.cluster import control_plane
from tests.kube.conftest import opener
from tests.kube.programs import missing, needs_kubernetes
from tests.kube.stores import empty
from tests.servers import etcd
from tests.servers.proxy import Proxy, proxied

pytestmark = needs_kubernetes
PODS = "/api/v1/namespaces/shop/pods"
POLICIES = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies"
MERGE = "application/merge-patch+json"
DENY: Any = {"metadata": {"name": "deny"}, "spec": {"podSelector": {}, "ingress": [], "policyTypes": ["Ingress"]}}
TIMING = Timing(duration_s=2, deadline_s=1.5, every_s=0.2)


@dataclass
class World:
    """An API server and an etcd, each behind a way that may fail."""

    server: ApiServer
    to_api: Proxy
    to_etcd: Proxy
    prefix: str
    folder: Path
    stack: AsyncExitStack
    api: KubernetesStore = field(init=False)
    """Past the way."""
    store: Store = field(init=False)
    """Past the way."""

    async def opened(self) -> "World":
        self.api = await opener(self.server, self.folder, self.stack)()
        self.store = await self.open_store(etcd.shared("etcd").members[0].port)
        return self

    async def open_store(self, port: int = 0) -> Store:
        store = await open_store(etcd.shared("etcd").url(self.prefix, port or self.to_etcd.port, timeout="1"))
        self.stack.push_async_callback(store.close)
        return store

    async def open_api(self) -> KubernetesStore:
        config = self.server.kubeconfig(self.folder / "by-the-way", port=self.to_api.port)
        store = KubernetesStore.unopened(KubernetesAddress(config, qps=0, timeout_s=2))
        self.stack.push_async_callback(store.close)
        return store

    @asynccontextmanager
    async def copied(self) -> AsyncIterator[Copier]:
        async with copying(await self.open_api(), await self.open_store()) as copier:
            yield copier

    def make_pod(self, name: str, node: str = "n1", **labels: str) -> None:
        container = {"name": "c", "image": "none", "ports": [{"name": "http", "containerPort": 80}]}
        metadata = {"name": name, "labels": labels, "annotations": {"example.com/noise": "x"}}
        self.server.make(PODS, {"metadata": metadata, "spec": {"nodeName": node, "containers": [container]}})

    def patch(self, path: str, change: object) -> None:
        status, answer = self.server.ask("PATCH", path, change, content=MERGE)
        assert status == 200, answer

    def tell(self, name: str, **status: object) -> None:
        self.patch(f"{PODS}/{name}/status", {"status": status})

    def delete(self, path: str) -> None:
        assert self.server.ask("DELETE", f"{path}?gracePeriodSeconds=0")[0] == 200

    async def agree(self) -> None:
        async with asyncio.timeout(60):
            await agree(self.api, self.store)


@pytest.fixture(params=["cached"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    if reason := missing():
        pytest.skip(reason)
    server: ApiServer = getattr(control_plane(), request.param)
    empty(server)
    async with AsyncExitStack() as stack:
        to_api = await stack.enter_async_context(proxied(server.port))
        to_etcd = await stack.enter_async_context(proxied(etcd.shared("etcd").members[0].port))
        yield await World(server, to_api, to_etcd, etcd.new_prefix(), tmp_path, stack).opened()
    empty(server)


async def test_pods_policies_namespaces_and_nodes_are_there_as_the_api_has_them(world: World) -> None:
    world.server.make("/api/v1/nodes", {"metadata": {"name": "n1"}})
    async with world.copied():
        world.server.make(POLICIES, DENY)
        for number in range(20):
            world.make_pod(f"p{number}", app=f"a{number % 3}")
        await world.agree()
        assert len((await world.store.list(Pod)).items) == 20
        found = await world.store.get(Pod, "p1", "shop")
        assert (found.metadata.uid, found.metadata.annotations) == ((await _pod(world, "p1")).metadata.uid, {})
        world.tell("p1", phase="Running", podIP="10.65.0.1", podIPs=[{"ip": "10.65.0.1"}])
        world.patch("/api/v1/namespaces/shop", {"metadata": {"labels": {"team": "red"}}})
        await world.agree()
        world.tell("p1", phase="Succeeded")
        world.delete(f"{PODS}/p2")
        world.delete(f"{POLICIES}/deny")
        await world.agree()
        assert {one.name for one in (await world.store.list(Pod)).items} == {f"p{n}" for n in range(20)} - {"p1", "p2"}
        world.patch("/api/v1/namespaces/shop", {"metadata": {"labels": {"team": None}}})
        await world.agree()


async def _pod(world: World, name: str) -> Pod:
    return await world.api.get(Pod, name, "shop")


async def test_heartbeats_cost_no_write(world: World) -> None:
    world.server.make("/api/v1/nodes", {"metadata": {"name": "n1"}})
    world.make_pod("db")
    async with world.copied() as copier:
        await world.agree()
        before = etcd.shared("etcd").revision()
        for beat in range(5):
            ready = {"type": "Ready", "status": "True", "message": f"beat {beat}"}
            world.patch("/api/v1/nodes/n1/status", {"status": {"conditions": [ready]}})
            world.tell("db", phase="Running", message=f"beat {beat}")
        world.make_pod("last")
        await world.agree()
        assert etcd.shared("etcd").revision() == before + 1
        assert copier.done["nodes", "create"] == 1


@pytest.mark.parametrize("world", ["direct"], indirect=True)
async def test_what_went_while_the_watch_was_cut_and_its_history_compacted_goes(world: World) -> None:
    world.server.make(POLICIES, DENY)
    world.make_pod("stays")
    world.make_pod("goes")
    async with world.copied():
        await world.agree()
        world.to_api.refuse = True
        world.to_api.cut()
        world.delete(f"{PODS}/goes")
        world.delete(f"{POLICIES}/deny")
        world.make_pod("comes")
        plane = control_plane()
        plane.etcd.compact(plane.etcd.revision())
        assert {one.name for one in (await world.store.list(Pod)).items} == {"stays", "goes"}
        world.to_api.refuse = False
        await world.agree()


async def test_with_both_away_nothing_is_lost_and_it_says_how_far_behind_it_is(world: World) -> None:
    world.server.make(POLICIES, DENY)
    async with world.copied() as copier:
        await world.agree()
        world.to_etcd.refuse = True
        world.to_etcd.cut()
        for number in range(5):
            world.make_pod(f"p{number}")
        async with asyncio.timeout(30):
            while copier.ledgers[Pod].due != 5 or not copier.failure:
                await asyncio.sleep(0.01)
        world.to_api.refuse = True
        world.to_api.cut()
        world.delete(f"{PODS}/p0")
        async with asyncio.timeout(30):
            while not copier.behind_s(copier.ledgers[NetworkPolicy]):
                await asyncio.sleep(0.01)
        assert copier.ledgers[Pod].behind_s() > 0
        assert [one.name for one in (await world.store.list(NetworkPolicy)).items] == ["deny"]
        world.to_etcd.refuse = False
        world.to_api.refuse = False
        await world.agree()


async def test_an_answer_that_etcd_gave_and_nobody_heard_is_settled(world: World) -> None:
    async with world.copied():
        await world.agree()
        for number in range(4):
            world.to_etcd.lose_answers = True
            world.make_pod(f"p{number}")
            async with asyncio.timeout(30):
                while not [one for one in (await world.store.list(Pod)).items if one.name == f"p{number}"]:
                    await asyncio.sleep(0.01)
            world.to_etcd.lose_answers = False
            world.to_etcd.cut()
            world.patch(f"{PODS}/p{number}", {"metadata": {"labels": {"n": str(number)}}})
            await world.agree()


@asynccontextmanager
async def controller(world: World, name: str, *, by_the_way: bool) -> AsyncIterator[Controller]:
    port = 0 if by_the_way else etcd.shared("etcd").members[0].port
    options = Options("memory:", name, "kube-system", world.folder / name, "INFO")
    one = Controller(options, await world.open_store(port), TIMING, api=await world.open_api())
    task = asyncio.ensure_future(one.run())
    try:
        yield one
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def leads(one: Controller, *, wanted: bool = True) -> None:
    async with asyncio.timeout(30):
        while one.status()["leads"] is not wanted:
            await asyncio.sleep(0.01)


async def test_a_leader_that_is_cut_off_in_the_middle_is_followed_by_another(world: World) -> None:
    async with controller(world, "a", by_the_way=True) as first:
        await leads(first)
        for number in range(30):
            world.make_pod(f"p{number}")
        world.to_etcd.refuse = True
        world.to_etcd.cut()
        for number in range(30, 60):
            world.make_pod(f"p{number}")
        async with controller(world, "b", by_the_way=False) as second:
            await leads(second)
            await leads(first, wanted=False)
            await world.agree()
            assert second.status()["failures"] == []
            world.to_etcd.refuse = False
            for number in range(0, 60, 2):
                world.delete(f"{PODS}/p{number}")
            await world.agree()
            copy = second.status()["copy"]
            assert isinstance(copy, dict)
            assert (copy["kinds"]["pods"]["objects"], copy["kinds"]["pods"]["behind"]) == (30, 0)


async def test_our_node_goes_with_its_kubernetes_node(world: World) -> None:
    made = world.server.make("/api/v1/nodes", {"metadata": {"name": "n1"}})
    uid = made["metadata"]["uid"]
    owner = {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": uid}
    metadata = Metadata(name="n1", unknown=UnknownFields({"ownerReferences": [owner]}))
    await world.store.create(Node(metadata=metadata, spec=NodeSpec(machine=uid)))
    await _short_grace(world.store)
    async with controller(world, "a", by_the_way=False) as one:
        await leads(one)
        await world.agree()
        assert [node.name for node in (await world.store.list(Node)).items] == ["n1"]
        world.delete("/api/v1/nodes/n1")
        async with asyncio.timeout(30):
            while (await world.store.list(Node)).items:
                await asyncio.sleep(0.05)


async def _short_grace(store: Store) -> None:
    from datastore.resources.clusterconfiguration import NAME, ClusterConfiguration, ClusterConfigurationSpec

    spec = ClusterConfigurationSpec(reclaim_grace_seconds=10)
    await store.create(ClusterConfiguration(metadata=Metadata(name=NAME), spec=spec))


async def test_a_pod_that_the_copy_lacks_keeps_its_address(world: World) -> None:
    """The API is asked who is alive, never the copy."""
    from controller.copies import COPIED
    from controller.divided import DividedStore
    from ipam import claims

    world.make_pod("db")
    world.tell("db", phase="Running", podIP="10.65.0.1", podIPs=[{"ip": "10.65.0.1"}])
    divided = DividedStore(world.store, world.api, COPIED)
    assert [one.addresses for one in (await claims.read(divided)).everyone()] == [("10.65.0.1",)]
    assert list((await claims.read(world.store)).everyone()) == []


async def test_without_an_api_a_controller_says_so_and_waits(world: World) -> None:
    world.to_api.refuse = True
    async with controller(world, "a", by_the_way=False) as one:
        await leads(one)
        async with asyncio.timeout(30):
            while not any("can't be reached" in text for text in _failures(one)):
                await asyncio.sleep(0.01)
        world.make_pod("db")
        world.to_api.refuse = False
        await world.agree()


def _failures(one: Controller) -> list[str]:
    found = one.status()["failures"]
    assert isinstance(found, list)
    return found
