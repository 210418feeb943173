"""Finding a kind by what a document says or a person types."""

import pytest

from datastore.errors import UnknownKind
from datastore.resources import kinds
from datastore.resources.clusterconfiguration import ClusterConfiguration
from datastore.resources.ipblock import IPBlock
from datastore.resources.ippool import IPPool
from datastore.resources.kubernetes import KubernetesNode, Pod
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.node import Node
from datastore.resources.value import Resource
from datastore.resources.workloadendpoint import WorkloadEndpoint


@pytest.mark.parametrize(
    ("typed", "kind"),
    [
        pytest.param("ippools", IPPool, id="plural"),
        pytest.param("ippool", IPPool, id="singular"),
        pytest.param("IPPool", IPPool, id="kind"),
        pytest.param("IPBLOCK", IPBlock, id="in capitals"),
        pytest.param("wep", WorkloadEndpoint, id="short"),
        pytest.param("netpol", NetworkPolicy, id="Kubernetes' short"),
        pytest.param("po", Pod, id="two letters"),
        pytest.param("networkpolicies.networking.k8s.io", NetworkPolicy, id="plural and group"),
        pytest.param("clusterconfigurations.tortie.dev", ClusterConfiguration, id="plural and our group"),
        pytest.param("nodes", Node, id="nodes are ours"),
        pytest.param("no", Node, id="so is their short name"),
        pytest.param("nodes.tortie.dev", Node, id="nodes of our group"),
        pytest.param("nodes.core", KubernetesNode, id="Kubernetes' nodes"),
        pytest.param(" pods ", Pod, id="blanks around"),
    ],
)
def test_a_kind_is_found_by_what_people_type(typed: str, kind: type[Resource]) -> None:
    assert kinds.named(typed) is kind


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        pytest.param("ippols", "ippools", id="a letter missing"),
        pytest.param("networkpolicys", "networkpolicies", id="a wrong plural"),
    ],
)
def test_a_misspelt_kind_is_refused_with_near_matches(typed: str, near: str) -> None:
    with pytest.raises(UnknownKind, match=near) as caught:
        kinds.named(typed)
    assert near in caught.value.near
    assert caught.value.name == typed


def test_a_kind_that_is_like_none_is_refused() -> None:
    with pytest.raises(UnknownKind) as caught:
        kinds.named("zzz")
    assert caught.value.near == ()


@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: kind.KIND.full_name)
def test_a_documents_kind_is_found_by_api_version_and_kind(kind: type[Resource]) -> None:
    assert kinds.of(kind.KIND.api_version, kind.KIND.name) is kind


def test_full_names_are_unique() -> None:
    assert len({kind.KIND.full_name for kind in kinds.KINDS}) == len(kinds.KINDS)
