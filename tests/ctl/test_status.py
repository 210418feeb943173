"""status: what is wrong is said with the next command, and the exit status says whether anything is."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from ctl.status.remarks import remarks
from ctl.status.seen import Agent, Installation, Machine, Seen, SeenNode, SeenPool, Skew
from datastore.resources.ippool import IPPoolStatus
from datastore.resources.lease import Lease, LeaseSpec
from datastore.resources.node import Node
from datastore.resources.value import Metadata, Resource
from datastore.urls import open_store
from tests.ctl.conftest import Ctl
from tests.ipam.cluster import healthy

WELL_NODE = SeenNode(
    "n1", known=True, addresses=("10.0.0.1",), blocks=1, pods=2, agent=Agent(ready=True), machine=Machine(ready=True)
)
WELL_POOL = SeenPool("p", "10.65.0.0/16", status=IPPoolStatus(capacity=100, used=10, free=90))
WELL = Seen(
    "Kubernetes",
    nodes=(WELL_NODE,),
    pools=(WELL_POOL,),
    leader="c1",
    installation=Installation("tortie-system", daemonset=True),
)


def node(**changes: object) -> Seen:
    return replace(WELL, nodes=(replace(WELL_NODE, **changes),))  # type: ignore[arg-type]


def pool(**changes: object) -> Seen:
    return replace(WELL, pools=(replace(WELL_POOL, **changes),))  # type: ignore[arg-type]


def skewed(*skews: Skew) -> Seen:
    return replace(WELL, installation=Installation("tortie-system", daemonset=True, skews=skews))


def test_a_cluster_that_is_well_gets_no_remark() -> None:
    assert remarks(WELL) == []


@pytest.mark.parametrize(
    ("seen", "what", "command"),
    [
        pytest.param(replace(WELL, nodes=()), "no node", "kubectl apply -k manifests/", id="nothing installed"),
        pytest.param(
            node(agent=Agent(ready=False, reason="no pool", look="kubectl logs a")),
            "the agent of n1 isn't ready: no pool",
            "kubectl logs a",
            id="an agent that says why",
        ),
        pytest.param(
            node(agent=Agent(ready=True, look="x", behind=("NetworkPolicy shop/db",))),
            "n1 hasn't applied NetworkPolicy shop/db",
            "x",
            id="an agent that is behind",
        ),
        pytest.param(
            node(agent=Agent(ready=True, look="x", warnings=("runtimes take 05-other.conflist before ours",))),
            "the agent of n1 says: runtimes take 05-other.conflist",
            "x",
            id="an agent that is ready and says what to look at",
        ),
        pytest.param(
            skewed(Skew("the API has no ippools.tortie.dev", "kubectl apply -k manifests/crds")),
            "the API has no ippools.tortie.dev",
            "kubectl apply -k manifests/crds",
            id="a definition that isn't there",
        ),
        pytest.param(node(agent=None), "n1 has no agent", "describe daemonset tortie-agent", id="no agent's pod"),
        pytest.param(node(known=False), "no Node of ours", "", id="an agent that hasn't written its Node"),
        pytest.param(node(addresses=()), "tells no address", "", id="a node without an address"),
        pytest.param(
            node(machine=Machine(ready=False, reason="cni plugin not initialized")),
            "n1 isn't Ready: cni plugin not initialized",
            "kubectl describe node n1",
            id="a node that is NotReady",
        ),
        pytest.param(
            node(machine=Machine(ready=True, no_network="CalicoIsDown")),
            "NetworkUnavailable: CalicoIsDown",
            "kubectl describe node n1",
            id="a condition that another network left",
        ),
        pytest.param(replace(WELL, pools=()), "no IPPool", "kubectl apply -f", id="no pool"),
        pytest.param(pool(disabled=True), "every IPPool is disabled", "get ippools", id="only disabled pools"),
        pytest.param(
            pool(status=IPPoolStatus(capacity=9, used=9)), "pool p is exhausted", "ipam show", id="an exhausted pool"
        ),
        pytest.param(
            pool(status=IPPoolStatus(conflicts_with="q")), "it overlaps q", "get ippools p", id="pools that overlap"
        ),
        pytest.param(pool(fault="is wrong: spec.nodeSelector"), "it is wrong: spec", "ipam check", id="a wrong pool"),
        pytest.param(replace(WELL, leader=""), "no controller leads", "deployment/tortie-controller", id="no leader"),
        pytest.param(replace(WELL, leader_silent_s=600.0), "c1, hasn't renewed", "logs", id="a leader that hangs"),
    ],
)
def test_what_is_wrong_is_told_with_the_next_command(seen: Seen, what: str, command: str) -> None:
    (said,) = [one for one in remarks(seen) if what in one.what]
    assert said.wrong
    assert command in said.next


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(node(machine=None), id="a Node that Kubernetes has deleted"),
        pytest.param(skewed(Skew("agents of two images", "x", wrong=False)), id="an upgrade on its way"),
        pytest.param(pool(status=IPPoolStatus(capacity=100, used=81, free=19)), id="a pool that is nearly full"),
    ],
)
def test_what_only_should_be_known_is_a_warning(seen: Seen) -> None:
    assert [one.wrong for one in remarks(seen)] == [False]


def fill(tmp_path: Path, *more: Resource) -> None:
    async def run() -> None:
        store = await open_store(f"sqlite://{tmp_path}/store.db")
        try:
            for one in (*healthy().by_key.values(), *more):
                await store.create(_reachable(one) if isinstance(one, Node) else one)
        finally:
            await store.close()

    asyncio.run(run())


def _reachable(one: Node) -> Node:
    return msgspec.structs.replace(one, spec=msgspec.structs.replace(one.spec, addresses=("172.30.0.1",)))


def lease(renewed: datetime) -> Lease:
    spec = LeaseSpec(holder_identity="n1_ab", renew_time=renewed.isoformat())
    return Lease(metadata=Metadata(name="tortie-controller", namespace="kube-system"), spec=spec)


def test_a_datastore_alone_is_enough_and_all_is_well_is_exit_0(ctl: Ctl, tmp_path: Path) -> None:
    fill(tmp_path, lease(datetime.now(UTC)))
    said = ctl("status")
    assert said.status == 0, said.out
    assert "n1_ab leads" in said.out
    assert said.out.endswith("all is well\n")


def test_what_is_wrong_makes_it_exit_1_and_is_in_the_json(ctl: Ctl, tmp_path: Path) -> None:
    fill(tmp_path, lease(datetime.now(UTC) - timedelta(minutes=10)))
    said = ctl("status", "-o", "json")
    assert said.status == 1
    document = json.loads(said.out)
    assert (document["kind"], document["well"]) == ("ClusterStatus", False)
    (warning,) = document["warnings"]
    assert "hasn't renewed its Lease" in warning["message"]
    assert {"severity", "message", "next"} == set(warning)


def test_waiting_ends_with_5_when_the_time_is_over(ctl: Ctl, tmp_path: Path) -> None:
    fill(tmp_path)
    said = ctl("status", "--wait=0.5")
    assert said.status == 5
    assert "no controller leads" in said.out


def test_a_datastore_that_isnt_there_is_unreachable(ctl: Ctl) -> None:
    assert ctl("status").status == 3
    assert "there is no datastore" in ctl("status", "--wait=0").err
