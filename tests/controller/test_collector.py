"""In another datastore than the Kubernetes API, Nodes of ours go with the Kubernetes Nodes that they are of."""

import pytest

from controller.collector import collect, owner_of
from datastore.memory import MemoryStore
from datastore.resources.kubernetes import KubernetesNode
from datastore.resources.node import Node, NodeSpec
from datastore.resources.value import NO_UNKNOWN, Metadata, UnknownFields


def ours(name: str, uid: str) -> Node:
    owners = {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}]}
    metadata = Metadata(name=name, unknown=UnknownFields(owners) if uid else NO_UNKNOWN)
    return Node(metadata=metadata, spec=NodeSpec(machine=uid or "machine"))


def kubernetes(name: str, uid: str) -> KubernetesNode:
    return KubernetesNode(metadata=Metadata(name=name, uid=uid))


@pytest.mark.parametrize(
    ("owner", "watched", "in_api", "stays"),
    [
        pytest.param("u1", "u1", "u1", True, id="it is there"),
        pytest.param("u1", "", "", False, id="it is gone"),
        pytest.param("u1", "u2", "u2", False, id="it was registered anew"),
        pytest.param("u1", "", "u1", True, id="the watch lags"),
        pytest.param("", "", "", True, id="a host that is no Kubernetes Node"),
    ],
)
async def test_a_node_goes_with_its_owner(owner: str, watched: str, in_api: str, stays: bool) -> None:
    api, store, said = MemoryStore(), MemoryStore(), list[str]()
    await store.create(ours("n1", owner))
    if in_api:
        await api.create(kubernetes("n1", in_api))
    machines = {"n1": kubernetes("n1", watched)} if watched else {}
    owners = {one.name: owner_of(one) for one in (await store.list(Node)).items}
    await collect(api, store, owners, machines, said.append)
    assert [one.name for one in (await store.list(Node)).items] == (["n1"] if stays else [])
    assert said == ([] if stays else [f"deleted node n1: its Kubernetes Node (uid {owner}) is gone"])


async def test_a_node_that_was_claimed_anew_meanwhile_stays() -> None:
    api, store, said = MemoryStore(), MemoryStore(), list[str]()
    await store.create(ours("n1", "u2"))
    await collect(api, store, {"n1": "u1"}, {}, said.append)
    assert ((await store.get(Node, "n1")).spec.machine, said) == ("u2", [])
