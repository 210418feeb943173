"""Whatever comes in: one JSON object or nothing on standard output, a code of the table, no traceback, nothing left.

Nothing here is a runtime's doing; it is what a half-written file, a bug elsewhere or somebody with bad intentions may
send. What succeeds by chance is deleted again with the very same input, which must succeed too.
"""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.contract.ways import CODES, Document, Way
from tests.host import Said
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
_COMMANDS = ("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION")
_EXAMPLES = {"relay": 120, "down": 60, "python": 20, "alone": 15}
"""The C relay takes milliseconds, Python's start 0.2 to 0.5 s."""
_UNFORESEEN = 999

_WORDS = (
    *("10.65.0.9", "10.65.0.0/16", "fd65::9/64", "0.0.0.0/0", "10.65.0.300", "02:00:5e:10:20:30", "eth0", "c1", "true"),
    *("1.1.0", "0.2.0", "", "../x", "\0", "é" * 200, "tortie-ipam", "host-local"),
)
_FIELDS = (
    *("dst", "gw", "address", "interface", "name", "sandbox", "mac", "subnet", "rangeStart", "rangeEnd", "gateway"),
    *("key", "value", "servers", "nameservers", "containerID", "ifname", "ip", "routes", "labels", "scope", "table"),
)
_texts = st.text(max_size=20) | st.sampled_from(_WORDS)
_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts | st.sampled_from(_FIELDS), inner, max_size=3),
    max_leaves=8,
)
_KEYS = (
    *("cniVersion", "name", "type", "mtu", "policy", "args", "runtimeConfig", "capabilities", "prevResult", "dns"),
    *("cni.dev/valid-attachments", "cni.dev/attachments", "container_settings", "include_default_routes", "log_level"),
)
_IPAM_KEYS = (
    *("assign_ipv4", "assign_ipv6", "ipv4_pools", "ipv6_pools", "subnet", "gateway", "rangeStart", "rangeEnd"),
    *("ranges", "routes", "type"),
)
_RESULT_KEYS = ("cniVersion", "interfaces", "ips", "routes", "dns", "ip4", "ip6")
_rows = st.lists(st.dictionaries(st.sampled_from(_FIELDS), _values, max_size=4), max_size=2)
"""What most keys want to hold: a list of objects with some of the right fields."""


def _ipam(keys: Document) -> Document:
    return {"ipam": keys}


_changes = (
    st.dictionaries(st.sampled_from(_KEYS), _values, min_size=1, max_size=3)
    | st.dictionaries(st.sampled_from(_IPAM_KEYS), _values | _rows, min_size=1, max_size=3).map(_ipam)
    | st.dictionaries(st.sampled_from(_RESULT_KEYS), _values | _rows, max_size=4).map(lambda keys: {"prevResult": keys})
    | st.dictionaries(st.sampled_from(["ips", "mac", "dns"]), _values).map(lambda keys: {"runtimeConfig": keys})
    | st.dictionaries(st.sampled_from(["ips", "mac", "labels"]), _values).map(lambda keys: {"args": {"cni": keys}})
)
_environment_values = st.binary(max_size=300).map(lambda data: data.replace(b"\0", b"=")) | st.sampled_from(
    [b"K8S_POD_NAME=web;IgnoreUnknown=1", b"IP=10.65.0.9", b"MAC=x", b";;;", b"/proc/self/ns/net", b"/dev/zero", b"/"]
)
_VARIABLES = ("CONTAINERID", "NETNS", "IFNAME", "ARGS", "PATH", "NETNS_OVERRIDE", "X")
_environments = st.dictionaries(
    st.sampled_from([f"CNI_{name}" for name in _VARIABLES]), _environment_values, max_size=4
)


def _examples(way: Way) -> settings:
    return settings(
        max_examples=_EXAMPLES[way.id] * settings().max_examples // 100,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def judged(said: Said) -> None:
    """What holds of every answer whatsoever."""
    assert said.status in (0, 1), said
    assert "Traceback" not in said.err, said.err
    if said.out:
        assert isinstance(said.json, dict)
    if said.status:
        assert sorted(said.json) == ["cniVersion", "code", "details", "msg"], said
        assert said.json["code"] in CODES, said
        assert said.json["code"] != _UNFORESEEN, said


def tried(way: Way, command: str, stdin: bytes, more: Mapping[str, bytes]) -> None:
    """One call with this input; an ADD by chance is undone."""
    pod = way.pods[0] if way.pods else way.pod()
    environment = {name: value.decode(errors="surrogateescape") for name, value in more.items()}
    variables = {**way.variables(command, pod), **environment}
    said = way.run(variables, stdin)
    judged(said)
    if command == "ADD" and not said.status:
        deleted = way.run({**variables, "CNI_COMMAND": "DEL"}, stdin)
        assert (deleted.status, deleted.out) == (0, ""), (said, deleted)


def test_any_bytes_on_standard_input(any_way: Way) -> None:
    @_examples(any_way)
    @given(command=st.sampled_from(_COMMANDS), stdin=st.binary(max_size=200))
    @example("ADD", b"\0" * 1000)
    @example("ADD", b"[" * 100_000)
    @example("DEL", b'{"a":' * 100_000)
    @example("GC", b'{"name": "net", "cniVersion": "1.1.0", "x": ' + b"[" * 900 + b"]" * 900 + b"}")
    @example("ADD", b'{"name": "net", "cniVersion": "1.1.0", "x": ' + b"9" * 5000 + b"}")
    @example("STATUS", b'{"name": "net", "cniVersion": "1.1.0", "mtu": 1e400}')
    @example("ADD", b'{"name": "\xff", "cniVersion": "1.1.0"}')
    @example("CHECK", b'\xef\xbb\xbf{"name": "net", "cniVersion": "1.1.0"}')
    def check(command: str, stdin: bytes) -> None:
        tried(any_way, command, stdin, {})

    check()
    assert any_way.nothing_left()


def test_any_json_on_standard_input(any_way: Way) -> None:
    @_examples(any_way)
    @given(command=st.sampled_from(_COMMANDS), document=_values)
    def check(command: str, document: object) -> None:
        tried(any_way, command, json.dumps(document).encode(), {})

    check()
    assert any_way.nothing_left()


def test_a_configuration_with_anything_in_some_keys(any_way: Way) -> None:
    @_examples(any_way)
    @given(command=st.sampled_from(("ADD", "ADD", *_COMMANDS)), keys=_changes)
    def check(command: str, keys: Document) -> None:
        tried(any_way, command, json.dumps({**any_way.config(), **keys}).encode(), {})

    check()
    assert any_way.nothing_left()


def test_a_configuration_that_ends_anywhere(any_way: Way) -> None:
    whole = json.dumps(any_way.config(prevResult={"ips": [{"address": "192.0.2.7/24"}]})).encode()

    @_examples(any_way)
    @given(command=st.sampled_from(_COMMANDS), end=st.integers(0, len(whole) - 1))
    def check(command: str, end: int) -> None:
        tried(any_way, command, whole[:end], {})

    check()
    assert any_way.nothing_left()


def test_a_configuration_with_keys_twice(any_way: Way) -> None:
    whole = json.dumps(any_way.config()).encode()

    @_examples(any_way)
    @given(command=st.sampled_from(_COMMANDS), key=st.sampled_from(_KEYS), value=_values)
    def check(command: str, key: str, value: object) -> None:
        second = json.dumps({key: value}).encode()[1:]
        tried(any_way, command, whole[:-1] + b"," + second, {})

    check()
    assert any_way.nothing_left()


def test_any_bytes_in_the_environment(any_way: Way) -> None:
    config = json.dumps(any_way.config()).encode()

    @_examples(any_way)
    @given(command=st.sampled_from(("ADD", *_COMMANDS)), environment=_environments)
    @example("ADD", {"CNI_ARGS": b"A" * 100_000})
    @example("DEL", {"CNI_NETNS": b"/" + b"x" * 5000})
    @example("ADD", {"CNI_NETNS": b"/" + b"x" * 5000})
    @example("ADD", {"CNI_CONTAINERID": b"c" * 100_000})
    @example("ADD", {"CNI_X": b"\xff" * 1000, "CNI_": b"="})
    def check(command: str, environment: Mapping[str, bytes]) -> None:
        tried(any_way, command, config, environment)

    check()
    assert any_way.nothing_left()


@pytest.mark.parametrize("command", ["ADD", "DEL"])
@pytest.mark.parametrize("megabytes", [15, 17])
def test_megabytes_on_standard_input(any_way: Way, command: str, megabytes: int) -> None:
    padding = "x" * (megabytes << 20)
    tried(any_way, command, json.dumps({**any_way.config(), "padding": padding}).encode(), {})
    assert any_way.nothing_left()
