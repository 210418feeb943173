"""What is stored, as it is stored, and a store that is closed while it is used."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from datastore.errors import Invalid, StoreError, Unavailable, Unknown
from datastore.etcd.address import parse
from datastore.etcd.keys import Keys
from datastore.record import Key
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.node import Node
from datastore.store import Revision, Store, Where
from tests.datastore.etcd.opened import opened
from tests.datastore.samples import policy
from tests.servers.etcd import Etcd, program
from tests.servers.proxy import proxied

KIND = NetworkPolicy.KIND.full_name


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b'{"apiVersion":"v1","kind":"Pod","metadata":{}}'])
async def test_what_cant_be_read_is_told_with_its_name(server: Etcd, url: str, body: bytes) -> None:
    async with opened(url, bookmark_s=0.01) as store:
        made = await store.create(policy("good"))
        async with aclosing(store.watch(NetworkPolicy, Revision(made.revision))) as watch:
            await anext(watch)
            server.put(Keys(parse(url).prefix).object(Key(KIND, "shop", "bad")), body)

            async def watched() -> None:
                while True:
                    await anext(watch)

            for call in (store.get(NetworkPolicy, "bad", "shop"), store.list(NetworkPolicy), watched()):
                with pytest.raises(Invalid, match="NetworkPolicy shop/bad"):
                    await call
        assert await store.get(NetworkPolicy, "good", "shop") == made


async def test_a_namespace_of_a_kind_without_any_is_empty(url: str) -> None:
    async with opened(url) as store:
        listing = await store.list(Node, Where("namespace", ""))
        assert listing.items == ()
        assert listing.revision == (await store.list(Node)).revision


async def test_lists_are_in_the_order_of_names_not_of_keys(url: str) -> None:
    async with opened(url) as store:
        for namespace in ("a", "a-b"):
            await store.create(policy("x", namespace))
        assert [item.namespace for item in (await store.list(NetworkPolicy)).items] == ["a", "a-b"]


async def test_a_store_that_is_closed_answers_what_is_under_way_first(server: Etcd, url: str) -> None:
    async with opened(url) as store:
        writing = [asyncio.create_task(store.create(policy(f"p{number}"))) for number in range(20)]
        reading = asyncio.create_task(store.list(NetworkPolicy))
        await asyncio.sleep(0)
        await store.close()
        made = await asyncio.gather(*writing)
        assert {item.name for item in (await reading).items} <= {one.name for one in made}
    async with opened(url) as again:
        assert len((await again.list(NetworkPolicy)).items) == 20


CALLS: dict[str, tuple[Callable[[Store], Awaitable[object]], type[StoreError]]] = {
    "get": (lambda store: store.get(NetworkPolicy, "db", "shop"), Unavailable),
    "create": (lambda store: store.create(policy()), Unknown),
}


@pytest.mark.parametrize("call", CALLS)
async def test_a_store_that_is_closed_while_etcd_is_silent_says_so(server: Etcd, url: str, call: str) -> None:
    ask, error = CALLS[call]
    prefix = parse(url).prefix.strip("/")
    async with (
        proxied(server.members[0].port) as proxy,
        opened(server.url(prefix, proxy.port, timeout="1")) as store,
    ):
        await store.list(NetworkPolicy)
        proxy.stall = True
        asking = asyncio.ensure_future(ask(store))
        await asyncio.sleep(0)
        await store.close()
        with pytest.raises(error):
            await asking
        proxy.stall = False


@pytest.mark.parametrize("call", CALLS)
async def test_a_store_that_is_closed_while_it_looks_for_etcd_says_so(version: str, tmp_path: Path, call: str) -> None:
    with Etcd(program(version), tmp_path / "etcd") as etcd:
        async with opened(etcd.url(timeout="60")) as store:
            etcd.members[0].kill()
            with pytest.raises(Unavailable):
                await store.list(NetworkPolicy)
            asking = asyncio.ensure_future(CALLS[call][0](store))
            await asyncio.sleep(0)
            await store.close()
            with pytest.raises(Unavailable, match="closed"):
                await asking
