"""ADD's answer, version by version, there and back."""

import json
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.attach import answer
from cni.errors import InvalidConfig
from cni.records import HeldAddress, Record
from cni.result import DNS, IP, SUPPORTED_VERSIONS, Interface, Result, Route, parse

RECORD = Record(
    network="net",
    container_id="c1",
    interface="eth0",
    host_interface="tort0123456789a",
    netns="/run/netns/a",
    mac="0a:0b:0c:0d:0e:0f",
    mtu=1400,
    held=tuple(HeldAddress("b", 0, "0" * 16, text) for text in ("10.65.0.2", "fd65::2")),
)
ROUTES = [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}, {"dst": "::/0", "gw": "fe80::ecee:eeff:feee:eeee"}]


def body(version: str, record: Record = RECORD) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer(record).to_json(version))
    return found


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0"])
def test_interfaces_name_both_ends_and_addresses_point_to_the_inner_one(version: str) -> None:
    mtu = {} if version == "1.0.0" else {"mtu": 1400}
    assert body(version) == {
        "cniVersion": version,
        "interfaces": [
            {"name": "tort0123456789a", "mac": "ee:ee:ee:ee:ee:ee", **mtu},
            {"name": "eth0", "mac": "0a:0b:0c:0d:0e:0f", "sandbox": "/run/netns/a", **mtu},
        ],
        "ips": [
            {"address": "10.65.0.2/32", "interface": 1, "gateway": "169.254.1.1"},
            {"address": "fd65::2/128", "interface": 1, "gateway": "fe80::ecee:eeff:feee:eeee"},
        ],
        "routes": ROUTES,
    }


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0"])
def test_before_1_0_an_address_names_its_family_and_dns_is_there_though_empty(version: str) -> None:
    found = body(version)
    assert [one["version"] for one in found["ips"]] == ["4", "6"]
    assert (found["dns"], found["cniVersion"]) == ({}, version)


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_the_oldest_form_has_one_address_of_each_family_with_its_routes(version: str) -> None:
    assert body(version) == {
        "cniVersion": version,
        "ip4": {"ip": "10.65.0.2/32", "gateway": "169.254.1.1", "routes": ROUTES[:1]},
        "ip6": {"ip": "fd65::2/128", "gateway": "fe80::ecee:eeff:feee:eeee", "routes": ROUTES[1:]},
        "dns": {},
    }


@pytest.mark.parametrize(("address", "routes"), [("10.65.0.2", ["0.0.0.0/0"]), ("fd65::2", ["::/0"])])
def test_a_pod_of_one_family_gets_that_familys_route(address: str, routes: list[str]) -> None:
    record = Record(
        network="n", container_id="c", interface="eth0", host_interface="tort", held=(HeldAddress("b", 0, "", address),)
    )
    assert [route["dst"] for route in body("1.1.0", record)["routes"]] == routes


def test_what_earlier_plugins_made_stays_before_ours() -> None:
    previous = parse(
        {
            "interfaces": [{"name": "other0"}],
            "ips": [{"address": "192.0.2.1/24", "interface": 0}],
            "dns": {"nameservers": ["192.0.2.53"]},
        },
        "1.0.0",
    )
    merged = json.loads(answer(RECORD).after(previous).to_json("1.1.0"))
    assert [one["name"] for one in merged["interfaces"]] == ["other0", "tort0123456789a", "eth0"]
    assert [one["interface"] for one in merged["ips"]] == [0, 2, 2]
    assert (merged["dns"], merged["cniVersion"]) == ({"nameservers": ["192.0.2.53"]}, "1.1.0")


ADDRESSES = st.ip_addresses().map(lambda one: f"{one}/{one.max_prefixlen}")
GATEWAYS = st.sampled_from(["", "10.0.0.1"])
RESULTS = st.builds(
    Result,
    st.just((Interface("tort0", "ee:ee:ee:ee:ee:ee", 1400), Interface("eth0", sandbox="/n", mtu=9000))),
    st.lists(
        st.builds(IP, ADDRESSES, st.sampled_from([None, 0, 1]), st.sampled_from(["", "10.0.0.1"])), max_size=4
    ).map(tuple),
    st.lists(st.builds(Route, ADDRESSES, st.sampled_from(["", "10.0.0.1"])), max_size=3).map(tuple),
    st.builds(DNS, st.sampled_from([(), ("10.0.0.53",)])),
)


@given(RESULTS)
def test_a_result_is_the_same_after_a_way_through_the_newest_version(result: Result) -> None:
    assert parse(json.loads(result.to_json("1.1.0")), "1.1.0") == result


@given(RESULTS, st.sampled_from(SUPPORTED_VERSIONS), st.sampled_from(SUPPORTED_VERSIONS))
def test_what_a_version_says_is_read_back_whatever_the_configurations_is(
    result: Result, said: str, configured: str
) -> None:
    once = result.to_json(said)
    assert parse(json.loads(once), configured).to_json(said) == once


@given(RESULTS)
def test_the_oldest_form_keeps_the_first_address_of_each_family(result: Result) -> None:
    found = json.loads(result.to_json("0.2.0"))
    for key, family in (("ip4", 4), ("ip6", 6)):
        first = [ip.address for ip in result.ips if ip_address(ip.address.partition("/")[0]).version == family][:1]
        assert [found[key]["ip"]] == first if first else key not in found


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param([], id="a list"),
        pytest.param({"interfaces": 5}, id="interfaces that are a number"),
        pytest.param({"ips": [{"address": "nowhere"}]}, id="an address that is none"),
        pytest.param(
            {"ips": [{"address": "10.0.0.1/24", "interface": 1}], "interfaces": [{"name": "a"}]}, id="an index"
        ),
        pytest.param({"ips": [{"address": "10.0.0.1/24", "interface": -1}]}, id="a negative index"),
        pytest.param({"routes": [{"dst": "x"}]}, id="a route to nowhere"),
        pytest.param({"cniVersion": "2.0.0"}, id="a version of the future"),
    ],
)
def test_what_is_no_result_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidConfig, match="prevResult"):
        parse(wrong, "1.0.0")


def test_null_is_nothing() -> None:
    assert parse({"interfaces": None, "ips": None, "routes": None, "dns": {"nameservers": None}}, "1.0.0") == Result()
