"""docs/kubernetes.md and docs/operating.md, typed block by block: from a cluster without a network to one again.

k3s' part comes last, on nodes whose containerd has k3s' folders: its overlay is what can be tried of k3s here.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address, ip_network

import pytest

from tests.e2e.administrator import Administrator
from tests.e2e.running import eventually
from tests.e2e.tortie import missing, trouble
from tests.kube.whole.cluster import Cluster
from tests.kube.whole.settings import CNI_CONFIG, K3S
from tests.pages import COMMANDS, NOT_RUN, Block, fences

_K3S, _REMOVE = "k3s", "Remove"
_ON_NODES = ("The plugin's programs on a node", "Everything of ours off a node")
"""Sections of operating.md for a node that Kubernetes' objects are gone from."""


def stage(block: Block) -> int:
    """When in a cluster's life it is typed; within a stage the order is the page's."""
    if block.section == _K3S:
        return 4
    if block.page == "operating.md":
        return 3 if block.section in _ON_NODES else 1
    return 2 if block.section == _REMOVE else 0


TYPED = sorted(
    (
        block
        for page in ("kubernetes.md", "operating.md")
        for block in fences(page)
        if (block.language in COMMANDS and block.first not in NOT_RUN) or block.file
    ),
    key=stage,
)


@pytest.fixture(scope="module")
def administrator(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Administrator]:
    if reason := missing():
        pytest.skip(reason)
    with Cluster.started(2, dual=True) as cluster:
        found = Administrator(cluster, tmp_path_factory.mktemp("administrator"))
        found.begin()
        yield found


# What is so after a block, by its first line


def is_installed(cluster: Cluster, printed: str) -> None:
    assert cluster.ready_nodes() == {"node-1", "node-2"}


def has_both_families(cluster: Cluster, printed: str) -> None:
    (addresses,) = (line for line in printed.splitlines() if line.startswith("["))
    first, second = (ip_address(one["ip"]) for one in json.loads(addresses.partition("]")[0] + "]"))
    assert (first.version, second.version) == (4, 6)
    # The pool before it was disabled by then.
    assert first in ip_network("10.245.0.0/16")
    assert second in ip_network("fd44:7069::/48")


def is_well(cluster: Cluster, printed: str) -> None:
    assert "wrong:" not in printed


def is_removed(cluster: Cluster, printed: str) -> None:
    assert cluster.api.ask("GET", "/api/v1/namespaces/tortie-system")[0] == 404
    for node in cluster.nodes:
        assert node.run("ls", CNI_CONFIG) == ""
        assert "tort" not in node.run("ip", "-o", "link")
    eventually("nodes are NotReady", lambda: not cluster.ready_nodes(), 60.0)


def is_off_the_node(cluster: Cluster, printed: str) -> None:
    assert not cluster.node(1).machine.at("/opt/cni/bin/tortie").exists()


def is_ready_on_k3s_folders(cluster: Cluster, printed: str) -> None:
    cluster.wait_ready()
    for node in cluster.nodes:
        assert node.run("ls", K3S.config).split() == ["10-tortie.conflist"]
        assert "tortie" in node.run("ls", K3S.bin).split()
        assert node.run("ls", CNI_CONFIG) == ""
    cluster.kubectl("run", "one", "--image=localhost/agnhost:1", "--", "pause")
    cluster.kubectl("wait", "--for=condition=Ready", "pod/one", "--timeout=60s")


AFTER: Mapping[str, Callable[[Cluster, str], None]] = {
    "kubectl apply -k manifests": is_installed,
    "kubectl run both --image=registry.k8s.io/e2e-test-images/agnhost:2.53 -- pause": has_both_families,
    "kubectl tortie status --wait=120": is_well,
    "kubectl -n tortie-system delete daemonset/tortie-agent deployment/tortie-controller": is_removed,
    "tortiectl node cleanup --dry-run": is_off_the_node,
    "kubectl apply -k manifests/overlays/k3s": is_ready_on_k3s_folders,
}


def test_every_look_afterwards_is_of_a_block() -> None:
    assert AFTER.keys() <= {block.first for block in TYPED}


@pytest.mark.parametrize(
    "block", TYPED, ids=lambda block: f"{block.page}: {block.section}: {block.file or block.first}"
)
def test_what_is_typed_works(administrator: Administrator, block: Block) -> None:
    cluster = administrator.cluster
    if block.file:
        administrator.keep(block)
        return
    if block.section == _K3S:
        for node in cluster.nodes:
            node.move_cni(K3S)
    try:
        printed = administrator.type(block)
        if look := AFTER.get(block.first):
            look(cluster, printed)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{trouble(cluster)}") from None


def test_the_pages_are_read() -> None:
    assert len(TYPED) > 20
