"""The values refuse what could break a rule's line, and know a few things about themselves."""

from ipaddress import ip_address, ip_network

import pytest

from kernel.tables import MAX_CHAIN_NAME
from policy.model import (
    Cidr,
    Endpoint,
    EndpointId,
    NamedPort,
    Pods,
    Policy,
    PolicyKey,
    PortName,
    PortRange,
    Protocol,
    digest,
    namespace_labels,
)
from policy.selectors import EVERYTHING, one_of, select


@pytest.mark.parametrize("key", ['a"b', "a b", "a\nb", "", "-j", "a\\b", "a;b"])
def test_a_policy_whose_key_could_leave_its_comment_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="can't name a policy"):
        Policy(PolicyKey(key), Pods("shop", EVERYTHING))


@pytest.mark.parametrize("interface", ["tort 1", "tort\n", "tort0123456789ab", "tort;", "a,b"])
def test_an_endpoint_whose_interface_could_leave_its_line_is_refused(interface: str) -> None:
    with pytest.raises(ValueError, match="interface"):
        Endpoint(EndpointId("shop/web"), "shop", "web", "n1", {}, (), (), interface)


@pytest.mark.parametrize("number", [0, 65536, -1])
def test_a_named_port_has_a_number_that_exists(number: int) -> None:
    with pytest.raises(ValueError, match="no port"):
        NamedPort("http", Protocol.TCP, number)


@pytest.mark.parametrize(("first", "last"), [(2, 1), (-1, 5), (5, 65536)])
def test_a_range_that_is_none_is_refused(first: int, last: int) -> None:
    with pytest.raises(ValueError, match="range of ports"):
        PortRange(Protocol.TCP, first, last)


@pytest.mark.parametrize(
    ("match", "text"),
    [
        pytest.param(PortRange(Protocol.TCP, 80, 80), "TCP/80", id="a number"),
        pytest.param(PortRange(Protocol.UDP, 80, 90), "UDP/80-90", id="a range"),
        pytest.param(PortRange(Protocol.SCTP), "SCTP", id="a protocol alone"),
        pytest.param(PortName(Protocol.TCP, "http"), "TCP/http", id="a name"),
    ],
)
def test_ports_are_shown_as_people_write_them(match: PortRange | PortName, text: str) -> None:
    assert str(match) == text


def test_pods_are_equal_if_they_say_the_same() -> None:
    one = Pods("shop", select([one_of("a", "1"), one_of("b", "2")]))
    other = Pods("shop", select([one_of("b", "2"), one_of("a", "1")]))
    assert one == other
    assert one.text == "shop/a=1,b=2"


def test_one_namespace_and_a_selector_of_namespaces_are_different_pods() -> None:
    assert Pods("shop", EVERYTHING) != Pods(select([one_of("shop", "")]), EVERYTHING)


def test_an_excepted_part_is_not_contained() -> None:
    block = Cidr(ip_network("10.0.0.0/8"), (ip_network("10.1.0.0/16"),))
    assert block.contains(ip_address("10.2.0.1"))
    assert not block.contains(ip_address("10.1.0.1"))
    assert not block.contains(ip_address("fd00::1"))


def test_the_first_port_of_a_name_counts() -> None:
    ports = (
        NamedPort("http", Protocol.TCP, 80),
        NamedPort("http", Protocol.TCP, 81),
        NamedPort("http", Protocol.UDP, 82),
    )
    pod = Endpoint(EndpointId("shop/web"), "shop", "web", "n1", {}, (), ports)
    assert pod.port_number("http", Protocol.TCP) == 80
    assert pod.port_number("http", Protocol.UDP) == 82
    assert pod.port_number("http", Protocol.SCTP) is None


def test_a_namespace_cannot_lie_about_its_name() -> None:
    declared = {"kubernetes.io/metadata.name": "other", "team": "a"}
    assert namespace_labels("shop", declared) == {"kubernetes.io/metadata.name": "shop", "team": "a"}


def test_a_digest_stays_the_same_and_fits_behind_the_longest_prefix_of_a_chain() -> None:
    assert digest("one") == "o2jmhljvic5yapacbm5"
    assert len("TORTIE-F-" + digest("one")) == MAX_CHAIN_NAME
