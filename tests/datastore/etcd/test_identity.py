"""What store it is: agreed on by all who come at once, and noticed when it has become another."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import pytest

from datastore import codec
from datastore.errors import Compacted, Conflict, NotFound, Unavailable, Unknown
from datastore.etcd.address import parse
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.store import Revision
from tests.datastore.drivers import Follower
from tests.datastore.endurance import again
from tests.datastore.etcd.opened import opened
from tests.datastore.samples import policy
from tests.servers.etcd import Etcd, program
from tests.servers.proxy import Proxy, proxied


async def test_who_comes_at_the_same_time_makes_one_store(url: str) -> None:
    async with AsyncExitStack() as stack:
        stores = await asyncio.gather(*(stack.enter_async_context(opened(url)) for _ in range(8)))
        current = await stores[0].create(policy())
        for store in stores:
            current = await store.update(current)


async def test_a_store_that_was_removed_is_made_anew_and_is_another(server: Etcd, url: str) -> None:
    async with opened(url) as store:
        old = await store.create(policy())
        server.remove(parse(url).prefix + "/")
        with pytest.raises(NotFound):
            await store.update(old)
        with pytest.raises(Compacted):
            await anext(store.watch(NetworkPolicy, Revision(old.revision)))
        new = await store.create(policy())
        assert new.revision.partition("-")[2] != old.revision.partition("-")[2]
        with pytest.raises(Conflict):
            await store.delete(old)


async def test_a_create_in_a_store_that_was_removed_is_certainly_not_done(server: Etcd, url: str) -> None:
    async with opened(url) as store:
        server.remove(parse(url).prefix + "/")
        with pytest.raises(Unavailable, match="emptied"):
            await store.create(policy())
        made = await store.create(policy())
        assert (await store.list(NetworkPolicy)).items == (made,)


async def test_a_watch_of_a_store_that_became_another_is_compacted(server: Etcd, url: str) -> None:
    async with opened(url, bookmark_s=0.01) as store:
        await store.create(policy())
        listing = await store.list(NetworkPolicy)
        async with aclosing(store.watch(NetworkPolicy, listing.revision)) as watch:
            follower = Follower(watch, {("shop", "db"): listing.items[0]})
            await follower.next()
            server.remove(parse(url).prefix + "/")
            async with opened(url) as other:
                await other.create(policy("new"))
            with pytest.raises(Compacted):
                await follower.until(lambda _: False)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"x", "isn't a store's"),
        (b'{"schema":1}', "isn't a store's"),
        (b'{"schema":2,"identity":"0","cluster":"0"}', "version 2"),
    ],
)
async def test_what_is_no_store_of_ours_is_left_alone(server: Etcd, url: str, value: bytes, says: str) -> None:
    server.put(f"{parse(url).prefix}/store".encode(), value)
    with pytest.raises(Unavailable, match=says):
        async with opened(url):
            pass
    assert [kv.value for kv in server.everything(parse(url).prefix + "/")] == [value]


# Two clusters in which the same store counts on from the same revision: what a restored snapshot looks like.


@pytest.fixture
def clusters(version: str, tmp_path: Path) -> Iterator[tuple[Etcd, Etcd]]:
    with Etcd(program(version), tmp_path / "old") as old, Etcd(program(version), tmp_path / "restored") as restored:
        stored = {"schema": 1, "identity": "5f0c9a1e77b2", "cluster": f"{old.cluster_id():x}"}
        for cluster in (old, restored):
            cluster.put(b"/t/store", json.dumps(stored).encode())
        yield old, restored


@pytest.fixture
async def proxy(clusters: tuple[Etcd, Etcd]) -> AsyncIterator[Proxy]:
    async with proxied(clusters[0].members[0].port) as made:
        yield made


async def test_a_revision_given_before_a_restore_is_foreign(clusters: tuple[Etcd, Etcd], proxy: Proxy) -> None:
    old, restored = clusters
    async with opened(restored.url("t")) as elsewhere:  # its first user founds the store again
        theirs = await elsewhere.create(policy(team="theirs"))
    async with opened(old.url("t", proxy.port)) as store:
        await store.create(policy("a"))
        ours = await store.create(policy(team="ours"))
        assert ours.revision.partition("-")[0] == theirs.revision.partition("-")[0]
        watch = store.watch(NetworkPolicy, Revision(ours.revision))
        await store.create(policy("b"))
        await anext(watch)
        proxy.redirect(restored.members[0].port)
        with pytest.raises((Conflict, Unavailable, Unknown)):
            await store.update(ours)
        with pytest.raises(Conflict):
            await again(lambda: store.update(ours))
        with pytest.raises(Conflict):
            await store.delete(ours)
        with pytest.raises((Compacted, Unavailable)):
            await anext(watch)
        with pytest.raises(Compacted):
            await anext(store.watch(NetworkPolicy, Revision(ours.revision)))
        assert await store.get(NetworkPolicy, "db", "shop") == theirs


async def test_who_meets_a_restored_store_first_writes_nothing_that_was_meant_for_the_old_one(
    clusters: tuple[Etcd, Etcd], proxy: Proxy
) -> None:
    old, restored = clusters
    async with opened(old.url("t", proxy.port)) as store:
        ours = await store.create(policy(team="ours"))
        at = "/t/object/networkpolicies.networking.k8s.io/shop/db"
        theirs = codec.encode(policy(team="theirs"))
        restored.put(at.encode(), theirs)
        assert ours.revision.partition("-")[0] == str(restored.revision())
        proxy.refuse = True
        proxy.cut()
        with pytest.raises(Unavailable):
            await store.list(NetworkPolicy)  # so that the connection is known to be lost
        proxy.redirect(restored.members[0].port)
        proxy.refuse = False
        with pytest.raises(Unavailable, match="another etcd cluster"):
            await store.update(ours)
        with pytest.raises(Conflict):
            await store.update(ours)
        assert [kv.value for kv in restored.everything(at)] == [theirs]
        found = await store.get(NetworkPolicy, "db", "shop")
        await store.update(found)
