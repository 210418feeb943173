"""Policies that do nothing are found, whatever came first; those that wait for nothing in particular are let be."""

from typing import Any

import pytest

from controller.selected import GRACE_S, Selected, Sometimes
from datastore import codec
from datastore.resources.kubernetes import Pod, PodSpec, PodStatus
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.value import Metadata
from datastore.store import Gone


def pod(name: str = "api", *, namespace: str = "shop", host: bool = False, phase: str = "", **labels: str) -> Pod:
    metadata = Metadata(name=name, namespace=namespace, labels=labels)
    return Pod(metadata=metadata, spec=PodSpec(host_network=host), status=PodStatus(phase=phase))


def policy(selector: dict[str, Any], *, name: str = "only-api", **spec: object) -> NetworkPolicy:
    document = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"podSelector": selector, **spec},
    }
    found = codec.decode(document)
    assert isinstance(found, NetworkPolicy)
    return found


API = policy({"matchLabels": {"app": "api"}})


def idle(selected: Selected) -> bool:
    """Once the grace is over."""
    return not selected.idle(0.0) and bool(selected.idle(GRACE_S))


@pytest.mark.parametrize(
    ("found", "pods", "expected"),
    [
        pytest.param(API, [], True, id="no pod"),
        pytest.param(API, [pod(app="api")], False, id="a pod"),
        pytest.param(API, [pod(app="api", phase="Pending")], False, id="one that is to start"),
        pytest.param(API, [pod(app="web")], True, id="another"),
        pytest.param(API, [pod(app="api", namespace="bank")], True, id="of another namespace"),
        pytest.param(API, [pod(app="api", host=True)], True, id="in its node's network"),
        pytest.param(API, [pod(app="api", phase="Succeeded")], True, id="one that has ended"),
        pytest.param(policy({}), [], False, id="a policy for every pod"),
    ],
)
def test_a_policy_that_selects_no_pod_is_found(found: NetworkPolicy, pods: list[Pod], expected: bool) -> None:
    selected = Selected()
    selected.set_policy(found)
    selected.replace_pods(Pod, pods)
    assert idle(selected) is expected


def test_a_pod_that_comes_within_the_grace_is_enough_and_one_that_goes_begins_it_anew() -> None:
    selected = Selected()
    selected.set_policy(API)
    assert selected.idle(0.0) == []
    selected.set_pod(pod(app="api"))
    assert selected.idle(GRACE_S) == []
    selected.set_pod(pod(app="web"))
    assert selected.idle(GRACE_S + 1) == []
    (found,) = selected.idle(2 * GRACE_S + 1)
    assert (found.about.name, found.about.namespace, found.selector) == ("only-api", "shop", "app=api")
    selected.remove_policy(Gone("shop", "only-api"))
    assert selected.idle(2 * GRACE_S + 1) == []


def test_the_second_of_two_pods_alike_is_enough() -> None:
    selected = Selected()
    selected.set_policy(API)
    selected.replace_pods(Pod, [pod("a", app="api"), pod("b", app="api")])
    selected.remove_pod(Pod, Gone("shop", "a"))
    assert not idle(selected)
    selected.remove_pod(Pod, Gone("shop", "b"))
    assert idle(selected)


def test_a_policy_that_isnt_understood_is_told_with_the_field() -> None:
    selected = Selected()
    selected.set_policy(policy({}, ingress=[{"ports": [{"port": 80, "protocol": "GRE"}]}]))
    ((about, why),) = selected.wrong.values()
    assert (about.name, why) == ("only-api", "spec.ingress[0].ports[0].protocol: 'GRE' is no protocol here")
    selected.replace_policies([API])
    assert selected.wrong == {}


def test_what_is_told_is_told_again_once_in_a_while_and_a_few_at_a_time() -> None:
    sometimes = Sometimes[int](again_s=100, at_once=2)
    assert [sometimes.due([1, 2, 3], now) for now in (0, 1, 2, 100, 101)] == [[1, 2], [3], [], [1, 2], [3]]
    assert sometimes.due([], 102) == []
    assert sometimes.due([3], 103) == [3], "it was so no more meanwhile"
