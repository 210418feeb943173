"""How many rules a packet meets on the way to its group, and what moves when groups come and go."""

import hashlib
from ipaddress import ip_address
from math import sqrt

import pytest

from kernel.walk import FORWARDED, Packet
from policy import dispatch
from policy.compiler import Compiler
from policy.model import Endpoint
from policy.resolve import GroupId
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


def _each_pod_its_own_group(count: int) -> Compiler:
    compiler = Compiler("n1")
    for number in range(count):
        own = f"{{matchLabels: {{own: n{number}}}}}"
        rules = "ingress: [{ports: [{port: 80}]}], egress: [{ports: [{port: 80}]}]"
        compiler.set_policy(policy(f"{{podSelector: {own}, {rules}}}", f"p{number}"))
        compiler.set_endpoint(_pod(number))
    return compiler


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
