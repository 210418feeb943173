"""How many rules a packet meets on the way to its group, and what moves when groups come and go."""

import hashlib
from dataclasses import replace
from ipaddress import ip_address
from math import sqrt

import pytest

from kernel.sets import Member
from kernel.tables import Family
from kernel.walk import FORWARDED, RECEIVED, Packet, Stages
from policy import dispatch, names
from policy.compiler import Compiler
from policy.model import Direction, Endpoint, EndpointId, Policy
from policy.resolve import Group, GroupId
from policy.settings import Settings
from tests.policy.cluster import pod, policy
from tests.policy.nodes import send

ENDS = 2
"""Rules before and after the lists: no VXLAN or no foreign mark, and the drop."""


def _groups(count: int) -> list[GroupId]:
    return sorted(GroupId(hashlib.sha256(str(number).encode()).hexdigest()[:16]) for number in range(count))


def test_up_to_16_groups_there_is_one_level() -> None:
    assert dispatch.buckets(_groups(0)) == ()
    assert dispatch.buckets(_groups(16)) == ()
    assert len(dispatch.buckets(_groups(17))) > 1


def test_buckets_hold_every_group_once_and_are_short() -> None:
    for count in range(17, 3000, 7):
        groups = _groups(count)
        buckets = dispatch.buckets(groups)
        assert [group for bucket in buckets for group in bucket] == groups
        assert len(buckets) + max(map(len, buckets)) <= 2.17 * sqrt(count) + 1


def test_one_more_group_moves_few_others() -> None:
    groups = _groups(251)
    for left_out in groups[::10]:
        fewer = {
            group: n
            for n, bucket in enumerate(dispatch.buckets([g for g in groups if g != left_out]))
            for group in bucket
        }
        all_of_them = {group: n for n, bucket in enumerate(dispatch.buckets(groups)) for group in bucket}
        assert sum(fewer[group] != all_of_them[group] for group in fewer) <= len(set(all_of_them.values()))


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("count", [3, 40])
def test_each_level_has_its_own_end(direction: Direction, count: int) -> None:
    groups = [Group(group, ()) for group in _groups(count)]
    two_levels = count > dispatch.MAX_ONE_LEVEL
    found = {chain.name: chain.rules for chain in dispatch.chains(Family.IPV4, direction, groups, Settings())}
    upper = found.pop(names.dispatch(direction).chain)
    assert upper[-1].target == ("-j", "DROP")
    assert upper[-1].match == (Settings().not_allowed() if two_levels else ())
    lists = [rule.target[0] for rule in upper if "set" in rule.match]
    assert set(lists) == ({"-j"} if two_levels else {"-g"})
    below = [rule for rules in found.values() for rule in rules]
    assert len(below) == (count if two_levels else 0)
    assert {rule.target[0] for rule in below} <= {"-g"}
    cleared = upper[0].target == Settings().clear()
    assert cleared is (two_levels and direction is Direction.INGRESS)


def _each_pod_its_own_group(count: int) -> Compiler:
    compiler = Compiler("n1")
    for number in range(count):
        compiler.set_policy(_own_policy(number))
        compiler.set_endpoint(_pod(number))
    return compiler


def _own_policy(number: int) -> Policy:
    own = f"{{matchLabels: {{own: n{number}}}}}"
    rules = "ingress: [{ports: [{port: 80}]}], egress: [{ports: [{port: 80}]}]"
    return policy(f"{{podSelector: {own}, {rules}}}", f"p{number}")


def _address(number: int) -> str:
    return f"10.0.{number // 250}.{number % 250 + 1}"


def _pod(number: int) -> Endpoint:
    return pod(f"shop/w{number}", _address(number), {"own": f"n{number}"}, interface=f"tort{number}")


@pytest.mark.parametrize("count", [1, 16, 17, 36, 37, 250, 2000])
def test_a_packet_meets_about_twice_the_root_of_the_groups(count: int) -> None:
    compiler = _each_pod_its_own_group(count)
    assert len(compiler.groups) == count
    most = 16 if count <= 16 else 2.17 * sqrt(count) + 1
    for number in range(0, count, max(1, count // 40)):
        other = (number + count // 2) % count
        packet = Packet(
            ip_address(_address(number)), ip_address(_address(other)), "tcp", 80, f"tort{number}", f"tort{other}"
        )
        walked = send(compiler, FORWARDED, packet)
        assert walked.accepted
        for letter, chain in (("F", "TORTIE-FROM"), ("T", "TORTIE-TO")):
            met = [step for step in walked.path if step.chain == chain or step.chain.startswith(f"TORTIE-{letter}B-")]
            assert len(met) <= most + ENDS


@pytest.mark.parametrize("count", [3, 40])
def test_what_egress_allowed_does_not_open_an_address_that_nobody_claims(count: int) -> None:
    compiler = _each_pod_its_own_group(count)
    stranger = Packet(ip_address(_address(1)), ip_address("10.9.9.9"), "tcp", 80, "tort1", "tort99")
    assert not send(compiler, FORWARDED, stranger).accepted


@pytest.mark.parametrize("count", [3, 40])
@pytest.mark.parametrize("stages", [FORWARDED, RECEIVED])
def test_a_mark_from_elsewhere_does_not_stand_for_a_group_even_without_raw(count: int, stages: Stages) -> None:
    compiler = _each_pod_its_own_group(count)
    mark = Settings().mark
    stranger = Packet(ip_address("10.9.9.9"), ip_address("198.51.100.7"), "tcp", 80, "tort99", "eth0", mark=mark)
    assert not send(compiler, stages[1:], stranger).accepted


def test_an_address_that_two_pods_hold_moves_between_buckets_as_often_as_it_is_held() -> None:
    compiler = _each_pod_its_own_group(40)
    twin = replace(_pod(7), id=EndpointId("shop/twin"))
    compiler.set_endpoint(twin)
    for number in range(30):
        if number != 7:
            compiler.remove_endpoint(_pod(number).id)
    fresh = Compiler("n1")
    for number in (7, *range(30, 40)):
        fresh.set_endpoint(_pod(number))
    fresh.set_endpoint(twin)
    for number in range(40):
        fresh.set_policy(_own_policy(number))
    assert len(compiler.groups) == 11
    assert dict(compiler.desired.sets) == dict(fresh.desired.sets)
    for number in range(20):
        compiler.set_endpoint(_pod(number))
        fresh.set_endpoint(_pod(number))
        assert dict(compiler.desired.sets) == dict(fresh.desired.sets)
    compiler.remove_endpoint(twin.id)
    (bucket,) = [
        name
        for name, found in compiler.desired.sets.items()
        if name.startswith("tt4-tb-") and _address(7) in found.members
    ]
    assert compiler.desired.sets[bucket].counts[Member(_address(7))] == 1
