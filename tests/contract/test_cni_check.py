"""CHECK: true as long as what we made is there and ours, whatever others changed; each finding named where it isn't."""

from collections.abc import Callable

import pytest

from tests.contract.owners import Owners
from tests.contract.table import table
from tests.contract.test_cni_results import BOTH
from tests.contract.ways import Document, Way, addresses, failure, refused, silent, soon
from tests.host import Said
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
_GATEWAY6 = "fe80::ecee:eeff:feee:eeee"
FOUND = 100
"""CHECK's own code: what we made is no longer so."""


class Attached:
    """A pod with an address of each family, and its CHECK."""

    def __init__(self, way: Way, version: str = "1.1.0", **keys: object) -> None:
        self.way, self.pod, self.owners = way, way.pod(), Owners(way)
        self.config = way.config(version, ipam=BOTH, **keys)
        self.result = way.add(self.pod, self.config)
        self.host_end = next(one["name"] for one in self.result["interfaces"] if not one.get("sandbox"))
        self.ipv4, self.ipv6 = (address.partition("/")[0] for address in addresses(self.pod))
        self.handle = f"net:{self.pod.container}:eth0"

    def check(self, **keys: object) -> Said:
        return self.way.call("CHECK", self.pod, {**self.config, "prevResult": self.result, **keys})

    def inside(self, *lines: str) -> None:
        self.pod.namespace.ip(*lines)

    def outside(self, *lines: str) -> None:
        self.way.host.namespace.ip(*lines)


@table("version", ["0.4.0", "1.0.0", "1.1.0"])
def test_a_check_right_after_the_add_is_true(way: Way, version: str) -> None:
    pod = way.pod()
    config = way.config(version, ipam=BOTH)
    config["prevResult"] = way.add(pod, config)
    for _ in range(2):
        assert silent(way.call("CHECK", pod, config))


@table("previous", [None, "absent"])
def test_a_check_without_prev_result_is_refused(way: Way, previous: str | None) -> None:
    pod = way.pod()
    way.add(pod)
    config = way.config() if previous else {**way.config(), "prevResult": None}
    refused(way.call("CHECK", pod, config), 7, "prevResult")


@table(
    "previous",
    [
        pytest.param({"cniVersion": "9.9.9"}, id="a version that nobody knows"),
        pytest.param({"ips": [{"address": "x"}]}, id="an address that is none"),
        pytest.param([], id="no object"),
    ],
)
def test_a_check_with_a_prev_result_out_of_shape_is_refused(way: Way, previous: object) -> None:
    pod = way.pod()
    way.add(pod)
    refused(way.call("CHECK", pod, {**way.config(), "prevResult": previous}), 7, "prevResult")


# What others may change


def _tuned_mac(one: Attached) -> None:
    one.inside("link set eth0 address 02:00:5e:10:20:31")
    for interface in one.result["interfaces"]:
        if interface["name"] == "eth0":
            interface["mac"] = "02:00:5e:10:20:31"


def _moved_to_tables(one: Attached) -> None:
    """What `sbr` does: every route of the interface goes to a table of its own, with a rule for the address."""
    one.inside(
        "route add 169.254.1.1 dev eth0 scope link table 100",
        "route add default via 169.254.1.1 dev eth0 table 100",
        "route del default",
        f"rule add from {one.ipv4} table 100",
        f"route add {_GATEWAY6} dev eth0 table 101",
        f"route add default via {_GATEWAY6} dev eth0 table 101",
        f"route del default via {_GATEWAY6} dev eth0",
    )


def _chained(one: Attached) -> None:
    """What `bandwidth` and others behind us add to the result."""
    one.result["interfaces"].append({"name": "bwp1234567890ab", "mac": "02:00:00:00:00:09"})
    one.result["ips"].append({"address": "198.51.100.9/32"})
    one.result["routes"].append({"dst": "198.51.100.0/24"})
    one.result["dns"] = {"nameservers": ["192.0.2.53"]}


def _sysctls(one: Attached) -> None:
    one.pod.namespace.run("sysctl", "-qw", "net.ipv4.conf.eth0.arp_ignore=1", "net.ipv6.conf.eth0.accept_ra=0")


_TOLERATED: dict[str, Callable[[Attached], None]] = {
    "the MAC, and prevResult says so": _tuned_mac,
    "the MAC": lambda one: one.inside("link set eth0 address 02:00:5e:10:20:32"),
    "neighbours": lambda one: one.inside("neigh flush all"),
    "the MTU": lambda one: one.inside("link set eth0 mtu 1300"),
    "more routes": lambda one: one.inside("route add 198.51.100.0/24 dev eth0"),
    "routes in a table": _moved_to_tables,
    "sysctls": _sysctls,
    "more in the result": _chained,
    "more addresses": lambda one: one.inside("addr add 198.51.100.9/32 dev eth0"),
    "the queue": lambda one: one.inside("link set eth0 txqueuelen 17"),
}


@table("change", [pytest.param(change, id=name) for name, change in _TOLERATED.items()])
def test_what_others_may_change_is_no_finding(way: Way, change: Callable[[Attached], None]) -> None:
    one = Attached(way)
    change(one)
    assert silent(one.check())


# What is a finding


_BROKEN: dict[str, tuple[Callable[[Attached], None], Callable[[Attached], str]]] = {
    "the pod's link is gone": (lambda one: one.inside("link del eth0"), lambda _: "eth0 is missing"),
    "the pod's link is down": (lambda one: one.inside("link set eth0 down"), lambda _: "eth0 is down"),
    "the address is gone": (lambda one: one.inside(f"addr del {one.ipv4}/32 dev eth0"), lambda one: one.ipv4),
    "the IPv6 address is gone": (lambda one: one.inside(f"addr del {one.ipv6}/128 dev eth0"), lambda one: one.ipv6),
    "the default route is gone": (lambda one: one.inside("route del default"), lambda _: "route"),
    "the IPv6 default route is gone": (
        lambda one: one.inside(f"route del default via {_GATEWAY6}"),
        lambda _: "route",
    ),
    "the host end is down": (lambda one: one.outside(f"link set {one.host_end} down"), lambda one: one.host_end),
    "the host route is gone": (lambda one: one.outside(f"route del {one.ipv4}"), lambda one: one.ipv4),
    "the IPv6 host route is gone": (lambda one: one.outside(f"route del {one.ipv6}"), lambda one: one.ipv6),
    "the address is nobody's": (lambda one: one.owners.disown(one.handle), lambda one: one.ipv4),
}


@table("breaks,named", [pytest.param(*pair, id=name) for name, pair in _BROKEN.items()])
def test_what_is_broken_is_found_and_named(
    way: Way, breaks: Callable[[Attached], None], named: Callable[[Attached], str]
) -> None:
    one = Attached(way)
    assert silent(one.check())
    breaks(one)
    refused(one.check(), FOUND, named(one))
    assert silent(way.call("DEL", one.pod, one.config))
    assert way.nothing_left()


def test_every_finding_is_named_at_once(way: Way) -> None:
    one = Attached(way)
    one.inside(f"addr del {one.ipv4}/32 dev eth0", f"addr del {one.ipv6}/128 dev eth0")
    one.outside(f"link set {one.host_end} down")
    body = refused(one.check(), FOUND)
    assert all(named in body["details"] for named in (one.ipv4, one.ipv6, one.host_end)), body


def test_an_address_that_somebody_else_owns_is_found_and_left_to_them(way: Way) -> None:
    one = Attached(way)
    one.owners.hand_over(one.handle, "other:c9:eth0")
    refused(one.check(), FOUND, one.ipv4)
    assert silent(way.call("DEL", one.pod, one.config))
    assert soon(way.host_ends, []) == []
    assert way.owned() == ["other:c9:eth0"] * 2
    one.owners.disown("other:c9:eth0")


_OTHER_RESULTS: dict[str, Callable[[Document], None]] = {
    "our address isn't in it": lambda result: result["ips"].clear(),
    "another address is in its place": lambda result: result["ips"][0].update(address="10.65.250.1/32"),
    "our interface isn't in it": lambda result: result.update(interfaces=[], ips=[], routes=[]),
    "our interface has another name": lambda result: result["interfaces"][result["ips"][0]["interface"]].update(
        name="eth9"
    ),
}


@table("change", [pytest.param(change, id=name) for name, change in _OTHER_RESULTS.items()])
def test_a_prev_result_that_does_not_hold_what_we_made_is_found(way: Way, change: Callable[[Document], None]) -> None:
    one = Attached(way)
    change(one.result)
    refused(one.check(), FOUND)


def test_an_attachment_that_was_never_added_is_not_true(way: Way) -> None:
    one, other = Attached(way), way.pod()
    body = failure(way.call("CHECK", other, {**one.config, "prevResult": one.result}))
    assert body["code"] in (3, FOUND), body
    body = failure(way.call("CHECK", one.pod, {**one.config, "name": "other", "prevResult": one.result}))
    assert body["code"] in (3, FOUND), body


def test_an_attachment_that_was_deleted_is_not_true(way: Way) -> None:
    one = Attached(way)
    assert silent(way.call("DEL", one.pod, one.config))
    assert failure(one.check())["code"] in (3, FOUND)


def test_a_pods_interface_that_was_made_anew_by_somebody_is_found(way: Way) -> None:
    one = Attached(way)
    one.inside(
        "link del eth0",
        "link add eth0 type veth peer name other",
        "link set eth0 up",
        "link set other up",
        f"addr add {one.ipv4}/32 dev eth0",
    )
    refused(one.check(), FOUND)
    one.inside("link del eth0")


def test_a_check_changes_nothing(way: Way) -> None:
    one = Attached(way)
    before = way.left()
    assert silent(one.check())
    assert way.left() == before
