"""ADD: an interface or an error, never both; the state's key; many at once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.contract.table import table
from tests.contract.test_cni_results import BOTH
from tests.contract.ways import Way, addresses, failure, interfaces, refused, silent, soon, wiring
from tests.host import hosts
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
_MANY = 8
_FEW = 3
"""Without an agent each call is half a second of Python."""


def test_an_interface_that_exists_is_refused_and_untouched(way: Way) -> None:
    pod = way.pod()
    pod.namespace.ip("link add eth0 address 02:00:00:00:00:01 type veth peer name other")
    before = wiring(pod.namespace)
    refused(way.call("ADD", pod), 4, "eth0")
    assert wiring(pod.namespace) == before
    assert silent(way.call("DEL", pod))
    assert wiring(pod.namespace) == before, "the DEL of an ADD that was refused"
    pod.namespace.ip("link del eth0")
    assert way.nothing_left()


def test_loopback_is_an_interface_that_exists(way: Way) -> None:
    pod = way.pod()
    refused(way.call("ADD", pod, interface="lo"), 4, "lo")
    assert way.nothing_left()


def test_an_interface_of_another_network_is_refused_and_untouched(way: Way) -> None:
    pod = way.pod()
    result = way.add(pod)
    refused(way.call("ADD", pod, way.config(name="other")), 4, "eth0")
    assert silent(way.call("DEL", pod, way.config(name="other")))
    assert way.add(pod) == result


@table("version", ["0.2.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_a_second_add_gives_the_same_answer(way: Way, version: str) -> None:
    pod, config = way.pod(), way.config(version, ipam=BOTH)
    first = way.add(pod, config)
    before = wiring(pod.namespace)
    assert way.add(pod, config) == first
    assert wiring(pod.namespace) == before
    assert len(way.owned()) == len(addresses(pod))


def test_an_add_after_a_del_gets_an_interface_again(way: Way) -> None:
    pod = way.pod()
    for _ in range(3):
        way.add(pod)
        assert silent(way.call("DEL", pod))
        assert soon(lambda: interfaces(pod), []) == []


def test_a_container_has_an_attachment_for_each_network_and_interface(way: Way) -> None:
    pod = way.pod()
    places = [("net", "eth0"), ("net", "eth1"), ("other", "eth2")]
    found = [way.add(pod, way.config(name=network), interface=name)["ips"] for network, name in places]
    assert len({ip["address"] for ips in found for ip in ips}) == len(places)
    assert sorted(interfaces(pod)) == ["eth0", "eth1", "eth2"]
    assert silent(way.call("DEL", pod, interface="eth0"))
    assert soon(lambda: sorted(interfaces(pod)), ["eth1", "eth2"]) == ["eth1", "eth2"]
    assert silent(way.call("DEL", pod, interface="eth2"))
    assert silent(way.call("DEL", pod, interface="eth1"))
    assert soon(lambda: interfaces(pod), ["eth2"]) == ["eth2"], "eth2 is another network's"


def test_two_networks_attach_one_container_by_one_name_in_two_namespaces(way: Way) -> None:
    pod, second = way.pod(), way.pod()
    way.add(pod)
    way.add(pod, way.config(name="other"), CNI_NETNS=second.netns)
    assert silent(way.call("DEL", pod))
    assert soon(lambda: interfaces(pod), []) == []
    assert interfaces(second) == ["eth0"]


def test_many_containers_at_once_get_an_address_each(way: Way) -> None:
    pods = [way.pod() for _ in range(_MANY if way.has_agent else _FEW)]
    with ThreadPoolExecutor(_MANY) as pool:
        results = list(pool.map(way.add, pods))
    assert [result["ips"][0]["address"] for result in results] == [addresses(pod)[0] for pod in pods]
    assert len({result["ips"][0]["address"] for result in results}) == len(pods)
    with ThreadPoolExecutor(_MANY) as pool:
        assert all(silent(said) for said in pool.map(lambda pod: way.call("DEL", pod), pods))
    assert way.nothing_left()


def test_one_attachment_added_many_times_at_once_is_one(way: Way) -> None:
    pod = way.pod()
    times = _MANY if way.has_agent else _FEW
    with ThreadPoolExecutor(times) as pool:
        results = list(pool.map(way.add, [pod] * times))
    assert results == results[:1] * times
    assert len(way.owned()) == 1


@table(
    "ipam,codes",
    [
        pytest.param({"ipv4_pools": ["nosuch"]}, (7, 11), id="a pool that there isn't"),
        pytest.param({"ipv4_pools": ["192.0.2.0/24"]}, (7, 11), id="a CIDR of no pool"),
        pytest.param({"ipv4_pools": "v4"}, (7,), id="pools that are no list"),
        pytest.param({"assign_ipv6": True, "ipv6_pools": ["v4"]}, (7, 11), id="one family of two can't be had"),
        pytest.param({"type": "nosuch-ipam"}, (7, 11), id="an IPAM plugin that there isn't"),
        pytest.param({"type": "../tortie-ipam"}, (7,), id="an IPAM plugin that is a path"),
    ],
)
def test_an_add_that_can_get_no_address_leaves_nothing(way: Way, ipam: dict[str, object], codes: tuple[int]) -> None:
    pod = way.pod()
    said = way.call("ADD", pod, way.config(ipam={"type": "tortie-ipam", **ipam}))
    assert failure(said)["code"] in codes, said.out
    assert way.nothing_left()
    assert silent(way.call("DEL", pod, way.config(ipam={"type": "tortie-ipam"})))


def test_a_pool_whose_blocks_are_single_addresses_serves(tmp_path: Path) -> None:
    with hosts(tmp_path) as host:
        spec = {"cidr": "10.66.0.0/30", "blockSize": 32, "assignmentMode": "Manual"}
        host.apply({"apiVersion": "tortie.dev/v1", "kind": "IPPool", "metadata": {"name": "single"}, "spec": spec})
        way = Way("relay", host)
        for _ in range(2):
            pod = way.pod()
            result = way.add(pod, way.config(ipam={"type": "tortie-ipam", "ipv4_pools": ["single"]}))
            assert addresses(pod) == [result["ips"][0]["address"]]
            assert silent(way.call("CHECK", pod, way.config(prevResult=result)))
        way.close()
