"""Which pods are endpoints, and what is taken from them."""

from ipaddress import ip_address

import pytest

from datastore.errors import Invalid
from datastore.resources.kubernetes import Pod
from policy import endpoints
from policy.model import NamedPort, Protocol
from tests.policy.cluster import resources

_POD = """
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {nodeName: n1, %s}
status: {phase: %s, podIP: 10.0.0.1, podIPs: [%s]}
"""
BOTH = "{ip: 10.0.0.1}, {ip: 'fd00::1'}"


def _pod(spec: str = "", phase: str = "Running", addresses: str = BOTH) -> Pod:
    (found,) = resources(_POD % (spec, phase, addresses))
    assert isinstance(found, Pod)
    return found


def test_a_running_pod_is_an_endpoint() -> None:
    endpoint = endpoints.from_pod(_pod(), "tort1")
    assert endpoint is not None
    assert (endpoint.id, endpoint.namespace, endpoint.name, endpoint.node) == ("shop/web", "shop", "web", "n1")
    assert endpoint.labels == {"app": "web"}
    assert endpoint.addresses == (ip_address("10.0.0.1"), ip_address("fd00::1"))
    assert endpoint.interface == "tort1"


@pytest.mark.parametrize(
    "pod",
    [
        pytest.param(_pod("hostNetwork: true"), id="on the host's network"),
        pytest.param(_pod(phase="Succeeded"), id="succeeded"),
        pytest.param(_pod(phase="Failed"), id="failed"),
        pytest.param(Pod(metadata=_pod().metadata), id="without an address yet"),
    ],
)
def test_what_is_no_endpoint(pod: Pod) -> None:
    assert endpoints.from_pod(pod) is None


def test_pod_ip_alone_is_enough() -> None:
    endpoint = endpoints.from_pod(_pod(addresses=""))
    assert endpoint is not None
    assert endpoint.addresses == (ip_address("10.0.0.1"),)


def test_named_ports_come_from_containers_then_sidecars_and_from_no_other_init_container() -> None:
    spec = """
      containers: [{name: c, ports: [{name: http, containerPort: 80}, {containerPort: 81}]}],
      initContainers: [
        {name: setup, ports: [{name: setup, containerPort: 1}]},
        {name: side, restartPolicy: Always, ports: [{name: dns, containerPort: 53, protocol: UDP}]}]
    """
    endpoint = endpoints.from_pod(_pod(spec))
    assert endpoint is not None
    assert endpoint.ports == (NamedPort("http", Protocol.TCP, 80), NamedPort("dns", Protocol.UDP, 53))


@pytest.mark.parametrize(
    ("pod", "path"),
    [
        pytest.param(_pod(addresses="{ip: 10.0.0}"), "status.podIPs", id="address"),
        pytest.param(_pod(addresses="{ip: 'fe80::1%x'}"), "status.podIPs", id="an address with a zone"),
        pytest.param(
            _pod("containers: [{name: c, ports: [{name: http, containerPort: 0}]}]"),
            "spec.containers[c].ports[http].containerPort",
            id="port",
        ),
        pytest.param(
            _pod("containers: [{name: c, ports: [{name: http, containerPort: 1, protocol: X}]}]"),
            "spec.containers[c].ports[http].protocol",
            id="protocol",
        ),
    ],
)
def test_what_cannot_be_understood_is_refused_with_its_path(pod: Pod, path: str) -> None:
    with pytest.raises(Invalid) as caught:
        endpoints.from_pod(pod)
    assert caught.value.path == path


def _told_early(text: str, *, node: str = "n1", status: str = "{}") -> Pod:
    metadata = "{name: web, namespace: shop, annotations: {cni.tortie.dev/podIPs: %r}}" % text  # noqa: UP031
    (found,) = resources(f"kind: Pod\nmetadata: {metadata}\nspec: {{nodeName: '{node}'}}\nstatus: {status}\n")
    assert isinstance(found, Pod)
    return found


def test_an_agent_tells_addresses_before_the_kubelet_does() -> None:
    endpoint = endpoints.from_pod(_told_early('["10.0.0.1", "fd00::1"]'))
    assert endpoint is not None
    assert endpoint.addresses == (ip_address("10.0.0.1"), ip_address("fd00::1"))


def test_the_kubelets_word_goes_before_the_agents() -> None:
    endpoint = endpoints.from_pod(_told_early('["10.0.0.1"]', status="{podIPs: [{ip: 10.0.0.2}]}"))
    assert endpoint is not None
    assert endpoint.addresses == (ip_address("10.0.0.2"),)


@pytest.mark.parametrize(
    "pod",
    [
        pytest.param(_told_early('["10.0.0.1"]', node=""), id="of no node"),
        pytest.param(_told_early("10.0.0.1"), id="no JSON"),
        pytest.param(_told_early('{"ip": 1}'), id="no list"),
        pytest.param(_told_early("[1]"), id="numbers"),
        pytest.param(_told_early('["web"]'), id="names"),
        pytest.param(_told_early('["fd00::1%x -A INPUT"]'), id="a zone, which may hold any text"),
    ],
)
def test_what_no_agent_wrote_counts_for_nothing(pod: Pod) -> None:
    assert endpoints.from_pod(pod) is None
