"""From a packet to the chain of its pod's group.

Up to 16 groups stand in one list. Above that there are two levels: a list of buckets, each a list of groups, so that a
packet meets about 2 * sqrt(groups) rules and not all of them.

    TORTIE-FROM                              TORTIE-FROM
      in tt4-f-<g> -g TORTIE-F-<g>             in tt4-fb-<n> -j TORTIE-FB-<n>   in tt4-f-<g> -g TORTIE-F-<g>
      ...                                      ...                               (end: back to the list of buckets)
      DROP                                     not allowed: DROP

A bucket is entered by -j: a pod that moves to another bucket is for a moment in a bucket that has no rule for its
group, and must fall through to the one that has. So the end of the upper list asks for the mark; TORTIE-TO clears it
first, since the sender's egress has set it.

Buckets are slices of the sorted list of groups, so they depend on nothing but the groups there are. One more group
moves about half as many groups as there are buckets by one place.
"""

from collections.abc import Iterable, Iterator, Sequence

from kernel import tables
from kernel.tables import DROP, Chain, Family, Rule, goto, jump
from policy import frame, names
from policy.model import Direction
from policy.resolve import Group, GroupId
from policy.settings import Settings

MAX_ONE_LEVEL = 16
"""Groups; more are dispatched in two levels."""


def buckets(groups: Sequence[GroupId]) -> tuple[tuple[GroupId, ...], ...]:
    """Sorted groups in buckets; none where one level is enough."""
    if len(groups) <= MAX_ONE_LEVEL:
        return ()
    size = _bucket_size(len(groups))
    return tuple(tuple(groups[start : start + size]) for start in range(0, len(groups), size))


def _bucket_size(groups: int) -> int:
    """The least of 4, 6, 8, 12, 16, 24, 32 ... whose square holds all groups.

    In steps, since another size moves all groups to other buckets. Size and number of buckets together are at most
    2.17 * sqrt(groups) + 1.
    """
    size, following = 4, 6
    while size * size < groups:
        size, following = following, size * 2
    return size


def chains(family: Family, direction: Direction, groups: Iterable[Group], settings: Settings) -> Iterator[Chain]:
    """The dispatch of one direction over the groups there are, in the order of their names."""
    by_id = {group.id: group for group in groups}
    ordered = sorted(by_id)
    levels = buckets(ordered)
    ways = names.dispatch(direction).ways

    def to_group(group: GroupId) -> Rule:
        found = tables.in_set(names.group_set(family, direction, group), *ways)
        return Rule(found, goto(names.group_chain(direction, group)), ", ".join(by_id[group].keys) or "no policy")

    def to_bucket(number: int) -> Rule:
        found = tables.in_set(names.bucket_set(family, direction, number), *ways)
        return Rule(found, jump(names.bucket_chain(direction, number)), f"bucket {number}")

    for number, bucket in enumerate(levels):
        yield Chain(names.bucket_chain(direction, number), tuple(map(to_group, bucket)))
    head, last = _ends(direction, bool(levels), settings)
    listed = map(to_bucket, range(len(levels))) if levels else map(to_group, ordered)
    yield Chain(names.dispatch(direction).chain, (*head, *listed, last))


def _ends(direction: Direction, two_levels: bool, settings: Settings) -> tuple[tuple[Rule, ...], Rule]:
    """What comes before the list, and what drops whom no group claims."""
    head: tuple[Rule, ...] = ()
    if direction is Direction.EGRESS:
        # raw has dropped this already, but a service may have changed the port since
        head = (Rule(frame.is_vxlan(settings), DROP, "no VXLAN from pods, after DNAT"),)
    elif two_levels:
        head = (Rule((), settings.clear(), "what egress allowed does not count here"),)
    return head, Rule(settings.not_allowed() if two_levels else (), DROP, "no group claims it, or none allowed it")
