"""Putting what was exported into a datastore: all of it is judged first, and nothing is overwritten unasked.

What an object was on its way to somewhere else is off (`objects.bare`): blocks are thawed, no migration is under way.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_network

from datastore.errors import AlreadyExists, Conflict, NotFound
from datastore.resources.ipblock import IPBlock
from datastore.resources.ippool import IPPool
from datastore.resources.value import Resource
from datastore.store import Store
from datastore.transfer import settled
from datastore.transfer.objects import ORDER, at, bare, kept_out, same
from datastore.transfer.settled import Pause


@dataclass
class Plan:
    """What is to be done."""

    missing: list[Resource] = field(default_factory=list)
    there: list[Resource] = field(default_factory=list)
    """Just so already."""
    other: list[tuple[Resource, Resource]] = field(default_factory=list)
    """What was given, and what is there instead."""
    kept_out: dict[type[Resource], str] = field(default_factory=dict)
    """Kinds that don't go there, and why."""
    overlaps: list[str] = field(default_factory=list)
    """Blocks and pools that share addresses with others that are there, in words: an address would be given twice."""


@dataclass
class Outcome:
    """What was done."""

    created: list[Resource] = field(default_factory=list)
    replaced: list[Resource] = field(default_factory=list)
    overtaken: list[Resource] = field(default_factory=list)
    """Somebody else wrote another one meanwhile; that one stays."""


async def planned(store: Store, scheme: str, resources: Iterable[Resource]) -> Plan:
    """What would be done with objects that have each been checked; `scheme` is the datastore's.

    Raises:
        StoreError: the store can't be read.
    """
    plan = Plan()
    given = list(resources)
    for kind in sorted({type(one) for one in given}, key=_place):
        why = kept_out(kind, "", scheme)
        if why:
            plan.kept_out[kind] = why
            continue
        known = {(one.namespace, one.name): one for one in (await store.list(kind)).items}
        for one in (one for one in given if type(one) is kind):
            found = known.get((one.namespace, one.name))
            if found is None:
                plan.missing.append(one)
            elif same(one, found):
                plan.there.append(one)
            else:
                plan.other.append((one, found))
        plan.overlaps += _overlaps([one for one in plan.missing if type(one) is kind], known.values())
    return plan


def _overlaps(missing: Iterable[Resource], there: Iterable[Resource]) -> Iterator[str]:
    """What would share addresses with what is there; CIDRs that overlap are nested."""
    known = {network: one for one in there if (network := _network(one)) is not None}
    prefixes = {network.prefixlen for network in known}
    by_start = sorted(known, key=_start)
    for one in missing:
        network = _network(one)
        if network is None:
            continue
        above = (network.supernet(new_prefix=length) for length in prefixes if length <= network.prefixlen)
        around = next((known[found] for found in above if found in known), None)
        place = bisect_left(by_start, _start(network), key=_start)
        within = by_start[place] if place < len(by_start) and by_start[place].overlaps(network) else None
        other = around or (known[within] if within is not None else None)
        if other is not None:
            yield f"{one.key} overlaps {other.key}"


def _network(one: Resource) -> IPv4Network | IPv6Network | None:
    return ip_network(one.spec.cidr) if isinstance(one, IPBlock | IPPool) else None


def _start(network: IPv4Network | IPv6Network) -> tuple[int, int]:
    return network.version, int(network.network_address)


async def carry_out(store: Store, plan: Plan, *, replace: bool, pause: Pause = asyncio.sleep) -> Outcome:
    """Create what is missing, and with `replace` write over what differs; again does the rest.

    Raises:
        StoreError: the store can't be used.
    """
    outcome = Outcome()

    async def create(one: Resource) -> None:
        try:
            await settled.create(store, bare(one), pause)
            outcome.created.append(one)
        except AlreadyExists:
            outcome.overtaken.append(one)

    async def put(one: Resource, there: Resource) -> None:
        try:
            await settled.update(store, at(bare(one), there), pause)
            outcome.replaced.append(one)
        except (Conflict, NotFound):
            outcome.overtaken.append(one)

    others = plan.other if replace else []
    for kind in ORDER:  # one kind after the other: blocks are there before their pools
        await settled.several(
            [
                *(partial(create, one) for one in plan.missing if type(one) is kind),
                *(partial(put, one, there) for one, there in others if type(one) is kind),
            ]
        )
    return outcome


def _place(kind: type[Resource]) -> int:
    return ORDER.index(kind) if kind in ORDER else len(ORDER)
