"""What only an API server does to its callers; what every server does is in tests/datastore/test_faults.py."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, suppress
from pathlib import Path

import msgspec
import pytest

from datastore.errors import Compacted, Conflict, Unavailable, Unknown
from datastore.kubernetes import store as driver
from datastore.kubernetes.client import Answer, Request
from datastore.kubernetes.store import KubernetesStore
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.store import Revision, Where
from tests.datastore.drivers import PATIENCE_S, Follower
from tests.datastore.endurance import Mirror, again, increment, listed, until
from tests.datastore.samples import endpoint, policy, relabelled
from tests.kube.apiserver import ApiServer
from tests.kube.cluster import control_plane
from tests.kube.conftest import OpenAs, opener
from tests.kube.programs import missing, needs_kubernetes
from tests.kube.stores import empty
from tests.servers.proxy import Proxy, proxied

pytestmark = needs_kubernetes
TURNED_AWAY = re.compile(rb'^apiserver_request_total\{code="429".* (\d+)$', re.MULTILINE)


async def now(store: KubernetesStore) -> Revision:
    return (await store.list(WorkloadEndpoint)).revision


# History


@pytest.fixture
async def on_direct(tmp_path: Path) -> AsyncIterator[KubernetesStore]:
    """A store whose API server has no history but etcd's."""
    empty(control_plane().direct)
    async with AsyncExitStack() as stack:
        yield await opener(control_plane().direct, tmp_path, stack)()


async def test_a_watch_that_reads_on_after_a_compaction_misses_nothing(on_direct: KubernetesStore) -> None:
    async with aclosing(on_direct.watch(WorkloadEndpoint, await now(on_direct))) as watch:
        follower = Follower(watch)
        for number in range(10):
            await on_direct.create(endpoint(f"e{number}"))
            await follower.until_sees(f"e{number}")
            control_plane().etcd.compact(control_plane().etcd.revision())
    assert len(follower.mirror) == 10


async def test_a_watch_that_is_cut_off_and_finds_its_place_compacted_is_told_so(
    on_direct: KubernetesStore, tmp_path: Path
) -> None:
    async with proxied(control_plane().direct.port) as proxy, AsyncExitStack() as stack:
        store = await opener(control_plane().direct, tmp_path, stack)(port=proxy.port)
        watch = store.watch(WorkloadEndpoint, await now(store))
        await on_direct.create(endpoint("first"))
        follower = Follower(watch)
        await follower.until_sees("first")
        proxy.stall = True
        gone = await on_direct.create(endpoint("gone"))
        await on_direct.delete(gone)
        last = await on_direct.create(endpoint("last"))
        control_plane().etcd.compact(control_plane().etcd.revision())
        proxy.cut()
        proxy.stall = False
        with pytest.raises(Compacted) as caught:
            await follower.next()
        assert caught.value.kind == "WorkloadEndpoint"
        listing = await store.list(WorkloadEndpoint)
        assert [item.name for item in listing.items] == ["first", "last"]
        assert last in listing.items


async def test_pages_that_are_compacted_away_begin_the_list_anew(
    on_direct: KubernetesStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        await on_direct.create(endpoint(f"e{number}"))
    monkeypatch.setattr(driver, "PAGE", 2)
    ask, pages = on_direct._client.ask, 0

    async def forgetful(request: Request) -> Answer:
        nonlocal pages
        if request.query and "continue" in request.query:
            pages += 1
            if pages == 2:  # the third page of the first attempt
                await on_direct.create(endpoint("between"))
                control_plane().etcd.compact(control_plane().etcd.revision())
        return await ask(request)

    monkeypatch.setattr(on_direct._client, "ask", forgetful)
    listing = await on_direct.list(WorkloadEndpoint)
    assert [item.name for item in listing.items] == ["between", *(f"e{number}" for number in range(6))]
    assert pages == 2 + 3


async def test_a_list_whose_pages_always_expire_is_unavailable(
    on_direct: KubernetesStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        await on_direct.create(endpoint(f"e{number}"))
    monkeypatch.setattr(driver, "PAGE", 2)
    ask, numbers = on_direct._client.ask, iter(range(100))

    async def forgetful(request: Request) -> Answer:
        if request.query and "continue" in request.query:
            await on_direct.create(policy(f"p{next(numbers)}"))
            control_plane().etcd.compact(control_plane().etcd.revision())
        return await ask(request)

    monkeypatch.setattr(on_direct._client, "ask", forgetful)
    with pytest.raises(Unavailable, match="expired 5 times"):
        await on_direct.list(WorkloadEndpoint)


# An API server that is killed


@pytest.fixture(scope="module")
def hurt() -> Iterator[ApiServer]:
    """One more on the shared cluster's etcd."""
    if reason := missing():
        pytest.skip(reason)
    server = control_plane().start("killed")
    yield server
    server.server.kill()


@pytest.fixture
async def killed(hurt: ApiServer, tmp_path: Path) -> AsyncIterator[KubernetesStore]:
    """A store on the server that the test kills."""
    if not hurt.server.runs:
        hurt.server.start()
    empty(hurt)
    async with AsyncExitStack() as stack:
        yield await opener(hurt, tmp_path, stack)(timeout_s=5)


async def test_a_watch_whose_server_came_back_goes_on_or_is_told_to_list_again(
    killed: KubernetesStore, store: KubernetesStore, hurt: ApiServer
) -> None:
    mirror = await Mirror.of(killed, forgets=True)
    following = asyncio.create_task(mirror.follow())
    for life in range(2):
        first = await again(lambda: store.create(policy("first")))
        hurt.server.kill()
        await store.delete(first)
        await store.create(policy(f"while-away-{life}"))
        hurt.server.start()
        await again(lambda: killed.list(NetworkPolicy))
        await store.create(policy(f"after-{life}"))
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following
    mirror.follower.watch = killed.watch(NetworkPolicy, mirror.revision)
    await mirror.until_holds(await listed(store))
    assert set(await listed(store)) == {"while-away-0", "while-away-1", "after-0", "after-1"}


async def test_another_cluster_behind_the_same_address_is_noticed(server: ApiServer, tmp_path: Path) -> None:
    other = control_plane().other
    empty(other)
    async with AsyncExitStack() as stack, proxied(server.port) as proxy:
        store = await opener(server, tmp_path, stack)(port=proxy.port)
        made = await store.create(policy())
        revision = await now(store)
        there = await (await opener(other, tmp_path, stack)()).create(policy(team="red"))
        proxy._target = other.port
        proxy.cut()
        with pytest.raises((Conflict, Unknown)):
            await store.update(made)
        with pytest.raises(Conflict):
            await store.update(made)
        with pytest.raises(Compacted):
            await anext(store.watch(WorkloadEndpoint, revision))
        assert (await store.list(NetworkPolicy)).items == (there,)


async def test_an_etcd_that_was_restored_is_noticed_by_a_watch(store: KubernetesStore) -> None:
    number, _, identity = (await now(store)).partition("-")
    with pytest.raises(Compacted):
        await anext(store.watch(WorkloadEndpoint, Revision(f"{int(number) + 1000}-{identity}")))


# A server that is slow


async def test_a_server_that_stops_for_a_while_makes_writes_unknown_and_they_land(
    killed: KubernetesStore, hurt: ApiServer, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        hasty = await opener(hurt, tmp_path, stack)(timeout_s=1)
        first = await hasty.create(policy())
        hurt.server.signal(signal.SIGSTOP)
        try:
            with pytest.raises(Unknown, match="no answer"):
                await hasty.update(relabelled(first, team="red"))
            with pytest.raises(Unavailable, match="no answer"):
                await hasty.list(NetworkPolicy)
        finally:
            hurt.server.signal(signal.SIGCONT)

        async def settled() -> bool:
            with suppress(Conflict):
                await again(lambda: hasty.update(first))
            return True

        await until(settled)
        found = await hasty.get(NetworkPolicy, "db", "shop")
        assert found.revision != first.revision
        assert found.metadata.labels in ({}, {"team": "red"})


# Many at once


async def test_in_a_storm_of_conflicts_every_increment_counts_once(open_as: OpenAs) -> None:
    writers, each = 8, 10
    stores = [await open_as() for _ in range(writers)]
    await stores[0].create(policy("counter", n="0"))

    async def count_up(writer: int) -> None:
        for number in range(each):
            await increment(stores[writer], writer, number)

    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(count_up(writer) for writer in range(writers)))
    counter = await stores[0].get(NetworkPolicy, "counter", "shop")
    assert counter.metadata.labels["n"] == str(writers * each)


@pytest.fixture(scope="module")
def busy() -> Iterator[ApiServer]:
    """An API server that does one thing at a time, and tells everybody else to come again in a second."""
    if reason := missing():
        pytest.skip(reason)
    limits = ("--max-requests-inflight=1", "--max-mutating-requests-inflight=1")
    server = control_plane().start("busy", "--enable-priority-and-fairness=false", *limits)
    yield server
    server.server.kill()


@pytest.fixture
async def turned_away(busy: ApiServer, tmp_path: Path) -> AsyncIterator[KubernetesStore]:
    empty(busy)
    async with AsyncExitStack() as stack:
        yield await again(opener(busy, tmp_path, stack))


def refusals(server: ApiServer) -> int:
    """How many requests it has turned away."""
    _, metrics = server.ask("GET", "/metrics")
    return sum(int(count) for count in TURNED_AWAY.findall(metrics))


async def test_reads_that_are_turned_away_come_again_when_the_server_says(
    turned_away: KubernetesStore, busy: ApiServer
) -> None:
    before = refusals(busy)
    reads = [turned_away.list(NetworkPolicy, Where("namespace", "shop")) for _ in range(40)]
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*reads)
    assert refusals(busy) > before


async def test_writes_that_are_turned_away_are_unavailable_and_certainly_not_applied(
    turned_away: KubernetesStore, busy: ApiServer
) -> None:
    tries = [turned_away.create(policy(f"p{number}")) for number in range(60)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    refused = {number for number, result in enumerate(results) if isinstance(result, BaseException)}
    for number in refused:
        error = results[number]
        assert isinstance(error, Unavailable)
        assert error.retry_after_s == 1
    assert refused
    assert set(await listed(turned_away)) == {f"p{number}" for number in set(range(60)) - refused}


# The network


@pytest.fixture
async def proxy(server: ApiServer) -> AsyncIterator[Proxy]:
    async with proxied(server.port) as made:
        yield made


async def test_a_connection_that_died_while_nobody_used_it_makes_no_write_twice(
    open_as: OpenAs, proxy: Proxy, store: KubernetesStore
) -> None:
    """aiohttp would send a PUT again, and report our own first one as a conflict."""
    mine = await open_as(port=proxy.port)
    current = await mine.create(policy(n="0"))
    for number in range(20):
        proxy.lose_answers = number % 2 == 0
        writing = asyncio.create_task(mine.update(relabelled(current, n=str(number + 1))))

        async def arrived(wanted: str = str(number + 1)) -> bool:
            return (await store.get(NetworkPolicy, "db", "shop")).metadata.labels["n"] == wanted

        await until(arrived)
        proxy.lose_answers = False
        if number % 2 == 0:
            proxy.cut()
            with pytest.raises(Unknown):
                await writing
        else:
            await writing
        current = await store.get(NetworkPolicy, "db", "shop")


async def test_a_page_that_is_cut_short_is_unavailable(open_as: OpenAs, proxy: Proxy) -> None:
    mine = await open_as(port=proxy.port)
    for number in range(50):
        await mine.create(endpoint(f"e{number}"))
    proxy.on_answer = lambda _: proxy.cut()
    with pytest.raises(Unavailable):
        await mine.list(WorkloadEndpoint)
    proxy.on_answer = lambda _: None
    assert len((await again(lambda: mine.list(WorkloadEndpoint))).items) == 50


async def test_a_status_whose_write_fails_after_the_spec_is_unknown(
    store: KubernetesStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.kube.test_store import changed, pool

    made = await store.create(pool())
    ask = store._client.ask

    async def fails(request: Request) -> Answer:
        if request.path.endswith("/status"):
            raise Unavailable("no more")
        return await ask(request)

    monkeypatch.setattr(store._client, "ask", fails)
    with pytest.raises(Unknown, match="is written, and its status isn't: no more"):
        await store.update(changed(made, disabled=True, used=3))
    with pytest.raises(Unavailable):
        await store.update(changed(await store.get(type(made), "p"), used=3))
    assert msgspec.structs.replace(await store.get(type(made), "p")).spec.disabled
