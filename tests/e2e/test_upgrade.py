"""A version back and forth again, while pods talk in both families; what tomorrow's programs write outlives today's."""

from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest

from tests.e2e import talk
from tests.e2e.documents import agnhost, apply, busybox, deployment, pod, remove
from tests.e2e.older import older
from tests.e2e.running import all_running, eventually
from tests.e2e.tortie import AGENT, CONTROLLER, DUAL_STACK, kubectl_tortie, program_pods, rolled, settle
from tests.kube.whole.api import Document
from tests.kube.whole.cluster import Cluster

pytestmark = pytest.mark.timeout(900)
_TODAY = "localhost/tortie:dev"
_OF_POOLS = "/apis/tortie.dev/v1/ippools"
_POOL = f"{_OF_POOLS}/default-ipv4"
_TOMORROWS_POOL = "/apis/tortie.dev/v2/ippools/default-ipv4"
_POOLS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/ippools.tortie.dev"
_NODE = "/apis/tortie.dev/v1/nodes/node-1"
_BLOCKS = "/apis/tortie.dev/v1/ipblocks"
_TOMORROW = {"tomorrow": {"is": "unknown"}}
_FEW = 6
_COUNTED_WITHIN_S = 60.0
_SERVED_WITHIN_S = 60.0


def apply_version(cluster: Cluster, manifests: Path) -> None:
    """`kubectl apply -k`, until every program is of that version."""
    cluster.kubectl("apply", "--server-side", "-k", manifests)
    rolled(cluster, f"daemonset/{AGENT}", f"deployment/{CONTROLLER}")


def versions(cluster: Cluster) -> set[str]:
    """The images that run."""
    found = [*program_pods(cluster, AGENT).values(), *program_pods(cluster, CONTROLLER).values()]
    return {container["image"] for one in found for container in one["spec"]["containers"]}


def come_and_go(cluster: Cluster, name: str) -> None:
    """Pods whose addresses are given and freed by whatever version runs."""
    apply(cluster, deployment(name, _FEW, busybox()))
    assert len({one.address for one in all_running(cluster, f"app={name}", _FEW)}) == _FEW
    remove(cluster, deployment(name, _FEW, busybox()))
    settle(cluster)


def block_of_node(cluster: Cluster) -> Document:
    """One of node-1."""
    return next(one for one in cluster.api.items(_BLOCKS) if one["spec"]["node"] == "node-1")


def test_a_version_back_loses_nothing_and_forgets_nothing(cluster: Cluster) -> None:
    before = older()
    cluster.load(before.archive)
    apply(cluster, pod("stays", agnhost(), node="node-1"))
    (stays,) = all_running(cluster, "app=stays", 1)
    name = block_of_node(cluster)["metadata"]["name"]
    for path in (_NODE, f"{_BLOCKS}/{name}"):
        cluster.api.merge(path, {"spec": _TOMORROW})
    written = cluster.api.get(f"{_BLOCKS}/{name}")["metadata"]["resourceVersion"]
    with talk.talking(cluster) as talks:
        apply_version(cluster, before.manifests)
        assert versions(cluster) == {"localhost/tortie:older"}
        come_and_go(cluster, "old")
        apply_version(cluster, DUAL_STACK)
        assert versions(cluster) == {_TODAY}
        come_and_go(cluster, "new")
        again = [one.address for one in all_running(cluster, "app=stays", 1)]
    print(f"\nasked and slowest answer, s: {[(one.asked, round(one.slowest_s, 2)) for one in talks]}")
    assert [one.lost for one in talks] == [[]] * 6
    assert min(one.asked for one in talks) > 100
    assert again == [stays.address]
    block = cluster.api.get(f"{_BLOCKS}/{name}")
    assert block["metadata"]["resourceVersion"] != written
    assert block["spec"]["tomorrow"] == cluster.api.get(_NODE)["spec"]["tomorrow"] == _TOMORROW["tomorrow"]
    said = kubectl_tortie(cluster, "ipam", "check")
    assert said.status == 0, said.out
    remove(cluster, *talk.pods(), pod("stays", agnhost()))


def annotate(cluster: Cluster, written: str | None) -> None:
    """Write every pool anew: one that is stored in a version which is gone couldn't be read any more."""
    eventually("pools are served", lambda: cluster.api.ask("GET", _OF_POOLS)[0] == HTTPStatus.OK, _SERVED_WITHIN_S)
    for pool in cluster.api.items(_OF_POOLS):
        path = f"{_OF_POOLS}/{pool['metadata']['name']}"
        cluster.api.merge(path, {"metadata": {"annotations": {"written": written}}})


@pytest.fixture
def tomorrow(cluster: Cluster) -> Iterator[None]:
    """Tomorrow's definition of pools: another version, which is stored, with a field more in spec and in status."""
    definition = cluster.api.get(_POOLS)
    (today,) = definition["spec"]["versions"]
    more = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    parts = today["schema"]["openAPIV3Schema"]["properties"]
    for part in ("spec", "status"):
        parts[part]["properties"]["tomorrow"] = more
    newer = {**today, "name": "v2"}
    cluster.api.merge(_POOLS, {"spec": {"versions": [{**today, "storage": False}, newer]}})
    eventually("v2 is served", lambda: cluster.api.ask("GET", _TOMORROWS_POOL)[0] == 200, _SERVED_WITHIN_S)
    yield
    cluster.api.merge(_POOLS, {"spec": {"versions": [{**today, "storage": True}, {**newer, "storage": False}]}})
    annotate(cluster, "anew")
    cluster.api.merge(f"{_POOLS}/status", {"status": {"storedVersions": ["v1"]}})
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-k", DUAL_STACK)
    annotate(cluster, None)


def test_what_tomorrows_programs_write_outlives_todays(cluster: Cluster, tomorrow: None) -> None:
    cluster.api.merge(_TOMORROWS_POOL, {"spec": _TOMORROW})
    cluster.api.merge(f"{_TOMORROWS_POOL}/status", {"status": _TOMORROW})
    settle(cluster)
    before = _used(cluster)
    apply(cluster, deployment("today", _FEW, busybox()))
    all_running(cluster, "app=today", _FEW)
    eventually("the pool is counted", lambda: _used(cluster) != before, _COUNTED_WITHIN_S)
    remove(cluster, deployment("today", _FEW, busybox()))
    found = cluster.api.get(_TOMORROWS_POOL)
    assert found["spec"]["tomorrow"] == found["status"]["tomorrow"] == _TOMORROW["tomorrow"]
    assert cluster.api.get(_POOLS)["status"]["storedVersions"] == ["v1", "v2"]


def _used(cluster: Cluster) -> int:
    """How many addresses the controller has counted; it says nothing of none."""
    return int(cluster.api.get(_POOL)["status"].get("used", 0))
