"""sbr behind tortie: the pod's routes go to tables of their own, chosen by source, and lead where they did.

A socket that names no source address, such as a UDP server's that is bound to any, finds no IPv4 route any more: that
is what sbr does, to any network's pod. It is meant for a pod's further interfaces.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from cni.chain import Document
from tests.chains.asking import SILENCE_S, Question, ask, both, serving
from tests.chains.pods import SBR, ChainedPod, attached, network
from tests.chains.policies import GUARDED, STRANGER
from tests.host import OUTSIDE, Host, both_plugin_sets
from tests.sandbox import Namespace, needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
PORTS = ("80/TCP", "53/UDP")


@both_plugin_sets
def test_a_pod_with_source_based_routes_is_reached_from_outside(host: Host, plugins: Path) -> None:
    with attached(host, plugins, network(SBR)) as pod, serving(pod.namespace, "80/TCP"):
        assert ask(host.outside, *both(pod.addresses, (80, "TCP"))) == ["open"] * 2


@both_plugin_sets
def test_a_pod_with_source_based_routes_reaches_outside_by_its_own_address(host: Host, plugins: Path) -> None:
    with attached(host, plugins, network(SBR)) as pod, serving(host.outside, *PORTS):
        assert ask(pod.namespace, *_each(OUTSIDE, pod)) == ["open"] * 4


@both_plugin_sets
def test_policy_holds_for_a_pod_with_source_based_routes(host: Host, stranger: Namespace, plugins: Path) -> None:
    with serving(host.outside, *PORTS), serving(stranger, *PORTS):
        with attached(host, plugins, network(SBR), labels=GUARDED) as pod:
            assert ask(pod.namespace, *_each(OUTSIDE, pod)) == ["open"] * 4
            assert ask(pod.namespace, *_each(STRANGER, pod), seconds=SILENCE_S) == ["silent"] * 4
        with attached(host, plugins, network(SBR)) as pod:
            assert ask(pod.namespace, *_each(STRANGER, pod)) == ["open"] * 4


@both_plugin_sets
def test_tortie_may_be_deleted_again_where_sbr_may_not(host: Host, plugins: Path) -> None:
    conflist = network(SBR)
    with attached(host, plugins, conflist) as pod:
        pass
    request = {**conflist["plugins"][0], "name": "net", "cniVersion": "1.0.0", "prevResult": pod.result}
    for _ in range(2):
        again = host.call("DEL", request, container=pod.container.id, netns=pod.namespace.path)
        assert (again.status, again.out) == (0, "")


@both_plugin_sets
def test_a_pod_is_reached_by_a_further_interface_with_sbr_and_by_its_first(host: Host, plugins: Path) -> None:
    with attached(host, plugins, network()) as first, serving(first.namespace, "80/TCP"):
        with further(first, plugins, SBR) as second:
            assert ask(host.outside, *both([*first.addresses, *second.addresses], (80, "TCP"))) == ["open"] * 4
        assert ask(host.outside, *both(first.addresses, (80, "TCP"))) == ["open"] * 2


@both_plugin_sets
@pytest.mark.parametrize("chained", [pytest.param((SBR,), id="sbr"), pytest.param((), id="no-sbr")])
def test_a_further_interface_takes_no_route_of_the_first(
    host: Host, plugins: Path, chained: tuple[Document, ...]
) -> None:
    with (
        attached(host, plugins, network()) as first,
        serving(first.namespace, "80/TCP"),
        serving(host.outside, "80/TCP"),
        further(first, plugins, *chained),
    ):
        assert ask(host.outside, *both(first.addresses, (80, "TCP"))) == ["open"] * 2
        assert ask(first.namespace, *both(OUTSIDE, (80, "TCP"))) == ["open"] * 2


def further(first: ChainedPod, plugins: Path, *chained: Document) -> AbstractContextManager[ChainedPod]:
    """A second interface of a pod, in another network."""
    conflist = {**network(*chained), "name": "further"}
    return attached(first.host, plugins, conflist, interface="net1", inside=first.namespace)


def _each(addresses: Sequence[str], pod: ChainedPod) -> list[Question]:
    """TCP and UDP to an address of each family, from the pod's own of that family."""
    return [
        Question(address, port, protocol, source=own)
        for address, own in zip(addresses, pod.addresses, strict=True)
        for port, protocol in ((80, "TCP"), (53, "UDP"))
    ]
