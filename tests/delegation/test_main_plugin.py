"""tortie as main plugin above the reference IPAM plugins: host-local, static and dhcp."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from cni.chain import Chain, ChainError, Container
from tests.host import RELAY, ROOT, Host, both_plugin_sets, hosts
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]

POD_CIDR = "10.88.3.0/24"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with hosts(tmp_path_factory.mktemp("main"), start=False) as made:
        made.start("--pod-cidr", POD_CIDR)
        yield made


def chain(host: Host, plugins: Path, ipam: dict[str, Any], **keys: object) -> Chain:
    main = {"type": "tortie", "ipam": ipam, **keys}
    return host.chain({"cniVersion": "1.0.0", "name": "net", "plugins": [main]}, [RELAY.parent, plugins])


def left(host: Host) -> list[object]:
    links = [row["ifname"] for row in host.shown("link") if row["ifname"].startswith("tort")]
    return [*links, *host.state.glob("attachments/*"), *host.state.glob("journal/*")]


def wait_until_clean(host: Host, data: Path | None = None) -> None:
    limit = time.monotonic() + 10
    while left(host) or (data is not None and list(data.glob("net/1*"))):
        assert time.monotonic() < limit, left(host)
        time.sleep(0.05)


@both_plugin_sets
def test_a_pod_with_an_address_of_host_local_is_routed_checked_and_freed(
    host: Host, plugins: Path, tmp_path: Path
) -> None:
    ipam = {"type": "host-local", "subnet": "172.19.0.0/24", "dataDir": str(tmp_path)}
    network, pod = chain(host, plugins, ipam, dns={"nameservers": ["172.19.0.53"]}), host.pod()
    result = network.add(Container(id="c1", netns=pod.path))
    (told,) = result["ips"]
    address, _, length = told["address"].partition("/")
    assert (ip_address(address) in ip_network("172.19.0.0/24"), length) == (True, "32")
    assert result["dns"] == {"nameservers": ["172.19.0.53"]}
    assert result["routes"] == [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}]
    assert host.heard(host.namespace, address) == "closed"
    assert host.heard(pod, "172.30.0.1") == "closed"
    assert (tmp_path / "net" / address).exists()
    network.check(Container(id="c1", netns=pod.path))
    assert network.add(Container(id="c1", netns=pod.path))["ips"] == result["ips"]
    network.delete(Container(id="c1", netns=pod.path))
    assert not (tmp_path / "net" / address).exists()
    wait_until_clean(host)


@both_plugin_sets
def test_use_pod_cidr_means_the_nodes_own(host: Host, plugins: Path, tmp_path: Path) -> None:
    ipam = {"type": "host-local", "ranges": [[{"subnet": "usePodCidr"}]], "dataDir": str(tmp_path)}
    network, pod = chain(host, plugins, ipam), host.pod()
    (told,) = network.add(Container(id="c1", netns=pod.path))["ips"]
    assert ip_address(told["address"].partition("/")[0]) in ip_network(POD_CIDR)
    network.delete(Container(id="c1", netns=pod.path))
    ipv6 = {"type": "host-local", "subnet": "usePodCidrIPv6", "dataDir": str(tmp_path)}
    with pytest.raises(ChainError, match="usePodCidrIPv6, and this node has no such CIDR") as refused:
        chain(host, plugins, ipv6).add(Container(id="c2", netns=pod.path))
    assert refused.value.code == 7
    wait_until_clean(host, tmp_path)
    nodes = json.loads(host.ctl("get", "nodes.tortie.dev", "-o", "json").out)["items"]
    assert nodes[0]["spec"]["podCIDRs"] == [POD_CIDR]


@both_plugin_sets
def test_static_gives_what_its_configuration_says_in_both_families(host: Host, plugins: Path) -> None:
    addresses = [{"address": "10.90.0.5/24", "gateway": "10.90.0.1"}, {"address": "fd90::5/64"}]
    ipam = {"type": "static", "addresses": addresses, "routes": [{"dst": "172.30.0.0/24"}]}
    network, pod = chain(host, plugins, ipam), host.pod()
    result = network.add(Container(id="c1", netns=pod.path))
    assert [one["address"] for one in result["ips"]] == ["10.90.0.5/32", "fd90::5/128"]
    assert result["routes"] == [{"dst": "172.30.0.0/24", "gw": "169.254.1.1"}]
    assert host.heard(pod, "172.30.0.1") == "closed"
    assert [row["dst"] for row in host.shown("route", where=pod)] == ["169.254.1.1", "172.30.0.0/24"]
    network.check(Container(id="c1", netns=pod.path))
    network.delete(Container(id="c1", netns=pod.path))
    wait_until_clean(host)


@contextmanager
def dhcp(host: Host, plugins: Path, place: Path) -> Iterator["subprocess.Popen[str]"]:
    """A DHCP server on the node, and the reference plugin's daemon, which keeps the leases."""
    server = (*host.enter(), sys.executable, "-m", "tests.delegation.dhcp_server", "10.91.0.10", "10.91.0.1")
    daemon = (*host.enter(), str(plugins / "dhcp"), "daemon", "-socketpath", str(place / "dhcp.sock"))
    with (
        subprocess.Popen(server, stdout=subprocess.PIPE, text=True, cwd=ROOT) as serving,
        subprocess.Popen(daemon, stderr=subprocess.DEVNULL) as keeping,
    ):
        try:
            assert serving.stdout is not None
            assert serving.stdout.readline() == "ready\n"
            limit = time.monotonic() + 10
            while not (place / "dhcp.sock").exists() and time.monotonic() < limit:
                time.sleep(0.02)
            yield serving
        finally:
            serving.kill()
            keeping.kill()


@both_plugin_sets
def test_a_lease_of_dhcp_is_had_and_given_back(host: Host, plugins: Path, tmp_path: Path) -> None:
    ipam = {"type": "dhcp", "daemonSocketPath": str(tmp_path / "dhcp.sock")}
    network, pod = chain(host, plugins, ipam), host.pod()
    with dhcp(host, plugins, tmp_path) as server:
        (told,) = network.add(Container(id="c1", netns=pod.path))["ips"]
        assert told["address"] == "10.91.0.10/32"
        assert host.heard(host.namespace, "10.91.0.10") == "closed"
        network.delete(Container(id="c1", netns=pod.path))
        server.kill()
        said = [line.split()[0] for line in server.communicate(timeout=10)[0].splitlines()]
    assert (said[:2], said[-1]) == (["offer", "ack"], "release")
    wait_until_clean(host)


@both_plugin_sets
def test_when_the_interface_exists_the_address_below_is_given_back(host: Host, plugins: Path, tmp_path: Path) -> None:
    network = chain(host, plugins, {"type": "host-local", "subnet": "172.19.0.0/24", "dataDir": str(tmp_path)})
    pod = host.pod()
    pod.ip("link add eth0 type veth peer name other")
    with pytest.raises(ChainError, match="eth0 exists"):
        network.add(Container(id="c1", netns=pod.path))
    wait_until_clean(host, tmp_path)


@both_plugin_sets
def test_when_a_route_is_refused_after_the_address_came_it_is_given_back(
    host: Host, plugins: Path, tmp_path: Path
) -> None:
    network = chain(host, plugins, {"type": "host-local", "subnet": "172.19.0.0/30", "dataDir": str(tmp_path)})
    host.namespace.ip("route add 172.19.0.2/32 dev up0 proto static")
    try:
        with pytest.raises(ChainError, match="could not be made"):
            network.add(Container(id="c1", netns=host.pod().path))
    finally:
        host.namespace.ip("route del 172.19.0.2/32 dev up0")
    wait_until_clean(host, tmp_path)


@both_plugin_sets
def test_what_the_plugin_below_says_is_told_under_its_own_code(host: Host, plugins: Path, tmp_path: Path) -> None:
    wrong = {"type": "host-local", "subnet": "172.19.0.0/24", "rangeStart": "10.0.0.1", "dataDir": str(tmp_path)}
    with pytest.raises(ChainError, match="host-local") as refused:
        chain(host, plugins, wrong).add(Container(id="c1", netns=host.pod().path))
    assert refused.value.code == 999
    missing = {"type": "nosuch"}
    with pytest.raises(ChainError, match="no IPAM plugin 'nosuch'") as refused:
        chain(host, plugins, missing).add(Container(id="c1", netns=host.pod().path))
    assert refused.value.code == 11
    wait_until_clean(host, tmp_path)


def test_a_delete_of_what_nobody_knows_owes_nothing_to_a_plugin_that_is_not_there(host: Host) -> None:
    config = {"cniVersion": "1.0.0", "name": "net", "type": "tortie", "ipam": {"type": "nosuch"}}
    assert host.call("DEL", config, container="unheard-of").status == 0
    assert left(host) == []


@both_plugin_sets
def test_an_agent_that_died_with_a_delegated_address_gives_it_back_when_it_starts(
    host: Host, plugins: Path, tmp_path: Path
) -> None:
    network = chain(host, plugins, {"type": "host-local", "subnet": "172.19.0.0/24", "dataDir": str(tmp_path)})
    pod = host.pod()
    network.add(Container(id="c1", netns=pod.path))
    host.stop()
    network.delete(Container(id="c1", netns=pod.path))
    host.start("--pod-cidr", POD_CIDR)
    wait_until_clean(host, tmp_path)
