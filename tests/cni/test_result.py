"""ADD's answer, version by version."""

import json
from ipaddress import ip_address

import pytest

from cni.result import Result

RESULT = Result(
    host_interface="tort0123456789a",
    interface="eth0",
    mac=bytes.fromhex("0a0b0c0d0e0f"),
    netns="/run/netns/a",
    mtu=1400,
    addresses=(ip_address("10.65.0.2"), ip_address("fd65::2")),
)


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0"])
def test_interfaces_name_both_ends_and_addresses_point_to_the_inner_one(version: str) -> None:
    body = json.loads(RESULT.to_json(version))
    mtu = {} if version == "1.0.0" else {"mtu": 1400}
    assert body == {
        "cniVersion": version,
        "interfaces": [
            {"name": "tort0123456789a", "mac": "ee:ee:ee:ee:ee:ee", **mtu},
            {"name": "eth0", "mac": "0a:0b:0c:0d:0e:0f", "sandbox": "/run/netns/a", **mtu},
        ],
        "ips": [
            {"address": "10.65.0.2/32", "interface": 1, "gateway": "169.254.1.1"},
            {"address": "fd65::2/128", "interface": 1, "gateway": "fe80::ecee:eeff:feee:eeee"},
        ],
        "routes": [
            {"dst": "0.0.0.0/0", "gw": "169.254.1.1"},
            {"dst": "::/0", "gw": "fe80::ecee:eeff:feee:eeee"},
        ],
    }


@pytest.mark.parametrize(("address", "routes"), [("10.65.0.2", ["0.0.0.0/0"]), ("fd65::2", ["::/0"])])
def test_a_pod_of_one_family_gets_that_familys_route(address: str, routes: list[str]) -> None:
    result = Result("tort", "eth0", b"\2" * 6, "/n", 1500, (ip_address(address),))
    assert [route["dst"] for route in json.loads(result.to_json("1.1.0"))["routes"]] == routes


def test_what_earlier_plugins_made_stays_before_ours() -> None:
    previous = {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "other0"}],
        "ips": [{"address": "192.0.2.1/24", "interface": 0}],
        "dns": {"nameservers": ["192.0.2.53"]},
    }
    body = json.loads(RESULT.to_json("1.1.0", previous))
    assert [one["name"] for one in body["interfaces"]] == ["other0", "tort0123456789a", "eth0"]
    assert [one["interface"] for one in body["ips"]] == [0, 2, 2]
    assert (body["dns"], body["cniVersion"]) == ({"nameservers": ["192.0.2.53"]}, "1.1.0")
