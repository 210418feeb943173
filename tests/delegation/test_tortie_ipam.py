"""`tortie-ipam` as the IPAM plugin of the reference plugins: addresses of ours on links of theirs."""

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from cni.chain import Chain, ChainError, Container
from tests.host import RELAY, Host, both_plugin_sets, hosts
from tests.sandbox import Namespace, needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]

SUBNET = {"type": "tortie-ipam", "subnet": "10.65.0.0/16", "gateway": "10.65.0.1", "routes": [{"dst": "0.0.0.0/0"}]}
LAN = "192.168.7.0/24"
SUBNETS = {
    "type": "tortie-ipam",
    "ranges": [[{"subnet": "10.65.0.0/16"}], [{"subnet": "fd65::/64"}]],
    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with hosts(tmp_path_factory.mktemp("ipam")) as made:
        yield made


def chain(host: Host, plugins: Path, main: dict[str, Any], version: str = "1.0.0") -> Chain:
    return host.chain({"cniVersion": version, "name": "net", "plugins": [main]}, [RELAY.parent, plugins])


def container(pod: Namespace, name: str = "c1") -> Container:
    return Container(id=name, netns=pod.path)


def told(result: dict[str, Any]) -> list[str]:
    return [one["address"].partition("/")[0] for one in result["ips"]]


@both_plugin_sets
def test_pods_on_a_bridge_reach_each_other_their_host_and_the_outside(host: Host, plugins: Path) -> None:
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True, "ipam": SUBNETS}
    network = chain(host, plugins, bridge)
    pods = [host.pod(), host.pod()]
    results = [network.add(container(pod, f"c{number}")) for number, pod in enumerate(pods)]
    addresses = [told(result) for result in results]
    assert sorted(host.owned()) == sorted(one for both in addresses for one in both)
    assert [one["gateway"] for one in results[0]["ips"]] == ["10.65.0.1", "fd65::1"]
    for address in addresses[1]:
        assert host.heard(pods[0], address) == "closed"
        assert host.heard(host.namespace, address) == "closed"
    assert host.heard(pods[0], "172.30.0.254") == "closed"
    network.check(container(pods[0], "c0"))
    for number, pod in enumerate(pods):
        network.delete(container(pod, f"c{number}"))
    assert host.owned() == {}
    assert list(host.state.glob("*/*.json")) == []


@both_plugin_sets
def test_a_pod_of_ptp_is_reached_from_its_host_and_reaches_the_outside(host: Host, plugins: Path) -> None:
    network, pod = chain(host, plugins, {"type": "ptp", "ipam": SUBNET}), host.pod()
    (address,) = told(network.add(container(pod)))
    assert host.heard(host.namespace, address) == "closed"
    assert host.heard(pod, "172.30.0.254") == "closed"
    network.delete(container(pod))
    assert host.owned() == {}


@both_plugin_sets
def test_macvlan_gets_addresses_of_its_master_s_network(host: Host, plugins: Path) -> None:
    lan = {
        "apiVersion": "tortie.dev/v1",
        "kind": "IPPool",
        "metadata": {"name": "lan"},
        "spec": {"cidr": "192.168.7.0/24"},
    }
    host.apply(lan)
    ipam = {
        "type": "tortie-ipam",
        "subnet": "192.168.7.0/24",
        "rangeStart": "192.168.7.100",
        "gateway": "192.168.7.254",
    }
    network, pod = chain(host, plugins, {"type": "macvlan", "master": "up0", "ipam": ipam}), host.pod()
    host.outside.ip("addr add 192.168.7.254/24 dev up1")
    try:
        (address,) = told(network.add(container(pod)))
        assert ip_address(address) in ip_network("192.168.7.100/30")
        assert host.heard(host.outside, address) == "closed"
        network.delete(container(pod))
    finally:
        host.outside.ip("addr del 192.168.7.254/24 dev up1")
        host.ctl("delete", "ippools", "lan")
    assert host.owned() == {}


@both_plugin_sets
def test_a_main_plugin_that_fails_after_us_gives_the_address_back(host: Host, plugins: Path) -> None:
    host.namespace.ip("link add cni9 type bridge", "link set cni9 up", "addr add 10.99.0.1/16 dev cni9")
    network = chain(host, plugins, {"type": "bridge", "bridge": "cni9", "isGateway": True, "ipam": SUBNET})
    try:
        with pytest.raises(ChainError, match="already has an IP address"):
            network.add(container(host.pod()))
    finally:
        host.namespace.ip("link del cni9")
    assert host.owned() == {}


@pytest.mark.parametrize("kind", ["bridge", "macvlan", "ptp"])
def test_a_main_plugin_that_needs_a_subnet_is_told_so_before_anything_is_assigned(host: Host, kind: str) -> None:
    config = {"cniVersion": "1.0.0", "name": "net", "type": kind, "ipam": {"type": "tortie-ipam"}}
    said = host.call("ADD", config, netns=host.pod().path, program=(str(RELAY.with_name("tortie-ipam")),))
    assert (said.json["code"], "ipam.subnet is missing" in said.json["msg"]) == (7, True)
    assert host.owned() == {}
