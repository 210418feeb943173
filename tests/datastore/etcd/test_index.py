"""Pointers: whoever writes, and whatever it knew, they are those of the objects that there are."""

import asyncio
import random

import pytest

from datastore import codec
from datastore.errors import AlreadyExists, Conflict, NotFound
from datastore.etcd.address import parse
from datastore.etcd.keys import Keys
from datastore.etcd.known import Known, indexed_of
from datastore.record import Key
from datastore.resources.ipblock import IPBlock
from datastore.store import Store, Where
from tests.datastore.etcd.opened import opened
from tests.datastore.samples import at_revision, ip_block
from tests.servers.etcd import Etcd

KIND = IPBlock.KIND.full_name
CIDRS = ("10.65.0.0/26", "10.65.0.64/26", "10.65.16.0/26")
NODES = ("a", "b", "c")


def pointers(server: Etcd, url: str) -> tuple[set[bytes], set[bytes]]:
    """The pointers that there are, and those that there must be."""
    keys = Keys(parse(url).prefix)
    there = {kv.key for kv in server.everything(f"{parse(url).prefix}/field/")}
    wanted: set[bytes] = set()
    for kv in server.everything(f"{parse(url).prefix}/object/"):
        block = codec.decode_as(IPBlock, kv.value, "")
        at = Key(KIND, "", block.name)
        wanted |= {keys.pointer(at, field, value) for field, value in indexed_of(block)}
    return there, wanted


async def write_at_random(store: Store, seed: int) -> None:
    """Creates, updates and deletes of what others write, too."""
    random_ = random.Random(seed)  # noqa: S311
    for _ in range(60):
        nodes = tuple(random_.sample(NODES, random_.randint(1, 3)))
        wanted = ip_block(random_.choice(CIDRS), node=nodes[0], borrowers=nodes)
        try:
            match random_.randrange(6):
                case 0:
                    await store.create(wanted)
                case 1:
                    await store.delete(await store.get(IPBlock, wanted.name))
                case _:
                    current = await store.get(IPBlock, wanted.name)
                    await store.update(at_revision(wanted, current.revision))
        except (AlreadyExists, Conflict, NotFound):
            pass


@pytest.mark.parametrize("seed", range(3))
async def test_pointers_are_right_after_any_race(server: Etcd, url: str, seed: int) -> None:
    async with opened(url) as one, opened(url) as other:
        await asyncio.gather(*(write_at_random(store, 10 * seed + n) for n, store in enumerate((one, other, one))))
        there, wanted = pointers(server, url)
        assert there == wanted
        for node in NODES:
            listed = (await one.list(IPBlock, Where("node", node))).items
            assert listed == tuple(b for b in (await other.list(IPBlock)).items if node in b.indexed()["node"])


async def test_an_update_of_what_was_never_read_here_takes_old_pointers_away(server: Etcd, url: str) -> None:
    async with opened(url) as one, opened(url) as other:
        made = await one.create(ip_block(node="a", borrowers=("a", "b")))
        moved = await other.update(at_revision(ip_block(node="a", borrowers=("a", "c")), made.revision))
        there, wanted = pointers(server, url)
        assert there == wanted
        await one.delete(moved)
    assert pointers(server, url) == (set(), set())


async def test_a_pointer_without_its_object_is_not_listed(server: Etcd, url: str) -> None:
    async with opened(url) as store:
        block = await store.create(ip_block(node="a"))
        keys = Keys(parse(url).prefix)
        server.put(keys.pointer(Key(KIND, "", block.name), "node", "stale"), b"")
        server.put(keys.pointer(Key(KIND, "", "gone"), "node", "a"), b"")
        assert (await store.list(IPBlock, Where("node", "stale"))).items == ()
        assert (await store.list(IPBlock, Where("node", "a"))).items == (block,)


def test_what_is_known_is_bounded_and_of_one_revision() -> None:
    known = Known(2)
    one, two, three = (Key("pods", "", name) for name in "123")
    fields = frozenset({("node", "a")})
    known.note(one, 5, fields)
    known.note(two, 6, fields)
    known.note(one, 7, fields)
    known.note(three, 8, fields)
    assert [known.at(key, number) for key, number in ((one, 7), (one, 5), (two, 6), (three, 8))] == [
        fields,
        None,
        None,
        fields,
    ]
