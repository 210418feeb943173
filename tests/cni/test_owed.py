"""Removals that are owed to a store that is away."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cni.detach import replay
from tests.cni.node import Running, World, fill, worlds
from tests.datastore.faulty import Call, Fate, FaultyStore
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with worlds(tmp_path, pods=1) as made:
        yield made


def test_a_store_that_is_away_is_asked_for_the_first_removal_alone(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    away = False

    async def gate(_: Call) -> Fate:
        return Fate.REFUSED if away else Fate.OK

    world.store = FaultyStore(world.store, gate)

    async def scenario(running: Running) -> tuple[int, int, list[str]]:
        nonlocal away
        await fill(world.store, v4="10.65.0.0/16", v6="fd65::/48")
        for number in range(3):
            await running.add(container=f"c{number}", interface=f"eth{number}")
        for record in list(running.node.records.all()):
            running.node.records.retire(record.attachment)
        away = True
        left = await replay(running.node)
        away = False
        return left, await replay(running.node), await running.owned()

    caplog.set_level("INFO")
    assert world.run(scenario) == (3, 0, [])
    assert caplog.text.count("still waits") == 1
