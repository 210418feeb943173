"""Which addresses of two ends can talk to each other."""

from ipaddress import ip_address

import pytest

from policy.evaluate import NoCommonFamily, Snapshot, UnknownEndpoint, pairs
from policy.model import Endpoint, EndpointId


def _pod(name: str, *addresses: str) -> Endpoint:
    return Endpoint(EndpointId(f"shop/{name}"), "shop", name, "n1", {}, tuple(map(ip_address, addresses)))


PODS = [
    _pod("dual", "10.0.0.1", "fd00::1"),
    _pod("six", "fd00::2"),
    _pod("four", "10.0.0.3"),
    _pod("late", "fd00::4", "10.0.0.4"),
]
SNAPSHOT = Snapshot({pod.id: pod for pod in PODS})
DUAL, SIX, FOUR, LATE = (pod.id for pod in PODS)


@pytest.mark.parametrize(
    ("source", "destination", "expected"),
    [
        pytest.param(DUAL, SIX, [("fd00::1", "fd00::2")], id="the family that both have"),
        pytest.param(
            DUAL, LATE, [("10.0.0.1", "10.0.0.4"), ("fd00::1", "fd00::4")], id="the source's first family first"
        ),
        pytest.param(LATE, DUAL, [("fd00::4", "fd00::1"), ("10.0.0.4", "10.0.0.1")], id="the other way round too"),
    ],
)
def test_addresses_pair_by_family(source: EndpointId, destination: EndpointId, expected: list[tuple[str, str]]) -> None:
    assert [(str(one), str(other)) for one, other in pairs(SNAPSHOT, source, destination)] == expected


def test_an_address_is_an_end_of_its_own() -> None:
    outside = ip_address("198.51.100.7")
    assert pairs(SNAPSHOT, outside, DUAL) == ((outside, ip_address("10.0.0.1")),)


def test_ends_without_a_common_family_have_no_verdict() -> None:
    with pytest.raises(NoCommonFamily, match="shop/six and shop/four have no addresses of one family"):
        pairs(SNAPSHOT, SIX, FOUR)


def test_a_pod_that_is_not_there_has_no_verdict() -> None:
    with pytest.raises(UnknownEndpoint, match="shop/gone is no pod"):
        pairs(SNAPSHOT, EndpointId("shop/gone"), FOUR)
