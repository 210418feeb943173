"""GC: what isn't in the list of valid attachments goes, of this network and node only; no list, nothing goes."""

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.contract.owners import Owners
from tests.contract.table import table
from tests.contract.ways import Document, Pod, Way, failure, interfaces, refused, silent, soon
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
_VALID = "cni.dev/valid-attachments"


def _entry(pod: Pod, interface: str = "eth0") -> Document:
    return {"containerID": pod.container, "ifname": interface}


def _handles(network: str, *pods: Pod) -> list[str]:
    return sorted(f"{network}:{pod.container}:eth0" for pod in pods)


@contextmanager
def _network(way: Way) -> Iterator[tuple[list[Pod], Pod]]:
    """Three pods of `net` and one of `other`."""
    pods, other = [way.pod() for _ in range(3)], way.pod()
    for pod in pods:
        way.add(pod)
    way.add(other, way.config(name="other"))
    yield pods, other
    assert interfaces(other) == ["eth0"], "another network's attachment was touched"
    assert _handles("other", other)[0] in way.owned()


@pytest.mark.parametrize("valid", [None, []], ids=["null, as a Go program says nothing", "an empty list"])
def test_with_no_valid_attachment_all_of_the_network_go(way: Way, valid: object) -> None:
    with _network(way) as (pods, other):
        assert silent(way.call("GC", None, {**way.config(), _VALID: valid}))
        assert soon(way.owned, _handles("other", other)) == _handles("other", other)
        for pod in pods:
            assert soon(lambda pod=pod: interfaces(pod), []) == []  # type: ignore[misc]
        assert soon(lambda: len(way.host_ends()), 1) == 1


@table(
    "keys",
    [
        pytest.param({}, id="no key, as cnitool"),
        pytest.param({"cni.dev/attachments": []}, id="the other key only"),
        pytest.param({"cni.dev/attachments": None}, id="the other key, null"),
    ],
)
def test_without_a_list_nothing_goes(way: Way, keys: Document) -> None:
    with _network(way) as (pods, other):
        before = way.left()
        assert silent(way.call("GC", None, {**way.config(), **keys}))
        assert way.left() == before
        assert sorted(way.owned()) == sorted([*_handles("net", *pods), *_handles("other", other)])


def test_what_is_valid_stays(way: Way) -> None:
    with _network(way) as (pods, other):
        stays = [_entry(pods[0]), _entry(pods[2])]
        keys = {_VALID: stays, "cni.dev/attachments": stays}
        assert silent(way.call("GC", None, {**way.config(), **keys}))
        wanted = sorted([*_handles("net", pods[0], pods[2]), *_handles("other", other)])
        assert soon(way.owned, wanted) == wanted
        assert soon(lambda: interfaces(pods[1]), []) == []
        assert [interfaces(pods[0]), interfaces(pods[2])] == [["eth0"], ["eth0"]]


def test_an_attachment_is_valid_by_container_and_interface(way: Way) -> None:
    pod = way.pod()
    for interface in ("eth0", "eth1"):
        way.add(pod, interface=interface)
    valid = [_entry(pod, "eth1"), {"containerID": "nosuch", "ifname": "eth0"}]
    assert silent(way.call("GC", None, {**way.config(), _VALID: valid}))
    assert soon(lambda: interfaces(pod), ["eth1"]) == ["eth1"]
    assert soon(way.owned, [f"net:{pod.container}:eth1"]) == [f"net:{pod.container}:eth1"]


def test_more_keys_in_an_entry_are_no_matter(way: Way) -> None:
    pod = way.pod()
    way.add(pod)
    assert silent(way.call("GC", None, {**way.config(), _VALID: [{**_entry(pod), "netns": "/x", "new": None}]}))
    assert interfaces(pod) == ["eth0"]


@table(
    "valid",
    [
        pytest.param("x", id="a string"),
        pytest.param({}, id="an object"),
        pytest.param(0, id="a number"),
        pytest.param(False, id="false"),
        pytest.param([1], id="numbers"),
        pytest.param([None], id="nulls"),
        pytest.param([{}], id="an empty entry"),
        pytest.param([{"containerID": "c1"}], id="no ifname"),
        pytest.param([{"ifname": "eth0"}], id="no containerID"),
        pytest.param([{"containerID": 5, "ifname": "eth0"}], id="a containerID no string"),
        pytest.param([{"containerID": "c1", "ifname": ["eth0"]}], id="an ifname no string"),
        pytest.param([["c1", "eth0"]], id="pairs"),
    ],
)
def test_a_list_out_of_shape_is_refused_and_nothing_goes(way: Way, valid: object) -> None:
    pod = way.pod()
    way.add(pod)
    refused(way.call("GC", None, {**way.config(), _VALID: valid}), 7, _VALID)
    assert interfaces(pod) == ["eth0"]
    assert way.owned() == _handles("net", pod)


def test_addresses_without_a_record_go_where_they_are_this_nodes_and_networks(way: Way) -> None:
    pod, owners = way.pod(), Owners(way)
    way.add(pod)
    owners.plant("net:ghost:eth0")
    owners.plant("net:kept:eth0")
    owners.plant("other:ghost:eth0")
    owners.plant("net:far:eth0", node="node-2")
    valid = [_entry(pod), {"containerID": "kept", "ifname": "eth0"}]
    assert silent(way.call("GC", None, {**way.config(), _VALID: valid}))
    left = sorted({"net:far:eth0", "net:kept:eth0", "other:ghost:eth0", *_handles("net", pod)})
    assert soon(lambda: sorted(set(way.owned())), left) == left
    for handle in ("net:far:eth0", "net:kept:eth0", "other:ghost:eth0"):
        owners.disown(handle)


def test_a_network_whose_name_begins_alike_is_another(way: Way) -> None:
    pods = {name: way.pod() for name in ("net", "net2", "net.a")}
    for name, pod in pods.items():
        way.add(pod, way.config(name=name))
    assert silent(way.call("GC", None, {**way.config(), _VALID: []}))
    wanted = sorted([*_handles("net2", pods["net2"]), *_handles("net.a", pods["net.a"])])
    assert soon(way.owned, wanted) == wanted


def test_what_somebody_is_busy_with_is_left_alone_and_keeps_nothing_else(way: Way) -> None:
    pods = [way.pod() for _ in range(3)]
    for pod in pods:
        way.add(pod)
    busy = pods[1]
    with _held(way, _handles("net", busy)[0]):
        assert silent(way.call("GC", None, {**way.config(), _VALID: []}))
        assert soon(way.owned, _handles("net", busy)) == _handles("net", busy)
        assert interfaces(busy) == ["eth0"]
    assert silent(way.call("GC", None, {**way.config(), _VALID: []}))
    assert way.nothing_left()


_BROKEN_IPAM = """#!/bin/sh
case "$CNI_COMMAND" in
ADD) echo '{"cniVersion": "1.1.0", "ips": [{"address": "10.70.0.5/32"}]}' ;;
GC) echo '{"cniVersion": "1.1.0", "code": 111, "msg": "the other plugin says no", "details": ""}'; exit 1 ;;
esac
"""


def test_it_goes_on_after_a_failure_and_tells_it(way: Way, tmp_path: Path) -> None:
    plugin = tmp_path / "broken-ipam"
    plugin.write_text(_BROKEN_IPAM)
    plugin.chmod(0o755)
    pod, config = way.pod(), way.config(ipam={"type": "broken-ipam"})
    way.add(pod, config, CNI_PATH=str(tmp_path))
    body = failure(way.call("GC", None, {**config, _VALID: []}, CNI_PATH=str(tmp_path)))
    assert "the other plugin says no" in body["msg"] + body["details"]
    assert soon(lambda: interfaces(pod), []) == []


@contextmanager
def _held(way: Way, handle: str) -> Iterator[None]:
    """Another call works on this attachment, and doesn't end."""
    path = way.host.state / "handles" / hashlib.sha256(handle.encode()).hexdigest()[:40]
    with path.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
        path.unlink(missing_ok=True)
