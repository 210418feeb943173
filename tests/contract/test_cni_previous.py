"""prevResult on an ADD that comes after others in its chain: passed through in every form, or refused."""

import json
from itertools import product

import pytest

from tests.contract.table import table
from tests.contract.test_cni_results import BOTH
from tests.contract.ways import VERSIONS, Document, Way, addresses, refused, silent
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
_FIRST = "192.0.2.7/24"
_ROUTE = {"dst": "198.51.100.0/24", "gw": "192.0.2.1"}
_DNS = {"nameservers": ["192.0.2.53"], "domain": "example.org", "search": ["a.example.org"], "options": ["ndots:2"]}


def _oldest(version: str | None) -> Document:
    """What a first plugin of 0.1.0 or 0.2.0 answers."""
    found = {"ip4": {"ip": _FIRST, "gateway": "192.0.2.1", "routes": [_ROUTE]}, "dns": _DNS}
    return {"cniVersion": version, **found} if version else found


def _modern(version: str | None, **keys: object) -> Document:
    """What a first plugin of 0.3.0 or later answers; without `version` a runtime knows it from the configuration."""
    interfaces = [
        {"name": "first0", "mac": "02:00:00:00:00:01"},
        {"name": "net1", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/x"},
    ]
    ip = {"address": _FIRST, "gateway": "192.0.2.1", "interface": 1}
    if version and version.startswith("0."):
        ip["version"] = "4"
    result = {"interfaces": interfaces, "ips": [ip], "routes": [_ROUTE], "dns": _DNS, **keys}
    return {"cniVersion": version, **result} if version else result


def _owners(result: Document) -> list[tuple[str, str | None]]:
    """Each address with the name of the interface that it says it is on."""
    rows = result.get("interfaces") or []
    return [
        (ip["address"], rows[ip["interface"]]["name"] if ip.get("interface") is not None else None)
        for ip in result["ips"]
    ]


@pytest.mark.parametrize("says", [True, False], ids=["with cniVersion", "without cniVersion"])
@table("version", VERSIONS[2:])
def test_what_came_before_stays_in_the_result(way: Way, version: str, says: bool) -> None:
    pod = way.pod()
    previous = _modern(version)
    if not says:
        del previous["cniVersion"]
    result = way.add(pod, way.config(version, prevResult=previous))
    assert result["cniVersion"] == version
    assert [one for one in result["interfaces"] if one["name"] in ("first0", "net1")] == previous["interfaces"]
    assert _owners(result) == [(_FIRST, "net1"), (addresses(pod)[0], "eth0")]
    assert previous["ips"][0] in result["ips"]
    assert result["routes"][0] == _ROUTE
    assert result["dns"] == _DNS


@table("version", ["0.1.0", "0.2.0", None])
def test_in_the_oldest_versions_the_first_address_of_a_family_stays(way: Way, version: str | None) -> None:
    pod = way.pod()
    result = way.add(pod, way.config(version, ipam=BOTH, prevResult=_oldest(version)))
    assert result["ip4"]["ip"] == _FIRST
    assert _ROUTE in result["ip4"]["routes"]
    assert result["ip6"]["ip"] == addresses(pod)[1]
    assert result["dns"] == _DNS


@table("version,before", list(product(["0.3.1", "0.4.0", "1.0.0", "1.1.0"], VERSIONS)))
def test_a_result_of_another_version_is_converted(way: Way, version: str, before: str) -> None:
    pod = way.pod()
    old = before in ("0.1.0", "0.2.0")
    previous = _oldest(before) if old else _modern(before)
    result = way.add(pod, way.config(version, prevResult=previous))
    assert _owners(result) == [(_FIRST, None if old else "net1"), (addresses(pod)[0], "eth0")]
    assert [ip.get("version") for ip in result["ips"]] == (["4"] * 2 if version.startswith("0.") else [None] * 2)
    assert result["ips"][0]["gateway"] == "192.0.2.1"
    assert result["routes"][0] == _ROUTE
    assert result["dns"] == _DNS


def test_a_modern_result_is_converted_to_the_oldest_form(way: Way) -> None:
    result = way.add(way.pod(), way.config("0.2.0", prevResult=_modern("0.4.0")))
    assert result["ip4"]["ip"] == _FIRST
    assert "interfaces" not in result


@table(
    "previous",
    [
        pytest.param({}, id="nothing at all"),
        pytest.param({"cniVersion": "1.1.0"}, id="a version only"),
        pytest.param({"dns": {}}, id="empty dns"),
        pytest.param({"interfaces": None, "ips": None, "routes": None, "dns": None}, id="nulls"),
        pytest.param({"interfaces": [], "ips": [], "routes": []}, id="empty lists"),
        pytest.param({"dns": {"nameservers": None, "search": None}}, id="nulls within dns"),
        pytest.param({"interfaces": [{"name": "lo"}]}, id="an interface without a MAC"),
    ],
)
def test_a_result_that_holds_next_to_nothing_is_no_matter(way: Way, previous: Document) -> None:
    pod = way.pod()
    result = way.add(pod, way.config(prevResult=previous))
    assert _owners(result) == [(addresses(pod)[0], "eth0")]
    assert not result.get("dns", {}).get("nameservers")


def test_an_address_of_no_interface_stays_without(way: Way) -> None:
    previous = _modern("1.1.0", ips=[{"address": _FIRST}, {"address": "2001:db8::7/64", "interface": 0}])
    result = way.add(way.pod(), way.config(prevResult=previous))
    assert _owners(result)[:2] == [(_FIRST, None), ("2001:db8::7/64", "first0")]


def test_keys_of_1_1_0_stay_in_1_1_0(way: Way) -> None:
    interface = {"name": "net1", "mac": "02:00:00:00:00:02", "sandbox": "/x", "mtu": 1300, "pciID": "0000:00:02.0"}
    route = {**_ROUTE, "mtu": 1200, "advmss": 1160, "priority": 5, "table": 254, "scope": 253}
    previous = _modern("1.1.0", interfaces=[interface, interface], routes=[route])
    result = way.add(way.pod(), way.config(prevResult=previous))
    assert interface in result["interfaces"]
    assert route in result["routes"]


@table(
    "previous",
    [
        pytest.param([], id="a list"),
        pytest.param("x", id="a string"),
        pytest.param(5, id="a number"),
        pytest.param(_modern("1.1.0", interfaces={}), id="interfaces no list"),
        pytest.param(_modern("1.1.0", interfaces=["eth0"]), id="an interface no object"),
        pytest.param(_modern("1.1.0", interfaces=[{"name": 5}]), id="an interface's name no string"),
        pytest.param(_modern("1.1.0", ips="x"), id="ips no list"),
        pytest.param(_modern("1.1.0", ips=[5]), id="an ip no object"),
        pytest.param(_modern("1.1.0", ips=[{"address": "nonsense"}]), id="an address that is none"),
        pytest.param(_modern("1.1.0", ips=[{"address": "192.0.2.7/33"}]), id="a prefix that is none"),
        pytest.param(_modern("1.1.0", ips=[{"address": 5}]), id="an address no string"),
        pytest.param(_modern("1.1.0", ips=[{"interface": 0}]), id="an ip without an address"),
        pytest.param(_modern("1.1.0", ips=[{"address": _FIRST, "gateway": "x"}]), id="a gateway that is none"),
        pytest.param(_modern("1.1.0", routes=[{**_ROUTE, "gw": "x"}]), id="a next hop that is none"),
        pytest.param(_modern("1.1.0", ips=[{"address": _FIRST, "interface": 2}]), id="an index out of range"),
        pytest.param(_modern("1.1.0", ips=[{"address": _FIRST, "interface": -1}]), id="an index below zero"),
        pytest.param(_modern("1.1.0", ips=[{"address": _FIRST, "interface": "0"}]), id="an index no number"),
        pytest.param({"ips": [{"address": _FIRST, "interface": 0}]}, id="an index without interfaces"),
        pytest.param(_modern("1.1.0", routes={}), id="routes no list"),
        pytest.param(_modern("1.1.0", routes=[{"dst": "nonsense"}]), id="a destination that is none"),
        pytest.param(_modern("1.1.0", routes=[{"gw": "192.0.2.1"}]), id="a route without a destination"),
        pytest.param(_modern("1.1.0", dns=[]), id="dns no object"),
        pytest.param(_modern("9.9.9"), id="a version that nobody knows"),
        pytest.param({**_modern("1.1.0"), "cniVersion": 5}, id="a version no string"),
        pytest.param({"cniVersion": "0.2.0", "ip4": {"ip": "nonsense"}}, id="an old address that is none"),
        pytest.param({"cniVersion": "0.2.0", "ip4": []}, id="an old family no object"),
    ],
)
def test_a_result_out_of_shape_is_refused_and_nothing_is_made(way: Way, previous: object) -> None:
    document = {**way.config(), "prevResult": previous}
    refused(way.run(way.variables("ADD", way.pod()), json.dumps(document)), 7, "prevResult")
    assert way.nothing_left()


@table("version", ["0.4.0", "1.0.0", "1.1.0"])
def test_the_merged_result_serves_check_and_del(way: Way, version: str) -> None:
    pod = way.pod()
    result = way.add(pod, way.config(version, prevResult=_modern(version)))
    config = way.config(version, prevResult=result)
    assert silent(way.call("CHECK", pod, config))
    assert silent(way.call("DEL", pod, config))
    assert way.nothing_left()
