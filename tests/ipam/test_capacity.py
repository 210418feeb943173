"""What a simulated cluster makes of its pools; small ones can be told beforehand."""

import dataclasses
from typing import Any

import pytest

from datastore.resources.clusterconfiguration import ClusterConfigurationSpec
from datastore.resources.ippool import IPPool, IPPoolSpec
from datastore.resources.ipreservation import IPReservation, IPReservationSpec
from datastore.resources.value import Metadata
from ipam.capacity import Outcome, Plan, simulate
from tests.ipam.world import pool

SMALL = Plan(nodes=2, pods=20, pools=(pool("blue", "10.65.0.0/26", 28),))


async def outcome(plan: Plan = SMALL, **changes: Any) -> Outcome:  # noqa: ANN401  # whatever a Plan has
    return await simulate(dataclasses.replace(plan, **changes))


def settings(**changes: object) -> ClusterConfigurationSpec:
    return ClusterConfigurationSpec(**changes)  # type: ignore[arg-type]


async def test_one_block_serves_one_node_with_one_write_an_address_and_one_for_the_block() -> None:
    found = await outcome(nodes=1, pods=16)
    (blue,) = found.at_end
    assert (blue.blocks, blue.blocks_at_most, blue.used, blue.in_blocks, blue.borrowed) == (1, 4, 16, 16, 0)
    assert (found.assigns, found.assign_writes, found.refused) == (16, 17, 0)


async def test_the_same_seed_gives_the_same_outcome_and_another_one_another() -> None:
    churned = dataclasses.replace(SMALL, churn=2, seconds=100)
    assert await simulate(churned) == await simulate(churned)
    seeds = {str(await outcome(churned, seed=seed)) for seed in range(5)}
    assert len(seeds) > 1


async def test_pods_that_come_and_go_are_counted() -> None:
    found = await outcome(churn=0.5, seconds=100)
    assert (found.assigns, found.releases, found.at_end[0].used) == (70, 50, 20)


async def test_a_pool_that_is_too_small_refuses_from_the_first_pod_too_many_on() -> None:
    found = await outcome(pods=70)
    assert (found.assigns, found.refused, found.first_refused_s) == (64, 6, 0)


async def test_addresses_that_cool_are_missed() -> None:
    """63 pods of 64 addresses, one ending each second: the first two may be replaced, then everything cools."""
    found = await outcome(pods=63, churn=1, seconds=20)
    assert (found.refused > 0, found.first_refused_s) == (True, 2)
    assert (await outcome(pods=63, churn=1, seconds=20, configuration=settings(cooldown_seconds=0))).refused == 0


async def test_who_may_not_borrow_is_refused_earlier() -> None:
    three = dataclasses.replace(SMALL, nodes=3, pods=60)
    assert (await simulate(three)).refused == 0
    strict = await outcome(three, configuration=settings(strict_affinity=True))
    assert (strict.refused > 0, strict.peak_borrowed) == (True, 0)
    assert (await simulate(three)).peak_borrowed > 0


async def test_a_limit_of_blocks_makes_nodes_borrow() -> None:
    found = await outcome(pods=30, configuration=settings(max_blocks_per_node=1))
    assert (found.most_blocks_of_a_node, found.at_end[0].blocks) == (1, 2)


async def test_reserved_addresses_are_missed() -> None:
    reserved = IPReservation(metadata=Metadata(name="kept"), spec=IPReservationSpec(reserved_cidrs=("10.65.0.0/27",)))
    assert (await outcome(pods=40, reservations=(reserved,))).refused == 8


async def test_each_family_with_a_pool_is_asked_for() -> None:
    found = await outcome(
        pools=(*SMALL.pools, pool("six", "fd65::/112", 122), pool("off", "fd66::/112", disabled=True))
    )
    assert [(one.pool, one.used) for one in found.at_end] == [("blue", 20), ("six", 20), ("off", 0)]


async def test_selectors_are_asked_of_the_labels_of_nodes_and_namespaces() -> None:
    spec = IPPoolSpec(cidr="10.66.0.0/26", node_selector="rack == 'a'", namespace_selector="team == 'b'")
    chosen = IPPool(metadata=Metadata(name="chosen"), spec=spec)
    labels = ({"rack": "a"},), ({"team": "b"},)
    found = await outcome(pools=(chosen,), node_labels=labels[0], namespace_labels=labels[1])
    assert (found.assigns, found.refused) == (20, 0)
    half = await outcome(pools=(chosen,), node_labels=labels[0], namespace_labels=({"team": "b"}, {}))
    assert (half.assigns, half.refused) == (10, 10)
    none = await outcome(pools=(chosen,))
    assert (none.assigns, none.refused, none.at_end[0].blocks) == (0, 20, 0)


async def test_blocks_that_are_empty_for_long_are_given_back() -> None:
    """Two pods wander over sixteen nodes, each of which would keep a block for ever."""
    wandering = Plan(nodes=16, pods=2, churn=0.02, seconds=5000, pools=(pool("blue", "10.65.0.0/24", 28),))
    found = await simulate(wandering)
    assert (found.releases, found.peak_blocks < 16, found.at_end[0].blocks < 12) == (100, True, True)


@pytest.mark.parametrize(("pods", "churn", "seconds"), [(1, 0.0, 600.0), (20, 0.0, 600.0), (20, 5.0, 0.0)])
async def test_odd_plans_end(pods: int, churn: float, seconds: float) -> None:
    assert (await outcome(pods=pods, churn=churn, seconds=seconds)).refused == 0
