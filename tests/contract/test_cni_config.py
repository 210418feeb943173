"""Standard input: what can't be read, what is no configuration, versions, and keys that belong to others."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.contract.table import table
from tests.contract.ways import VERSIONS, Document, Way, refused, silent
from tests.host import PYTHON_PLUGIN, RELAY, Said
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
_CONFIGS = Path(__file__).resolve().parents[1] / "data" / "configs"
_COMMANDS = ("ADD", "DEL", "CHECK", "GC", "STATUS")
_NO_CONFIGURATION = {
    "empty": b"",
    "blank": b" \n",
    "no JSON": b"no json",
    "half of it": b'{"cniVersion": "1.1.0", "na',
    "something after it": b'{"cniVersion": "1.1.0", "name": "net"} {}',
    "a list": b"[]",
    "a string": b'"net"',
    "null": b"null",
    "no UTF-8": b'{"cniVersion": "1.1.0", "name": "\xff"}',
    "NUL bytes": b"\0\0\0",
    "UTF-16": '{"cniVersion": "1.1.0", "name": "net"}'.encode("utf-16"),
}


# What can't be read


@table("stdin", [pytest.param(stdin, id=name) for name, stdin in _NO_CONFIGURATION.items()])
def test_what_is_no_json_object_is_refused(way: Way, stdin: bytes) -> None:
    refused(way.run(way.variables("ADD", way.pod()), stdin), 6)


@pytest.mark.parametrize("command", _COMMANDS)
def test_every_command_but_version_wants_a_configuration(way: Way, command: str) -> None:
    refused(way.run(way.variables(command, way.pod()), ""), 6)


@pytest.mark.parametrize("redirected", ["<&-", "0>/dev/null"], ids=["closed", "for writing only"])
def test_a_standard_input_that_cannot_be_read_is_said(way: Way, redirected: str) -> None:
    refused(_redirected(way, redirected), 5)


def test_a_standard_input_that_is_a_folder_is_said(relay: Way) -> None:
    # Python itself ends, before anything of ours runs, where its standard input is a folder.
    refused(_redirected(relay, "</"), 5)


def _redirected(way: Way, redirected: str) -> Said:
    program = PYTHON_PLUGIN if way.id != "relay" else (str(RELAY),)
    environment = way.host.environment(**way.variables("DEL", way.pod()))
    done = subprocess.run(
        (*way.host.enter(), "sh", "-c", f'exec "$@" {redirected}', "sh", *program),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


# Name and version


@table("name", ["", "-net", "a/b", "../net", "a b", "net\n", "nét", 5, ["net"]])
def test_a_network_whose_name_is_none_is_refused(way: Way, name: object) -> None:
    refused(way.call("ADD", way.pod(), way.config(name=name)), 7, "name")


@pytest.mark.parametrize("command", _COMMANDS)
def test_every_command_wants_a_network_with_a_name(way: Way, command: str) -> None:
    refused(way.call(command, way.pod(), way.config(name=None)), 7, "name")


@table("version", ["9.9.9", "0.3.2", "1.2.0", "2.0.0", "1.1", "v1.1.0", "newest"])
def test_a_version_of_no_spec_is_refused_with_those_there_are(way: Way, version: str) -> None:
    body = refused(way.call("ADD", way.pod(), way.config(version)), 1)
    assert version in body["details"]
    assert all(supported in body["details"] for supported in VERSIONS)


@pytest.mark.parametrize("command", _COMMANDS)
def test_every_command_wants_a_version_that_there_is(way: Way, command: str) -> None:
    refused(way.call(command, way.pod(), way.config("9.9.9")), 1, "9.9.9")


@table(
    "command,version",
    [
        *(("CHECK", version) for version in (None, "0.1.0", "0.2.0", "0.3.0", "0.3.1")),
        *((command, version) for command in ("GC", "STATUS") for version in (None, "0.3.1", "0.4.0", "1.0.0")),
    ],
)
def test_a_command_that_the_version_has_not_is_refused(way: Way, command: str, version: str | None) -> None:
    config = way.config(version, prevResult={}, **{"cni.dev/valid-attachments": []})
    refused(way.call(command, way.pod(), config), 1, command, version=version or "0.1.0")


@pytest.mark.parametrize("version", VERSIONS)
def test_an_error_is_told_in_the_version_of_the_configuration(way: Way, version: str) -> None:
    refused(way.call("ADD", way.pod(), way.config(version, mtu=1)), 7, "mtu", version=version)


def test_a_refused_configuration_leaves_nothing(way: Way) -> None:
    wrong: list[Document] = [{"name": "a/b"}, {"cniVersion": "9.9.9"}, {"mtu": "big"}, {"ipam": []}, {"prevResult": 5}]
    for keys in wrong:
        assert way.call("ADD", way.pod(), {**way.config(), **keys}).status == 1
    assert way.nothing_left()


# Other keys


@table(
    "keys",
    [
        pytest.param({"cniVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]}, id="cniVersions"),
        pytest.param({"capabilities": {"portMappings": True, "bandwidth": True}}, id="capabilities left in"),
        pytest.param({"disableCheck": True, "disableGC": True, "loadOnlyInlinedPlugins": True}, id="a list's keys"),
        pytest.param({"args": {"labels": [{"key": "a"}], "other": 5}}, id="args of others"),
        pytest.param({"args": {"cni": {"labels": [{"key": "app", "value": "web"}], "other": []}}}, id="args.cni"),
        pytest.param({"args": None, "runtimeConfig": None, "dns": None, "prevResult": None}, id="nulls"),
        pytest.param({"cni.dev/attachments": [], "cni.dev/new": {"a": 1}}, id="cni.dev keys"),
        pytest.param({"dns": {"nameservers": ["10.1.0.1"]}, "ipMasq": True, "keyA": ["x", {"y": None}]}, id="others"),
        pytest.param(
            {
                "runtimeConfig": {
                    "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}],
                    "bandwidth": {"ingressRate": 1, "ingressBurst": 2, "egressRate": 3, "egressBurst": 4},
                    "dns": {"servers": ["10.1.0.1"], "searches": [], "options": []},
                    "aliases": {"net": ["web"]},
                    "cgroupPath": "/a",
                    "deviceID": "0000:00:02.0",
                    "infinibandGUID": "c2:11",
                    "io.kubernetes.cri.pod-annotations": {"a/b": "c"},
                }
            },
            id="runtimeConfig of others",
        ),
    ],
)
def test_what_belongs_to_others_is_no_matter(way: Way, keys: Document) -> None:
    pod, config = way.pod(), {**way.config(), **keys}
    result = way.add(pod, config)
    assert result["cniVersion"] == "1.1.0"
    assert silent(way.call("CHECK", pod, {**config, "prevResult": result}))
    assert silent(way.call("STATUS", None, config))
    assert silent(way.call("DEL", pod, {**config, "prevResult": result}))


@table(
    "ipv4,ipv6,families",
    [
        (True, False, [4]),
        ("true", "false", [4]),
        ("True", "TRUE", [4, 6]),
        ("false", "true", [6]),
        (False, True, [6]),
        (None, True, [4, 6]),
    ],
)
def test_families_are_booleans_or_strings(
    way: Way, ipv4: bool | str | None, ipv6: bool | str, families: list[int]
) -> None:
    asked = {"type": "tortie-ipam", "assign_ipv4": ipv4, "assign_ipv6": ipv6}
    ipam = {key: value for key, value in asked.items() if value is not None}
    result = way.add(way.pod(), way.config(ipam=ipam))
    assert [6 if ":" in ip["address"] else 4 for ip in result["ips"]] == families


@table("value", ["yes", "", "1", 1, [], {}])
def test_a_family_that_is_neither_true_nor_false_is_refused(way: Way, value: object) -> None:
    refused(way.call("ADD", way.pod(), way.config(ipam={"assign_ipv6": value})), 7, "assign_ipv6")
    assert way.nothing_left()


@table("mtu", [67, 65536, -1, "1500", 1400.5])
def test_an_mtu_that_is_none_is_refused(way: Way, mtu: object) -> None:
    refused(way.call("ADD", way.pod(), way.config(mtu=mtu)), 7, "mtu")
    assert way.nothing_left()


@table("mtu", [68, 1279, 1280, 1350, 9000, 65535])
def test_an_mtu_is_honoured(way: Way, mtu: int) -> None:
    pod = way.pod()
    result = way.add(pod, way.config(mtu=mtu))
    assert [one["mtu"] for one in result["interfaces"]] == [mtu, mtu]
    assert [row["mtu"] for row in way.host.shown("link", "show", "eth0", where=pod.namespace)] == [mtu]
    assert silent(way.call("CHECK", pod, way.config(mtu=mtu, prevResult=result)))


def test_an_mtu_too_small_for_the_ipv6_that_is_asked_for_is_refused(way: Way) -> None:
    refused(way.call("ADD", way.pod(), way.config(mtu=1279, ipam={"assign_ipv6": True})), 7, "mtu 1279")
    assert way.nothing_left()


def _calico() -> Document:
    conflist = json.loads((_CONFIGS / "10-calico.conflist").read_text())
    plugin: Document = {**conflist["plugins"][0], "name": conflist["name"], "cniVersion": conflist["cniVersion"]}
    plugin["type"], plugin["ipam"]["type"] = "tortie", "tortie-ipam"
    return plugin


def test_a_real_calico_conflist_serves_with_its_types_changed(agent_way: Way) -> None:
    pod = agent_way.pod()
    config = _calico()
    result = agent_way.add(pod, config, args="IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1")
    assert (result["cniVersion"], result["ips"][0]["version"]) == ("0.3.1", "4")
    assert silent(agent_way.call("DEL", pod, config))
    assert agent_way.nothing_left()


@pytest.mark.parametrize(
    ("keys", "code", "word"),
    [
        pytest.param({"datastore_type": "kubernetes"}, 7, "kubernetes", id="a datastore without a driver"),
        pytest.param({"datastore": "mysql://x"}, 7, "mysql", id="a datastore that nobody knows"),
        pytest.param({"policy": {"type": "k8s"}}, 11, "policy", id="policy"),
    ],
)
def test_without_an_agent_what_needs_one_is_refused(alone: Way, keys: Document, code: int, word: str) -> None:
    refused(alone.call("ADD", alone.pod(), alone.config(**keys)), code, word)
    assert alone.nothing_left()


def test_a_configuration_of_megabytes_is_read(way: Way) -> None:
    way.add(way.pod(), way.config(padding="x" * (4 << 20)))
