"""A call is checked whole before anything happens: environment, JSON, version, keys, arguments (invariant 8)."""

import json
from collections.abc import Mapping
from ipaddress import ip_address, ip_network

import pytest

from cni.config import Call, parse
from cni.errors import CniError, IncompatibleVersion, InvalidConfig
from cni.netconf import version_of

GOOD = {"cniVersion": "1.0.0", "name": "net", "type": "tortie"}
ENVIRONMENT = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1", "CNI_NETNS": "/run/netns/a", "CNI_IFNAME": "eth0"}


def call(config: Mapping[str, object] | bytes | None = None, **environment: str) -> Call:
    stdin = config if isinstance(config, bytes) else json.dumps({**GOOD, **(config or {})}).encode()
    return parse(ENVIRONMENT | environment, stdin)


@pytest.mark.parametrize(
    ("environment", "code", "said"),
    [
        pytest.param({"CNI_COMMAND": "FOO"}, 4, "unknown CNI_COMMAND: 'FOO'", id="an unknown command"),
        pytest.param({"CNI_CONTAINERID": ""}, 4, "CNI_CONTAINERID", id="an empty container id is a missing one"),
        pytest.param({"CNI_NETNS": "", "CNI_IFNAME": ""}, 4, "CNI_NETNS,CNI_IFNAME", id="every missing one is named"),
        pytest.param({"CNI_CONTAINERID": "../c1"}, 4, "CNI_CONTAINERID", id="a container id with a slash"),
        pytest.param({"CNI_CONTAINERID": "x" * 300}, 4, "CNI_CONTAINERID", id="a container id too long for a file"),
        pytest.param({"CNI_IFNAME": "sixteen-letters-"}, 4, "CNI_IFNAME", id="an interface name of 16"),
        pytest.param({"CNI_IFNAME": "eth+1"}, 4, "CNI_IFNAME", id="an interface that means many in a rule"),
        pytest.param({"CNI_IFNAME": "eth%d"}, 4, "CNI_IFNAME", id="an interface that the kernel would number"),
        pytest.param({"CNI_IFNAME": "\udcff"}, 4, "CNI_IFNAME", id="an interface that is no UTF-8"),
        pytest.param({"CNI_IFNAME": ".."}, 4, "CNI_IFNAME", id="an interface called .."),
        pytest.param({"CNI_IFNAME": "eth/0"}, 4, "CNI_IFNAME", id="an interface with a slash"),
        pytest.param({"CNI_IFNAME": "eth 0"}, 4, "CNI_IFNAME", id="an interface with a space"),
        pytest.param({"CNI_ARGS": "K8S_POD_NAME=a;$(reboot)"}, 4, "CNI_ARGS", id="an argument without ="),
        pytest.param({"CNI_ARGS": "K8S_POD_NAME=a=b"}, 4, "CNI_ARGS", id="an argument with two ="),
        pytest.param({"CNI_ARGS": "K8S_POD_NAME=$(reboot)"}, 4, "K8S_POD_NAME", id="a pod name that is a command"),
        pytest.param({"CNI_ARGS": "K8S_POD_NAME=a/b"}, 4, "K8S_POD_NAME", id="a pod name with a slash"),
        pytest.param({"CNI_ARGS": "K8S_POD_NAME=" + "a" * 300}, 4, "K8S_POD_NAME", id="a pod name of 300 characters"),
        pytest.param({"CNI_ARGS": "K8S_POD_NAMESPACE=Shop"}, 4, "K8S_POD_NAMESPACE", id="a namespace that is none"),
        pytest.param({"CNI_ARGS": "FOO=1"}, 4, "FOO", id="an unknown argument"),
        pytest.param({"CNI_ARGS": "IP=10.0.0.1,10.0.0.2"}, 2, "IP=10.0.0.1,10.0.0.2", id="two addresses of one family"),
        pytest.param({"CNI_ARGS": "IP=ten"}, 7, "CNI_ARGS IP", id="an address that is none"),
        pytest.param({"CNI_ARGS": "MAC=01:00:5e:00:00:01"}, 7, "CNI_ARGS MAC", id="a multicast MAC"),
    ],
)
def test_a_wrong_environment_is_refused_by_name(environment: dict[str, str], code: int, said: str) -> None:
    with pytest.raises(CniError) as refused:
        call(None, **environment)
    assert code == refused.value.CODE
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("config", "code", "said"),
    [
        pytest.param(b"", 6, "no JSON", id="nothing"),
        pytest.param(b"{", 6, "no JSON", id="half an object"),
        pytest.param(b"[]", 6, "no JSON object", id="a list"),
        pytest.param(b'{"name": "\xff"}', 6, "no JSON", id="no UTF-8"),
        pytest.param({"cniVersion": "9.9.9"}, 1, "1.0.0", id="a version of the future"),
        pytest.param({"name": ""}, 7, "name", id="no name"),
        pytest.param({"name": "a/b"}, 7, "name", id="a name with a slash"),
        pytest.param({"mtu": 67}, 7, "mtu 67", id="an MTU too small"),
        pytest.param({"mtu": 1279, "ipam": {"assign_ipv6": True}}, 7, "mtu 1279", id="an MTU too small for IPv6"),
        pytest.param({"prevResult": {"interfaces": 5}}, 7, "prevResult can't be read", id="a result that is none"),
        pytest.param({"prevResult": []}, 7, "prevResult", id="a result that is a list"),
        pytest.param({"prevResult": {"cniVersion": "9.9.9"}}, 7, "9.9.9", id="a result of the future"),
        pytest.param(
            {"prevResult": {"ips": [{"address": "10.0.0.1/24", "interface": 0}]}},
            7,
            "interface 0",
            id="no such interface",
        ),
        pytest.param({"ipam": {"subnet": "10.0.0"}}, 7, "ipam.subnet", id="a subnet that is none"),
        pytest.param({"ipam": {"subnet": "10.0.0.0/24", "gateway": "10.1.0.1"}}, 7, "ipam.gateway", id="a far gateway"),
        pytest.param(
            {"ipam": {"ranges": [[{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.9", "rangeEnd": "10.0.0.3"}]]}},
            7,
            "ipam.ranges[0][0].rangeStart",
            id="a range that ends before it starts",
        ),
        pytest.param({"ipam": {"routes": [{"dst": "x"}]}}, 7, "ipam.routes[0]", id="a route that is none"),
        pytest.param({"ipam": {"routes": [{"dst": "::/0", "gw": "x"}]}}, 7, "ipam.routes[0]", id="no next hop"),
        pytest.param({"ipam": {"subnet": "10.0.0.0/31"}}, 7, "too small", id="a subnet without room for a gateway"),
        pytest.param({"prevResult": {"ips": ["10.0.0.1"]}}, 7, "prevResult can't be read", id="a result of words"),
        pytest.param({"mtu": "big"}, 7, "mtu", id="an MTU that is no number"),
        pytest.param({"ipam": {"assign_ipv4": "yes"}}, 7, "assign_ipv4", id="neither true nor false"),
        pytest.param({"ipam": {"ipv4_pools": "p"}}, 7, "ipv4_pools", id="pools that are no list"),
        pytest.param(
            {"args": {"cni": {"labels": [{"key": "app", "value": "a b"}]}}}, 7, "labels[0].value", id="a bad label"
        ),
        pytest.param(
            {"args": {"cni": {"labels": [{"key": "-", "value": "a"}]}}}, 7, "labels[0].key", id="a bad label key"
        ),
        pytest.param(
            {"args": {"cni": {"tortie.dev/ports": [{"name": "http", "port": 70000}]}}}, 7, "70000", id="port 70000"
        ),
        pytest.param(
            {"args": {"cni": {"tortie.dev/ports": [{"name": "HTTP", "port": 1}]}}}, 7, "HTTP", id="a bad port name"
        ),
        pytest.param(
            {"args": {"cni": {"tortie.dev/ports": [{"name": "a", "port": 1, "protocol": "ICMP"}]}}},
            7,
            "ICMP",
            id="a protocol without ports",
        ),
    ],
)
def test_a_wrong_configuration_is_refused_with_the_key(config: dict[str, object] | bytes, code: int, said: str) -> None:
    with pytest.raises(CniError) as refused:
        call(config)
    assert code == refused.value.CODE
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_is_missing_has_a_default() -> None:
    checked = call()
    assert (checked.addressing.wanted.families, checked.config.mtu, checked.config.cni_version) == ((4,), 0, "1.0.0")
    assert (checked.pod.namespace, checked.pod.name) == ("default", "c1")


@pytest.mark.parametrize("value", [True, "true", "True"])
def test_booleans_may_be_strings(value: object) -> None:
    assert call({"ipam": {"assign_ipv4": "false", "assign_ipv6": value}}).addressing.wanted.families == (6,)


def test_no_version_is_the_oldest() -> None:
    assert call({"cniVersion": None}).config.cni_version == "0.1.0"


@pytest.mark.parametrize(
    ("command", "version", "allowed"),
    [
        ("CHECK", "0.3.1", False),
        ("CHECK", "0.4.0", True),
        ("GC", "1.0.0", False),
        ("GC", "1.1.0", True),
        ("STATUS", "1.0.0", False),
        ("STATUS", "1.1.0", True),
    ],
)
def test_a_command_is_refused_below_the_version_it_came_with(command: str, version: str, allowed: bool) -> None:
    config = {"cniVersion": version, "prevResult": {"cniVersion": version}}
    if allowed:
        assert call(config, CNI_COMMAND=command).command == command
    else:
        with pytest.raises(IncompatibleVersion, match=f"config version does not allow {command}"):
            call(config, CNI_COMMAND=command)


@pytest.mark.parametrize(
    ("config", "args"),
    [
        pytest.param(
            {"runtimeConfig": {"ips": ["10.65.0.9/16"]}, "args": {"cni": {"ips": ["10.65.0.1"]}}},
            "IP=10.65.0.2",
            id="the runtime",
        ),
        pytest.param({"args": {"cni": {"ips": ["10.65.0.9"]}}}, "IP=10.65.0.1", id="args"),
        pytest.param({}, "IP=10.65.0.9", id="CNI_ARGS"),
    ],
)
def test_an_address_is_asked_for_by_the_runtime_before_args_and_cni_args(config: dict[str, object], args: str) -> None:
    among = call(config, CNI_ARGS=args).addressing.wanted.among[4]
    assert among.single
    assert among.has(ip_address("10.65.0.9"))


def test_a_subnet_gives_neither_its_edges_nor_its_gateway() -> None:
    asked = call({"ipam": {"subnet": "10.1.0.0/29", "gateway": "10.1.0.3"}}).addressing
    given = [str(one) for one in ip_network("10.1.0.0/28") if asked.wanted.among[4].has(one)]
    assert given == ["10.1.0.1", "10.1.0.2", "10.1.0.4", "10.1.0.5", "10.1.0.6"]
    assert [str(one.gateway) for one in asked.subnets] == ["10.1.0.3"]


def test_a_removal_is_not_kept_by_a_file_that_was_broken_since() -> None:
    broken = {"mtu": "big", "ipam": 5, "prevResult": [], "args": {"cni": {"labels": 5}}}
    assert call(broken, CNI_COMMAND="DEL", CNI_ARGS="nonsense").attachment.network == "net"


@pytest.mark.parametrize(("value", "found"), [(None, ()), ([], ()), ([{"containerID": "a", "ifname": "b"}], ("a",))])
def test_null_names_no_valid_attachment_and_an_absent_key_says_nothing(value: object, found: tuple[str, ...]) -> None:
    config = {"cniVersion": "1.1.0", "cni.dev/valid-attachments": value}
    valid = call(config, CNI_COMMAND="GC").config.valid
    assert valid is not None
    assert tuple(one.container_id for one in valid) == found
    assert call({"cniVersion": "1.1.0"}, CNI_COMMAND="GC").config.valid is None


def test_the_pod_is_told_by_cni_args_and_labels_by_args() -> None:
    labels = {
        "args": {"cni": {"labels": [{"key": "app", "value": "web"}], "tortie.dev/ports": [{"name": "h", "port": 1}]}}
    }
    checked = call(labels, CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_UID=u;X=1")
    assert (checked.pod.namespace, checked.pod.name, checked.pod.uid) == ("shop", "web", "u")
    assert [(label.key, label.value) for label in checked.config.args.cni.labels] == [("app", "web")]
    assert [(port.name, port.port, port.protocol) for port in checked.config.args.cni.ports] == [("h", 1, "TCP")]


def test_the_keys_of_a_calico_conflist_are_accepted() -> None:
    calico = {
        "log_level": "info",
        "log_file_path": "/var/log/calico/cni/cni.log",
        "datastore_type": "kubernetes",
        "nodename": "node-1",
        "mtu": 0,
        "ipam": {"type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": "false"},
        "policy": {"type": "k8s", "k8s_api_root": "https://10.96.0.1:443"},
        "kubernetes": {"kubeconfig": "/etc/cni/net.d/calico-kubeconfig"},
        "container_settings": {"allow_ip_forwarding": False},
        "capabilities": {"portMappings": True},
        "runtimeConfig": {"portMappings": []},
        "prevResult": {"cniVersion": "1.0.0", "dns": {}},
    }
    assert call(calico).config.policy is not None


def test_delete_needs_no_namespace() -> None:
    assert call(None, CNI_COMMAND="DEL", CNI_NETNS="").netns == ""


@pytest.mark.parametrize(
    ("stdin", "version"),
    [(b"{", "1.1.0"), (b'{"cniVersion": "1.0.0"}', "1.0.0"), (b'{"cniVersion": "7"}', "1.1.0"), (b"[]", "1.1.0")],
)
def test_errors_speak_the_calls_version_where_it_can_be_read(stdin: bytes, version: str) -> None:
    assert version_of(stdin) == version


def test_an_error_is_one_json_object_with_the_specs_keys() -> None:
    body = json.loads(InvalidConfig('a "message"', "more").to_json("1.0.0"))
    assert body == {"cniVersion": "1.0.0", "code": 7, "msg": 'a "message"', "details": "more"}


def test_attachments_that_differ_only_in_where_their_names_end_have_handles_of_their_own() -> None:
    one = call({"name": "net.a"}, CNI_CONTAINERID="b").attachment
    other = call({"name": "net"}, CNI_CONTAINERID="a.b").attachment
    assert one.handle != other.handle
