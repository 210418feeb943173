"""The conflist that is installed: versions that every plugin of it speaks, in the two keys that runtimes look at."""

import json
from pathlib import Path
from typing import Any

import pytest

from cni import conflist
from cni.conflist import ConflistError, Network
from tests.host import DEBIAN_PLUGINS, RELAY, both_plugin_sets

BOTH = frozenset({4, 6})


def plugin(folder: Path, name: str, answer: str) -> Path:
    """A program that answers VERSION, and nothing else."""
    program = folder / name
    program.write_text(f"#!/bin/sh\n[ $CNI_COMMAND = VERSION ] && printf '%s' '{answer}'\n")
    program.chmod(0o755)
    return program


def rendered(network: Network, *versions: str) -> dict[str, Any]:
    return dict(json.loads(conflist.render(network, versions)))


@pytest.mark.parametrize(
    ("spoken", "both"),
    [
        pytest.param({"a": ["1.0.0", "1.1.0"]}, ("1.0.0", "1.1.0"), id="one plugin's own"),
        pytest.param({"a": ["1.0.0", "1.1.0"], "b": ["0.4.0", "1.0.0"]}, ("1.0.0",), id="what both speak"),
        pytest.param({"a": ["1.10.0", "1.9.0", "0.4.0"]}, ("0.4.0", "1.9.0", "1.10.0"), id="in order of numbers"),
    ],
)
def test_the_versions_are_those_that_every_plugin_speaks(spoken: dict[str, list[str]], both: tuple[str, ...]) -> None:
    assert conflist.shared(spoken) == both


def test_plugins_without_a_common_version_are_told_apart() -> None:
    with pytest.raises(ConflistError, match=r"a speaks 1\.1\.0; b speaks 0\.4\.0"):
        conflist.shared({"a": ["1.1.0"], "b": ["0.4.0"]})


@pytest.mark.parametrize(
    ("versions", "taken"),
    [
        pytest.param(["0.4.0", "1.0.0", "1.1.0"], "1.0.0", id="1.0.0, which old runtimes take, beside 1.1.0"),
        pytest.param(["0.3.1", "0.4.0"], "0.4.0", id="the newest"),
        pytest.param(["1.1.0"], "1.1.0", id="the only one"),
        pytest.param(["1.1.0", "1.2.0"], "1.1.0", id="the oldest of those that no old runtime takes"),
    ],
)
def test_one_version_is_for_runtimes_that_know_one_key(versions: list[str], taken: str) -> None:
    written = rendered(Network(BOTH), *versions)
    assert (written["cniVersion"], written["cniVersions"]) == (taken, versions)


@pytest.mark.parametrize("families", [{4}, {6}, {4, 6}], ids=str)
def test_the_families_asked_for_are_assigned(families: set[int]) -> None:
    ipam = rendered(Network(frozenset(families)), "1.0.0")["plugins"][0]["ipam"]
    assert (ipam["assign_ipv4"], ipam["assign_ipv6"]) == (4 in families, 6 in families)


def test_chained_plugins_follow_with_what_they_need() -> None:
    plugins = rendered(Network(BOTH, ("portmap", "bandwidth", "tuning", "sbr")), "1.0.0")["plugins"]
    assert [one["type"] for one in plugins] == ["tortie", "portmap", "bandwidth", "tuning", "sbr"]
    assert plugins[1]["capabilities"] == {"portMappings": True}
    assert plugins[2]["capabilities"] == {"bandwidth": True}
    assert plugins[4] == {"type": "sbr"}


def test_the_relay_says_which_versions_it_speaks() -> None:
    assert {"1.0.0", "1.1.0"} <= set(conflist.versions_of(RELAY))


@both_plugin_sets
def test_the_reference_plugins_are_asked(plugins: Path) -> None:
    versions = conflist.versions_of(conflist.find("portmap", [plugins]))
    assert ("1.1.0" in versions) == (plugins != DEBIAN_PLUGINS)
    assert conflist.shared({"tortie": conflist.versions_of(RELAY), "portmap": versions})[-1] == versions[-1]


@pytest.mark.parametrize("answer", ["", "[]", "{}", '{"supportedVersions": []}', '{"supportedVersions": ["x"]}'])
def test_a_plugin_that_says_no_version_is_named(tmp_path: Path, answer: str) -> None:
    with pytest.raises(ConflistError, match=f"{tmp_path}/odd"):
        conflist.versions_of(plugin(tmp_path, "odd", answer))


def test_a_plugin_is_taken_from_the_first_folder_that_has_it(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    for folder in (first, second):
        folder.mkdir()
    (first / "portmap").write_text("no program")
    there = plugin(second, "portmap", "")
    assert conflist.find("portmap", [first, second]) == there
    with pytest.raises(ConflistError, match=f"no plugin sbr in {first}, {second}"):
        conflist.find("sbr", [first, second])


@pytest.mark.parametrize("name", ["", "../portmap", "a/b", "-x", "a\nb"])
def test_a_plugin_is_called_by_a_name_and_not_by_a_path(name: str) -> None:
    with pytest.raises(ConflistError, match="no plugin's name"):
        conflist.find(name, [DEBIAN_PLUGINS])


def test_configurations_that_runtimes_take_first_are_found(tmp_path: Path) -> None:
    for name in ("05-first.conf", "09-z.json", "10-tortie.conflist", "20-later.conflist", "01-notes.txt", ".1.tmp"):
        (tmp_path / name).touch()
    assert [found.name for found in conflist.before(tmp_path)] == ["05-first.conf", "09-z.json"]
    assert conflist.before(tmp_path / "none") == []
