"""A pod's link on the real kernel: what the messages of ADD and DEL make, and what they leave alone."""

import errno
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import cast

import pytest

from kernel import netns, podlink
from kernel.batch import NetlinkSocket
from kernel.errors import NetlinkError
from kernel.links import GATEWAY_IPV4, GATEWAY_IPV6, GATEWAY_MAC, REAP_GROUP, host_interface
from tests.sandbox import Namespace, namespaces, needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]

POD4, POD6 = ip_address("10.65.0.2"), ip_address("fd65::2")
HOST = host_interface("net", "c0ffee", "eth0")
Row = dict[str, object]


@dataclass
class Wires:
    """A node and a pod's namespace, with a netlink socket in each."""

    node: Namespace
    pod: Namespace
    host: NetlinkSocket
    inside: NetlinkSocket
    pod_fd: int

    def attach(self, name: str = HOST, interface: str = "eth0") -> None:
        self.host.transact([podlink.new_veth(name, GATEWAY_MAC, interface, self.pod_fd, 1400)])
        self.host.transact([podlink.configure_host_end(name, "shop/web", {podlink.IPV4_SEND_REDIRECTS: 0})])

    def shown(self, where: Namespace, *argv: str) -> list[Row]:
        return cast("list[Row]", json.loads(where.run("ip", "-d", "-j", *argv) or "[]"))


@pytest.fixture
def wires() -> Iterator[Wires]:
    with namespaces("node", "pod") as [node, pod]:
        host, inside = node.inside(NetlinkSocket.open), pod.inside(NetlinkSocket.open)
        fd = netns.open_namespace(pod.path)
        yield Wires(node, pod, host, inside, fd)
        os.close(fd)
        host.close()
        inside.close()


def test_the_pair_has_its_names_mac_mtu_alias_and_settings(wires: Wires) -> None:
    wires.attach()
    (host,) = wires.shown(wires.node, "link", "show", HOST)
    assert (host["address"], host["mtu"], host["ifalias"]) == ("ee:ee:ee:ee:ee:ee", 1400, "shop/web")
    assert "UP" in cast("list[str]", host["flags"])
    assert host["inet6_addr_gen_mode"] == "none"
    assert wires.node.run("cat", f"/proc/sys/net/ipv4/conf/{HOST}/send_redirects") == "0\n"
    (inside,) = wires.shown(wires.pod, "link", "show", "eth0")
    assert inside["mtu"] == 1400


def test_the_host_end_makes_no_address_of_its_own(wires: Wires) -> None:
    wires.attach()
    (shown,) = wires.shown(wires.node, "-6", "addr", "show", "dev", HOST) or [{}]
    assert not shown.get("addr_info")


@pytest.mark.parametrize("taken", ["host name", "pod interface"])
def test_a_taken_name_makes_nothing_and_changes_nothing(wires: Wires, taken: str) -> None:
    wires.attach()
    name, interface = (HOST, "eth1") if taken == "host name" else ("tort0000000000a", "eth0")
    before = wires.shown(wires.node, "link"), wires.shown(wires.pod, "link")
    with pytest.raises(NetlinkError) as refused:
        wires.host.transact([podlink.new_veth(name, GATEWAY_MAC, interface, wires.pod_fd, 1500)])
    assert refused.value.code == errno.EEXIST
    assert (wires.shown(wires.node, "link"), wires.shown(wires.pod, "link")) == before


def test_a_pod_gets_addresses_that_are_usable_at_once_and_routes_by_the_gateways(wires: Wires) -> None:
    wires.attach()
    (answer,) = wires.inside.transact([podlink.bring_up("eth0"), podlink.get_link("eth0")])
    index = podlink.link_of(answer.body)[0].index
    messages = [
        podlink.add_address(index, POD4, 32),
        podlink.add_address(index, POD6, 128),
        podlink.add_pod_neighbourhood(index, ip_network(f"{GATEWAY_IPV4}/32")),
        podlink.add_neighbour(index, GATEWAY_IPV4, GATEWAY_MAC),
    ]
    defaults = [
        podlink.add_pod_route(index, ip_network("0.0.0.0/0"), GATEWAY_IPV4),
        podlink.add_pod_route(index, ip_network("::/0"), GATEWAY_IPV6),
    ]
    wires.inside.transact([*messages, *defaults])
    wires.inside.transact(messages)
    for default in defaults:
        with pytest.raises(NetlinkError, match="File exists"):
            wires.inside.transact([default])
    flags = [
        (info["local"], info["prefixlen"], info.get("tentative", False))
        for link in wires.shown(wires.pod, "addr", "show", "dev", "eth0", "scope", "global")
        for info in cast("list[Row]", link["addr_info"])
        if info
    ]
    assert flags == [("10.65.0.2", 32, False), ("fd65::2", 128, False)]
    routes = {(route["dst"], route.get("gateway")) for route in wires.shown(wires.pod, "route")}
    assert routes == {("default", "169.254.1.1"), ("169.254.1.1", None)}
    routes6 = wires.shown(wires.pod, "-6", "route")
    assert ("default", str(GATEWAY_IPV6)) in {(route["dst"], route.get("gateway")) for route in routes6}
    (neighbour,) = wires.shown(wires.pod, "-4", "neigh")
    assert (neighbour["lladdr"], neighbour["state"]) == ("ee:ee:ee:ee:ee:ee", ["PERMANENT"])


def host_batch(wires: Wires) -> None:
    (answer,) = wires.host.transact([podlink.get_link(HOST)])
    index = podlink.link_of(answer.body)[0].index
    wires.host.transact(
        [
            podlink.add_address(index, GATEWAY_IPV6, 64),
            podlink.add_host_route(index, ip_network(f"{POD4}/32")),
            podlink.add_host_route(index, ip_network(f"{POD6}/128")),
            podlink.add_proxy_neighbour(index, GATEWAY_IPV4),
            podlink.answer_arp_at_once(index),
        ]
    )


def test_the_host_end_routes_to_the_pod_and_answers_for_the_gateway_at_once(wires: Wires) -> None:
    wires.attach()
    host_batch(wires)
    (route,) = wires.shown(wires.node, "route")
    assert (route["dst"], route["dev"], route["protocol"]) == ("10.65.0.2", HOST, "84")
    proxied = wires.shown(wires.node, "neigh", "show", "proxy")
    assert [(row["dst"], row["dev"]) for row in proxied] == [("169.254.1.1", HOST)]
    assert wires.node.run("cat", f"/proc/sys/net/ipv4/neigh/{HOST}/proxy_delay") == "0\n"


def test_a_route_that_is_anothers_is_not_taken_over(wires: Wires) -> None:
    wires.node.ip("link add other type veth peer name other2", "link set other up", "route add 10.65.0.2/32 dev other")
    wires.attach()
    with pytest.raises(NetlinkError) as refused:
        host_batch(wires)
    assert refused.value.code == errno.EEXIST
    assert "10.65.0.2" in str(refused.value)


def test_a_retired_host_end_is_down_without_routes_and_leaves_with_its_group(wires: Wires) -> None:
    wires.attach()
    host_batch(wires)
    bystander = host_interface("net", "bystander", "eth1")
    wires.attach(bystander, "eth1")
    wires.host.transact([podlink.retire_host_end(HOST)])
    (host,) = wires.shown(wires.node, "link", "show", HOST)
    assert "UP" not in cast("list[str]", host["flags"])
    assert wires.shown(wires.node, "route") == []
    (answer,) = wires.host.transact([podlink.get_link(HOST)])
    assert podlink.link_of(answer.body)[0].group == REAP_GROUP
    for _ in range(2):
        wires.host.transact([podlink.delete_group()])
    assert {row["ifname"] for row in wires.shown(wires.node, "link")} == {"lo", bystander}
    wires.host.transact([podlink.retire_host_end(HOST)])


def test_an_error_names_the_message_and_the_kernels_own_words(wires: Wires) -> None:
    with pytest.raises(NetlinkError, match=r"route 10\.0\.0\.0/8: .*ENODEV|route 10\.0\.0\.0/8: .*ENETUNREACH"):
        wires.host.transact([podlink.replace_route(ip_network("10.0.0.0/8"), gateway=ip_address("192.0.2.1"))])


def test_messages_after_a_refused_one_are_still_applied_and_the_first_refusal_is_told(wires: Wires) -> None:
    wires.attach()
    with pytest.raises(NetlinkError) as refused:
        wires.host.transact(
            [
                podlink.add_host_route(999, ip_network("10.65.0.3/32")),
                podlink.replace_route(ip_network("10.65.0.64/26")),
                podlink.add_host_route(998, ip_network("10.65.0.4/32")),
            ]
        )
    assert "10.65.0.3" in refused.value.what
    assert [route["dst"] for route in wires.shown(wires.node, "route")] == ["10.65.0.64/26"]


def test_the_host_interface_depends_on_all_three_parts_and_fits() -> None:
    names = {
        host_interface(*parts)
        for parts in (("n", "c", "eth0"), ("n", "c", "eth1"), ("n", "d", "eth0"), ("m", "c", "eth0"))
    }
    assert len(names) == 4
    assert all(len(name) == 15 and name.startswith("tort") for name in names)
    assert host_interface("ab", "c", "e") != host_interface("a", "bc", "e")
