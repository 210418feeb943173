"""What the Kubernetes driver does beyond the contract: what it hides, what it keeps, and what the API server says."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, ClassVar

import msgspec
import pytest
from aiohttp import ClientResponse

from datastore.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable
from datastore.kubernetes import store as driver
from datastore.kubernetes import watching
from datastore.kubernetes.paths import index_label
from datastore.kubernetes.store import KubernetesStore
from datastore.kubernetes.watching import Watch
from datastore.resources.clusterconfiguration import ClusterConfiguration
from datastore.resources.ipblock import IPBlock
from datastore.resources.ippool import IPPool, IPPoolSpec, IPPoolStatus
from datastore.resources.kubernetes import Container, ContainerPort, KubernetesNode, Pod, PodIP, PodSpec, PodStatus
from datastore.resources.lease import Lease, LeaseSpec
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.value import Kind, Metadata, Resource
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.store import Revision, Where
from tests.datastore.drivers import PATIENCE_S, Follower
from tests.datastore.samples import at_revision, endpoint, ip_block, policy, relabelled
from tests.kube.apiserver import NOBODY_TOKEN, ApiServer
from tests.kube.conftest import OpenAs

BLOCK = "/apis/tortie.dev/v1/ipblocks/10-65-0-64-26"
POOL = "/apis/tortie.dev/v1/ippools/p"
LONG = "a-node-with-a-name-that-is-far-longer-than-any-label-may-be." * 3 + "example"


def stored(server: ApiServer, path: str) -> dict[str, Any]:
    """The object past the driver."""
    code, found = server.ask("GET", path)
    assert code == 200, found
    return dict(found)


def pool(used: int = 0, free: int = 0) -> IPPool:
    status = IPPoolStatus(used=used, free=free)
    return IPPool(metadata=Metadata(name="p"), spec=IPPoolSpec(cidr="10.65.0.0/16"), status=status)


def changed(resource: IPPool, *, disabled: bool | None = None, used: int | None = None) -> IPPool:
    spec = resource.spec if disabled is None else msgspec.structs.replace(resource.spec, disabled=disabled)
    status = resource.status if used is None else msgspec.structs.replace(resource.status, used=used)
    return msgspec.structs.replace(resource, spec=spec, status=status)


# What is the driver's own


async def test_an_objects_index_is_in_its_labels_and_nobody_sees_it(store: KubernetesStore, server: ApiServer) -> None:
    made = await store.create(ip_block(node="a", borrowers=("a", "b")))
    assert made.metadata.labels == {}
    labels = stored(server, BLOCK)["metadata"]["labels"]
    assert labels == {
        "node.index.tortie.dev/a": "",
        "node.index.tortie.dev/b": "",
        "pool.index.tortie.dev/default-ipv4": "",
        index_label("cell", "10.65.0.0/20"): "",
    }


@pytest.mark.parametrize("node", [LONG, "n" * 64, "n.1"], ids=["far too long", "one too long", "with a dot"])
async def test_a_node_is_found_however_long_its_name(store: KubernetesStore, node: str) -> None:
    made = await store.create(ip_block(node=node))
    await store.create(ip_block("10.65.0.128/26", node="other"))
    assert (await store.list(IPBlock, Where("node", node))).items == (made,)


@pytest.mark.parametrize(
    ("labels", "annotations", "path"),
    [
        pytest.param({"node.index.tortie.dev/x": ""}, {}, "metadata.labels[node.index.tortie.dev/x]", id="a label"),
        pytest.param({}, {"tortie.dev/bump": "1"}, "metadata.annotations[tortie.dev/bump]", id="an annotation"),
    ],
)
async def test_nobody_writes_what_is_the_drivers_own(
    store: KubernetesStore, labels: dict[str, str], annotations: dict[str, str], path: str
) -> None:
    metadata = Metadata(name="db", namespace="shop", labels=labels, annotations=annotations)
    with pytest.raises(Invalid) as caught:
        await store.create(msgspec.structs.replace(policy(), metadata=metadata))
    assert caught.value.path == path


@pytest.mark.parametrize("made", [policy(), ip_block(), KubernetesNode(metadata=Metadata(name="n"))], ids=type)
async def test_a_write_that_changes_nothing_shows_nothing(store: KubernetesStore, made: Resource) -> None:
    first = await store.create(made)
    for _ in range(3):
        second = await store.update(first)
        assert second.revision != first.revision
        assert second == at_revision(first, second.revision)
        first = second


async def test_what_the_server_writes_into_metadata_is_not_shown(store: KubernetesStore) -> None:
    made = await store.create(policy())
    assert msgspec.to_builtins(made.metadata).keys() == {"name", "namespace", "resourceVersion"}


async def test_finalizers_and_owners_stay(store: KubernetesStore, server: ApiServer) -> None:
    await store.create(ip_block())
    document = stored(server, BLOCK)
    owner = {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}
    document["metadata"] |= {"finalizers": ["example.com/f"], "ownerReferences": [owner]}
    assert server.ask("PUT", BLOCK, document)[0] == 200
    block = await store.get(IPBlock, "10-65-0-64-26")
    block = await store.update(relabelled(block, a="b"))
    metadata = stored(server, BLOCK)["metadata"]
    assert (metadata["finalizers"], metadata["ownerReferences"]) == (["example.com/f"], [owner])
    await store.update(
        msgspec.structs.replace(block, metadata=Metadata(name=block.name, resource_version=block.revision))
    )
    assert "finalizers" not in stored(server, BLOCK)["metadata"]


# Writes


async def test_a_delete_carries_uid_and_revision(store: KubernetesStore, server: ApiServer) -> None:
    made = await store.create(policy())
    number, identity, *uid = made.revision.split("-", 2)
    other = f"{number}-{identity}-{'0' * 8}{uid[0][8:]}"
    with pytest.raises(Conflict):
        await store.delete(at_revision(made, other))
    assert stored(server, "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies/db")["metadata"]["uid"] == uid[0]


async def test_a_lease_that_is_gone_is_not_made_by_an_update(store: KubernetesStore, server: ApiServer) -> None:
    lease = Lease(metadata=Metadata(name="leader", namespace="shop"), spec=LeaseSpec(holder_identity="me"))
    made = await store.create(lease)
    await store.delete(made)
    with pytest.raises(NotFound):
        await store.update(made)
    assert server.ask("GET", "/apis/coordination.k8s.io/v1/namespaces/shop/leases/leader")[0] == 404


@pytest.mark.parametrize(
    ("change", "moves"),
    [
        pytest.param(lambda pool: changed(pool, used=3), 1, id="the status"),
        pytest.param(lambda pool: changed(pool, disabled=True), 1, id="the spec"),
        pytest.param(lambda pool: changed(pool, disabled=True, used=3), 2, id="both"),
        pytest.param(lambda pool: pool, 1, id="nothing"),
    ],
)
async def test_a_pools_status_is_written_where_it_differs(
    store: KubernetesStore, server: ApiServer, change: Callable[[IPPool], IPPool], moves: int
) -> None:
    made = await store.create(pool(used=1, free=2))
    assert made.status == IPPoolStatus(used=1, free=2)
    revision = await now(store)
    updated = await store.update(change(made))
    assert (updated.spec, updated.status) == (change(made).spec, change(made).status)
    assert await store.get(IPPool, "p") == updated
    assert stored(server, POOL)["status"]["used"] == updated.status.used
    async with aclosing(store.watch(IPPool, revision)) as watch:
        seen: list[str] = []
        while not seen or seen[-1] != updated.revision:
            batch = await asyncio.wait_for(anext(watch), PATIENCE_S)
            seen += [item.revision for item in batch.changes if isinstance(item, IPPool)]
    assert len(seen) <= moves


async def test_a_pools_generation_is_told_and_moves_with_its_spec_alone(store: KubernetesStore) -> None:
    made = await store.create(pool(used=1))
    assert made.metadata.generation == 1
    assert (await store.update(changed(made, used=3))).metadata.generation == 1
    made = await store.get(IPPool, "p")
    assert (await store.update(changed(made, disabled=True))).metadata.generation == 2
    assert [one.metadata.generation for one in (await store.list(IPPool)).items] == [2]


async def test_of_what_has_no_status_no_generation_is_told(store: KubernetesStore) -> None:
    assert (await store.create(policy())).metadata.generation == 0
    assert (await store.create(ip_block())).metadata.generation == 0


async def now(store: KubernetesStore, kind: type[Resource] = IPPool) -> Revision:
    return (await store.list(kind)).revision


async def test_a_pod_that_is_written_keeps_the_fields_we_dont_read(store: KubernetesStore, server: ApiServer) -> None:
    path = "/api/v1/namespaces/shop/pods"
    container = {"name": "c", "image": "i", "ports": [{"containerPort": 80}], "env": [{"name": "A", "value": "b"}]}
    server.make(path, {"metadata": {"name": "web"}, "spec": {"nodeName": "n", "containers": [container]}})
    pod = await store.get(Pod, "web", "shop")
    assert pod.spec == PodSpec(
        node_name="n",
        containers=(Container(name="c", ports=(ContainerPort(container_port=80),)),),
        service_account_name="",
    )
    before = stored(server, f"{path}/web")
    ips = PodStatus(phase="Running", pod_ip="10.65.0.1", pod_ips=(PodIP(ip="10.65.0.1"),))
    pod = await store.update(msgspec.structs.replace(relabelled(pod, app="web"), status=ips))
    assert (pod.metadata.labels, pod.status) == ({"app": "web"}, ips)
    after = stored(server, f"{path}/web")
    assert after["spec"] == before["spec"]
    assert after["metadata"]["labels"] == {"app": "web"}
    assert after["status"]["podIPs"] == [{"ip": "10.65.0.1"}]
    assert after["status"]["qosClass"] == before["status"]["qosClass"]


async def test_pods_are_found_by_their_node(store: KubernetesStore, server: ApiServer) -> None:
    for name, node in (("web", "a"), ("db", "b"), ("waiting", "")):
        spec = {"containers": [{"name": "c", "image": "i"}], **({"nodeName": node} if node else {})}
        server.make("/api/v1/namespaces/shop/pods", {"metadata": {"name": name}, "spec": spec})
    for node, name in (("a", "web"), ("b", "db"), ("", "waiting")):
        listing = await store.list(Pod, Where("node", node))
        assert [pod.name for pod in listing.items] == [name]
        assert listing.items[0].metadata.uid
    assert (await store.list(Pod, Where("node", "a,metadata.name!=x"))).items == ()


# Lists and absences


async def test_a_list_has_as_many_pages_as_it_needs(store: KubernetesStore, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"e{number}" for number in range(7)]
    for name in names:
        await store.create(endpoint(name))
    monkeypatch.setattr(driver, "PAGE", 2)
    listing = await store.list(WorkloadEndpoint)
    assert [item.name for item in listing.items] == names
    assert (await store.list(WorkloadEndpoint, Where("node", "node-1"))).items == listing.items
    last = await store.create(endpoint("last"))
    async with aclosing(store.watch(WorkloadEndpoint, listing.revision)) as watch:
        assert (await anext(watch)).changes == (last,)


async def test_an_object_that_comes_between_the_404_and_the_list_is_found(
    store: KubernetesStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = store._looked_for

    async def late(kind: type[WorkloadEndpoint], name: str, namespace: str) -> WorkloadEndpoint:
        await store.create(endpoint(name))
        return await look(kind, name, namespace)

    monkeypatch.setattr(store, "_looked_for", late)
    assert (await store.get(WorkloadEndpoint, "web", "shop")).name == "web"


async def test_a_namespace_that_isnt_there_is_said_so(store: KubernetesStore) -> None:
    with pytest.raises(Invalid, match="there is no namespace 'nowhere'"):
        await store.create(policy(namespace="nowhere"))
    assert (await store.list(NetworkPolicy, Where("namespace", "nowhere"))).items == ()


@pytest.mark.parametrize("name", ["", "a/b", "..", "A", "a b", "a%2Fb"])
async def test_a_name_that_no_object_can_have_is_refused(store: KubernetesStore, name: str) -> None:
    with pytest.raises(Invalid) as caught:
        await store.get(NetworkPolicy, name, "shop")
    assert caught.value.path == "metadata.name"


async def test_what_the_server_refuses_is_invalid_with_its_field(store: KubernetesStore) -> None:
    await store.create(pool())
    moved = await store.get(IPPool, "p")
    with pytest.raises(Invalid) as caught:
        await store.update(msgspec.structs.replace(moved, spec=IPPoolSpec(cidr="10.66.0.0/16")))
    assert caught.value.path == "spec.cidr"
    assert "can't be changed" in caught.value.reason


async def test_an_object_that_cant_be_read_is_named(store: KubernetesStore, server: ApiServer) -> None:
    document = {"apiVersion": "tortie.dev/v1", "kind": "IPBlock", "metadata": {"name": "10-65-0-64-26"}}
    spec = {"cidr": "10.65.0.64/26", "pool": "p", "cell": "10.65.0.0/20", "node": "n", "released": [[1.5, 0]]}
    server.make("/apis/tortie.dev/v1/ipblocks", {**document, "spec": spec})
    revision = Revision("")
    for call in (store.list(IPBlock), store.get(IPBlock, "10-65-0-64-26")):
        with pytest.raises(Invalid, match="IPBlock 10-65-0-64-26") as caught:
            await call
        assert caught.value.path.startswith("spec.released[0]")
    revision = await now(store)
    block = stored(server, BLOCK)
    block["spec"]["released"] = [[1.5, 7]]
    assert server.ask("PUT", BLOCK, block)[0] == 200
    with pytest.raises(Invalid, match="IPBlock 10-65-0-64-26"):
        await anext(store.watch(IPBlock, revision))


class Absent(ClusterConfiguration, frozen=True, kw_only=True):
    KIND: ClassVar[Kind] = Kind("tortie.dev", "v1", "Absent", "absents", False)


async def test_a_cluster_without_the_crds_says_which_command_brings_them(store: KubernetesStore) -> None:
    for call in (
        store.list(Absent),
        store.get(Absent, "default"),
        store.create(Absent(metadata=Metadata(name="default"))),
        anext(store.watch(Absent, await now(store))),
    ):
        with pytest.raises(Unavailable, match=r"no absents.tortie.dev.*kubectl apply --server-side -k"):
            await call


async def test_who_may_not_is_forbidden(open_as: OpenAs) -> None:
    with pytest.raises(Forbidden, match='User "nobody" cannot get resource "namespaces"'):
        await open_as({"token": NOBODY_TOKEN})


async def test_a_watch_goes_on_when_the_server_ends_its_stream(
    store: KubernetesStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    open_at = Watch._opened

    def counted(watch: "Watch[WorkloadEndpoint]", position: int) -> AbstractAsyncContextManager[ClientResponse]:
        opened.append(position)
        return open_at(watch, position)

    monkeypatch.setattr(Watch, "_opened", counted)
    monkeypatch.setattr(watching, "_STREAM_S", (1, 1))
    follower = Follower(store.watch(WorkloadEndpoint, await now(store, WorkloadEndpoint)))
    number = 0
    while len(opened) < 3:
        await store.create(endpoint(f"e{number}"))
        await follower.until_sees(f"e{number}")
        number += 1
    await follower.watch.aclose()
    assert sorted(set(opened)) == opened
    assert sum(len(batch.changes) for batch in follower.batches) == len(follower.mirror) == number
