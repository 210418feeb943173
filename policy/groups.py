"""The groups of one family: which local pods are in which, their sets, and the dispatch to them.

A pod of a known group touches four sets and no rule: the group's two, `pods` and `local` (and above 16 groups the two
of its bucket). Rules change only when a group comes or goes. A group may be kept when its last pod leaves: empty sets
claim nobody, and the next pod of its kind, such as a job's, finds it there.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kernel import sets
from kernel.sets import Member, SetName, SetSpec
from kernel.tables import ChainName, Family, TableName
from policy import dispatch, names
from policy.desired import Desired
from policy.model import Direction, Endpoint, EndpointId
from policy.resolve import Group, GroupId
from policy.settings import Settings


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an endpoint is, and the members that stand for it."""

    group: Group
    addresses: tuple[Member, ...]
    senders: tuple[Member, ...]
    """Each address with the interface."""

    def members(self, direction: Direction) -> tuple[Member, ...]:
        """Its members in sets of one direction."""
        return self.senders if direction is Direction.EGRESS else self.addresses


class Groups:
    """Local pods that have addresses of one family, by group."""

    def __init__(self, family: Family, desired: Desired, settings: Settings) -> None:
        self._family = family
        self._desired = desired
        self._settings = settings
        self._places: dict[EndpointId, _Place] = {}
        self._sizes: dict[GroupId, int] = {}
        self._touched: dict[GroupId, Group] = {}
        """Groups that were empty at some moment since the last `settle`."""
        self._settled: dict[GroupId, Group] = {}
        self._idle: set[GroupId] = set()
        """Groups that are kept without a pod."""
        self._long_idle: set[GroupId] = set()
        """Those that were idle when `forget_idle` was called last."""
        self._bucket_of: dict[GroupId, int] = {}
        self._chains: frozenset[ChainName] = frozenset()
        desired.make_set(SetSpec(names.local(family), names.EGRESS.type, family))
        desired.make_set(SetSpec(names.pods(family), names.INGRESS.type, family))
        self._write_dispatch()

    @property
    def settled(self) -> Mapping[GroupId, Group]:
        """The groups that the dispatch knows."""
        return self._settled

    def place(self, endpoint: Endpoint, group: Group) -> None:
        """A local endpoint belongs to this group now."""
        addresses = sets.of_family(endpoint.addresses, self._family)
        place = _Place(
            group,
            tuple(sets.address(address) for address in addresses),
            tuple(sets.address_interface(address, endpoint.interface) for address in addresses),
        )
        before = self._places.get(endpoint.id)
        if before == place:
            return
        if addresses:
            self._enter(place)
        self.remove(endpoint.id)
        if addresses:
            self._places[endpoint.id] = place

    def remove(self, endpoint: EndpointId, *, keep_group: bool = False) -> None:
        """A local endpoint is gone; nothing happens if it had no address of this family."""
        place = self._places.pop(endpoint, None)
        if place is not None:
            self._leave(place)
            if keep_group and not self._sizes[place.group.id]:
                self._idle.add(place.group.id)

    def forget_idle(self) -> None:
        """Let the next `settle` drop the groups that had no pod at the last call either."""
        for group in self._long_idle:
            self._idle.discard(group)
            self._touched[group] = self._settled[group]
        self._long_idle = set(self._idle)

    def settle(self) -> tuple[list[Group], list[Group]]:
        """Bring dispatch and buckets up to date; gives the groups that came and those that went."""
        touched, self._touched = self._touched, {}
        empty = [group for group in touched if not self._sizes[group] and group not in self._idle]
        born = [group for group in touched.values() if self._sizes[group.id] and group.id not in self._settled]
        gone = [self._settled.pop(group) for group in empty if group in self._settled]
        self._settled.update({group.id: group for group in born})
        if born or gone:
            self._fill_buckets()
            self._write_dispatch()
        for group in empty:
            del self._sizes[group]
            for direction in Direction:
                self._desired.drop_set(names.group_set(self._family, direction, group))
        return born, gone

    def _enter(self, place: _Place) -> None:
        group = place.group.id
        if group not in self._sizes:
            self._sizes[group] = 0
            for direction in Direction:
                name = names.group_set(self._family, direction, group)
                self._desired.make_set(SetSpec(name, names.dispatch(direction).type, self._family))
        if not self._sizes[group]:
            self._touched[group] = place.group
        self._sizes[group] += 1
        self._idle.discard(group)
        self._long_idle.discard(group)
        for name, member in self._memberships(place):
            self._desired.add(name, member)

    def _leave(self, place: _Place) -> None:
        for name, member in self._memberships(place):
            self._desired.discard(name, member)
        self._sizes[place.group.id] -= 1
        if not self._sizes[place.group.id]:
            self._touched[place.group.id] = place.group

    def _memberships(self, place: _Place) -> Iterator[tuple[SetName, Member]]:
        bucket = self._bucket_of.get(place.group.id)
        for direction in Direction:
            members = place.members(direction)
            own = names.pods(self._family) if direction is Direction.INGRESS else names.local(self._family)
            found = [own, names.group_set(self._family, direction, place.group.id)]
            if bucket is not None:
                found.append(names.bucket_set(self._family, direction, bucket))
            for name in found:
                for member in members:
                    yield name, member

    def _fill_buckets(self) -> None:
        """Move the members of each group whose bucket is another now."""
        levels = dispatch.buckets(sorted(self._settled))
        before, self._bucket_of = self._bucket_of, {group: n for n, bucket in enumerate(levels) for group in bucket}
        numbers_before, numbers = set(before.values()), set(self._bucket_of.values())
        for direction in Direction:
            for number in numbers - numbers_before:
                name = names.bucket_set(self._family, direction, number)
                self._desired.make_set(SetSpec(name, names.dispatch(direction).type, self._family))
            for group in self._settled:
                if before.get(group) != self._bucket_of.get(group):
                    self._move(direction, group, before.get(group), self._bucket_of.get(group))
            for number in numbers_before - numbers:
                self._desired.drop_set(names.bucket_set(self._family, direction, number))

    def _move(self, direction: Direction, group: GroupId, before: int | None, now: int | None) -> None:
        counts = self._desired.sets[names.group_set(self._family, direction, group)].counts
        for member, times in counts.items():
            if now is not None:
                self._desired.add(names.bucket_set(self._family, direction, now), member, times)
            if before is not None:
                self._desired.discard(names.bucket_set(self._family, direction, before), member, times)

    def _write_dispatch(self) -> None:
        key = (self._family, TableName.MANGLE)
        written = set()
        for direction in Direction:
            for chain in dispatch.chains(self._family, direction, self._settled.values(), self._settings):
                self._desired.put_chain(key, chain)
                written.add(chain.name)
        for name in self._chains - written:
            self._desired.drop_chain(key, name)
        self._chains = frozenset(written)
