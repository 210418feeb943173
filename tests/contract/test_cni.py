"""The CNI contract, black box: the plugin is executed as a runtime executes it, by every way in (`ways`).

Each line of the contract that binds a plugin, as SPEC 1.1.0 says it (MUST, SHOULD) or as the reference plugins and
runtimes were measured to behave, and the tests that hold us to it:

| the line | tests |
|---|---|
| process: exit status, result or one error object on stdout | `ways.refused`, `ways.silent`, test_cni_fuzz.py |
| process: the runtime's whole environment is there, empty is missing, stdin only for VERSION may be empty | below |
| environment: about text, unknown command, required variables, names of containers and interfaces | below |
| stdin: unreadable 5, no JSON 6; name 7; cniVersion 1, none is 0.1.0; commands by version | test_cni_config.py |
| namespace: the plugin's own 8, before anything is done; CNI_NETNS_OVERRIDE; none at all | test_cni_netns.py |
| CNI_ARGS: pairs, unknown keys, IgnoreUnknown; IP and MAC, also by runtimeConfig and args.cni | test_cni_args.py |
| configuration: unknown keys, `capabilities`, `cniVersions`, string booleans, a Calico conflist | test_cni_config.py |
| ADD: interface made or error, exists already, same answer again, state's key, concurrency | test_cni_add.py |
| ADD: result by version, sandbox verbatim, interface index, mtu | test_cni_results.py |
| ADD: prevResult passed through in every form, refused where it is none | test_cni_previous.py |
| DEL: many times, nothing there, no namespace, no prevResult, another's interface | test_cni_del.py |
| CHECK: prevResult, at once after ADD, others' changes tolerated, each finding named, policy | test_cni_check.py |
| STATUS: 50, 51, quick; ADD and DEL don't rely on it | test_cni_status.py |
| GC: absent, null, lists, other networks, malformed, addresses without a record, errors | test_cni_gc.py |
| VERSION: ignores stdin and every other variable | below |
| delegated IPAM: no interface, subnet and gateway, STATUS, CHECK and GC forwarded to it | test_cni_ipam.py |
| the agent away: 11, 50, tombstone, VERSION | test_cni_down.py |
"""

import json
import subprocess
from collections.abc import Mapping

import pytest

from tests.contract.ways import LIMIT_S, VERSIONS, Way, refused, silent
from tests.host import PYTHON_PLUGIN, RELAY
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
_NEEDS = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
}
_BAD_CONTAINERS = {
    "a slash": "a/b",
    "a parent folder": "../c1",
    "a hyphen first": "-c1",
    "a dot first": ".c1",
    "an underscore first": "_c1",
    "a colon": "a:b",
    "a blank": "a b",
    "a line end": "c1\n",
    "no ASCII": "tortü",
    "a semicolon": "a;b",
}
_BAD_INTERFACES = {
    "16 bytes": "x" * 16,
    "16 bytes in 8 letters": "ü" * 8,
    "this folder": ".",
    "the parent folder": "..",
    "a slash": "eth/0",
    "a colon": "eth:0",
    "a blank": "eth 0",
    "a tab": "eth\t0",
    "a line end": "eth0\n",
}


@pytest.mark.parametrize("command", [pytest.param({}, id="unset"), pytest.param({"CNI_COMMAND": ""}, id="empty")])
def test_without_a_command_it_says_on_stderr_what_it_is(any_way: Way, command: Mapping[str, str]) -> None:
    said = any_way.run(command, "")
    assert silent(said)
    assert "CNI protocol versions supported: " in said.err
    assert all(version in said.err for version in VERSIONS)


@pytest.mark.parametrize("command", ["FOO", "add", "ADD ", "ADD;DEL", "\udcff"])
def test_an_unknown_command_is_refused(any_way: Way, command: str) -> None:
    variables = {**any_way.variables("ADD", any_way.pod()), "CNI_COMMAND": command}
    refused(any_way.run(variables, '{"cniVersion": "1.1.0", "name": "net"}'), 4, "CNI_COMMAND")


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        pytest.param(command, missing, id=f"{command} without {' and '.join(missing)}")
        for command, needed in _NEEDS.items()
        for missing in [*((name,) for name in needed), needed]
    ],
)
def test_every_missing_variable_is_named(any_way: Way, command: str, missing: tuple[str, ...]) -> None:
    variables = any_way.variables(command, any_way.pod())
    given = {name: value for name, value in variables.items() if name not in missing}
    said = any_way.run(given, "")
    assert refused(said, 4)["msg"] == f"required env variables [{','.join(missing)}] missing"
    assert any_way.tombstones() == []


@pytest.mark.parametrize("command", list(_NEEDS))
def test_an_empty_variable_is_a_missing_one(any_way: Way, command: str) -> None:
    variables = {"CNI_COMMAND": command, **dict.fromkeys(_NEEDS[command], "")}
    said = any_way.run(variables, "")
    assert refused(said, 4)["msg"] == f"required env variables [{','.join(_NEEDS[command])}] missing"
    assert any_way.tombstones() == []


@pytest.mark.parametrize("command", ["ADD", "DEL"])
@pytest.mark.parametrize("value", [pytest.param(value, id=name) for name, value in _BAD_CONTAINERS.items()])
def test_a_container_id_that_is_none_is_refused(any_way: Way, command: str, value: str) -> None:
    variables = {**any_way.variables(command, any_way.pod()), "CNI_CONTAINERID": value}
    refused(any_way.run(variables, '{"cniVersion": "1.1.0", "name": "net"}'), 4, "CNI_CONTAINERID")
    assert any_way.tombstones() == []


@pytest.mark.parametrize("command", ["ADD", "DEL"])
@pytest.mark.parametrize("value", [pytest.param(value, id=name) for name, value in _BAD_INTERFACES.items()])
def test_an_interface_name_that_is_none_is_refused(any_way: Way, command: str, value: str) -> None:
    variables = {**any_way.variables(command, any_way.pod()), "CNI_IFNAME": value}
    refused(any_way.run(variables, '{"cniVersion": "1.1.0", "name": "net"}'), 4, "CNI_IFNAME")
    assert any_way.tombstones() == []


@pytest.mark.parametrize("name", ["CNI_CONTAINERID", "CNI_IFNAME"])
def test_a_variable_that_is_no_utf_8_is_refused(any_way: Way, name: str) -> None:
    variables = {**any_way.variables("DEL", any_way.pod()), name: "e\udcff0"}
    refused(any_way.run(variables, '{"cniVersion": "1.1.0", "name": "net"}'), 4, name)


def test_the_environment_is_judged_before_the_configuration(any_way: Way) -> None:
    refused(any_way.run({"CNI_COMMAND": "ADD"}, "no json"), 4, "required env variables")


def test_names_as_long_as_they_may_be_serve(way: Way) -> None:
    pod = way.pod()
    container = "0" + "aZ9_.-" * 10 + "abc"  # 64, as a runtime's are
    variables = {**way.variables("ADD", pod, interface="x" * 15), "CNI_CONTAINERID": container}
    config = json.dumps(way.config(name="a" + "Z9_.-" * 10))
    assert way.run(variables, config).status == 0
    assert silent(way.run({**variables, "CNI_COMMAND": "DEL"}, config))
    assert way.nothing_left()


def test_what_else_a_runtime_has_in_its_environment_is_no_matter(way: Way) -> None:
    pod = way.pod()
    tracing = {"TRACEPARENT": "00-0af7-01", "TRACESTATE": "a=b", "BAGGAGE": "c=d"}
    system = {"LANG": "tlh_QO.UTF-8", "LC_ALL": "C", "PYTHONPATH": "/nowhere", "HOME": "", "ODD": "\udcff"}
    more = {**tracing, **system, "CNI_PATH": "/nowhere", "CNI_NEW": "x"}
    assert way.run({**more, **way.variables("ADD", pod)}, json.dumps(way.config())).status == 0
    assert silent(way.run({**more, **way.variables("DEL", pod)}, json.dumps(way.config())))


# VERSION


@pytest.mark.parametrize(
    "stdin",
    [
        pytest.param("", id="nothing"),
        pytest.param("no json", id="no JSON"),
        pytest.param('{"cniVersion": "0.1.0"}', id="an old version"),
        pytest.param('{"cniVersion": "9.9.9"}', id="a version of no SPEC"),
        pytest.param("\0\udcff".encode(errors="surrogateescape"), id="no text"),
    ],
)
def test_version_is_the_same_whatever_stdin_holds(any_way: Way, stdin: str | bytes) -> None:
    said = any_way.run({"CNI_COMMAND": "VERSION"}, stdin)
    assert said.status == 0, said
    assert said.json == {"cniVersion": "1.1.0", "supportedVersions": list(VERSIONS)}


@pytest.mark.parametrize(
    "values",
    [
        pytest.param("dummy", id="dummy, as libcni sends"),
        pytest.param("", id="empty"),
        pytest.param("a/b c", id="no names"),
    ],
)
def test_version_looks_at_no_other_variable(any_way: Way, values: str) -> None:
    names = ("CNI_NETNS", "CNI_IFNAME", "CNI_CONTAINERID", "CNI_PATH", "CNI_ARGS")
    said = any_way.run({"CNI_COMMAND": "VERSION", **dict.fromkeys(names, values)}, "")
    assert said.status == 0, said
    assert said.json["supportedVersions"] == list(VERSIONS)


@pytest.mark.parametrize("program", [(str(RELAY),), PYTHON_PLUGIN], ids=["relay", "python"])
def test_version_waits_for_no_end_of_stdin(program: tuple[str, ...]) -> None:
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"CNI_COMMAND": "VERSION"}
    ) as plugin:
        assert plugin.wait(LIMIT_S) == 0
