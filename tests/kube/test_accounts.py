"""Each program's account suffices for what the program does, and for not much more."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from agent.identity import NodeObject
from controller.controller import Controller
from controller.leader import Timing
from controller.options import parse
from controller.view import WATCHED as CONTROLLER_WATCHES
from datastore.kubernetes.address import KubernetesAddress
from datastore.kubernetes.store import KubernetesStore
from datastore.resources.clusterconfiguration import ClusterConfiguration
from datastore.resources.ipblock import IPBlock
from datastore.resources.ippool import IPPool
from datastore.resources.ipreservation import IPReservation, IPReservationSpec
from datastore.resources.kubernetes import KubernetesNode, Namespace, Pod
from datastore.resources.lease import Lease
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.node import Node
from datastore.resources.value import Metadata, Resource
from datastore.resources.workloadendpoint import WorkloadEndpoint
from ipam.allocator import Allocator, Settings, Wanted
from ipam.block import Held, Owner
from ipam.handles import Handles
from tests.kube.apiserver import ApiServer
from tests.kube.installed import BLOCKS, MANIFESTS, NAMESPACE, agent, installed, unbound
from tests.kube.programs import needs_kubernetes

pytestmark = needs_kubernetes
OURS = ("ipblocks", "nodes", "ippools", "clusterconfigurations")
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
AGENT_WATCHES = (
    *(Namespace, NetworkPolicy, Pod, KubernetesNode, WorkloadEndpoint),
    *(Node, IPPool, IPReservation, IPBlock, ClusterConfiguration),
)
TIMING = Timing(duration_s=15, deadline_s=10, every_s=0.1)


@pytest.fixture
def server() -> Iterator[ApiServer]:
    """The cluster, new: without anything that the controller makes."""
    found = installed()
    for path in (*(f"/apis/tortie.dev/v1/{plural}" for plural in OURS), LEASES):
        assert found.ask("DELETE", path)[0] == 200
    yield found
    for plural in OURS:
        found.ask("DELETE", f"/apis/tortie.dev/v1/{plural}")


async def opened(server: ApiServer, token: str, path: Path) -> KubernetesStore:
    config = server.kubeconfig(path, {"token": token})
    return await KubernetesStore.open(KubernetesAddress(config, qps=0))


@pytest.fixture
async def as_agent(server: ApiServer, tmp_path: Path) -> AsyncIterator[KubernetesStore]:
    store = await opened(server, agent(server, "n1"), tmp_path / "agent")
    yield store
    await store.close()


@pytest.fixture
async def as_controller(server: ApiServer, tmp_path: Path) -> AsyncIterator[KubernetesStore]:
    store = await opened(server, unbound(server, "tortie-controller"), tmp_path / "controller")
    yield store
    await store.close()


async def watched(store: KubernetesStore, kind: type[Resource]) -> None:
    listing = await store.list(kind)
    watch = store.watch(kind, listing.revision)
    try:
        async with asyncio.timeout(0.5):
            await anext(watch)
    except TimeoutError:
        pass
    finally:
        await watch.aclose()


@pytest.mark.parametrize("kind", AGENT_WATCHES, ids=lambda kind: kind.__name__)
async def test_an_agent_lists_and_watches(kind: type[Resource], as_agent: KubernetesStore) -> None:
    await watched(as_agent, kind)


@pytest.mark.parametrize("kind", CONTROLLER_WATCHES, ids=lambda kind: kind.__name__)
async def test_a_controller_lists_and_watches(kind: type[Resource], as_controller: KubernetesStore) -> None:
    await watched(as_controller, kind)


async def test_a_controller_makes_pools_leads_and_takes_back_and_an_agent_gives_addresses(
    as_agent: KubernetesStore, as_controller: KubernetesStore, tmp_path: Path
) -> None:
    state = str(tmp_path / "state")
    file = str(MANIFESTS / "base" / "defaults.yaml")
    argv = ["--datastore", "kubernetes:", "--state", state, "--lease-namespace", NAMESPACE, "--defaults", file]
    controller = Controller(parse(argv), as_controller, TIMING)
    task = asyncio.ensure_future(controller.run())
    try:
        async with asyncio.timeout(60):
            while not (await as_agent.list(ClusterConfiguration)).items:
                await asyncio.sleep(0.1)
            await an_agents_life(as_agent, tmp_path)
            while not (await as_controller.get(IPPool, "default-ipv4")).status.capacity:
                await asyncio.sleep(0.1)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert controller.status()["failures"] == []
    assert (await as_controller.get(Lease, "tortie-controller", NAMESPACE)).spec.holder_identity == ""
    await a_departed_nodes_end(as_controller)


async def an_agents_life(store: KubernetesStore, folder: Path) -> None:
    """Its Node claimed, an address given and freed, its block told, and given back."""
    allocator = Allocator(store, "n1", "machine-n1")
    node = NodeObject(store, "n1", "machine-n1", (), allocator)
    await node.claim()
    await allocator.load()
    handles = Handles(folder / "handles")
    owner = Owner(handle="tortie:c1:eth0", node="n1", pod="web", namespace="shop", uid="u")
    async with handles.hold(owner.handle) as hold:
        held = await allocator.assign(owner, Wanted((4,)), hold)
    await node.write()
    assert (await store.get(Node, "n1")).spec.blocks
    await allocator.release(held)
    (block,) = (await store.list(IPBlock)).items
    await store.delete(block)


async def test_an_agent_borrows_and_gives_back(server: ApiServer, as_agent: KubernetesStore, tmp_path: Path) -> None:
    """All that borrowing writes is let pass: an address freed by another, the next, one past a reserved one."""
    small = {"apiVersion": "tortie.dev/v1", "kind": "IPPool", "metadata": {"name": "small"}}
    server.make("/apis/tortie.dev/v1/ippools", {**small, "spec": {"cidr": "10.65.0.0/26"}})
    lender_store = await opened(server, agent(server, "n2"), tmp_path / "lender")
    lender, borrower = Allocator(lender_store, "n2", "machine-n2"), Allocator(as_agent, "n1", "machine-n1")
    lender.settings = borrower.settings = Settings(cooldown_s=0)
    kept = [await given(lender, "n2", f"a{number}", tmp_path / "n2") for number in range(3)]
    await lender.release([kept[1]])
    taken = [await given(borrower, "n1", f"b{number}", tmp_path / "n1") for number in range(2)]
    kept_free = IPReservationSpec(reserved_cidrs=("10.65.0.5",))
    borrower.set_reservations([IPReservation(metadata=Metadata(name="r"), spec=kept_free)])
    taken.append(await given(borrower, "n1", "c", tmp_path / "n1"))
    await borrower.release(taken)
    taken.append(await given(borrower, "n1", "d", tmp_path / "n1"))
    (block,) = (await as_agent.list(IPBlock)).items
    assert block.spec.node == "n2"
    assert {one.node for one in block.spec.allocations.values()} == {"n1", "n2"}
    assert len(block.spec.history) == 4
    await lender_store.close()


async def given(allocator: Allocator, node: str, container: str, folder: Path) -> Held:
    handles = Handles(folder)
    owner = Owner(handle=f"tortie:{container}:eth0", node=node, pod=container, namespace="shop")
    async with handles.hold(owner.handle) as hold:
        (held,) = await allocator.assign(owner, Wanted((4,)), hold)
    return held


async def a_departed_nodes_end(store: KubernetesStore) -> None:
    """A block and a Node that an admin's tool or another agent left."""
    await store.delete(await store.get(Node, "n1"))
    made = installed().make(
        BLOCKS,
        {
            "apiVersion": "tortie.dev/v1",
            "kind": "IPBlock",
            "metadata": {"name": "10-244-0-0-26"},
            "spec": {"cidr": "10.244.0.0/26", "pool": "default-ipv4", "cell": "10.244.0.0/20", "node": "n9"},
        },
    )
    block = await store.get(IPBlock, made["metadata"]["name"])
    block = await store.update(msgspec.structs.replace(block, spec=msgspec.structs.replace(block.spec, ready=True)))
    await store.delete(block)


FORBIDDEN = {
    "an agent makes a pool": ("tortie-agent", "POST", "/apis/tortie.dev/v1/ippools"),
    "an agent changes the configuration": ("tortie-agent", "PUT", "/apis/tortie.dev/v1/clusterconfigurations/default"),
    "an agent deletes a Node": ("tortie-agent", "DELETE", "/apis/tortie.dev/v1/nodes/n2"),
    "an agent changes a pod": ("tortie-agent", "PATCH", "/api/v1/namespaces/shop/pods/web"),
    "an agent reads secrets": ("tortie-agent", "GET", "/api/v1/secrets"),
    "an agent makes a Lease": ("tortie-agent", "POST", LEASES),
    "a controller deletes a pool": ("tortie-controller", "DELETE", "/apis/tortie.dev/v1/ippools/default-ipv4"),
    "a controller claims a block": ("tortie-controller", "POST", BLOCKS),
    "a controller reads secrets": ("tortie-controller", "GET", "/api/v1/secrets"),
    "a controller makes a Lease elsewhere": (
        "tortie-controller",
        "POST",
        "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases",
    ),
}


@pytest.mark.parametrize(("account", "verb", "path"), FORBIDDEN.values(), ids=FORBIDDEN)
def test_no_account_may_more_than_its_program_does(account: str, verb: str, path: str, server: ApiServer) -> None:
    content = "application/merge-patch+json" if verb == "PATCH" else "application/json"
    status, said = server.ask(verb, path, {}, token=unbound(server, account), content=content)
    assert status == 403, said
