"""`host init` by its options: what it writes, what it keeps, what it refuses; the folders are the test's own."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.ctl.conftest import Ctl, Said
from tests.host import DEBIAN_PLUGINS, NEWEST_PLUGINS, both_plugin_sets
from tests.host_install.machine import described
from tests.sandbox import needs_sandbox

pytestmark = needs_sandbox
POOL = ("--pool", "10.65.0.0/16")
POOL_DOCUMENT = "apiVersion: tortie.dev/v1\nkind: IPPool\nmetadata: {name: blue}\nspec: {cidr: 10.65.0.0/16, %s}\n"
RUN = Path("/run/tortie")


@dataclass(frozen=True, slots=True)
class Place:
    """Where everything goes."""

    path: Path
    ctl: Ctl

    @property
    def bin(self) -> Path:
        return self.path / "bin"

    @property
    def conflist(self) -> Path:
        return self.path / "net.d" / "10-tortie.conflist"

    @property
    def written(self) -> dict[str, Any]:
        return dict(json.loads(self.conflist.read_text()))

    @property
    def cidrs(self) -> dict[str, str]:
        pools = json.loads(self.ctl("get", "ippools", "-o", "json").out)["items"]
        return {pool["metadata"]["name"]: pool["spec"]["cidr"] for pool in pools}

    def init(self, *options: str) -> Said:
        """`host init` on this place's state; the folders must be given once."""
        return self.ctl("host", "init", "--state", str(self.path / "state"), *options)

    def done(self, *options: str) -> str:
        said = self.init(*self.folders(), *options)
        assert said.status == 0, said.err
        return said.out

    def folders(self) -> tuple[str, ...]:
        return ("--bin-dir", str(self.bin), "--conf-dir", str(self.conflist.parent), "--node", "node-1")

    def apply(self, name: str, text: str) -> None:
        file = self.path / name
        file.write_text(text)
        assert self.ctl("apply", "-f", str(file)).status == 0
        file.unlink()

    def files(self) -> dict[str, str]:
        everything = [*self.path.rglob("*"), *RUN.rglob("*"), RUN]
        return {str(path): described(path) for path in everything if os.path.lexists(path)}


@pytest.fixture
def place(tmp_path: Path, ctl: Ctl) -> Iterator[Place]:
    yield Place(tmp_path, ctl)
    if RUN.exists():
        RUN.rmdir()


def test_a_second_init_changes_nothing_and_says_so(place: Place) -> None:
    place.done(*POOL)
    before, written = place.files(), place.conflist.stat()
    assert place.done(*POOL) == "nothing to change\n"
    assert place.init().out == "nothing to change\n"
    assert place.files() == before
    assert place.conflist.stat() == written


def test_a_dry_run_shows_every_step_of_the_real_one_and_makes_nothing(place: Place) -> None:
    before = place.files()
    shown = place.done(*POOL, "--dry-run")
    assert place.files() == before
    assert shown.replace(": would be ", ": ") == place.done(*POOL)
    assert place.init("--pool", "fd65::/48", "--dry-run").out.splitlines() == [
        "pool default-ipv6 fd65::/48: would be made",
        f"{place.conflist}: would be written",
    ]
    assert place.init().out == "nothing to change\n"


def test_the_conflist_comes_last_and_folders_first(place: Place) -> None:
    lines = place.done(*POOL).splitlines()
    assert lines[-1] == f"{place.conflist}: written"
    assert all(line.startswith("folder ") for line in lines[:4])


@pytest.mark.parametrize(
    ("given", "families"),
    [
        pytest.param(["10.65.0.0/16"], [True, False], id="IPv4"),
        pytest.param(["fd65::/48"], [False, True], id="IPv6"),
        pytest.param(["fd65::/48", "10.65.0.0/16"], [True, True], id="both"),
    ],
)
def test_the_families_of_the_pools_given_are_enabled(place: Place, given: list[str], families: list[bool]) -> None:
    place.done(*(word for cidr in given for word in ("--pool", cidr)))
    assert sorted(place.cidrs.values()) == sorted(given)
    ipam = place.written["plugins"][0]["ipam"]
    assert [ipam["assign_ipv4"], ipam["assign_ipv6"]] == families


def test_pools_get_names_that_say_what_they_are(place: Place) -> None:
    place.done(*POOL, "--pool", "10.66.0.0/16", "--pool", "fd65::/48", "--pool", "fd66::/48")
    assert place.cidrs == {
        "default-ipv4": "10.65.0.0/16",
        "pool-10-66-0-0-16": "10.66.0.0/16",
        "default-ipv6": "fd65::/48",
        "pool-fd660000000000000000000000000000-48": "fd66::/48",
    }


def test_a_pool_that_is_there_is_taken_by_its_cidr_or_without_being_named(place: Place) -> None:
    place.apply("pool.yaml", POOL_DOCUMENT % "disabled: false")
    place.done()
    assert place.written["plugins"][0]["ipam"]["assign_ipv4"]
    assert place.init(*POOL).out == "nothing to change\n"
    assert place.cidrs == {"blue": "10.65.0.0/16"}


@both_plugin_sets
def test_versions_are_those_that_all_chained_plugins_report(place: Place, plugins: Path) -> None:
    place.bin.mkdir()
    for name in ("portmap", "bandwidth"):
        (place.bin / name).symlink_to(plugins / name)
    place.done(*POOL, "--chain", "portmap", "--chain", "bandwidth")
    assert [one["type"] for one in place.written["plugins"]] == ["tortie", "portmap", "bandwidth"]
    assert place.written["cniVersion"] == "1.0.0"
    assert ("1.1.0" in place.written["cniVersions"]) == (plugins == NEWEST_PLUGINS)
    assert place.init("--no-chain").out == f"{place.conflist}: written\n"
    assert "1.1.0" in place.written["cniVersions"]


@pytest.mark.skipif(not (DEBIAN_PLUGINS / "portmap").exists(), reason="sh ci/peers.sh plugins")
def test_a_chained_plugin_that_the_runtime_may_not_find_is_told(place: Place) -> None:
    said = place.init(*place.folders(), *POOL, "--chain", "portmap")
    assert f"portmap is in /usr/lib/cni, not in {place.bin}" in said.err


def test_other_folders_are_moved_to_and_the_old_ones_emptied(place: Place) -> None:
    place.done(*POOL)
    there = place.path / "there"
    place.init("--bin-dir", str(there), "--conf-dir", "there/net.d")
    assert sorted(path.name for path in there.iterdir()) == ["net.d", "tortie", "tortie-ipam"]
    assert (there / "net.d" / place.conflist.name).exists()
    assert list(place.bin.iterdir()) == list(place.conflist.parent.iterdir()) == []


def test_a_damaged_file_of_ours_is_mended(place: Place) -> None:
    place.done(*POOL)
    whole = place.files()
    (place.bin / "tortie").write_text("damaged")
    place.conflist.chmod(0o600)
    assert place.init().out.splitlines() == [f"{place.bin}/tortie: installed", f"{place.conflist}: written"]
    assert place.files() == whole


def test_another_network_that_runtimes_take_first_is_told_and_left_alone(place: Place) -> None:
    other = place.conflist.with_name("05-other.conf")
    other.parent.mkdir()
    other.write_text("{}")
    assert "05-other.conf sorts before 10-tortie.conflist" in place.init(*place.folders(), *POOL).err
    assert other.read_text() == "{}"


def test_modes_are_for_all_to_read_and_the_state_for_its_owner(place: Place) -> None:
    place.done(*POOL)
    wanted = {"bin": 0o755, "bin/tortie": 0o755, "net.d": 0o755, "net.d/10-tortie.conflist": 0o644, "state": 0o700}
    assert {name: (place.path / name).stat().st_mode & 0o777 for name in wanted} == wanted


def occupied(place: Place) -> None:
    place.conflist.parent.mkdir(parents=True)
    place.conflist.write_text("{}")


def linked(place: Place) -> None:
    place.bin.mkdir()
    (place.bin / "tortie-ipam").symlink_to("elsewhere")


def disabled(place: Place) -> None:
    place.apply("pool.yaml", POOL_DOCUMENT % "disabled: true")


def another(place: Place) -> None:
    place.apply("pool.yaml", POOL_DOCUMENT % "disabled: false")


def a_node(place: Place) -> None:
    place.done(*POOL)


def a_torn_manifest(place: Place) -> None:
    (place.path / "state").mkdir(mode=0o700)
    (place.path / "state" / "installation.json").write_text('{"wishes"')


def nothing(_: Place) -> None:
    """As it is."""


@pytest.mark.parametrize(
    ("before", "options", "said"),
    [
        pytest.param(nothing, [], "no pool to take addresses from", id="no pool at all"),
        pytest.param(nothing, ["--pool", "10.65.0.1/16"], "host bits set", id="a CIDR with host bits"),
        pytest.param(nothing, ["--pool", "127.0.0.0/8"], "no pod can have", id="addresses that are no pod's"),
        pytest.param(nothing, [*POOL, "--pool", "10.65.1.0/24"], "overlaps --pool 10.65.0.0/16", id="two that overlap"),
        pytest.param(another, ["--pool", "10.0.0.0/8"], "overlaps pool blue (10.65.0.0/16)", id="one in the way"),
        pytest.param(disabled, [*POOL], "pool blue (10.65.0.0/16) is there, and disabled", id="a disabled pool"),
        pytest.param(nothing, [*POOL, "--node", "Node_1"], "--node", id="a name that no node can have"),
        pytest.param(nothing, [*POOL, "--node-ip", "x"], "--node-ip", id="no address"),
        pytest.param(nothing, [*POOL, "--chain", "nosuch"], "no plugin nosuch in", id="no such plugin"),
        pytest.param(nothing, [*POOL, "--chain", "../x"], "no plugin's name", id="a plugin by a path"),
        pytest.param(nothing, [*POOL, "--chain", "x", "--no-chain"], "exclude each other", id="a chain and none"),
        pytest.param(nothing, [*POOL, "--datastore", "mysql://x"], "mysql", id="a datastore without a driver"),
        pytest.param(nothing, [*POOL, "--datastore", "memory:"], "each process's own", id="a datastore of nobody's"),
        pytest.param(occupied, [*POOL], "10-tortie.conflist is there, and not made", id="another's conflist"),
        pytest.param(linked, [*POOL], "bin/tortie-ipam is there, and not made", id="another's program, a dead link"),
        pytest.param(a_node, ["--node", "node-2"], "node 'node-1' already", id="another name for a node"),
        pytest.param(a_torn_manifest, [*POOL], "can't be understood", id="a manifest that was changed by hand"),
    ],
)
def test_what_is_refused_changes_nothing(
    place: Place, before: Callable[[Place], None], options: list[str], said: str
) -> None:
    before(place)
    files = place.files()
    refused = place.init(*place.folders(), *options)
    assert refused.status == 2, refused.out
    assert said in refused.err
    assert len(refused.err.splitlines()) == 1
    assert place.files() == files


def test_a_folder_that_is_a_file_is_named(place: Place) -> None:
    place.bin.write_text("")
    refused = place.init(*place.folders(), *POOL)
    assert refused.status == 1
    assert str(place.bin) in refused.err
