"""Configurations that people run (tests/data/configs): tortie in the place of the main plugin, or of its IPAM."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cni.chain import Container
from tests.host import DEBIAN_PLUGINS, RELAY, Host, both_plugin_sets, hosts, pool
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]

CONFIGS = Path(__file__).resolve().parents[1] / "data" / "configs"
MAPPING = {"portMappings": [{"hostPort": 8088, "containerPort": 80, "protocol": "tcp"}]}
SUBNETS = {"mynet": "172.19.0.0/24", "dbnet": "10.1.0.0/16"}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with hosts(tmp_path_factory.mktemp("configs")) as made:
        made.apply(*(pool(name, cidr) for name, cidr in SUBNETS.items()))
        yield made


def read(name: str) -> dict[str, Any]:
    """A network's configuration; a single plugin's is a list of one, as libcni makes it."""
    document: dict[str, Any] = json.loads((CONFIGS / name).read_text())
    if "plugins" in document:
        return document
    return {"cniVersion": document["cniVersion"], "name": document["name"], "plugins": [document]}


def with_types(document: Mapping[str, Any], place: Path, **types: str) -> dict[str, Any]:
    """The same with another `type` of the first plugin, of its IPAM, or of both, and host-local's files elsewhere."""
    first, *rest = document["plugins"]
    ipam = {**first["ipam"], "type": types.get("ipam", first["ipam"]["type"])}
    if ipam["type"] == "host-local":
        ipam["dataDir"] = str(place)
    return {**document, "plugins": [{**first, "type": types.get("main", first["type"]), "ipam": ipam}, *rest]}


def lives(host: Host, plugins: Path, document: Mapping[str, Any]) -> dict[str, Any]:
    """Attach two pods, see that they talk, check one where there is a CHECK that works, and detach both."""
    pods, network = [host.pod(), host.pod()], host.chain(document, [RELAY.parent, plugins])
    containers = [Container(id="c0", netns=pods[0].path), Container("c1", pods[1].path, capabilities=MAPPING)]
    results = [network.add(container) for container in containers]
    first, second = (result["ips"][0]["address"].partition("/")[0] for result in results)
    assert (host.heard(pods[0], second), host.heard(pods[1], first)) == ("closed", "closed")
    main = document["plugins"][0]
    if main["type"] == "tortie" or main.get("isGateway"):
        assert host.heard(host.namespace, first) == "closed"
        assert host.heard(pods[0], "172.30.0.1") == "closed"
    if document["cniVersion"] != "0.3.1" and plugins != DEBIAN_PLUGINS:  # whose portmap fails its own without IPv6
        network.check(containers[1])  # of the first the bridge remembers the MAC that it had before it took the second
    for container in (*containers, *containers):
        network.delete(container)
    assert host.owned() == {}
    return results[0]


@both_plugin_sets
def test_a_calico_conflist_works_with_its_two_types_changed(host: Host, plugins: Path, tmp_path: Path) -> None:
    document = with_types(read("10-calico.conflist"), tmp_path, main="tortie", ipam="tortie-ipam")
    result = lives(host, plugins, document)
    assert (result["cniVersion"], result["ips"][0]["version"]) == ("0.3.1", "4")
    assert result["ips"][0]["address"].startswith("10.")


@both_plugin_sets
def test_a_pod_of_that_conflist_forwards_nothing_for_others(host: Host, plugins: Path, tmp_path: Path) -> None:
    document = with_types(read("10-calico.conflist"), tmp_path, main="tortie", ipam="tortie-ipam")
    pod = host.pod()
    pod.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    network = host.chain(document, [RELAY.parent, plugins])
    network.add(Container(id="c1", netns=pod.path))
    assert pod.run("sysctl", "-n", "net.ipv4.ip_forward").strip() == "0"
    network.delete(Container(id="c1", netns=pod.path))


@both_plugin_sets
@pytest.mark.parametrize("name", ["10-mynet.conf", "dbnet.conflist"])
def test_tortie_takes_the_place_of_the_main_plugin(host: Host, plugins: Path, tmp_path: Path, name: str) -> None:
    result = lives(host, plugins, with_types(read(name), tmp_path, main="tortie"))
    assert [one["name"] for one in result["interfaces"]][1] == "eth0"
    assert list(tmp_path.glob("*/1*")) == []


@both_plugin_sets
@pytest.mark.parametrize("name", ["10-mynet.conf", "dbnet.conflist"])
def test_tortie_ipam_takes_the_place_of_the_ipam(host: Host, plugins: Path, tmp_path: Path, name: str) -> None:
    try:
        result = lives(host, plugins, with_types(read(name), tmp_path, ipam="tortie-ipam"))
    finally:
        host.namespace.run("ip", "link", "del", "cni0")
    assert result["ips"][0]["address"].endswith(("/24", "/16"))


def test_without_a_pool_for_its_subnet_the_configuration_is_refused_by_name(host: Host, tmp_path: Path) -> None:
    document = with_types(read("10-mynet.conf"), tmp_path, ipam="tortie-ipam")["plugins"][0]
    document["ipam"]["subnet"] = "172.20.0.0/24"
    said = host.call("ADD", document, netns=host.pod().path, program=(str(RELAY.with_name("tortie-ipam")),))
    assert (said.json["code"], "172.20.0.0/24" in said.json["details"]) == (7, True)
