"""`tortie-ipam`: the addresses alone, for another main plugin that makes the interface."""

from collections.abc import Callable
from ipaddress import ip_interface, ip_network

import pytest

from tests.contract.owners import Owners
from tests.contract.table import table
from tests.contract.test_cni_results import BOTH
from tests.contract.ways import VERSIONS, Document, Pod, Way, failure, interfaces, refused, silent, soon
from tests.host import Said
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
_ROUTES = [{"dst": "0.0.0.0/0"}, {"dst": "198.51.100.0/24", "gw": "10.65.0.9"}]
_WIDE: Document = {
    "type": "tortie-ipam",
    "subnet": "10.65.0.0/16",
    "gateway": "10.65.0.1",
    "routes": _ROUTES,
}


class Ipam:
    """One way's IPAM plugin, called as a bridge would call it."""

    def __init__(self, way: Way) -> None:
        self.way = way

    def config(self, ipam: Document | None = None, version: str | None = "1.1.0", **keys: object) -> Document:
        asked = {"type": "tortie-ipam"} if ipam is None else ipam
        main = "bridge" if "subnet" in asked else "routed"
        return self.way.config(version, type=main, bridge="cni0", isGateway=True, ipam=asked, **keys)

    def call(self, command: str, pod: Pod | None, config: Document) -> Said:
        return self.way.call(command, pod, config, ipam=True)

    def add(self, pod: Pod, config: Document) -> Document:
        return self.way.add(pod, config, ipam=True)


@pytest.fixture
def ipam(way: Way) -> Ipam:
    return Ipam(way)


def _small(third: int) -> Document:
    """A subnet of six addresses within a pool; each test has its own."""
    return {"type": "tortie-ipam", "subnet": f"10.65.{third}.0/29", "gateway": f"10.65.{third}.1"}


@table("version", VERSIONS[2:])
def test_an_address_has_no_interface(ipam: Ipam, version: str) -> None:
    pod = ipam.way.pod()
    result = ipam.add(pod, ipam.config(BOTH, version))
    assert result["cniVersion"] == version
    assert not result.get("interfaces")
    assert [ip["address"].rpartition("/")[2] for ip in result["ips"]] == ["32", "128"]
    assert [ip.get("version") for ip in result["ips"]] == (["4", "6"] if version.startswith("0.") else [None, None])
    assert not any("interface" in ip or "gateway" in ip for ip in result["ips"])
    assert interfaces(pod) == []
    assert ipam.way.host_ends() == []


@table("version", ["0.1.0", "0.2.0", None])
def test_the_oldest_versions_have_their_own_form(ipam: Ipam, version: str | None) -> None:
    result = ipam.add(ipam.way.pod(), ipam.config(_WIDE, version))
    assert result["cniVersion"] == (version or "0.1.0")
    assert result["ip4"]["ip"].endswith("/16")
    assert result["ip4"]["gateway"] == "10.65.0.1"
    assert result["ip4"]["routes"] == _ROUTES
    assert "ip6" not in result


def test_an_add_needs_no_namespace_that_is_one(ipam: Ipam) -> None:
    pod = ipam.way.pod()
    for netns in ("/nowhere", "/etc/hostname", ipam.way.host.namespace.path):
        said = ipam.way.call("ADD", pod, ipam.config(), ipam=True, CNI_NETNS=netns)
        assert said.status == 0, said


def test_a_subnet_gives_the_prefix_length_gateway_and_routes(ipam: Ipam) -> None:
    result = ipam.add(ipam.way.pod(), ipam.config(_WIDE))
    (ip,) = result["ips"]
    assert ip["address"].startswith("10.65.")
    assert ip["address"].endswith("/16")
    assert ip["gateway"] == "10.65.0.1"
    assert result["routes"] == _ROUTES


@table("main", ["bridge", "macvlan", "ipvlan", "ptp"])
def test_a_main_plugin_whose_pods_need_more_than_an_address_wants_a_subnet(ipam: Ipam, main: str) -> None:
    refused(ipam.call("ADD", ipam.way.pod(), ipam.config({"type": "tortie-ipam"}) | {"type": main}), 7, "ipam.subnet")
    assert ipam.way.nothing_left()


def test_of_a_subnet_that_reaches_beyond_its_pool_only_the_pools_addresses_are_given(ipam: Ipam) -> None:
    config = ipam.config({"type": "tortie-ipam", "subnet": "10.64.0.0/15", "gateway": "10.65.0.1"})
    (ip,) = ipam.add(ipam.way.pod(), config)["ips"]
    assert ip_interface(ip["address"]).ip in ip_network("10.65.0.0/16")


def test_routes_without_a_subnet_are_kept_too(ipam: Ipam) -> None:
    asked = {"type": "tortie-ipam", "routes": _ROUTES}
    assert ipam.add(ipam.way.pod(), ipam.config(asked))["routes"] == _ROUTES


def test_a_second_add_gives_the_same_answer(ipam: Ipam) -> None:
    pod = ipam.way.pod()
    first = ipam.add(pod, ipam.config(_WIDE))
    assert ipam.add(pod, ipam.config(_WIDE)) == first
    assert len(ipam.way.owned()) == 1


def test_neither_gateway_nor_the_subnets_ends_are_given(ipam: Ipam) -> None:
    third = {"relay": 200, "python": 201}.get(ipam.way.id, 200)
    config = ipam.config(_small(third))
    given = {ipam.add(ipam.way.pod(), config)["ips"][0]["address"] for _ in range(5)}
    assert given == {f"10.65.{third}.{last}/29" for last in range(2, 7)}
    assert failure(ipam.call("ADD", ipam.way.pod(), config))["code"] == 11
    refused(ipam.call("STATUS", None, config), 50)
    assert len(ipam.way.owned()) == 5


def test_a_range_is_kept(ipam: Ipam) -> None:
    third = {"relay": 202, "python": 203}.get(ipam.way.id, 202)
    ends = {"rangeStart": f"10.65.{third}.20", "rangeEnd": f"10.65.{third}.22"}
    config = ipam.config({**_WIDE, **ends})
    given = {ipam.add(ipam.way.pod(), config)["ips"][0]["address"] for _ in range(3)}
    assert given == {f"10.65.{third}.{last}/16" for last in (20, 21, 22)}
    assert failure(ipam.call("ADD", ipam.way.pod(), config))["code"] == 11


@table(
    "keys,named",
    [
        pytest.param({"subnet": "10.1.0.0/16", "gateway": "10.1.0.1"}, "ipam.subnet", id="a subnet of no pool"),
        pytest.param({"subnet": "nonsense"}, "subnet", id="a subnet that is none"),
        pytest.param({"subnet": 5}, "subnet", id="a subnet no string"),
        pytest.param({"gateway": "nonsense"}, "gateway", id="a gateway that is none"),
        pytest.param({"rangeStart": "10.66.0.1"}, "rangeStart", id="a range that begins outside"),
        pytest.param({"rangeEnd": "nonsense"}, "rangeEnd", id="a range without an end"),
        pytest.param({"rangeStart": "10.65.0.9", "rangeEnd": "10.65.0.8"}, "range", id="a range that ends before"),
        pytest.param({"routes": "x"}, "routes", id="routes no list"),
        pytest.param({"routes": [{"dst": "x"}]}, "routes", id="a route that is none"),
    ],
)
def test_what_cannot_be_given_is_refused_by_name(ipam: Ipam, keys: Document, named: str) -> None:
    body = refused(ipam.call("ADD", ipam.way.pod(), ipam.config({**_WIDE, **keys})), 7, named)
    assert "pool" in body["msg"] + body["details"] or named != "ipam.subnet", "what to do about it"
    assert ipam.way.nothing_left()


def test_a_del_frees_as_often_as_it_comes(ipam: Ipam) -> None:
    pod = ipam.way.pod()
    ipam.add(pod, ipam.config(BOTH))
    for _ in range(2):
        assert silent(ipam.call("DEL", pod, ipam.config(BOTH)))
        assert soon(ipam.way.owned, []) == []
    assert silent(ipam.call("DEL", ipam.way.pod(), ipam.config()))


@table("netns", ["", "/nowhere", "/etc/hostname"])
def test_a_del_needs_no_namespace(ipam: Ipam, netns: str) -> None:
    pod = ipam.way.pod()
    ipam.add(pod, ipam.config())
    assert silent(ipam.way.call("DEL", pod, ipam.config(), ipam=True, CNI_NETNS=netns))
    assert ipam.way.nothing_left()


def test_an_address_that_is_asked_for_is_given(ipam: Ipam) -> None:
    address = f"10.65.204.{ {'relay': 5, 'python': 6}.get(ipam.way.id, 5) }"
    config = ipam.config(_WIDE)
    said = ipam.way.call("ADD", ipam.way.pod(), config, ipam=True, args=f"IgnoreUnknown=1;IP={address}")
    assert said.json["ips"][0]["address"] == f"{address}/16"


_LOSSES: dict[str, Callable[[Owners, str], None]] = {
    "nobody's": lambda owners, handle: owners.disown(handle),
    "somebody else's": lambda owners, handle: owners.hand_over(handle, "other:c9:eth0"),
}


@pytest.mark.parametrize("loses", [pytest.param(loses, id=name) for name, loses in _LOSSES.items()])
def test_a_check_says_whose_the_address_is(ipam: Ipam, loses: Callable[[Owners, str], None]) -> None:
    pod, owners = ipam.way.pod(), Owners(ipam.way)
    config = ipam.config(_WIDE)
    result = ipam.add(pod, config)
    config["prevResult"] = {
        **result,
        "interfaces": [{"name": "cni0"}, {"name": "eth0", "sandbox": pod.netns, "mac": "02:00:00:00:00:01"}],
        "ips": [{**ip, "interface": 1} for ip in result["ips"]],
    }
    assert silent(ipam.call("CHECK", pod, config))
    loses(owners, f"net:{pod.container}:eth0")
    refused(ipam.call("CHECK", pod, config), 100, result["ips"][0]["address"].partition("/")[0])
    if ipam.way.owned():
        owners.disown("other:c9:eth0")


def test_a_check_of_what_was_never_added_is_not_true(ipam: Ipam) -> None:
    config = ipam.config(prevResult={"cniVersion": "1.1.0", "ips": [{"address": "10.65.0.77/32"}]})
    assert failure(ipam.call("CHECK", ipam.way.pod(), config))["code"] in (3, 100)


def test_its_status_is_that_of_its_addresses(ipam: Ipam) -> None:
    assert silent(ipam.call("STATUS", None, ipam.config(_WIDE)))
    refused(ipam.call("STATUS", None, ipam.config({"type": "tortie-ipam", "ipv4_pools": ["nosuch"]})), 50)


def test_its_gc_frees_what_is_not_valid(ipam: Ipam) -> None:
    stays, goes, other = (ipam.way.pod() for _ in range(3))
    for pod in (stays, goes):
        ipam.add(pod, ipam.config(_WIDE))
    ipam.add(other, ipam.config(_WIDE, name="other"))
    config = ipam.config(_WIDE)
    assert silent(ipam.call("GC", None, config)), "no list"
    assert len(ipam.way.owned()) == 3
    config["cni.dev/valid-attachments"] = [{"containerID": stays.container, "ifname": "eth0"}]
    assert silent(ipam.call("GC", None, config))
    wanted = sorted([f"net:{stays.container}:eth0", f"other:{other.container}:eth0"])
    assert soon(ipam.way.owned, wanted) == wanted


def test_version_is_the_same_by_this_name(ipam: Ipam) -> None:
    said = ipam.way.run({"CNI_COMMAND": "VERSION"}, "", ipam=True)
    assert said.json == {"cniVersion": "1.1.0", "supportedVersions": list(VERSIONS)}
