"""CNI_ARGS, and the two other ways to ask for an address or a MAC: runtimeConfig and args.cni."""

from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import Any

import pytest

from tests.contract.table import table
from tests.contract.test_cni_results import BOTH
from tests.contract.ways import Document, Way, addresses, failure, interfaces, refused, silent, soon
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
_MAC = "02:00:5e:10:20:30"
_free = count(10)
"""Each test takes addresses of its own: one that was freed rests for a while."""

Asking = Callable[[str], tuple[Document, str]]
"""What makes of a comma separated list of addresses, or of a MAC, the keys and CNI_ARGS that ask for it."""

_FOR_ADDRESSES: dict[str, Asking] = {
    "CNI_ARGS": lambda ips: ({}, f"IP={ips}"),
    "CNI_ARGS among others": lambda ips: ({}, f"K8S_POD_NAME=web-1;IP={ips};IgnoreUnknown=1;FOO=BAR"),
    "runtimeConfig": lambda ips: ({"capabilities": {"ips": True}, "runtimeConfig": {"ips": ips.split(",")}}, ""),
    "args.cni": lambda ips: ({"args": {"cni": {"ips": ips.split(",")}}}, ""),
}
_FOR_MACS: dict[str, Asking] = {
    "CNI_ARGS": lambda mac: ({}, f"MAC={mac}"),
    "runtimeConfig": lambda mac: ({"capabilities": {"mac": True}, "runtimeConfig": {"mac": mac}}, ""),
    "args.cni": lambda mac: ({"args": {"cni": {"mac": mac}}}, ""),
}
_OUTSIDE = ("192.0.2.1", "2001:db8::1", "10.66.0.1", "169.254.1.1", "127.0.0.1")
_NO_ADDRESSES = ("nonsense", "10.65.0.300", "10.65.1", "10.65.0.1/x", "10.65.9.1,10.65.9.2", " ")
_MACS = (_MAC, "0A:58:0A:F4:00:07")
_NO_MACS = {
    "no MAC": "nonsense",
    "too short": "02:00:5e:10:20",
    "too long": "02:00:5e:10:20:30:40",
    "a group's": "01:00:5e:00:00:01",
    "everybody's": "ff:ff:ff:ff:ff:ff",
    "nobody's": "00:00:00:00:00:00",
}
by_address = table("ask", [pytest.param(ask, id=name) for name, ask in _FOR_ADDRESSES.items()])


def _each(asking: Mapping[str, Asking], values: Iterable[str]) -> list[Any]:
    """Every value, asked for in every way."""
    return [pytest.param(ask, value, id=f"{name}-{value}") for value in values for name, ask in asking.items()]


def _free_pair() -> tuple[str, str]:
    number = next(_free)
    return f"10.65.{100 + number // 200}.{number % 200 + 1}", f"fd65::a:{number:x}"


# CNI_ARGS as such


@table(
    "args,word",
    [
        pytest.param("FOO", "FOO", id="no equals sign"),
        pytest.param("IgnoreUnknown=1;FOO", "FOO", id="no equals sign, unknown ones ignored"),
        pytest.param("IgnoreUnknown=1;FOO=BAR=BAZ", "FOO=BAR=BAZ", id="two equals signs"),
        pytest.param("FOO=BAR", "FOO", id="an unknown key"),
        pytest.param("IgnoreUnknown=0;FOO=BAR", "FOO", id="an unknown key, not to be ignored"),
        pytest.param("IgnoreUnknown=false;FOO=BAR;K8S_POD_NAME=web-1", "FOO", id="an unknown key among known ones"),
        pytest.param("IgnoreUnknown=1;K8S_POD_NAMESPACE=a/b", "K8S_POD_NAMESPACE", id="a namespace that is none"),
        pytest.param("IgnoreUnknown=1;K8S_POD_NAME=a/b", "K8S_POD_NAME", id="a pod's name that is none"),
        pytest.param("IgnoreUnknown=1;K8S_POD_NAME=../../x", "K8S_POD_NAME", id="a pod's name that is a path"),
    ],
)
def test_arguments_out_of_shape_are_refused(way: Way, args: str, word: str) -> None:
    refused(way.call("ADD", way.pod(), args=args), 4, "CNI_ARGS", word)
    assert way.nothing_left()


@table(
    "args",
    [
        pytest.param("IgnoreUnknown=1;FOO=BAR", id="an unknown key that is to be ignored"),
        pytest.param("FOO=BAR;IgnoreUnknown=true", id="the same, in other words and order"),
        pytest.param("IgnoreUnknown=1;K8S_POD_NAMESPACE=;K8S_POD_NAME=;K8S_POD_UID=", id="empty values"),
        pytest.param(
            "K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_UID=6e1c9a3e-1;IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;"
            "K8S_POD_NAME=web-1",
            id="containerd's and CRI-O's",
        ),
        pytest.param("IgnoreUnknown=1;K8S_POD_NAME=sleepy_tortoise", id="podman's, an underscore in the name"),
    ],
)
def test_arguments_that_runtimes_send_are_accepted(way: Way, args: str) -> None:
    pod = way.pod()
    result = way.add(pod, args=args)
    assert silent(way.call("CHECK", pod, way.config(prevResult=result), args=args))
    assert silent(way.call("DEL", pod, args=args))
    assert way.nothing_left()


# Addresses


@by_address
def test_an_address_that_is_asked_for_is_given(way: Way, ask: Asking) -> None:
    pod, (ipv4, _) = way.pod(), _free_pair()
    keys, args = ask(ipv4)
    result = way.add(pod, way.config(**keys), args=args)
    assert [ip["address"] for ip in result["ips"]] == [f"{ipv4}/32"] == addresses(pod)
    assert way.add(pod, way.config(**keys), args=args) == result, "a second ADD"


@by_address
def test_one_address_of_each_family_can_be_asked_for(way: Way, ask: Asking) -> None:
    pod, (ipv4, ipv6) = way.pod(), _free_pair()
    keys, args = ask(f"{ipv4},{ipv6}")
    way.add(pod, way.config(ipam=BOTH, **keys), args=args)
    assert addresses(pod) == [f"{ipv4}/32", f"{ipv6}/128"]


def test_a_runtimes_address_may_have_a_prefix_length(way: Way) -> None:
    pod, (ipv4, _) = way.pod(), _free_pair()
    way.add(pod, way.config(capabilities={"ips": True}, runtimeConfig={"ips": [f"{ipv4}/24"]}))
    assert [address.partition("/")[0] for address in addresses(pod)] == [ipv4]


@by_address
def test_an_address_that_another_has_is_refused(way: Way, ask: Asking) -> None:
    pod, other, (ipv4, _) = way.pod(), way.pod(), _free_pair()
    keys, args = ask(ipv4)
    way.add(pod, way.config(**keys), args=args)
    body = failure(way.call("ADD", other, way.config(**keys), args=args))
    assert ipv4 in body["msg"] + body["details"]
    assert way.owned() == [f"net:{pod.container}:eth0"]
    assert soon(lambda: interfaces(other), []) == []
    assert soon(lambda: len(way.host_ends()), 1) == 1


@table("ask,address", _each(_FOR_ADDRESSES, _OUTSIDE))
def test_an_address_outside_every_pool_is_refused(way: Way, ask: Asking, address: str) -> None:
    keys, args = ask(address)
    body = failure(way.call("ADD", way.pod(), way.config(ipam=BOTH, **keys), args=args))
    assert address in body["msg"] + body["details"]
    assert way.nothing_left()


@table("ask,address", _each(_FOR_ADDRESSES, _NO_ADDRESSES))
def test_what_is_no_address_is_refused(way: Way, ask: Asking, address: str) -> None:
    keys, args = ask(address)
    assert failure(way.call("ADD", way.pod(), way.config(**keys), args=args))["code"] in (2, 4, 7)
    assert way.nothing_left()


@table(
    "keys",
    [
        {"runtimeConfig": {"ips": "10.65.9.3"}},
        {"runtimeConfig": {"ips": [5]}},
        {"args": {"cni": {"ips": {}}}},
        {"runtimeConfig": []},
    ],
)
def test_addresses_that_are_no_list_of_strings_are_refused(way: Way, keys: Document) -> None:
    refused(way.call("ADD", way.pod(), way.config(**keys)), 7)
    assert way.nothing_left()


# MACs


@table("ask,mac", _each(_FOR_MACS, _MACS))
def test_a_mac_that_is_asked_for_is_given(way: Way, ask: Asking, mac: str) -> None:
    pod = way.pod()
    keys, args = ask(mac)
    result = way.add(pod, way.config(**keys), args=args)
    (real,) = (row["address"] for row in way.host.shown("link", where=pod.namespace) if row["ifname"] == "eth0")
    assert real == mac.lower()
    assert [one["mac"] for one in result["interfaces"] if one["name"] == "eth0"] == [real]


@table("ask,mac", _each(_FOR_MACS, _NO_MACS.values()))
def test_what_is_no_mac_of_an_interface_is_refused(way: Way, ask: Asking, mac: str) -> None:
    keys, args = ask(mac)
    assert failure(way.call("ADD", way.pod(), way.config(**keys), args=args))["code"] in (2, 4, 7)
    assert way.nothing_left()
