"""The rules by which an allocation looks ownerless: the table of ipam/DESIGN.md, row by row, and the grace."""

from ipaddress import ip_address

import pytest

from datastore.resources.ipblock import Allocation
from datastore.resources.kubernetes import Pod, PodIP, PodSpec, PodStatus
from datastore.resources.value import Metadata
from datastore.resources.workloadendpoint import WorkloadEndpoint, WorkloadEndpointSpec
from datastore.store import Gone
from ipam.claims import Claimant, Claims
from ipam.reclaim import Api, Evidence, Grace, Here, Kind, home_of, judge, kind_of
from tests.ipam.world import Clock

ATTACHMENT, TUNNEL, MANUAL = "net:c1:eth0", "tunnel/n3", "manual/web"


def here(
    node: str = "n3", machine: str = "m3", *, recorded: bool = False, routed: bool | None = False, busy: bool = False
) -> Here:
    return Here(node, machine, recorded, routed, busy)


def controller(handle: str, machine: str | None, api: Api = Api.SILENT, *, frozen: bool = False) -> Evidence:
    return Evidence(handle, "n3", machine, api, None, frozen)


def node(handle: str, seen: Here, api: Api = Api.SILENT, machine: str | None = "m3", home: str = "n3") -> Evidence:
    return Evidence(handle, home, machine, api, seen)


@pytest.mark.parametrize(
    ("evidence", "ownerless"),
    [
        pytest.param(controller(ATTACHMENT, None), True, id="its node has departed and nobody names it"),
        pytest.param(controller(ATTACHMENT, "m3"), False, id="its node is there: the controller keeps out"),
        pytest.param(controller(ATTACHMENT, None, Api.NAMES), False, id="departed, but a live pod names it"),
        pytest.param(controller(ATTACHMENT, None, Api.STARTING), False, id="departed, but its pod is starting"),
        pytest.param(controller(ATTACHMENT, None, Api.OTHERS), False, id="departed, but its pod is there"),
        pytest.param(controller(ATTACHMENT, None, frozen=True), False, id="departed, in a frozen block"),
        pytest.param(controller(TUNNEL, None), True, id="the tunnel end of a departed node"),
        pytest.param(controller(TUNNEL, "m3"), False, id="the tunnel end of a node that is there"),
        pytest.param(controller(MANUAL, None), False, id="by hand, of a departed node"),
        pytest.param(controller("vm7", None), False, id="by another program, of a departed node"),
        pytest.param(node(ATTACHMENT, here()), True, id="everybody denies it on its own node"),
        pytest.param(node(ATTACHMENT, here(), Api.OTHERS), True, id="an earlier sandbox's, on its own node"),
        pytest.param(node(ATTACHMENT, here(recorded=True)), False, id="the node has a record"),
        pytest.param(node(ATTACHMENT, here(routed=True)), False, id="the kernel has a route"),
        pytest.param(node(ATTACHMENT, here(routed=None)), False, id="another plugin's link, where nobody can look"),
        pytest.param(node(ATTACHMENT, here(busy=True)), False, id="somebody holds the handle"),
        pytest.param(node(ATTACHMENT, here(), Api.NAMES), False, id="a live pod names it, whatever the node sees"),
        pytest.param(node(ATTACHMENT, here(), Api.STARTING), False, id="its pod is starting here"),
        pytest.param(node(ATTACHMENT, here(), machine="m4"), False, id="the name is another machine's now"),
        pytest.param(node(ATTACHMENT, here(), machine=None), False, id="this node's own Node is gone"),
        pytest.param(node(ATTACHMENT, here(), home="n4"), False, id="another node's, which borrowed"),
        pytest.param(node(TUNNEL, here()), False, id="this node's own tunnel end"),
        pytest.param(node(MANUAL, here()), False, id="by hand, on this node"),
    ],
)
def test_an_allocation_is_ownerless_only_if_everybody_who_can_know_denies_it(
    evidence: Evidence, *, ownerless: bool
) -> None:
    verdict = judge(evidence)
    assert verdict.ownerless is ownerless
    assert verdict.reason


@pytest.mark.parametrize(
    ("handle", "kind", "home"),
    [
        pytest.param("net:c1:eth0", Kind.ATTACHMENT, "asked", id="an attachment lives with the node that asked"),
        pytest.param("tunnel/n3", Kind.TUNNEL, "n3", id="a tunnel end with the node in its handle"),
        pytest.param("tunnel/n3/6", Kind.TUNNEL, "n3", id="of any family"),
        pytest.param("manual/a:b:c", Kind.MANUAL, "asked", id="colons make no attachment of what is by hand"),
        pytest.param("vm7", Kind.MANUAL, "asked", id="what nobody knows is by hand"),
    ],
)
def test_what_an_owner_is_and_where_it_lives_follow_from_its_handle(handle: str, kind: Kind, home: str) -> None:
    assert (kind_of(handle), home_of(handle, "asked")) == (kind, home)


# Claims


def pod(name: str = "web", uid: str = "u1", *ips: str, phase: str = "Running", host: bool = False) -> Pod:
    return Pod(
        metadata=Metadata(name=name, namespace="shop", uid=uid),
        spec=PodSpec(node_name="n3", host_network=host),
        status=PodStatus(phase=phase, pod_ip=ips[0] if ips else "", pod_ips=tuple(PodIP(ip=ip) for ip in ips)),
    )


def endpoint(*addresses: str, node: str = "n3", container: str = "c1", name: str = "web") -> WorkloadEndpoint:
    return WorkloadEndpoint(
        metadata=Metadata(name=name, namespace="shop"),
        spec=WorkloadEndpointSpec(
            node=node,
            pod="web",
            container_id=container,
            network="net",
            interface="eth0",
            host_interface="tort0",
            addresses=addresses,
        ),
    )


def allocation(uid: str = "u1", pod: str = "web", handle: str = ATTACHMENT) -> Allocation:
    return Allocation(handle=handle, id="0" * 16, pod=pod, namespace="shop", uid=uid, node="n3")


IPV4, IPV6 = "10.65.0.7", "fd65::7"
STATIC = Pod(
    metadata=Metadata(
        name="web", namespace="shop", uid="of-the-image", annotations={"kubernetes.io/config.mirror": "u1"}
    )
)


@pytest.mark.parametrize(
    ("claimants", "found", "api"),
    [
        pytest.param([], allocation(), Api.SILENT, id="nobody"),
        pytest.param([pod("web", "u1", IPV4)], allocation(), Api.NAMES, id="a pod with the address"),
        pytest.param([pod("db", "u9", IPV4)], allocation(), Api.NAMES, id="another pod than the allocation says"),
        pytest.param([pod("web", "u1", "10.65.0.8", IPV4)], allocation(), Api.NAMES, id="as its second address"),
        pytest.param([pod("web", "u1")], allocation(), Api.STARTING, id="its pod, which has no address yet"),
        pytest.param([pod("web", "u1", "10.65.0.8")], allocation(), Api.OTHERS, id="its pod with another address"),
        pytest.param([pod("web", "u2")], allocation(), Api.SILENT, id="a later pod of its name"),
        pytest.param([pod("web", "u2")], allocation(uid=""), Api.STARTING, id="by name where there is no uid"),
        pytest.param([pod("web", "u1", IPV4, phase="Succeeded")], allocation(), Api.SILENT, id="a pod that is done"),
        pytest.param([pod("web", "u1", IPV4, phase="Failed")], allocation(), Api.SILENT, id="a pod that failed"),
        pytest.param([pod("web", "u1", IPV4, host=True)], allocation(), Api.SILENT, id="a pod in its node's network"),
        pytest.param([STATIC], allocation(), Api.STARTING, id="a static pod, by its kubelet's uid"),
        pytest.param([endpoint(IPV4)], allocation(uid=""), Api.NAMES, id="an endpoint with the address"),
        pytest.param([endpoint()], allocation(uid=""), Api.STARTING, id="the attachment's endpoint without any"),
        pytest.param([endpoint("10.65.0.8")], allocation(uid=""), Api.OTHERS, id="the attachment's with another"),
        pytest.param([STATIC, endpoint("10.65.0.8")], allocation(), Api.STARTING, id="one of two without any"),
        pytest.param([endpoint("10.65.0.8", container="c2")], allocation(uid=""), Api.SILENT, id="another attachment"),
    ],
)
def test_what_pods_and_endpoints_say_of_an_allocation(
    claimants: list[Pod | WorkloadEndpoint], found: Allocation, api: Api
) -> None:
    assert Claims(claimants).of(ip_address(IPV4), found) is api


def test_an_ipv6_address_is_found_however_it_is_written() -> None:
    assert Claims([pod("web", "u9", "FD65:0::0007")]).of(ip_address(IPV6), allocation()) is Api.NAMES


def test_who_does_not_count_says_nothing() -> None:
    claims = Claims([endpoint(IPV4, node="gone"), endpoint(IPV4, node="there", name="b", container="c9")])

    def of(counts: list[str]) -> Api:
        return claims.of(ip_address(IPV4), allocation(uid=""), lambda one: one.node in counts)

    assert [of([]), of(["there"])] == [Api.SILENT, Api.NAMES]


def test_claims_follow_what_changes_and_what_goes() -> None:
    claims = Claims([pod("web", "u1", IPV4), endpoint(IPV4)])
    claims.set(pod("web", "u1", "10.65.0.8"))
    claims.remove(WorkloadEndpoint, Gone("shop", "web"))
    assert claims.of(ip_address(IPV4), allocation()) is Api.OTHERS
    claims.replace(Pod, [pod("db", "u9", IPV4)])
    assert claims.of(ip_address(IPV4), allocation()) is Api.NAMES
    assert claims.of(ip_address("10.65.0.8"), allocation()) is Api.SILENT
    claims.replace(Pod, [])
    assert claims.of(ip_address(IPV4), allocation()) is Api.SILENT
    assert list[Claimant](claims.endpoints()) == []


# Grace


def test_the_grace_runs_from_the_first_look_and_any_contrary_one_ends_it() -> None:
    clock = Clock()
    grace: Grace[str] = Grace(clock)
    assert grace.look(["a", "b"], 60) == {"a": 0, "b": 0}
    clock.now += 20
    assert grace.look(["a"], 60) == {"a": 20}
    clock.now += 20
    assert grace.look(["a", "b"], 60) == {"a": 40, "b": 0}


def test_what_nobody_looked_at_for_long_begins_anew() -> None:
    clock = Clock()
    grace: Grace[str] = Grace(clock)
    grace.look(["a"], 60)
    clock.now += 61
    assert grace.look(["a"], 60) == {"a": 0}
