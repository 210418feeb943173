"""What an audit finds: nothing in a healthy cluster, and of each thing that is broken just that."""

from collections.abc import Callable

import msgspec
import pytest

from datastore.resources.clusterconfiguration import ClusterConfiguration, ClusterConfigurationSpec, Migration
from datastore.resources.ipblock import IPBlock, IPBlockSpec
from datastore.resources.ippool import IPPool, IPPoolSpec
from datastore.resources.kubernetes import Pod
from datastore.resources.node import Node
from datastore.resources.value import Metadata
from datastore.resources.workloadendpoint import WorkloadEndpoint
from ipam.audit import UNREADY_S, audit
from ipam.claims import Claims
from ipam.findings import Fault, Finding
from ipam.observed import Observed
from tests.ipam.cluster import (
    FIRST,
    FIRST_BLOCK,
    LONG_AGO,
    NOW,
    SECOND,
    Objects,
    allocation,
    block,
    endpoint,
    healthy,
    kubernetes_pod,
    node,
    pool,
)

Break = Callable[[Objects], Objects]


def found(objects: Objects) -> list[Finding]:
    (configuration,) = objects.of(ClusterConfiguration)
    claims = Claims([*objects.of(WorkloadEndpoint), *objects.of(Pod)])
    seen = Observed.of(objects.of(IPBlock), objects.of(IPPool), objects.of(Node), claims, configuration.spec)
    return audit(seen, NOW)


def spec(**changes: object) -> Callable[[object], object]:
    return lambda before: msgspec.structs.replace(before, **changes)  # type: ignore[type-var]


def allocated(*more: tuple[str, object]) -> Callable[[object], object]:
    """A block's spec with more allocations, at these ordinals."""

    def change(before: object) -> object:
        assert isinstance(before, IPBlockSpec)
        allocations = {**before.allocations, **dict(more)}
        return msgspec.structs.replace(before, allocations=allocations, fresh=max(map(int, allocations)) + 1)

    return change


def configured(**changes: object) -> Break:
    configuration = ClusterConfiguration(
        metadata=Metadata(name="default"), spec=msgspec.structs.replace(ClusterConfigurationSpec(), **changes)
    )
    return lambda objects: objects.put(configuration)


def claimed(cidr: str, at: float) -> IPBlock:
    """A block of node-2 that isn't ready."""
    made = block(cidr, "node-2")
    return msgspec.structs.replace(made, spec=msgspec.structs.replace(made.spec, ready=False, claimed_at=at))


def in_kubernetes(objects: Objects) -> Objects:
    """The same pods, told by Pods."""
    endpoints = objects.of(WorkloadEndpoint)
    pods = [kubernetes_pod(one.spec.pod, one.spec.node, one.spec.addresses[0]) for one in endpoints]
    return objects.without(*(one.key for one in endpoints)).put(*pods)


def test_a_healthy_cluster_has_nothing_wrong() -> None:
    assert found(healthy()) == []


def test_a_healthy_cluster_in_kubernetes_has_nothing_wrong() -> None:
    assert found(in_kubernetes(healthy())) == []


_LATE = allocation("late", "node-1", since=NOW - 1)
_GONE = allocation("gone", "node-1")
_NEW_WEB = allocation("web", "node-1", container="c-2", since=LONG_AGO + 60)
_TUNNEL = allocation("", "node-1", handle="tunnel/node-1", namespace="")

BROKEN: dict[str, tuple[Break, list[tuple[Fault, str]]]] = {
    "a pod that is gone still owns an address": (
        lambda some: some.changed(FIRST_BLOCK, allocated(("4", _GONE))),
        [(Fault.LEAKED, "10.65.0.4")],
    ),
    "an endpoint's address is allocated to nobody": (
        lambda some: some.put(endpoint("ghost", "node-2", "10.65.7.7")),
        [(Fault.NOT_ALLOCATED, "10.65.7.7")],
    ),
    "an endpoint's address is another's": (
        lambda some: some.put(endpoint("thief", "node-2", "10.65.0.1")),
        [(Fault.ANOTHERS, "10.65.0.1")],
    ),
    "two blocks overlap": (
        lambda some: some.put(
            block("10.65.0.0/27", "node-2"), node("node-2", SECOND, "10.65.0.0/27", borrowed=("10.65.0.2",))
        ),
        [(Fault.OVERLAP, "10.65.0.0/27"), (Fault.WRONG_SIZE, "10.65.0.0/27")],
    ),
    "an address is owned twice": (
        lambda some: some.put(
            block("10.65.0.0/27", "node-2", allocation("web2", "node-2")),
            node("node-2", SECOND, "10.65.0.0/27", borrowed=("10.65.0.2",)),
            endpoint("web2", "node-2", "10.65.0.0"),
        ),
        [(Fault.OWNED_TWICE, "10.65.0.0"), (Fault.OVERLAP, "10.65.0.0/27"), (Fault.WRONG_SIZE, "10.65.0.0/27")],
    ),
    "an interface has two addresses of a family": (
        lambda some: some.changed(FIRST_BLOCK, allocated(("4", allocation("web", "node-1")))),
        [(Fault.OWNS_TWICE, "10.65.0.0")],
    ),
    "a block's arithmetic is broken": (
        lambda some: some.changed(FIRST_BLOCK, spec(fresh=1)),
        [
            *((Fault.NOT_ALLOCATED, f"10.65.0.{number}") for number in range(3)),
            (Fault.UNSOUND, "10-65-0-0-26"),
            (Fault.STALE_NODE, "Node node-1"),
            (Fault.STALE_NODE, "Node node-2"),
        ],
    ),
    "a block's pool is gone": (
        lambda some: some.without("IPPool blue"),
        [(Fault.NO_POOL, FIRST), (Fault.NO_POOL, SECOND)],
    ),
    "a pool overlaps another": (
        lambda some: some.put(pool("red", "10.65.128.0/17")),
        [(Fault.UNUSED_POOL, "IPPool red")],
    ),
    "a tunnel's end outlives its node": (
        lambda some: some.changed(
            FIRST_BLOCK, allocated(("4", allocation("", "node-9", handle="tunnel/node-9", namespace="")))
        ),
        [(Fault.LEAKED, "10.65.0.4")],
    ),
    "a Node tells a tunnel's end that nobody has": (
        lambda some: some.changed("Node node-1", spec(tunnel_addresses=("10.65.0.40",))),
        [(Fault.NOT_ALLOCATED, "10.65.0.40")],
    ),
    "a pool has moved": (
        lambda some: some.put(pool(cidr="10.65.0.0/26")),
        [(Fault.OUTSIDE_POOL, SECOND)],
    ),
    "a pool's block size has changed": (
        lambda some: some.put(pool(block_size=27)),
        [(Fault.WRONG_SIZE, FIRST), (Fault.WRONG_SIZE, SECOND)],
    ),
    "a node is gone": (
        lambda some: some.without("Node node-1"),
        [(Fault.NODE_GONE, FIRST)],
    ),
    "a node's machine is another": (
        lambda some: some.changed(
            "Node node-1", spec(machine="new", blocks=(), borrowed=("10.65.0.0", "10.65.0.1", "10.65.0.3"))
        ),
        [(Fault.OTHER_MACHINE, FIRST)],
    ),
    "a claim died half-way": (
        lambda some: some.put(claimed("10.65.1.0/26", NOW - UNREADY_S - 1)),
        [(Fault.UNREADY, "10.65.1.0/26")],
    ),
    "a block is frozen for no migration": (
        lambda some: some.changed(FIRST_BLOCK, spec(frozen="m1")),
        [(Fault.FROZEN, FIRST)],
    ),
    "a block is frozen for another migration": (
        lambda some: configured(migration=Migration(id="m2", to="memory:"))(
            some.changed(FIRST_BLOCK, spec(frozen="m1"))
        ),
        [(Fault.FROZEN, FIRST)],
    ),
    "a Node doesn't tell a block": (
        lambda some: some.changed("Node node-1", spec(blocks=())),
        [(Fault.STALE_NODE, "Node node-1")],
    ),
    "a Node tells a block that it hasn't": (
        lambda some: some.changed("Node node-1", spec(blocks=(FIRST, "10.65.9.0/26"))),
        [(Fault.STALE_NODE, "Node node-1")],
    ),
    "a Node doesn't tell a borrowed address": (
        lambda some: some.changed("Node node-2", spec(borrowed=())),
        [(Fault.STALE_NODE, "Node node-2")],
    ),
    "a Node tells a tunnel's address that a pod has": (
        lambda some: some.changed("Node node-1", spec(tunnel_addresses=("10.65.0.1",))),
        [(Fault.ANOTHERS, "10.65.0.1")],
    ),
    "in Kubernetes, a pod that is gone still owns an address": (
        lambda some: in_kubernetes(some).without("Pod shop/db"),
        [(Fault.LEAKED, "10.65.0.64")],
    ),
    "a pod that has ended still owns an address": (
        lambda some: in_kubernetes(some).put(kubernetes_pod("db", "node-2", "10.65.0.64", phase="Succeeded")),
        [(Fault.LEAKED, "10.65.0.64")],
    ),
    "a pod of another uid has the name": (
        lambda some: in_kubernetes(some).put(
            kubernetes_pod("db", "node-2", uid="new"), block(SECOND, "node-2", allocation("db", "node-2", uid="old"))
        ),
        [(Fault.LEAKED, "10.65.0.64")],
    ),
    "an earlier sandbox of a pod still owns an address": (
        lambda some: (
            in_kubernetes(some)
            .changed(FIRST_BLOCK, allocated(("4", _NEW_WEB)))
            .put(kubernetes_pod("web", "node-1", "10.65.0.4"))
        ),
        [(Fault.LEAKED, "10.65.0.0")],
    ),
}


@pytest.mark.parametrize(("broken", "expected"), [pytest.param(*case, id=name) for name, case in BROKEN.items()])
def test_what_is_broken_is_found_and_nothing_else(broken: Break, expected: list[tuple[Fault, str]]) -> None:
    findings = found(broken(healthy()))
    assert [(one.fault, one.subject) for one in findings] == expected
    assert all(one.what and one.remedy for one in findings)


FINE: dict[str, Break] = {
    "a block is being claimed": lambda some: some.put(claimed("10.65.1.0/26", NOW - UNREADY_S)),
    "of two claims that overlap, one isn't ready": lambda some: some.put(claimed("10.65.0.0/27", NOW)),
    "an address of another IPAM plugin's": lambda some: some.put(
        node("node-3", pod_cidrs=("10.65.200.0/24",)), endpoint("other", "node-3", "10.65.200.9")
    ),
    "an address outside every pool": lambda some: some.put(endpoint("other", "node-2", "192.168.1.9")),
    "an address on another plugin's link": lambda some: some.changed(
        FIRST_BLOCK, allocated(("4", allocation("bridged", "node-1", on_link=True)))
    ),
    "a disabled pool that overlaps another": lambda some: some.put(
        msgspec.structs.replace(pool("red", "10.65.128.0/17"), spec=IPPoolSpec(cidr="10.65.128.0/17", disabled=True))
    ),
    "a tunnel's address": lambda some: some.changed(FIRST_BLOCK, allocated(("4", _TUNNEL))).changed(
        "Node node-1", spec(tunnel_addresses=("10.65.0.4",))
    ),
    "frozen for the migration that is under way": lambda some: configured(migration=Migration(id="m1", to="memory:"))(
        some.changed(FIRST_BLOCK, spec(frozen="m1"))
    ),
    "a pod's second interface, which Pods don't tell": lambda some: in_kubernetes(some).changed(
        FIRST_BLOCK, allocated(("4", allocation("web", "node-1", handle="storage:c-web:net1")))
    ),
    "a pod without an address yet": lambda some: (
        in_kubernetes(some)
        .changed(FIRST_BLOCK, allocated(("4", _LATE)))
        .put(kubernetes_pod("late", "node-1", phase="Pending"))
    ),
    "a pod on its host's network": lambda some: some.put(
        msgspec.structs.replace(
            kubernetes_pod("host", "node-1", "10.65.0.1"),
            spec=msgspec.structs.replace(kubernetes_pod("host", "node-1").spec, host_network=True),
        )
    ),
}


@pytest.mark.parametrize("changed", [pytest.param(change, id=name) for name, change in FINE.items()])
def test_what_only_looks_wrong_is_not_found(changed: Break) -> None:
    assert found(changed(healthy())) == []


def test_a_leak_is_a_warning_until_the_grace_has_passed() -> None:
    def leaked(since: float) -> bool:
        some = healthy().changed(FIRST_BLOCK, allocated(("4", allocation("gone", "node-1", since=since))))
        (finding,) = found(configured(reclaim_grace_seconds=100)(some))
        return finding.warning

    assert (leaked(NOW - 99), leaked(NOW - 100)) == (True, False)


def test_findings_of_two_owners_of_one_address_are_two_things() -> None:
    one = found(healthy().changed(FIRST_BLOCK, allocated(("4", _GONE))))
    other = found(healthy().changed(FIRST_BLOCK, allocated(("4", allocation("gone2", "node-1")))))
    assert (one[0].subject, one[0].key == other[0].key) == (other[0].subject, False)
