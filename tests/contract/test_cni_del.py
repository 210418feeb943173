"""DEL: it succeeds whatever is gone, as often as it comes, and touches nothing that isn't the attachment's."""

import pytest

from tests.contract.table import table
from tests.contract.test_cni_results import BOTH
from tests.contract.ways import VERSIONS, Document, Way, addresses, interfaces, silent, soon
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]


@table("version", [None, *VERSIONS])
def test_a_del_removes_what_the_add_made(way: Way, version: str | None) -> None:
    pod, config = way.pod(), way.config(version, ipam=BOTH)
    way.add(pod, config)
    assert silent(way.call("DEL", pod, config))
    assert way.pod_routes() == []
    assert way.nothing_left()


def test_a_del_comes_as_often_as_it_likes(way: Way) -> None:
    pod = way.pod()
    way.add(pod)
    for _ in range(3):
        assert silent(way.call("DEL", pod))
    assert way.nothing_left()


def test_what_was_never_added_is_deleted(way: Way) -> None:
    for _ in range(2):
        assert silent(way.call("DEL", way.pod()))
    assert way.nothing_left()


@table(
    "previous",
    [
        pytest.param(None, id="null"),
        pytest.param({}, id="empty"),
        pytest.param({"cniVersion": "1.1.0", "dns": {}}, id="without anything"),
        pytest.param({"cniVersion": "9.9.9", "ips": [{"address": "x"}]}, id="of a version that nobody knows"),
        pytest.param({"interfaces": 5, "ips": [{"interface": 9}]}, id="out of shape"),
        pytest.param([], id="no object"),
    ],
)
def test_a_del_takes_no_heed_of_prev_result(way: Way, previous: object) -> None:
    pod = way.pod()
    way.add(pod)
    assert silent(way.call("DEL", pod, {**way.config(), "prevResult": previous}))
    assert way.nothing_left()


def test_a_del_takes_no_heed_of_a_prev_result_that_is_anothers(way: Way) -> None:
    pod, other = way.pod(), way.pod()
    way.add(pod)
    result = way.add(other)
    assert silent(way.call("DEL", pod, way.config(prevResult=result)))
    assert interfaces(other) == ["eth0"]
    assert way.add(other) == result


@table(
    "keys",
    [
        pytest.param({"mtu": 1}, id="an mtu that is none"),
        pytest.param({"ipam": {"type": "tortie-ipam", "assign_ipv4": "maybe"}}, id="a family neither true nor false"),
        pytest.param({"ipam": {"type": "tortie-ipam", "ipv4_pools": ["gone"]}}, id="a pool that has gone"),
        pytest.param({"args": {"cni": {"labels": [{"key": "-", "value": ""}]}}}, id="a label that is none"),
        pytest.param({"args": {"cni": {"ips": ["nonsense"]}}}, id="an address that is none"),
        pytest.param({"runtimeConfig": {"mac": "nonsense"}}, id="a MAC that is none"),
    ],
)
def test_a_configuration_edited_since_keeps_no_pod(way: Way, keys: Document) -> None:
    pod = way.pod()
    way.add(pod)
    assert silent(way.call("DEL", pod, {**way.config(), **keys}))
    assert way.nothing_left()


@table("args", ["FOO=BAR", "IP=nonsense", "no pairs", "K8S_POD_NAMESPACE=a/b", "IP=192.0.2.1;;"])
def test_arguments_that_an_add_would_refuse_keep_no_pod(way: Way, args: str) -> None:
    pod = way.pod()
    way.add(pod)
    assert silent(way.call("DEL", pod, args=args))
    assert way.nothing_left()


def test_a_pod_whose_interface_somebody_has_deleted_is_deleted(way: Way) -> None:
    pod = way.pod()
    way.add(pod)
    pod.namespace.ip("link del eth0")
    assert silent(way.call("DEL", pod))
    assert way.nothing_left()


def test_a_pod_whose_interface_somebody_has_renamed_is_deleted(way: Way) -> None:
    pod = way.pod()
    way.add(pod)
    pod.namespace.ip("link set eth0 down", "link set eth0 name moved0")
    assert silent(way.call("DEL", pod))
    assert way.nothing_left()


def test_an_interface_that_is_not_ours_is_left_to_its_owner(way: Way) -> None:
    pod = way.pod()
    pod.namespace.ip("link add eth0 type veth peer name other")
    assert silent(way.call("DEL", pod))
    assert sorted(interfaces(pod)) == ["eth0", "other"]
    pod.namespace.ip("link del eth0")


def test_a_late_del_of_an_old_container_touches_nothing_of_the_pods_new_one(way: Way) -> None:
    old, new = way.pod(), way.pod()
    args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1"
    way.add(old, args=args)
    result = way.add(new, args=args)
    for _ in range(2):
        assert silent(way.call("DEL", old, args=args, CNI_NETNS=""))
    assert addresses(new) == [result["ips"][0]["address"]]
    assert silent(way.call("CHECK", new, way.config(prevResult=result), args=args))
    mine = [f"net:{new.container}:eth0"]
    assert soon(way.owned, mine) == mine
    assert soon(lambda: len(way.host_ends()), 1) == 1
