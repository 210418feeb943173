"""A node that is gone for good: what it had comes back, after the grace, and the others forget it."""

import time

import pytest

from tests.e2e.documents import agnhost, apply, pod
from tests.e2e.running import all_running, eventually
from tests.e2e.tortie import GRACE_S, owned
from tests.kube.whole.cluster import Cluster
from tests.kube.whole.node import Node

GONE = "node-3"
_BLOCKS = "/apis/tortie.dev/v1/ipblocks"
_NODES = "/apis/tortie.dev/v1/nodes"
_RECLAIMED_WITHIN_S = 180.0
"""Kubernetes' collector, which deletes our Node with its own, has to get over a definition whose version went first."""


def blocks_of(cluster: Cluster, node: str) -> list[str]:
    return [one["spec"]["cidr"] for one in cluster.api.items(_BLOCKS) if one["spec"]["node"] == node]


def routed(node: Node, family: str, address: str) -> bool:
    return address in node.run("ip", family, "route")


@pytest.fixture(scope="module")
def gone(cluster: Cluster) -> set[str]:
    """The addresses of a pod that ran on the node; node and pod have just been deleted, with the power cut."""
    apply(cluster, pod("last", agnhost(), node=GONE))
    (last,) = all_running(cluster, "app=last", 1)
    cluster.cut_off(GONE)
    cluster.kubectl("delete", "node", GONE)
    cluster.kubectl("delete", "pod", "last", "--force", "--grace-period=0")
    return set(last.addresses)


def test_nothing_is_taken_back_before_the_grace(cluster: Cluster, gone: set[str]) -> None:
    until = time.monotonic() + GRACE_S / 2
    while time.monotonic() < until:
        assert gone <= owned(cluster).keys()
        time.sleep(0.5)


def test_its_addresses_and_blocks_are_free_after_it(cluster: Cluster, gone: set[str]) -> None:
    eventually("the addresses are free", lambda: gone.isdisjoint(owned(cluster)), _RECLAIMED_WITHIN_S)
    eventually("it has no block", lambda: blocks_of(cluster, GONE) == [], _RECLAIMED_WITHIN_S)
    names = {one["metadata"]["name"] for one in cluster.api.items(_NODES)}
    assert GONE not in names


def test_no_route_leads_there_any_more(cluster: Cluster, gone: set[str]) -> None:
    for node in cluster.nodes:
        for family, address in (("-4", "10.200.0.13"), ("-6", "fd20::13")):
            eventually(f"{node.name} forgets it", lambda look=(node, family, address): not routed(*look))  # type: ignore[misc]
