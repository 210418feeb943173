"""No ring is missed, whoever waits for it or doesn't yet."""

import asyncio
from collections.abc import Callable

import pytest

from datastore.bell import Bell
from tests.datastore.drivers import PATIENCE_S

RINGS = [
    pytest.param(lambda bell: bell.ring(("pods",)), id="its own"),
    pytest.param(lambda bell: bell.ring_all(), id="everybody's"),
    pytest.param(lambda bell: bell.close(), id="the last"),
]


@pytest.mark.parametrize("ring", RINGS)
async def test_a_ring_wakes_who_waits(ring: Callable[[Bell], None]) -> None:
    bell = Bell()
    waiting = asyncio.create_task(bell.wait("pods", bell.rings("pods"), 3600))
    await asyncio.sleep(0)
    assert not waiting.done()
    ring(bell)
    async with asyncio.timeout(PATIENCE_S):
        await waiting


@pytest.mark.parametrize("ring", RINGS)
async def test_a_ring_before_the_wait_counts(ring: Callable[[Bell], None]) -> None:
    bell = Bell()
    heard = bell.rings("pods")
    ring(bell)
    async with asyncio.timeout(PATIENCE_S):
        await bell.wait("pods", heard, 3600)


async def test_a_ring_for_another_kind_wakes_nobody() -> None:
    bell = Bell()
    heard = bell.rings("pods")
    bell.ring(("nodes",))
    waiting = asyncio.create_task(bell.wait("pods", heard, 3600))
    await asyncio.sleep(0)
    assert not waiting.done()
    bell.close()
    await waiting


async def test_without_a_ring_the_wait_ends_in_time() -> None:
    bell = Bell()
    await bell.wait("pods", bell.rings("pods"), 0.001)
    assert not bell.is_closed()
