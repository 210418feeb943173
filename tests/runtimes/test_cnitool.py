"""cnitool 1.3.1: the newest libcni, which negotiates a network's version and knows every command.

cnitool names a container after its namespace's path, keeps ADD's result for CHECK and DEL, and shows a failure as
libcni would give it to a runtime. Its `gc` has libcni DEL whatever is kept, and then sends a GC without a list.
"""

from collections.abc import Callable, Iterator

import pytest

from cni.result import SUPPORTED_VERSIONS
from tests.host import CNITOOL, Said
from tests.runtimes import leftovers
from tests.runtimes.machine import BIN, Machine, until_empty
from tests.runtimes.programs import needs_cnitool
from tests.runtimes.traffic import tried

pytestmark = needs_cnitool
NEGOTIATED = {"cniVersion": "1.0.0", "cniVersions": ["0.4.0", "1.0.0", "1.1.0"]}
Tool = Callable[[str], Said]


@pytest.fixture
def cnitool(machine: Machine) -> Iterator[Tool]:
    """Runs cnitool on a pod's fresh namespace."""
    machine.conflist(**NEGOTIATED)
    machine.run("ip", "netns", "add", "pod")
    yield lambda command: machine.said(str(CNITOOL), command, "tortie", "/run/netns/pod", CNI_PATH=BIN)
    machine.run("ip", "netns", "del", "pod")


def _addresses(added: Said) -> list[str]:
    assert added.status == 0, added.err
    return [ip["address"].partition("/")[0] for ip in added.json["ips"]]


def test_a_pod_is_added_and_deleted_as_often_as_one_likes(machine: Machine, cnitool: Tool) -> None:
    given = _addresses(cnitool("add"))
    assert [tried(machine.host, address) for address in given] == ["closed", "closed"]
    until_empty(lambda: set(given) - set(leftovers.known(machine.host).endpoints))
    for deleted in (cnitool("del"), cnitool("del")):
        assert (deleted.status, deleted.out) == (0, ""), deleted.err


@pytest.mark.parametrize(
    ("offered", "spoken"),
    [
        *(pytest.param({"cniVersion": version}, version, id=version) for version in SUPPORTED_VERSIONS),
        pytest.param(NEGOTIATED, "1.1.0", id="the highest of a list"),
        pytest.param({"cniVersion": "1.1.0", "cniVersions": ["1.0.0"]}, "1.1.0", id="the highest, beside a list"),
        pytest.param({"cniVersion": "0.4.0", "cniVersions": ["1.0.0"]}, "1.0.0", id="no higher than offered"),
    ],
)
def test_the_version_is_negotiated(machine: Machine, cnitool: Tool, offered: dict[str, object], spoken: str) -> None:
    machine.conflist(**offered)
    added = cnitool("add")
    assert added.status == 0, added.err
    assert added.json["cniVersion"] == spoken
    until_empty(lambda: 2 - len(leftovers.known(machine.host).endpoints))
    assert cnitool("del").status == 0


def test_check_passes_at_once_after_add(cnitool: Tool) -> None:
    _addresses(cnitool("add"))
    checked = cnitool("check")
    assert (checked.status, checked.out) == (0, ""), checked.err
    assert cnitool("del").status == 0


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        pytest.param("addr flush dev eth0 scope global", "the pod's eth0 lacks", id="an address is gone"),
        pytest.param("route del default", "the pod's route to 0.0.0.0/0 is missing", id="a route is gone"),
        pytest.param("link set eth0 down", "the pod's eth0 is down", id="the interface is down"),
        pytest.param("link del eth0", "the pod's eth0 is missing", id="the interface is gone"),
    ],
)
def test_check_says_what_has_changed_in_the_pod(machine: Machine, cnitool: Tool, broken: str, complaint: str) -> None:
    _addresses(cnitool("add"))
    machine.run("ip", "-n", "pod", *broken.split())
    checked = cnitool("check")
    assert checked.status != 0
    assert complaint in checked.err
    assert cnitool("del").status == 0


def test_gc_frees_what_libcni_remembers(cnitool: Tool) -> None:
    """Nothing may be left afterwards, and nobody else deletes it."""
    _addresses(cnitool("add"))
    collected = cnitool("gc")
    assert (collected.status, collected.out) == (0, ""), collected.err


def test_gc_without_a_list_of_attachments_removes_nothing(machine: Machine, cnitool: Tool) -> None:
    given = _addresses(cnitool("add"))
    (kept,) = (machine.root / "var/lib/cni/results").iterdir()
    kept.unlink()
    collected = cnitool("gc")
    assert (collected.status, collected.out) == (0, ""), collected.err
    assert [tried(machine.host, address) for address in given] == ["closed", "closed"]
    assert cnitool("del").status == 0


def test_status_says_whether_pods_can_be_added(machine: Machine, cnitool: Tool) -> None:
    assert (cnitool("status").status, cnitool("status").out) == (0, "")
    machine.host.stop()
    without = cnitool("status")
    assert without.status != 0
    assert "the tortie agent can't be reached" in without.err
    machine.host.start()
    assert cnitool("status").status == 0


def test_without_an_agent_add_says_so_and_del_succeeds(machine: Machine, cnitool: Tool) -> None:
    _addresses(cnitool("add"))
    machine.host.stop()
    deleted = cnitool("del")
    assert (deleted.status, deleted.out) == (0, ""), deleted.err
    again = cnitool("add")
    assert again.status != 0
    assert "the tortie agent can't be reached" in again.err
    machine.host.start()
