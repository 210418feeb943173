"""A runtime's semantics: order, prevResult, capabilities, the cache, and what follows a failure."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cni.chain import Chain, ChainError, Container, cached_results, read_conflist

POD = Container("c1", "/run/netns/c1", args="K8S_POD_NAME=web", extra={"args": {"cni": {"labels": []}}})
PLUGIN = """#!/bin/sh
echo "$CNI_COMMAND ${0##*/} $CNI_CONTAINERID $CNI_NETNS $CNI_IFNAME $CNI_ARGS" >> FOLDER/calls
cat > "FOLDER/${0##*/}.$CNI_COMMAND"
if [ -e "FOLDER/fails.${0##*/}.$CNI_COMMAND" ]; then
    cat "FOLDER/fails.${0##*/}.$CNI_COMMAND"
    exit 1
fi
[ "$CNI_COMMAND" = ADD ] || exit 0
[ -e "FOLDER/mute.${0##*/}" ] || printf '{"cniVersion": "1.0.0", "by": "%s"}' "${0##*/}"
"""


class Runtime:
    """A conflist of plugins that note how they are called."""

    def __init__(self, folder: Path, conflist: Mapping[str, object]) -> None:
        self.folder = folder
        self.cache = folder / "cache"
        for plugin in ("first", "second", "third"):
            path = folder / "bin" / plugin
            path.parent.mkdir(exist_ok=True)
            path.write_text(PLUGIN.replace("FOLDER", str(folder)))
            path.chmod(0o755)
        read = read_conflist(json.dumps(conflist))
        self.chain = Chain(read, [folder / "bin"], self.cache, {"PATH": "/usr/bin:/bin"})

    @property
    def calls(self) -> list[str]:
        return [" ".join(line.split()[:2]) for line in (self.folder / "calls").read_text().splitlines()]

    def told(self, plugin: str, command: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / f"{plugin}.{command}").read_text())
        return found

    def fail(self, plugin: str, command: str, answer: str) -> None:
        (self.folder / f"fails.{plugin}.{command}").write_text(answer)


def conflist(**keys: object) -> dict[str, object]:
    plugins = [{"type": "first", "mtu": 1400}, {"type": "second", "capabilities": {"portMappings": True}}]
    return {"cniVersion": "1.0.0", "name": "net", "plugins": [*plugins, {"type": "third"}], **keys}


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(tmp_path, conflist())


def test_add_runs_in_order_and_each_gets_the_result_of_the_one_before(runtime: Runtime) -> None:
    assert runtime.chain.add(POD) == {"cniVersion": "1.0.0", "by": "third"}
    assert runtime.calls == ["ADD first", "ADD second", "ADD third"]
    assert "prevResult" not in runtime.told("first", "ADD")
    assert [runtime.told(name, "ADD")["prevResult"]["by"] for name in ("second", "third")] == ["first", "second"]


def test_a_plugin_is_told_its_own_keys_the_networks_and_the_callers(runtime: Runtime) -> None:
    runtime.chain.add(POD)
    assert runtime.told("first", "ADD") == {
        "type": "first",
        "mtu": 1400,
        "name": "net",
        "cniVersion": "1.0.0",
        "args": {"cni": {"labels": []}},
    }
    called = (runtime.folder / "calls").read_text().splitlines()[0]
    assert called == "ADD first c1 /run/netns/c1 eth0 K8S_POD_NAME=web"


def test_only_a_capability_that_a_plugin_declares_is_passed_to_it(runtime: Runtime) -> None:
    mapping = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]
    runtime.chain.add(Container("c1", "/run/netns/c1", capabilities={"portMappings": mapping, "bandwidth": {}}))
    assert runtime.told("second", "ADD")["runtimeConfig"] == {"portMappings": mapping}
    assert "runtimeConfig" not in runtime.told("first", "ADD")


def test_delete_runs_in_reverse_with_the_cached_result_and_forgets_it(runtime: Runtime) -> None:
    runtime.chain.add(POD)
    runtime.chain.delete(POD)
    assert runtime.calls[3:] == ["DEL third", "DEL second", "DEL first"]
    assert {runtime.told(name, "DEL")["prevResult"]["by"] for name in ("first", "second", "third")} == {"third"}
    assert list(runtime.cache.iterdir()) == []


def test_what_a_container_was_given_can_be_read_until_it_is_deleted(runtime: Runtime) -> None:
    runtime.chain.add(POD)
    assert cached_results(runtime.cache, "c1") == [{"cniVersion": "1.0.0", "by": "third"}]
    assert cached_results(runtime.cache, "c2") == []
    runtime.chain.delete(POD)
    assert cached_results(runtime.cache, "c1") == []


def test_delete_without_a_cached_result_is_run_all_the_same(runtime: Runtime) -> None:
    runtime.chain.delete(POD)
    assert runtime.calls == ["DEL third", "DEL second", "DEL first"]
    assert "prevResult" not in runtime.told("first", "DEL")


def test_a_delete_that_fails_keeps_the_cached_result_for_the_next(runtime: Runtime) -> None:
    runtime.chain.add(POD)
    runtime.fail("second", "DEL", "")
    with pytest.raises(ChainError, match="second DEL ended with 1: no message"):
        runtime.chain.delete(POD)
    assert len(list(runtime.cache.iterdir())) == 1


def test_an_add_that_fails_is_followed_by_the_whole_delete_and_tells_the_plugins_error(runtime: Runtime) -> None:
    runtime.fail("second", "ADD", '{"code": 11, "msg": "not now", "details": "no address"}')
    runtime.fail("second", "DEL", "")
    with pytest.raises(ChainError, match=r"second ADD failed: not now: no address \(code 11\)") as failed:
        runtime.chain.add(POD)
    assert failed.value.code == 11
    assert runtime.calls == ["ADD first", "ADD second", "DEL third", "DEL second", "DEL first"]
    assert not runtime.cache.exists()


def test_an_add_without_a_result_is_a_failure(runtime: Runtime) -> None:
    (runtime.folder / "mute.third").touch()
    with pytest.raises(ChainError, match="third ADD gave no result: ''"):
        runtime.chain.add(POD)
    assert runtime.calls[3:] == ["DEL third", "DEL second", "DEL first"]


def test_a_result_that_cannot_be_kept_undoes_the_add(runtime: Runtime) -> None:
    runtime.cache.write_text("a file where the folder should be")
    with pytest.raises(ChainError, match=r"the result can't be kept: .*cache"):
        runtime.chain.add(POD)
    assert runtime.calls[3:] == ["DEL third", "DEL second", "DEL first"]


def test_a_plugin_that_is_not_there_is_named(tmp_path: Path) -> None:
    runtime = Runtime(tmp_path, conflist(plugins=[{"type": "nosuch"}]))
    with pytest.raises(ChainError, match="no plugin 'nosuch' in"):
        runtime.chain.add(POD)


@pytest.mark.parametrize(
    ("keys", "version"),
    [
        pytest.param({}, "1.0.0", id="the one there is"),
        pytest.param({"cniVersion": "1.1.0"}, "1.1.0", id="the newest"),
        pytest.param({"cniVersion": "0.4.0", "cniVersions": ["0.4.0", "1.0.0", "1.1.0"]}, "1.1.0", id="of several"),
    ],
)
def test_the_newest_version_that_both_speak_is_used(keys: dict[str, object], version: str) -> None:
    assert read_conflist(json.dumps(conflist(**keys))).version == version


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("{", "is no JSON", id="no JSON"),
        pytest.param("[]", "plugins is no list", id="no object"),
        pytest.param(json.dumps(conflist(plugins=[])), "plugins is no list", id="no plugins"),
        pytest.param(json.dumps(conflist(plugins=["tortie"])), "plugins is no list", id="a plugin that is a word"),
        pytest.param(json.dumps(conflist(name=None)), "name is missing", id="no name"),
        pytest.param(json.dumps(conflist(name="../a")), "no name for a network", id="a name that is a path"),
        pytest.param(json.dumps(conflist(plugins=[{}])), "a plugin has no type", id="no type"),
        pytest.param(
            json.dumps(conflist(plugins=[{"type": "/bin/sh"}])), "one that is a path", id="a type with a path"
        ),
        pytest.param(json.dumps(conflist(cniVersion="9.9.9")), "'9.9.9' is none of", id="a version of the future"),
    ],
)
def test_a_conflist_that_cannot_be_run_is_refused_with_its_source(text: str, said: str) -> None:
    with pytest.raises(ChainError, match=said) as refused:
        read_conflist(text, "10-tortie.conflist")
    assert str(refused.value).startswith("10-tortie.conflist")
