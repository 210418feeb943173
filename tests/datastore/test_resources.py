"""What each resource refuses, with the path of the field, and what it is found by."""

import msgspec
import pytest

from datastore import codec
from datastore.errors import Invalid
from datastore.resources.ippool import IPPool
from datastore.resources.kubernetes import Pod, PodSpec
from datastore.resources.value import Metadata, Resource
from tests.datastore.samples import Document, endpoint

POLICY: Document = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
POOL: Document = {"apiVersion": "tortie.dev/v1", "kind": "IPPool"}
NODE: Document = {"apiVersion": "tortie.dev/v1", "kind": "Node"}
CLUSTER: Document = {"apiVersion": "tortie.dev/v1", "kind": "ClusterConfiguration"}


def checked(kind: Document, spec: Document, name: str = "x", metadata: Document | None = None) -> Resource:
    placed: Document = {"namespace": "shop"} if kind is POLICY else {}
    resource = codec.decode({**kind, "metadata": {"name": name, **placed, **(metadata or {})}, "spec": spec})
    resource.check()
    return resource


def ingress(**rule: object) -> Document:
    return {"ingress": [rule]}


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        pytest.param(
            {"podSelector": {"matchExpressions": [{"key": "app", "operator": "Equals", "values": ["a"]}]}},
            "spec.podSelector.matchExpressions[0].operator",
            id="an unknown operator",
        ),
        pytest.param(
            {"podSelector": {"matchExpressions": [{"key": "app", "operator": "In"}]}},
            "spec.podSelector.matchExpressions[0].values",
            id="In without values",
        ),
        pytest.param(
            {"podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists", "values": ["a"]}]}},
            "spec.podSelector.matchExpressions[0].values",
            id="Exists with values",
        ),
        pytest.param(
            {"podSelector": {"matchLabels": {"app": "is/no/value"}}},
            "spec.podSelector.matchLabels[app]",
            id="a label that is no value",
        ),
        pytest.param(ingress(ports=[{"port": 70000}]), "spec.ingress[0].ports[0].port", id="port 70000"),
        pytest.param(ingress(ports=[{"port": 0}]), "spec.ingress[0].ports[0].port", id="port 0"),
        pytest.param(ingress(ports=[{"port": "no_name"}]), "spec.ingress[0].ports[0].port", id="no port name"),
        pytest.param(ingress(ports=[{"protocol": "ICMP"}]), "spec.ingress[0].ports[0].protocol", id="ICMP"),
        pytest.param(
            ingress(ports=[{"port": 10, "endPort": 5}]), "spec.ingress[0].ports[0].endPort", id="endPort before port"
        ),
        pytest.param(
            ingress(ports=[{"port": "dns", "endPort": 99}]), "spec.ingress[0].ports[0].endPort", id="endPort of a name"
        ),
        pytest.param(
            ingress(**{"from": [{"ipBlock": {"cidr": "10.0.0.5/8"}}]}),
            "spec.ingress[0].from[0].ipBlock.cidr",
            id="a CIDR with host bits",
        ),
        pytest.param(
            ingress(**{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "11.0.0.0/16"]}}]}),
            "spec.ingress[0].from[0].ipBlock.except[1]",
            id="an except outside",
        ),
        pytest.param(
            ingress(**{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}}]}),
            "spec.ingress[0].from[0].ipBlock.except[0]",
            id="an except that leaves nothing",
        ),
        pytest.param(
            ingress(**{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["fd00::/64"]}}]}),
            "spec.ingress[0].from[0].ipBlock.except[0]",
            id="an except of the other family",
        ),
        pytest.param(ingress(**{"from": [{}]}), "spec.ingress[0].from[0]", id="an empty peer"),
        pytest.param(
            ingress(**{"from": [{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]}),
            "spec.ingress[0].from[0].ipBlock",
            id="pods and addresses in one peer",
        ),
        pytest.param({"policyTypes": ["Ingress", "egress"]}, "spec.policyTypes[1]", id="a policy type in lower case"),
    ],
)
def test_a_policy_that_kubernetes_refuses_is_refused_with_the_path(spec: Document, path: str) -> None:
    with pytest.raises(Invalid) as caught:
        checked(POLICY, spec)
    assert caught.value.path == path


def test_excepts_may_overlap_as_in_kubernetes() -> None:
    block = {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.1.2.0/24"]}
    checked(POLICY, ingress(**{"from": [{"ipBlock": block}]}))


@pytest.mark.parametrize(
    ("metadata", "path"),
    [
        pytest.param({"name": "a/b"}, "metadata.name", id="a name with a slash"),
        pytest.param({"name": "a" * 300}, "metadata.name", id="a name of 300 characters"),
        pytest.param({"name": ""}, "metadata.name", id="no name"),
        pytest.param({"namespace": ""}, "metadata.namespace", id="no namespace"),
        pytest.param({"namespace": "a.b"}, "metadata.namespace", id="a namespace with a dot"),
        pytest.param({"labels": {"app": "x y"}}, "metadata.labels[app]", id="a label that is no value"),
        pytest.param({"annotations": {"-unknown-": "x"}}, "metadata.annotations", id="an annotation that is no key"),
    ],
)
def test_bad_metadata_is_refused_with_the_path(metadata: Document, path: str) -> None:
    with pytest.raises(Invalid) as caught:
        checked(POLICY, {}, metadata=metadata)
    assert caught.value.path == path


def test_a_kind_without_namespaces_refuses_one() -> None:
    with pytest.raises(Invalid, match="no namespace"):
        checked(POOL, {"cidr": "10.65.0.0/16"}, metadata={"namespace": "shop"})


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        pytest.param({"cidr": "10.65.0.1/16"}, "spec.cidr", id="host bits"),
        pytest.param({"cidr": "10.65.0.0/16", "blockSize": 19}, "spec.blockSize", id="a block larger than a cell"),
        pytest.param({"cidr": "10.65.0.0/16", "blockSize": 33}, "spec.blockSize", id="a block of less than nothing"),
        pytest.param({"cidr": "10.65.0.0/16", "blockSize": 0}, "spec.blockSize", id="a block size of 0"),
        pytest.param({"cidr": "fd00::/64", "blockSize": 64}, "spec.blockSize", id="an IPv6 block larger than a cell"),
        pytest.param({"cidr": "10.65.0.0/28"}, "spec.blockSize", id="a pool smaller than its blocks"),
        pytest.param({"cidr": "10.65.0.0/16", "vxlanMode": "always"}, "spec.vxlanMode", id="lower case"),
        pytest.param(
            {"cidr": "10.65.0.0/16", "vxlanMode": "Always", "ipipMode": "Always"},
            "spec.ipipMode",
            id="two encapsulations",
        ),
        pytest.param({"cidr": "fd00::/64", "ipipMode": "Always"}, "spec.ipipMode", id="IPIP for IPv6"),
        pytest.param({"cidr": "10.65.0.0/16", "allowedUses": []}, "spec.allowedUses", id="no use"),
        pytest.param({"cidr": "10.65.0.0/16", "allowedUses": ["Pod"]}, "spec.allowedUses[0]", id="an unknown use"),
        pytest.param(
            {"cidr": "10.65.0.0/16", "allowedUses": ["LoadBalancer", "Tunnel"]},
            "spec.allowedUses",
            id="load balancer and",
        ),
        pytest.param({"cidr": "10.65.0.0/16", "assignmentMode": "Auto"}, "spec.assignmentMode", id="Auto"),
        pytest.param({"cidr": "10.65.0.0/16", "nodeSelector": "rack = 'a'"}, "spec.nodeSelector", id="no selector"),
        pytest.param(
            {"cidr": "10.65.0.0/16", "namespaceSelector": "has(a"}, "spec.namespaceSelector", id="half a selector"
        ),
    ],
)
def test_a_bad_pool_is_refused_with_the_path(spec: Document, path: str) -> None:
    with pytest.raises(Invalid) as caught:
        checked(POOL, spec)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("spec", "bits"),
    [
        pytest.param({"cidr": "10.65.0.0/16"}, 26, id="IPv4's default"),
        pytest.param({"cidr": "fd00::/64"}, 122, id="IPv6's default"),
        pytest.param({"cidr": "10.65.0.0/28", "blockSize": 28}, 28, id="as large as the pool"),
    ],
)
def test_a_pool_knows_its_blocks_size(spec: Document, bits: int) -> None:
    pool = checked(POOL, spec)
    assert isinstance(pool, IPPool)
    assert pool.block_prefix_len == bits


def test_a_calico_admins_pool_needs_its_api_version_changed_and_nothing_else() -> None:
    pool = checked(
        POOL,
        {
            "cidr": "10.1.0.0/16",
            "ipipMode": "CrossSubnet",
            "natOutgoing": True,
            "disabled": False,
            "nodeSelector": "all()",
            "allowedUses": ["Workload", "Tunnel"],
            "assignmentMode": "Automatic",
            "disableBGPExport": True,
        },
    )
    assert codec.unknown_paths(pool) == ()
    assert codec.document(pool)["spec"]["disableBGPExport"] is True


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        pytest.param({"machine": ""}, "spec.machine", id="no machine"),
        pytest.param(
            {"machine": "a", "addresses": ["10.0.0.1/24"]}, "spec.addresses[0]", id="an address with a length"
        ),
        pytest.param({"machine": "a", "blocks": ["10.0.0.1/24"]}, "spec.blocks[0]", id="a block with host bits"),
        pytest.param({"machine": "a", "borrowed": ["x"]}, "spec.borrowed[0]", id="no address"),
    ],
)
def test_a_bad_node_is_refused_with_the_path(spec: Document, path: str) -> None:
    with pytest.raises(Invalid) as caught:
        checked(NODE, spec)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("change", "path"),
    [
        pytest.param({"host_interface": "tort0123456789ab"}, "spec.hostInterface", id="16 characters"),
        pytest.param({"interface": "eth0/x"}, "spec.interface", id="a slash"),
        pytest.param({"interface": ".."}, "spec.interface", id="two dots"),
        pytest.param({"container_id": "$(reboot)"}, "spec.containerID", id="a shell's"),
        pytest.param({"network": ""}, "spec.network", id="no network"),
        pytest.param({"netns": "/run\0"}, "spec.netns", id="a NUL in a path"),
        pytest.param({"addresses": ("10.0.0.1", "")}, "spec.addresses[1]", id="no address"),
    ],
)
def test_a_bad_endpoint_is_refused_with_the_path(change: Document, path: str) -> None:
    good = endpoint("web-1")
    good.check()
    with pytest.raises(Invalid) as caught:
        msgspec.structs.replace(good, spec=msgspec.structs.replace(good.spec, **change)).check()
    assert caught.value.path == path


@pytest.mark.parametrize("seconds", [-1, 1201])
def test_a_cooldown_out_of_bounds_is_refused(seconds: int) -> None:
    with pytest.raises(Invalid, match="cooldownSeconds"):
        checked(CLUSTER, {"cooldownSeconds": seconds}, name="default")


def test_there_is_one_cluster_configuration() -> None:
    checked(CLUSTER, {"strictAffinity": True}, name="default")
    with pytest.raises(Invalid, match="default"):
        checked(CLUSTER, {}, name="other")


def test_endpoints_and_pods_are_found_by_node_and_namespace() -> None:
    assert endpoint("web-1", node="n").indexed() == {"namespace": {"shop"}, "node": {"n"}}
    pod = Pod(metadata=Metadata(name="p", namespace="shop"), spec=PodSpec(node_name="n"))
    assert pod.indexed() == {"namespace": {"shop"}, "node": {"n"}}
