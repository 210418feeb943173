"""Watches over etcd's own ways: big responses, cuts, compaction, and servers that don't tell all, or tell it twice."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from pathlib import Path

import msgspec
import pytest

from datastore.errors import Compacted, Forbidden, Unavailable
from datastore.etcd import fold
from datastore.etcd.address import parse
from datastore.etcd.etcd_pb2 import Event, KeyValue, WatchResponse
from datastore.etcd.keys import Keys
from datastore.record import key_for
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.store import Gone, Revision, Store, Where
from tests.datastore.drivers import PATIENCE_S, Follower
from tests.datastore.endurance import again
from tests.datastore.etcd.opened import opened
from tests.datastore.samples import endpoint, moved, policy
from tests.servers.etcd import Etcd, new_prefix
from tests.servers.liar import Liar, lying
from tests.servers.proxy import proxied

MANY = 10_000
AT_ONCE = 64


async def create_many(store: Store, number: int, after: Callable[[int], None] = lambda _: None) -> None:
    """Endpoints, many at a time, since each waits for a disk."""
    numbers = iter(range(number))

    async def writer() -> None:
        for one in numbers:
            await store.create(endpoint(f"e{one}"))
            after(one)

    await asyncio.gather(*(writer() for _ in range(AT_ONCE)))


def heavy(name: str) -> NetworkPolicy:
    made = policy(name)
    metadata = msgspec.structs.replace(made.metadata, annotations={"big": "x" * 900_000})
    return msgspec.structs.replace(made, metadata=metadata)


@pytest.mark.timeout(300)
async def test_ten_thousand_events_come_once_each_through_five_cuts(server: Etcd, url: str) -> None:
    prefix = parse(url).prefix.strip("/")
    async with proxied(server.members[0].port) as proxy, opened(url) as direct:
        async with opened(server.url(prefix, proxy.port)) as store:
            revision = (await store.list(WorkloadEndpoint)).revision
            cuts_at = {MANY * part // 6 for part in range(1, 6)}
            writing = asyncio.create_task(
                create_many(direct, MANY, lambda one: proxy.cut() if one in cuts_at else None)
            )
            seen: dict[str, str] = {}
            while len(seen) < MANY:
                with suppress(Unavailable):
                    async with aclosing(store.watch(WorkloadEndpoint, revision)) as watch, asyncio.timeout(PATIENCE_S):
                        async for batch in watch:
                            revision = batch.revision
                            for change in batch.changes:
                                assert isinstance(change, WorkloadEndpoint)
                                assert change.name not in seen
                                seen[change.name] = change.revision
                            if len(seen) == MANY:
                                break
            await writing
        assert seen == {item.name: item.revision for item in (await direct.list(WorkloadEndpoint)).items}
        assert proxy.connections > 5


async def test_a_watch_goes_on_by_itself_when_it_is_cut(server: Etcd, url: str) -> None:
    prefix = parse(url).prefix.strip("/")
    async with proxied(server.members[0].port) as proxy, opened(server.url(prefix, proxy.port)) as store:
        revision = (await store.list(WorkloadEndpoint)).revision
        async with opened(url) as direct, aclosing(store.watch(WorkloadEndpoint, revision)) as watch:
            follower = Follower(watch)
            for number in range(5):
                await direct.create(endpoint(f"e{number}"))
                await follower.until_sees(f"e{number}")
                waiting = asyncio.create_task(follower.until_sees(f"f{number}"))
                await asyncio.sleep(0)
                proxy.cut()
                await direct.create(endpoint(f"f{number}"))
                await waiting


async def test_responses_larger_than_a_request_may_be_come_whole(url: str) -> None:
    async with opened(url) as store:
        revision = (await store.list(NetworkPolicy)).revision
        made = [await store.create(heavy(f"p{number}")) for number in range(6)]
        async with aclosing(store.watch(NetworkPolicy, revision)) as watch:
            assert (await anext(watch)).changes == tuple(made)
        assert (await store.list(NetworkPolicy)).items == tuple(made)


@pytest.mark.parametrize("limit", ["MAX_OBJECTS", "MAX_BYTES"])
async def test_much_to_catch_up_with_comes_in_parts(url: str, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold, limit, 20 if limit == "MAX_OBJECTS" else 4000)
    async with opened(url) as store:
        revision = (await store.list(WorkloadEndpoint)).revision
        await create_many(store, 1500)
        brief = await store.create(endpoint("brief"))
        await store.delete(brief)
        async with aclosing(store.watch(WorkloadEndpoint, revision)) as watch:
            follower = Follower(watch)
            await follower.until(lambda mirror: len(mirror) == 1500)
        # etcd catches up by a thousand revisions at a time, which is what a part is at least.
        assert len(follower.batches) > 1
        assert follower.names() == {f"e{number}" for number in range(1500)}


async def test_a_consumer_that_is_away_is_waited_for_and_not_hoarded_for(server: Etcd, url: str) -> None:
    prefix = parse(url).prefix.strip("/")
    passed = 0

    def count(chunk: bytes) -> None:
        nonlocal passed
        passed += len(chunk)

    async with proxied(server.members[0].port) as proxy, opened(server.url(prefix, proxy.port)) as store:
        watch = store.watch(NetworkPolicy, (await store.list(NetworkPolicy)).revision)
        async with opened(url) as direct:
            await direct.create(policy("first"))
            await anext(watch)
            proxy.on_answer = count
            for number in range(40):
                await direct.create(heavy(f"p{number}"))
            await store.list(NetworkPolicy, Where("namespace", "none"))  # what was sent before it has passed
            assert passed < 20_000_000
            follower = Follower(watch)
            await follower.until(lambda mirror: len(mirror) == 40)
        await watch.aclose()


async def test_a_watch_that_keeps_up_outlives_compaction(server: Etcd, url: str) -> None:
    async with opened(url) as store:
        listing = await store.list(WorkloadEndpoint)
        async with aclosing(store.watch(WorkloadEndpoint, listing.revision, Where("node", "a"))) as watch:
            follower = Follower(watch)
            for number in range(20):
                web = await store.create(endpoint(f"e{number}", node="a"))
                await follower.until_sees(web.name)
                if number % 2:
                    await store.update(moved(web, "b"))
                    await follower.until(lambda mirror: ("shop", web.name) not in mirror)  # noqa: B023
                server.compact(server.revision())
            last = await store.create(endpoint("last", node="a"))
            await follower.until_sees("last")
        true = {item.name for item in (await store.list(WorkloadEndpoint, Where("node", "a"))).items}
        assert follower.names() == true
        assert last.name in true


async def test_a_watch_that_was_cut_while_etcd_was_compacted_is_compacted(server: Etcd, url: str) -> None:
    prefix = parse(url).prefix.strip("/")
    async with proxied(server.members[0].port) as proxy, opened(server.url(prefix, proxy.port)) as store:
        watch = store.watch(WorkloadEndpoint, (await store.list(WorkloadEndpoint)).revision)
        async with opened(url) as direct:
            await direct.create(endpoint("first"))
            await anext(watch)
            proxy.refuse = True
            proxy.cut()
            for number in range(3):
                await direct.create(endpoint(f"e{number}"))
            server.compact(server.revision())
            proxy.refuse = False
            with pytest.raises(Compacted):
                await again(lambda: anext(watch))


@pytest.mark.parametrize("always", [False, True], ids=["begins again", "is given up after some tries"])
async def test_a_list_that_is_compacted_meanwhile(
    server: Etcd, url: str, monkeypatch: pytest.MonkeyPatch, always: bool
) -> None:
    monkeypatch.setattr("datastore.etcd.reader.PAGE", 2)
    async with opened(url) as store:
        made = [await store.create(endpoint(f"e{number}")) for number in range(7)]
        decoded = 0

        def compacting(kind: type[WorkloadEndpoint], kv: KeyValue) -> WorkloadEndpoint:
            nonlocal decoded
            decoded += 1
            if decoded == 3 or always:
                server.put(b"/elsewhere", b"")
                server.compact(server.revision())
            return plain(kind, kv)

        plain = store._reader.resource
        monkeypatch.setattr(store._reader, "resource", compacting)
        if always:
            with pytest.raises(Unavailable, match="compacts faster"):
                await store.list(WorkloadEndpoint)
        else:
            assert (await store.list(WorkloadEndpoint)).items == tuple(made)
            assert decoded > len(made)


async def test_an_object_that_somebody_deletes_by_hand_is_gone(server: Etcd, url: str) -> None:
    async with opened(url, bookmark_s=0.01) as store:
        web = await store.create(endpoint("web"))
        async with aclosing(store.watch(WorkloadEndpoint, Revision(web.revision))) as watch:
            await anext(watch)
            server.remove(Keys(parse(url).prefix).object(key_for(web)).decode())
            async with asyncio.timeout(PATIENCE_S):
                while not (batch := await anext(watch)).changes:
                    pass
            assert batch.changes == (Gone("shop", "web"),)


# An etcd that lies


@pytest.fixture
async def liar(server: Etcd) -> AsyncIterator[Liar]:
    async with lying(server.members[0].port) as made:
        yield made


@pytest.fixture
async def deceived(server: Etcd, liar: Liar) -> AsyncIterator[Store]:
    """A store that hears from the liar."""
    async with opened(server.url(new_prefix(), liar.port, timeout="2"), bookmark_s=0.1) as store:
        yield store


async def test_events_that_come_twice_count_once(liar: Liar, deceived: Store) -> None:
    liar.tell = lambda response: (response,) * (2 if any(event.type == Event.PUT for event in response.events) else 1)
    revision = (await deceived.list(WorkloadEndpoint)).revision
    async with aclosing(deceived.watch(WorkloadEndpoint, revision)) as watch:
        follower = Follower(watch)
        web = await deceived.create(endpoint("web"))
        await follower.until_sees("web")
        await deceived.delete(web)
        await follower.until(lambda mirror: not mirror)
        await deceived.create(endpoint("last"))
        await follower.until_sees("last")
    assert sum(len(batch.changes) for batch in follower.batches) == 3


async def test_events_that_dont_come_are_asked_for_again(liar: Liar, deceived: Store) -> None:
    swallowed: list[WatchResponse] = []

    def swallow(response: WatchResponse) -> tuple[WatchResponse, ...]:
        if response.events and not swallowed:
            swallowed.append(response)
            return ()
        return (response,)

    revision = (await deceived.list(WorkloadEndpoint)).revision
    async with aclosing(deceived.watch(WorkloadEndpoint, revision)) as watch:
        follower = Follower(watch)
        waiting = asyncio.create_task(follower.until_sees("web"))
        liar.tell = swallow
        await deceived.create(endpoint("web"))
        await waiting
    assert swallowed
    assert len(liar.watches) == 2


async def test_a_batch_holds_all_that_this_process_wrote_before_it_asked(liar: Liar, deceived: Store) -> None:
    held: list[WatchResponse] = []

    def two_at_a_time(response: WatchResponse) -> tuple[WatchResponse, ...]:
        held.append(response)
        if len(held) < 2:
            return ()
        both = tuple(held)
        held.clear()
        return both

    revision = (await deceived.list(WorkloadEndpoint)).revision
    async with aclosing(deceived.watch(WorkloadEndpoint, revision)) as watch:
        follower = Follower(watch)
        await deceived.create(endpoint("first"))
        await follower.until_sees("first")
        liar.tell = two_at_a_time
        made = [await deceived.create(endpoint(name)) for name in ("a", "b")]
        assert (await follower.next()).changes == tuple(made)


@pytest.mark.parametrize("when", ["begins", "goes on"])
async def test_a_deletion_that_is_compacted_while_a_watch_begins_isnt_missed(
    server: Etcd, liar: Liar, deceived: Store, when: str
) -> None:
    """3.4.23 takes a watch that begins with the compacted revision, at which it has forgotten deletions."""
    web = await deceived.create(endpoint("web"))
    async with aclosing(deceived.watch(WorkloadEndpoint, Revision(web.revision))) as watch:
        if when == "goes on":
            while (await anext(watch)).revision != web.revision:
                pass
            liar.tell = lambda response: (WatchResponse(header=response.header, canceled=True),)
        await deceived.delete(web)
        deleted_at = server.revision()
        await deceived.create(endpoint("last"))

        def compact() -> None:
            liar.tell = lambda response: (response,)
            server.compact(deleted_at)

        liar.on_watch = compact
        with pytest.raises(Compacted):
            await Follower(watch).until(lambda _: False)


async def test_fragments_count_when_they_are_whole(liar: Liar, deceived: Store) -> None:
    """A revision that holds several objects may be cut between them; whoever resumes there must not skip the rest."""

    def broken(response: WatchResponse) -> tuple[WatchResponse, ...]:
        if len(response.events) < 2:
            return (response,)
        liar.tell = lambda response: (response,)
        first, rest = WatchResponse(), WatchResponse(canceled=True, header=response.header)
        first.CopyFrom(response)
        del first.events[1:]
        first.fragment = True
        return (first, rest)

    liar.tell = broken
    revision = (await deceived.list(WorkloadEndpoint)).revision
    for name in ("a", "b", "c"):
        await deceived.create(endpoint(name))
    async with aclosing(deceived.watch(WorkloadEndpoint, revision)) as watch:
        assert len((await anext(watch)).changes) == 3
    assert [request.create_request.start_revision for request in liar.watches] == [
        int(revision.partition("-")[0]) + 1
    ] * 2


async def test_what_a_header_says_of_later_revisions_isnt_taken_for_told(liar: Liar, deceived: Store) -> None:
    """While a server catches up its headers are ahead of its events: whoever goes on after a header misses some."""
    told: list[int] = []

    def cut_short(response: WatchResponse) -> tuple[WatchResponse, ...]:
        if not response.events:
            return (response,)
        liar.tell = lambda response: (response,)
        first = WatchResponse()
        first.CopyFrom(response)
        del first.events[1:]
        told.append(first.events[0].kv.mod_revision)
        assert first.header.revision > told[0]
        return (first, WatchResponse(canceled=True, header=response.header))

    liar.tell = cut_short
    revision = (await deceived.list(WorkloadEndpoint)).revision
    for name in ("a", "b", "c"):
        await deceived.create(endpoint(name))
    async with aclosing(deceived.watch(WorkloadEndpoint, revision)) as watch:
        assert len((await anext(watch)).changes) == 3
    assert liar.watches[1].create_request.start_revision == told[0] + 1


async def test_a_watch_that_the_server_keeps_ending_is_unavailable(liar: Liar, deceived: Store) -> None:
    liar.tell = lambda response: (WatchResponse(header=response.header, canceled=True, cancel_reason="whatever"),)
    revision = (await deceived.list(WorkloadEndpoint)).revision
    with pytest.raises(Unavailable, match="whatever"):
        async with asyncio.timeout(PATIENCE_S):
            await anext(deceived.watch(WorkloadEndpoint, revision))


async def test_a_watch_whose_token_is_no_longer_good_is_begun_with_a_new_one(
    server: Etcd, liar: Liar, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text("right")
    reason = "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"

    def once(response: WatchResponse) -> tuple[WatchResponse, ...]:
        liar.tell = lambda response: (response,)
        return (WatchResponse(header=response.header, created=True, canceled=True, cancel_reason=reason),)

    url = server.url(new_prefix(), liar.port, user="tortie", **{"password-file": password})
    async with opened(url) as store:
        liar.tell = once
        made = await store.create(endpoint("web"))
        listing = await store.list(WorkloadEndpoint)
        moved_ = await store.update(moved(made, "b"))
        async with aclosing(store.watch(WorkloadEndpoint, listing.revision)) as watch:
            assert (await anext(watch)).changes == (moved_,)
    assert len(liar.watches) == 2


async def test_a_watch_that_isnt_permitted_is_forbidden(liar: Liar, deceived: Store) -> None:
    reason = "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
    liar.tell = lambda response: (
        WatchResponse(header=response.header, created=True, canceled=True, cancel_reason=reason),
    )
    revision = (await deceived.list(WorkloadEndpoint)).revision
    with pytest.raises(Forbidden):
        await anext(deceived.watch(WorkloadEndpoint, revision))
