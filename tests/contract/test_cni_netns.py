"""CNI_NETNS: the plugin's own namespace, what is no namespace, and one that has gone."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.contract.ways import Way, failure, refused, silent, wiring
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
_OWN = ("/proc/self/ns/net", "the node's file")
_NONE = ("missing", "a plain file", "a folder", "a mount namespace", "a dangling link", "a FIFO")


def _own(way: Way, which: str) -> str:
    return way.host.namespace.path if which == "the node's file" else which


def _none(which: str, folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    path = folder / "netns"
    match which:
        case "a plain file":
            path.write_text("x")
        case "a folder":
            path.mkdir()
        case "a dangling link":
            path.symlink_to(folder / "nowhere")
        case "a FIFO":
            os.mkfifo(path)
        case "a mount namespace":
            return "/proc/self/ns/mnt"
        case _:
            pass
    return str(path)


@pytest.mark.parametrize("which", _OWN)
@pytest.mark.parametrize("override", ["", "0", "yes"])
def test_the_plugins_own_namespace_is_refused_before_anything_is_done(way: Way, which: str, override: str) -> None:
    before = wiring(way.host.namespace)
    refused(way.call("ADD", way.pod(), CNI_NETNS=_own(way, which), CNI_NETNS_OVERRIDE=override), 8, "CNI_NETNS")
    assert wiring(way.host.namespace) == before
    assert way.nothing_left()


@pytest.mark.parametrize("override", ["1", "TRUE"])
def test_overridden_it_fails_all_the_same_and_leaves_nothing(way: Way, override: str) -> None:
    before = wiring(way.host.namespace)
    variables = {"CNI_NETNS": way.host.namespace.path, "CNI_NETNS_OVERRIDE": override}
    failure(way.run({**way.variables("ADD", way.pod(), "eth7"), **variables}, json.dumps(way.config())))
    assert wiring(way.host.namespace) == before
    assert way.nothing_left()


@pytest.mark.parametrize("which", _OWN)
def test_a_del_with_the_plugins_own_namespace_removes_the_pods_interface_only(way: Way, which: str) -> None:
    pod = way.pod()
    for interface in ("eth0", "up0"):  # the node has an up0 of its own
        way.add(pod, interface=interface)
    before = [row for row in wiring(way.host.namespace) if row[0] in ("up0", "lo")]
    for interface in ("eth0", "up0"):
        assert silent(way.call("DEL", pod, interface=interface, CNI_NETNS=_own(way, which)))
    assert [row for row in wiring(way.host.namespace) if row[0] in ("up0", "lo")] == before
    assert way.nothing_left()


@pytest.mark.parametrize("which", _NONE)
def test_an_add_into_what_is_no_namespace_is_refused(way: Way, which: str, tmp_path: Path) -> None:
    refused(way.call("ADD", way.pod(), CNI_NETNS=_none(which, tmp_path)), 8, "CNI_NETNS")
    assert way.nothing_left()


@pytest.mark.parametrize("which", [*_NONE, "empty"])
def test_a_del_needs_no_namespace(way: Way, which: str, tmp_path: Path) -> None:
    pod = way.pod()
    way.add(pod)
    netns = "" if which == "empty" else _none(which, tmp_path)
    for _ in range(2):
        assert silent(way.call("DEL", pod, CNI_NETNS=netns))
    assert way.nothing_left()


def test_a_check_in_what_is_no_namespace_fails(way: Way, tmp_path: Path) -> None:
    pod = way.pod()
    config = way.config(prevResult=way.add(pod))
    failure(way.call("CHECK", pod, config, CNI_NETNS=str(tmp_path / "netns")))
    failure(way.call("CHECK", pod, config, CNI_NETNS=way.host.namespace.path))
    failure(way.call("CHECK", pod, config, CNI_NETNS=way.pod().netns))


def test_a_pod_whose_namespace_has_gone_is_deleted(way: Way) -> None:
    pod = way.pod()
    way.add(pod)
    subprocess.run(("ip", "netns", "del", pod.namespace.name), check=True)
    way.pods.remove(pod)
    way.host.pods.remove(pod.namespace.name)
    assert silent(way.call("DEL", pod))
    assert way.nothing_left()
