"""How many rules a packet meets on the way to its group, and what moves when groups come and go."""

import hashlib
from math import sqrt

from policy import dispatch
from policy.resolve import GroupId

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
