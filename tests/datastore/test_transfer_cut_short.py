"""Moving between datastores: answers that are lost, and moves that are called off."""

from contextlib import suppress

import msgspec
import pytest

from datastore.errors import StoreError
from datastore.memory import MemoryStore
from datastore.resources.ipblock import IPBlock
from datastore.transfer.copying import Side
from datastore.transfer.errors import Refused
from datastore.transfer.migrate import abort
from datastore.transfer.objects import same
from tests.datastore.faulty import Call, Fate, FaultyStore
from tests.datastore.samples import ip_block, policy
from tests.datastore.transferring import (
    EVERYTHING,
    FROM,
    alike,
    content,
    filled,
    move,
    no_pause,
    phase,
    refused_from,
    untold,
)


class TestLostAnswers:
    @pytest.mark.parametrize("fate", [Fate.LOST_APPLIED, Fate.LOST, Fate.LOST_LATER], ids=lambda fate: fate.name)
    @pytest.mark.parametrize("side", ["source", "target"])
    async def test_each_write_may_lose_its_answer(self, side: str, fate: Fate) -> None:
        """And what was lost lands when everything is over."""
        number, lost = 0, True
        while lost:
            source, target = await filled(*EVERYTHING, policy("old")), MemoryStore()
            writes, lost = 0, False

            async def gate(call: Call, number: int = number) -> Fate:
                nonlocal writes, lost
                if call.verb in ("get", "list"):
                    return Fate.OK
                writes += 1
                lost = lost or writes == number + 1
                return fate if writes == number + 1 else Fate.OK

            stores = {"source": FaultyStore(source), "target": FaultyStore(target)}
            stores[side].gate = gate
            await move(stores["source"], stores["target"])
            while stores[side].late:
                await stores[side].land()
            assert await alike(source, target)
            assert (await phase(source), await phase(target)) == ("Moved", "")
            number += 1
        assert number > (2 if side == "source" else len(EVERYTHING))


class TestAbort:
    async def test_everything_is_as_before(self) -> None:
        source = await filled(*EVERYTHING)
        before = await content(source)
        with suppress(StoreError):
            await move(source, FaultyStore(MemoryStore(), refused_from("create")))
        assert await abort(Side(source, FROM), untold, pause=no_pause)
        after = await content(source)
        assert {key: same(one, after[key]) for key, one in before.items()} == dict.fromkeys(before, True)
        assert await phase(source) == ""

    async def test_what_counts_already_is_not_taken_back(self) -> None:
        source, target = await filled(*EVERYTHING), MemoryStore()
        await move(source, target)
        with pytest.raises(Refused, match="was left for"):
            await abort(Side(source, FROM), untold, pause=no_pause)

    async def test_blocks_that_a_dead_migration_left_frozen_thaw(self) -> None:
        frozen = msgspec.structs.replace(ip_block(), spec=msgspec.structs.replace(ip_block().spec, frozen="dead"))
        source = await filled(frozen)
        assert await abort(Side(source, FROM), untold, pause=no_pause)
        assert [one.spec.frozen for one in (await source.list(IPBlock)).items] == [""]

    async def test_there_may_be_nothing_to_do(self) -> None:
        assert not await abort(Side(await filled(ip_block()), FROM), untold, pause=no_pause)
