"""What is kept of Kubernetes' objects: what our programs read, and nothing that changes without meaning to them."""

import msgspec
import pytest

from cni.pods import facts_of
from controller.copies import copy_of
from datastore.resources.kubernetes import (
    Container,
    ContainerPort,
    KubernetesNode,
    Namespace,
    NodeAddress,
    NodeStatus,
    Pod,
    PodIP,
    PodSpec,
    PodStatus,
)
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.value import Metadata, Resource, UnknownFields
from policy.endpoints import TOLD_EARLY, from_pod

EARLY = {TOLD_EARLY: '["10.65.0.7"]'}
SERVER = Container(name="c", ports=(ContainerPort(container_port=80, name="http"), ContainerPort(container_port=81)))
SIDECAR = Container(name="s", ports=(ContainerPort(container_port=82, name="m"),), restart_policy="Always")


def pod(phase: str = "Running", node: str = "n1", *, address: str = "10.65.0.7", **annotations: str) -> Pod:
    noise = {"kubectl.kubernetes.io/restartedAt": "now"}
    return Pod(
        metadata=Metadata(
            name="db",
            namespace="shop",
            labels={"app": "db"},
            annotations={**noise, **annotations},
            uid="u1",
            resource_version="7-a-u1",
        ),
        spec=PodSpec(
            node_name=node,
            service_account_name="default",
            containers=(SERVER, Container(name="quiet")),
            init_containers=(SIDECAR,),
        ),
        status=PodStatus(phase=phase, pod_ip=address, pod_ips=(PodIP(ip=address),) if address else ()),
    )


def test_a_copy_of_a_pod_is_the_same_endpoint_with_the_same_facts() -> None:
    original = pod(**{"cni.tortie.dev/ipAddrs": "[]"})
    kept = copy_of(original)
    assert kept is not None
    assert from_pod(kept) == from_pod(original)
    facts = facts_of(kept)
    assert facts == msgspec_replaced(original)
    assert (kept.revision, kept.status.phase) == ("", "")


def msgspec_replaced(original: Pod) -> object:
    ours = {key: value for key, value in original.metadata.annotations.items() if "tortie" in key}
    metadata = msgspec.structs.replace(original.metadata, annotations=ours)
    return facts_of(msgspec.structs.replace(original, metadata=metadata))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(pod("Pending"), pod("Running"), id="a phase that isn't an end"),
        pytest.param(pod(), pod(**{"cni.example.com/noted": "a"}), id="others' annotations"),
        pytest.param(pod(), pod(**EARLY), id="what was told early, beside the kubelet's word"),
    ],
)
def test_what_means_nothing_here_is_no_change(before: Pod, after: Pod) -> None:
    assert copy_of(before) == copy_of(after)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(pod(address=""), id="no address yet"),
        pytest.param(pod(node="n2"), id="another node"),
        pytest.param(pod(**{"cni.projectcalico.org/ipAddrs": "[]"}), id="an annotation that asks for an address"),
        pytest.param(pod(**{"kubernetes.io/config.mirror": "x"}), id="a static pod's uid"),
    ],
)
def test_what_means_something_is(other: Pod) -> None:
    assert copy_of(pod()) != copy_of(other)


def test_what_was_told_early_is_kept_until_the_kubelet_tells() -> None:
    early = copy_of(pod("Pending", address="", **EARLY))
    assert early is not None
    assert early.metadata.annotations == EARLY


@pytest.mark.parametrize(
    "nobody",
    [
        pytest.param(pod("Pending", node="", address=""), id="not scheduled"),
        pytest.param(pod("Succeeded"), id="succeeded"),
        pytest.param(pod("Failed"), id="failed"),
    ],
)
def test_a_pod_that_is_no_endpoint_isnt_kept(nobody: Pod) -> None:
    assert copy_of(nobody) is None


def test_of_a_node_uid_and_addresses_are_kept() -> None:
    addresses = (NodeAddress(type="InternalIP", address="10.0.0.1"),)
    metadata = Metadata(name="n1", uid="u", labels={"a": "b"}, annotations={"node.alpha": "x"})
    kept = copy_of(KubernetesNode(metadata=metadata, status=NodeStatus(addresses=addresses)))
    assert kept == KubernetesNode(metadata=Metadata(name="n1", uid="u"), status=NodeStatus(addresses=addresses))


@pytest.mark.parametrize("kind", [Namespace, NetworkPolicy])
def test_what_kubectl_and_the_server_note_isnt_kept(kind: type[Resource]) -> None:
    noted = {"kubectl.kubernetes.io/last-applied-configuration": "{...}"}
    owned = UnknownFields({"finalizers": ["x"]})
    metadata = Metadata(name="a", annotations=noted, resource_version="9-b", unknown=owned)
    kept = copy_of(kind(metadata=metadata, unknown=UnknownFields({"status": {}})))
    assert kept == kind(metadata=Metadata(name="a"))
