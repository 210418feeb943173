"""The Store contract (datastore/store.py) on watching and closing, one sentence a test, for every driver."""

import asyncio
from contextlib import aclosing, suppress

import pytest

from datastore.errors import Compacted, Unavailable
from datastore.resources.ipblock import IPBlock
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.value import Resource
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.store import Batch, Gone, Revision, Store, Where
from tests.datastore.drivers import PATIENCE_S, Follower, Opener
from tests.datastore.samples import at_revision, endpoint, ip_block, moved, policy, relabelled


async def now(store: Store, kind: type[Resource] = WorkloadEndpoint) -> Revision:
    return (await store.list(kind)).revision


# watch


async def test_a_watch_goes_on_from_a_list_without_a_gap(store: Store) -> None:
    await store.create(endpoint("before"))
    revision = await now(store)
    between = await store.create(endpoint("between"))
    async with aclosing(store.watch(WorkloadEndpoint, revision)) as watch:
        follower = Follower(watch)
        await follower.until_sees("between")
        assert follower.batches[0].changes == (between,)
        await store.create(endpoint("after"))
        await follower.until_sees("after")
    assert follower.names() == {"between", "after"}


async def test_a_watch_sees_its_own_kind_alone(store: Store) -> None:
    for name in ("web", "api"):
        await store.create(endpoint(name))
    namesake = await store.create(policy("api"))
    revision = await now(store)
    await store.create(policy("web"))
    await store.delete(namesake)
    last = await store.create(endpoint("last"))
    async with aclosing(store.watch(WorkloadEndpoint, revision)) as watch:
        assert (await anext(watch)).changes == (last,)


async def test_the_last_state_is_reported_whatever_lay_between(store: Store) -> None:
    revision = await now(store, NetworkPolicy)
    current = await store.create(policy())
    for number in range(3):
        current = await store.update(relabelled(current, number=str(number)))
    async with aclosing(store.watch(NetworkPolicy, revision)) as watch:
        follower = Follower(watch)
        await follower.until(lambda mirror: mirror == {("shop", "db"): current})
    assert all(len(batch.changes) <= 1 for batch in follower.batches)


async def test_what_came_and_went_between_is_not_left_over(store: Store) -> None:
    revision = await now(store)
    await store.delete(await store.create(endpoint("brief")))
    await store.create(endpoint("last"))
    async with aclosing(store.watch(WorkloadEndpoint, revision)) as watch:
        follower = Follower(watch)
        await follower.until_sees("last")
    assert follower.names() == {"last"}


async def test_what_is_deleted_is_gone(store: Store) -> None:
    web = await store.create(endpoint("web"))
    revision = await now(store)
    await store.delete(web)
    async with aclosing(store.watch(WorkloadEndpoint, revision)) as watch:
        assert (await anext(watch)).changes == (Gone("shop", "web"),)


async def test_what_leaves_where_is_gone_and_what_enters_is_reported(store: Store) -> None:
    leaves = await store.create(endpoint("leaves", node="a"))
    enters = await store.create(endpoint("enters", node="b"))
    stays = await store.create(endpoint("stays", node="a"))
    out = await store.create(endpoint("out", node="b"))
    revision = await now(store)
    await store.update(moved(leaves, "b"))
    entered = await store.update(moved(enters, "a"))
    stayed = await store.update(relabelled(stays, app="web"))
    await store.update(relabelled(out, app="web"))
    async with aclosing(store.watch(WorkloadEndpoint, revision, Where("node", "a"))) as watch:
        changes: list[WorkloadEndpoint | Gone] = []
        while len(changes) < 3:
            changes += (await anext(watch)).changes
    assert set(map(repr, changes)) == set(map(repr, (entered, stayed, Gone("shop", "leaves"))))


@pytest.mark.parametrize("ends", [True, False], ids=["then deleted", "then changed outside"])
async def test_what_left_where_is_gone_once(store: Store, ends: bool) -> None:
    web = await store.create(endpoint("web", node="a"))
    revision = await now(store)
    async with aclosing(store.watch(WorkloadEndpoint, revision, Where("node", "a"))) as watch:
        web = await store.update(moved(web, "b"))
        assert (await anext(watch)).changes == (Gone("shop", "web"),)
        if ends:
            await store.delete(web)
        else:
            await store.update(relabelled(web, app="x"))
        last = await store.create(endpoint("last", node="a"))
        assert (await anext(watch)).changes == (last,)


async def test_what_was_never_in_where_is_not_gone(store: Store) -> None:
    web = await store.create(endpoint("web", node="b"))
    revision = await now(store)
    web = await store.update(moved(web, "a"))
    await store.delete(await store.update(moved(web, "b")))
    last = await store.create(endpoint("last", node="a"))
    async with aclosing(store.watch(WorkloadEndpoint, revision, Where("node", "a"))) as watch:
        follower = Follower(watch)  # which refuses to lose what it doesn't hold
        await follower.until_sees("last")
    assert follower.mirror == {("shop", "last"): last}


async def test_a_borrower_sees_the_block_from_its_first_address_to_its_last(store: Store) -> None:
    alone, shared = ip_block(node="a", borrowers=("a",)), ip_block(node="a", borrowers=("a", "b"))
    block = await store.create(alone)
    revision = await now(store, IPBlock)
    async with aclosing(store.watch(IPBlock, revision, Where("node", "b"))) as watch:
        block = await store.update(at_revision(shared, block.revision))
        assert (await anext(watch)).changes == (block,)
        await store.update(at_revision(alone, block.revision))
        assert (await anext(watch)).changes == (Gone("", block.name),)


async def test_a_batchs_revision_is_where_another_watch_goes_on(store: Store) -> None:
    revision = await now(store)
    for name in ("a", "b", "c"):
        made = await store.create(endpoint(name))
        async with aclosing(store.watch(WorkloadEndpoint, revision)) as watch:
            batch = await anext(watch)
        assert batch.changes == (made,)
        revision = batch.revision


async def test_a_quiet_watch_yields_bookmarks(open_new: Opener) -> None:
    store = await open_new(bookmark_s=0.01)
    revision = await now(store)
    await store.create(policy())
    async with aclosing(store.watch(WorkloadEndpoint, revision)) as watch, asyncio.timeout(PATIENCE_S):
        bookmark: Batch[WorkloadEndpoint] = await anext(watch)
        while bookmark.revision == revision:
            assert bookmark.changes == ()
            bookmark = await anext(watch)
        assert bookmark.changes == ()
        assert (await anext(watch)).changes == ()


async def test_a_bookmark_keeps_a_quiet_watch_within_history(open_new: Opener) -> None:
    store = await open_new(keep=3, bookmark_s=0.01)
    revision = await now(store)
    for round_ in range(5):
        for number in range(3):
            await store.create(policy(f"p{round_}-{number}"))
        async with aclosing(store.watch(WorkloadEndpoint, revision)) as watch:
            revision = (await anext(watch)).revision
    await store.create(endpoint("web"))
    async with aclosing(store.watch(WorkloadEndpoint, revision)) as watch:
        await Follower(watch).until_sees("web")


async def test_a_watch_from_before_the_history_is_compacted(open_new: Opener) -> None:
    store = await open_new(keep=3)
    revision = await now(store)
    for number in range(10):
        await store.create(endpoint(f"e{number}"))
    with pytest.raises(Compacted) as caught:
        await anext(store.watch(WorkloadEndpoint, revision))
    assert (caught.value.kind, caught.value.revision) == ("WorkloadEndpoint", revision)


async def test_a_watch_that_fell_behind_the_history_is_compacted_or_has_missed_nothing(open_new: Opener) -> None:
    store = await open_new(keep=3)
    async with aclosing(store.watch(WorkloadEndpoint, await now(store))) as watch:
        follower = Follower(watch)
        await store.create(endpoint("first"))
        await follower.until_sees("first")
        for number in range(10):
            await store.create(endpoint(f"e{number}"))
        # A server that pushes has sent all of it before it forgot.
        with suppress(Compacted):
            await follower.until_sees("e9")
            assert len(follower.mirror) == 11


async def test_a_watch_within_the_history_is_not_compacted(open_new: Opener) -> None:
    store = await open_new(keep=3)
    for number in range(10):
        await store.create(endpoint(f"e{number}"))
    revision = await now(store)
    for name in ("a", "b", "c"):
        await store.create(endpoint(name))
    async with aclosing(store.watch(WorkloadEndpoint, revision)) as watch:
        await Follower(watch).until(lambda mirror: len(mirror) == 3)


@pytest.mark.parametrize("revision", ["", "0", "x", "1-x"])
async def test_a_watch_from_a_revision_nobody_gave_is_compacted(store: Store, revision: str) -> None:
    with pytest.raises(Compacted):
        await anext(store.watch(WorkloadEndpoint, Revision(revision)))


async def test_a_watch_from_another_stores_revision_is_compacted(store: Store, open_new: Opener) -> None:
    foreign = await now(await open_new())
    with pytest.raises(Compacted):
        await anext(store.watch(WorkloadEndpoint, foreign))


async def test_a_watch_from_beyond_the_newest_revision_is_compacted(store: Store) -> None:
    number, _, identity = (await now(store)).partition("-")
    with pytest.raises(Compacted):
        await anext(store.watch(WorkloadEndpoint, Revision(f"{int(number) + 1}-{identity}")))


async def test_a_watch_that_nobody_reads_holds_nobody_up(store: Store) -> None:
    revision = await now(store)
    async with aclosing(store.watch(WorkloadEndpoint, revision)) as idle:
        await store.create(endpoint("first"))
        await anext(idle)
        async with aclosing(store.watch(WorkloadEndpoint, revision)) as watch:
            follower = Follower(watch)
            for number in range(20):
                await store.create(endpoint(f"e{number}"))
                await follower.until_sees(f"e{number}")
        caught_up = Follower(idle)
        await caught_up.until(lambda mirror: len(mirror) == 20)


async def test_every_watcher_sees_every_object(store: Store) -> None:
    revision = await now(store)
    followers = [Follower(store.watch(WorkloadEndpoint, revision)) for _ in range(5)]
    reading = [asyncio.create_task(follower.until(lambda mirror: len(mirror) == 30)) for follower in followers]
    await asyncio.gather(*(store.create(endpoint(f"e{number}")) for number in range(30)))
    await asyncio.gather(*reading)
    await asyncio.gather(*(follower.watch.aclose() for follower in followers))


async def test_a_cancelled_watcher_leaves_the_store_as_it_was(store: Store) -> None:
    revision = await now(store)
    waiting = asyncio.create_task(anext(store.watch(WorkloadEndpoint, revision)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await store.create(endpoint("web"))
    async with aclosing(store.watch(WorkloadEndpoint, revision)) as watch:
        await Follower(watch).until_sees("web")


# close


async def test_closing_ends_watches(store: Store) -> None:
    watch = store.watch(WorkloadEndpoint, await now(store))
    waiting = asyncio.create_task(anext(watch, None))
    await asyncio.sleep(0)
    await store.close()
    assert await waiting is None


async def test_a_closed_store_is_unavailable(store: Store) -> None:
    made = await store.create(policy())
    await store.close()
    await store.close()
    for call in (
        store.get(NetworkPolicy, "db", "shop"),
        store.list(NetworkPolicy),
        store.create(policy("other")),
        store.update(made),
        store.delete(made),
    ):
        with pytest.raises(Unavailable, match="closed"):
            await call
