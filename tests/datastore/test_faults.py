"""Every server that dies, every network that fails: what callers are told is so, and nothing is lost or done twice.

    store ── proxy ── server        the store that is hurt
    direct ────────── server        another one beside it, which sees what is true

One table for all servers, see servers.py; what only one of them can suffer is in its own folder.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from typing import TypeVar

import pytest

from datastore.errors import AlreadyExists, Conflict, NotFound, Unavailable, Unknown
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.store import Revision, Store
from tests.datastore.drivers import PATIENCE_S
from tests.datastore.endurance import Cutter, Load, Mirror, again, change_things, increment, listed, until
from tests.datastore.processes import write_together, write_until_killed
from tests.datastore.samples import policy, relabelled
from tests.datastore.servers import SERVERS, Place, Server
from tests.servers.proxy import proxied

T = TypeVar("T")

SHORT_S = 1.0
"""How long a store waits for an answer where a test wants none to come."""
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(params=sorted(SERVERS), scope="module")
def running(request: pytest.FixtureRequest) -> Iterator[Server]:
    """One server for all tests here; each of them finds it running."""
    stack = AsyncExitStack()
    with asyncio.Runner() as runner:
        yield runner.run(stack.enter_async_context(SERVERS[request.param]()))
        runner.run(stack.aclose())


@pytest.fixture
async def place(running: Server) -> AsyncIterator[Place]:
    await running.start()
    async with proxied(running.port) as proxy:
        yield Place(running, proxy, await running.new_store())


@pytest.fixture
async def direct(place: Place) -> AsyncIterator[Store]:
    async with place.opened(directly=True) as opened:
        yield opened


@pytest.fixture
async def store(place: Place, direct: Store) -> AsyncIterator[Store]:
    """By way of the proxy, and used once, so that it has its connections."""
    async with place.opened() as opened:
        await opened.delete(await opened.create(policy("warm")))
        await opened.list(NetworkPolicy)
        yield opened


async def seen(direct: Store, name: str = "db") -> NetworkPolicy | None:
    """The object as it is."""
    try:
        return await again(lambda: direct.get(NetworkPolicy, name, "shop"))
    except NotFound:
        return None


# One write

WRITES: dict[str, Callable[[Store, NetworkPolicy], Awaitable[object]]] = {
    "create": lambda store, _: store.create(policy(team="red")),
    "update": lambda store, first: store.update(relabelled(first, team="red")),
    "delete": lambda store, first: store.delete(first),
}
"""Each on an object that is there, but for the create."""
CALLS: dict[str, Callable[[Store, NetworkPolicy], Awaitable[object]]] = {
    "get": lambda store, _: store.get(NetworkPolicy, "db", "shop"),
    "list": lambda store, _: store.list(NetworkPolicy),
    **WRITES,
}
each_write = pytest.mark.parametrize("verb", WRITES)


async def before(direct: Store, verb: str) -> NetworkPolicy | None:
    """What is there before the write."""
    return None if verb == "create" else await direct.create(policy())


def begin(store: Store, verb: str, first: NetworkPolicy | None) -> "asyncio.Task[object]":
    return asyncio.ensure_future(WRITES[verb](store, first or policy()))


async def won(direct: Store, first: NetworkPolicy | None) -> NetworkPolicy:
    """Settle it: try again under the same name, or win a write that changes nothing."""
    return await (direct.create(policy()) if first is None else direct.update(first))


def has_landed(verb: str, now: NetworkPolicy | None) -> bool:
    return now is None if verb == "delete" else now is not None and now.metadata.labels.get("team") == "red"


@each_write
async def test_a_write_that_was_never_sent_changed_nothing(
    store: Store, direct: Store, place: Place, verb: str
) -> None:
    first = await before(direct, verb)
    place.proxy.on_request = lambda _: place.proxy.cut()
    with pytest.raises((Unavailable, Unknown)):
        await begin(store, verb, first)
    place.proxy.on_request = lambda _: None
    assert await seen(direct) == first
    bumped = await won(direct, first)
    assert await again(lambda: store.get(NetworkPolicy, "db", "shop")) == bumped


@each_write
async def test_a_write_whose_answer_was_lost_is_unknown_and_done(
    store: Store, direct: Store, place: Place, verb: str
) -> None:
    first = await before(direct, verb)
    place.proxy.lose_answers = True
    writing = begin(store, verb, first)

    async def landed() -> bool:
        return has_landed(verb, await seen(direct))

    await until(landed)
    place.proxy.cut()
    place.proxy.lose_answers = False
    with pytest.raises(Unknown):
        await writing
    with pytest.raises((AlreadyExists, Conflict, NotFound)):
        await won(direct, first)
    assert has_landed(verb, await seen(direct))


@each_write
@pytest.mark.parametrize("bump_first", [True, False], ids=["after it was settled", "before it was settled"])
async def test_a_write_that_lands_after_its_caller_gave_up_is_settled_by_a_bump(
    place: Place, direct: Store, verb: str, bump_first: bool
) -> None:
    async with place.opened(timeout_s=SHORT_S) as store:
        await store.delete(await store.create(policy("warm")))
        first = await before(direct, verb)
        place.proxy.stall = True
        with pytest.raises(Unknown):
            await begin(store, verb, first)
        assert await seen(direct) == first
        bumped = await won(direct, first) if bump_first else None
    place.proxy.stall = False

    async def arrived() -> bool:
        return place.proxy.open == 0

    await until(arrived)
    if bumped is not None:
        assert await seen(direct) == bumped
        return
    late = await seen(direct)
    try:
        bumped = await won(direct, first)
    except (AlreadyExists, Conflict, NotFound):
        assert has_landed(verb, late)
        assert await seen(direct) == late
    else:
        assert await seen(direct) == bumped


@pytest.mark.parametrize("verb", CALLS)
async def test_a_server_that_is_silent_is_unavailable_and_its_writes_are_unknown(
    place: Place, direct: Store, verb: str
) -> None:
    async with place.opened(timeout_s=SHORT_S) as store:
        await store.delete(await store.create(policy("warm")))
        first = await before(direct, verb)
        place.proxy.stall = True
        with pytest.raises(Unknown if verb in WRITES else Unavailable):
            await asyncio.wait_for(CALLS[verb](store, first or policy()), PATIENCE_S)
        place.proxy.stall = False
        await again(lambda: store.list(NetworkPolicy))
        await again(lambda: store.create(policy("after")))


@pytest.mark.parametrize("how", ["refuses", "is silent"])
async def test_a_server_that_lets_nobody_in_is_unavailable(place: Place, how: str) -> None:
    place.proxy.refuse, place.proxy.stall = how == "refuses", how == "is silent"
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(Unavailable):
            async with place.opened(timeout_s=SHORT_S) as store:
                await store.list(NetworkPolicy)


async def test_while_the_server_is_down_nothing_works_and_afterwards_everything_does(place: Place) -> None:
    async with place.opened(directly=True) as store:
        first = await store.create(policy())
        await place.server.stop()
        for read in (store.get(NetworkPolicy, "db", "shop"), store.list(NetworkPolicy)):
            with pytest.raises(Unavailable):
                await read
        for write in (store.create(policy("other")), store.update(first), store.delete(first)):
            with pytest.raises((Unavailable, Unknown)):
                await write
        with pytest.raises(Unavailable):
            await anext(store.watch(NetworkPolicy, Revision(first.revision)))
        await place.server.start()
        assert await again(lambda: store.get(NetworkPolicy, "db", "shop")) == first
        assert (await again(lambda: store.list(NetworkPolicy))).items == (first,)
        await again(lambda: store.update(first))


# Many writes


@pytest.mark.parametrize("how", ["killed", "shut down"])
async def test_a_server_that_ends_under_load_keeps_what_it_acknowledged_and_nothing_it_refused(
    place: Place, how: str
) -> None:
    async with place.opened(directly=True) as store:
        load, mirror = Load(store), await Mirror.of(store, forgets=place.server.forgets)
        following = asyncio.create_task(mirror.follow())
        writing = [asyncio.create_task(load.write(writer)) for writer in range(4)]
        for _ in range(2):
            await load.until_acknowledged(20)
            await (place.server.kill() if how == "killed" else place.server.stop())
            await place.server.start()
        await load.until_acknowledged(20)
        load.stopped = True
        await asyncio.gather(*writing)
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        true = await listed(store)
        load.check(true)
        mirror.follower.watch = store.watch(NetworkPolicy, mirror.revision)
        await mirror.until_holds(true)


async def test_a_connection_that_is_cut_under_load_loses_nothing_and_does_nothing_twice(
    place: Place, store: Store, direct: Store
) -> None:
    load = Load(store)
    writing = [asyncio.create_task(load.write(writer)) for writer in range(4)]
    for hook in ("on_request", "on_answer"):
        cutter = Cutter(place.proxy, 31, cuts=6)
        setattr(place.proxy, hook, cutter)
        await until(cutter.is_done)
    await load.until_acknowledged(10)
    load.stopped = True
    await asyncio.gather(*writing)
    load.check(await listed(direct))


async def test_a_counter_is_true_whatever_answers_are_lost(place: Place, store: Store, direct: Store) -> None:
    await direct.create(policy("counter", n="0"))
    writers, each = 4, 15
    place.proxy.on_answer = Cutter(place.proxy, 31)  # what the server just did is not told

    async def count_up(writer: int) -> None:
        for number in range(each):
            await increment(store, writer, number)

    async with asyncio.timeout(2 * PATIENCE_S):
        await asyncio.gather(*(count_up(writer) for writer in range(writers)))
    counter = await seen(direct, "counter")
    assert counter is not None
    assert counter.metadata.labels["n"] == str(writers * each)


# Watches


@pytest.mark.parametrize("where", ["between answers", "in an answer", "in a request"])
async def test_a_watch_that_is_cut_misses_nothing_and_sees_nothing_twice(
    place: Place, store: Store, direct: Store, where: str
) -> None:
    mirror = await Mirror.of(store)
    following = asyncio.create_task(mirror.follow())
    if where == "in an answer":
        place.proxy.on_answer = Cutter(place.proxy, 15)
    elif where == "in a request":
        place.proxy.on_request = Cutter(place.proxy, 15)
    await change_things(
        direct, 100, lambda number: place.proxy.cut() if where == "between answers" and number % 10 == 0 else None
    )
    place.proxy.on_answer = place.proxy.on_request = lambda _: None
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following
    mirror.follower.watch = store.watch(NetworkPolicy, mirror.revision)
    await mirror.until_holds(await listed(direct))


async def test_a_watch_of_a_silent_network_misses_nothing(place: Place, direct: Store) -> None:
    async with place.opened(timeout_s=SHORT_S) as store:
        mirror = await Mirror.of(store)
        following = asyncio.create_task(mirror.follow())
        await change_things(direct, 10, lambda _: None)
        place.proxy.stall = True
        await change_things(direct, 11, lambda _: None)
        place.proxy.stall = False
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        mirror.follower.watch = store.watch(NetworkPolicy, mirror.revision)
        await mirror.until_holds(await listed(direct))


async def test_a_watch_that_waits_hears_of_writes_after_a_restart(place: Place) -> None:
    async with place.opened(directly=True) as store:
        mirror = await Mirror.of(store, forgets=place.server.forgets)
        await place.server.kill()
        await place.server.start()
        await again(lambda: store.create(policy("after")))
        await mirror.until_holds(await listed(store))


# Processes


async def test_processes_that_write_together_lose_nothing_and_see_the_same(place: Place, direct: Store) -> None:
    await write_together(direct, place.url(place.server.port))


async def test_what_a_killed_process_was_told_is_stored_and_seen(place: Place, direct: Store) -> None:
    await write_until_killed(direct, place.url(place.server.port))
