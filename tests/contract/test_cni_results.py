"""What ADD answers, in each version of the SPEC, held against what the kernel has."""

import pytest

from tests.contract.table import table
from tests.contract.ways import VERSIONS, Document, Pod, Way, addresses
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
BOTH = {"type": "tortie-ipam", "assign_ipv4": True, "assign_ipv6": True}
_WITH_INTERFACES = VERSIONS[2:]
_DEFAULT_ROUTES = [
    {"dst": "0.0.0.0/0", "gw": "169.254.1.1"},
    {"dst": "::/0", "gw": "fe80::ecee:eeff:feee:eeee"},
]


def _in_pod(way: Way, pod: Pod) -> Document:
    return next(row for row in way.host.shown("link", where=pod.namespace) if row["ifname"] == "eth0")


def _on_host(way: Way, name: str) -> Document:
    return next(row for row in way.host.shown("link") if row["ifname"] == name)


@table("version", [None, "0.1.0", "0.2.0"])
def test_the_oldest_versions_have_one_address_a_family(way: Way, version: str | None) -> None:
    pod = way.pod()
    result = way.add(pod, way.config(version, ipam=BOTH))
    assert result["cniVersion"] == (version or "0.1.0")
    assert set(result) - {"dns"} == {"cniVersion", "ip4", "ip6"}
    assert [result[key]["ip"] for key in ("ip4", "ip6")] == addresses(pod)
    assert [result[key]["routes"] for key in ("ip4", "ip6")] == [[route] for route in _DEFAULT_ROUTES]
    assert {key for ip in ("ip4", "ip6") for key in result[ip]} <= {"ip", "gateway", "routes"}


@table("version", ["0.1.0", "0.2.0"])
@pytest.mark.parametrize(("family", "key", "other"), [("assign_ipv4", "ip4", "ip6"), ("assign_ipv6", "ip6", "ip4")])
def test_the_oldest_versions_have_no_key_for_a_family_that_is_not_there(
    way: Way, version: str, family: str, key: str, other: str
) -> None:
    ipam = {"type": "tortie-ipam", "assign_ipv4": False, "assign_ipv6": False, family: True}
    result = way.add(way.pod(), way.config(version, ipam=ipam))
    assert key in result
    assert other not in result


@table("version", _WITH_INTERFACES)
def test_a_result_has_both_ends_and_the_addresses_of_the_inner_one(way: Way, version: str) -> None:
    pod = way.pod()
    result = way.add(pod, way.config(version, ipam=BOTH))
    assert result["cniVersion"] == version
    outer, inner = sorted(result["interfaces"], key=lambda one: str(one.get("sandbox", "")))
    assert (inner["name"], inner["sandbox"], inner["mac"]) == ("eth0", pod.netns, _in_pod(way, pod)["address"])
    assert (outer.get("sandbox", ""), outer["mac"]) == ("", _on_host(way, outer["name"])["address"])
    assert [ip["address"] for ip in result["ips"]] == addresses(pod)
    assert [result["interfaces"][ip["interface"]] for ip in result["ips"]] == [inner, inner]
    assert result["routes"] == _DEFAULT_ROUTES


@table("version", _WITH_INTERFACES)
def test_an_address_says_its_family_before_1_0_0_only(way: Way, version: str) -> None:
    result = way.add(way.pod(), way.config(version, ipam=BOTH))
    families = [ip.get("version") for ip in result["ips"]]
    assert families == (["4", "6"] if version.startswith("0.") else [None, None])


@table("version", _WITH_INTERFACES)
def test_an_interface_says_its_mtu_in_1_1_0_only(way: Way, version: str) -> None:
    pod = way.pod()
    result = way.add(pod, way.config(version))
    real = _in_pod(way, pod)["mtu"]
    assert [one.get("mtu") for one in result["interfaces"]] == ([real, real] if version == "1.1.0" else [None, None])


@table("version", _WITH_INTERFACES)
def test_a_result_has_no_keys_that_its_version_has_not(way: Way, version: str) -> None:
    result = way.add(way.pod(), way.config(version, ipam=BOTH))
    old = version.startswith("0.")
    assert set(result) <= {"cniVersion", "interfaces", "ips", "routes"} | ({"dns"} if old else set())
    assert {key for ip in result["ips"] for key in ip} <= {"address", "interface", "gateway", "version"}
    assert {key for route in result["routes"] for key in route} <= {"dst", "gw"}
    assert {key for one in result["interfaces"] for key in one} <= {"name", "mac", "sandbox", "mtu"}


@table("spelling", ["/run/netns/./{}", "/run/../run/netns/{}", "//run/netns/{}"])
def test_the_sandbox_is_the_namespace_as_the_runtime_wrote_it(way: Way, spelling: str) -> None:
    pod = way.pod()
    written = spelling.format(pod.namespace.name)
    result = way.add(pod, CNI_NETNS=written)
    assert [one["sandbox"] for one in result["interfaces"] if one.get("sandbox")] == [written]


def test_a_pod_has_the_routes_of_the_result(way: Way) -> None:
    pod = way.pod()
    result = way.add(pod, way.config(ipam=BOTH))
    for option, route in zip(("-4", "-6"), result["routes"], strict=True):
        (row,) = way.host.shown(option, "route", "show", "default", where=pod.namespace)
        assert (row["gateway"], row["dev"]) == (route["gw"], "eth0")
