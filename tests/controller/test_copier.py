"""The copy follows the API whatever happens between: lost answers, other hands, failing lists, two who lead at once."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller import copier as copier_module
from controller.copier import HOME, Copier
from controller.copies import COPIED, copy_of
from datastore.errors import Invalid, StoreError
from datastore.memory import MemoryStore
from datastore.resources.kubernetes import KubernetesNode, Namespace, Pod, PodSpec
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.value import Metadata, Resource
from datastore.store import Store
from tests.datastore.faulty import Call, Fate, FaultyStore

R = TypeVar("R", bound=Resource)
Everything = dict[tuple[str, str, str], Resource]
WRITES = ("create", "update", "delete")


def namespace(name: str, uid: str = "", **labels: str) -> Namespace:
    return Namespace(metadata=Metadata(name=name, uid=uid, labels=labels))


def policy(name: str, **labels: str) -> NetworkPolicy:
    return NetworkPolicy(metadata=Metadata(name=name, namespace="shop", labels=labels))


def pod(name: str, node: str = "n1", **labels: str) -> Pod:
    return Pod(
        metadata=Metadata(name=name, namespace="shop", uid=f"u-{name}", labels=labels), spec=PodSpec(node_name=node)
    )


async def everything(store: Store, kinds: Sequence[type[Resource]] = COPIED) -> Everything:
    """What a store has of the copied kinds, without revisions."""
    found = {}
    for kind in kinds:
        for one in (await store.list(kind)).items:
            metadata = msgspec.structs.replace(one.metadata, resource_version="")
            found[kind.KIND.full_name, one.namespace, one.name] = msgspec.structs.replace(one, metadata=metadata)
    return found


async def wanted(api: Store) -> Everything:
    copies = {key: copy_of(one) for key, one in (await everything(api)).items()}
    return {key: one for key, one in copies.items() if one is not None}


async def change(store: Store, resource: Resource) -> None:
    """As somebody else would: over whatever is there."""
    found = await store.get(type(resource), resource.name, resource.namespace)
    metadata = msgspec.structs.replace(resource.metadata, resource_version=found.revision)
    await store.update(msgspec.structs.replace(resource, metadata=metadata))


async def remove(store: Store, kind: type[Resource], name: str, namespace: str = "shop") -> None:
    await store.delete(await store.get(kind, name, namespace if kind.KIND.namespaced else ""))


@asynccontextmanager
async def copying(api: Store, store: Store, leads: Callable[[], bool] = lambda: True) -> AsyncIterator[Copier]:
    copier = Copier(api, store, leads=leads)
    works: list[Awaitable[None]] = [copier.run(), *(sync.run() for sync in copier.syncs)]
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        async with asyncio.timeout(30):
            yield copier
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(so: Callable[[], Awaitable[bool]]) -> None:
    while not await so():
        await asyncio.sleep(0.001)


async def agree(api: Store, store: Store) -> None:
    async def same() -> bool:
        return await everything(store) == await wanted(api)

    await until(same)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copier_module, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(copier_module, "_LONGEST_PAUSE_S", 0.002)
    monkeypatch.setattr(copier_module, "_UNSURE_S", 0.001)


class Writes:
    """A gate that counts writes, and may refuse what a test names."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.refuse: Callable[[Call], Fate] = lambda call: Fate.OK

    async def __call__(self, call: Call) -> Fate:
        if call.verb in WRITES:
            self.made.append(f"{call.verb} {call.key}")
        return self.refuse(call)


async def test_what_comes_changes_and_goes_is_followed() -> None:
    api, store = MemoryStore(), MemoryStore()
    await api.create(namespace("shop", team="a"))
    await store.create(policy("of-yesterday"))
    async with copying(api, store):
        await agree(api, store)
        for one in (policy("deny"), pod("db"), KubernetesNode(metadata=Metadata(name="n1", uid="u"))):
            await api.create(one)
        await agree(api, store)
        await change(api, pod("db", role="primary"))
        await change(api, namespace("shop", team="b"))
        await agree(api, store)
        await remove(api, Pod, "db")
        await remove(api, NetworkPolicy, "deny")
        await agree(api, store)


async def test_what_means_nothing_to_us_is_no_write() -> None:
    api, gate = MemoryStore(), Writes()
    store = FaultyStore(MemoryStore(), gate)
    await api.create(pod("db"))
    async with copying(api, store) as copier:
        await agree(api, store)
        for beat in range(5):
            heard = {"kubelet.example.com/beat": str(beat)}
            await change(
                api, Pod(metadata=msgspec.structs.replace(pod("db").metadata, annotations=heard), spec=pod("db").spec)
            )
        await api.create(pod("last"))
        await agree(api, store)
        assert gate.made == ["create Pod shop/db", "create Pod shop/last"]
        assert copier.done == {("pods", "create"): 2}


async def test_nothing_is_deleted_for_a_list_or_a_watch_that_fails() -> None:
    api = FaultyStore(MemoryStore())
    store = MemoryStore()
    await store.create(policy("deny"))
    await api.create(policy("deny"))

    async def no_lists(call: Call) -> Fate:
        return Fate.REFUSED if call.verb == "list" and call.key == "NetworkPolicy" else Fate.OK

    api.gate = no_lists
    async with copying(api, store) as copier:
        async with asyncio.timeout(10):
            while not any(sync.failure for sync in copier.from_api):
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert (await store.get(NetworkPolicy, "deny", "shop")).name == "deny"
        assert not copier.done

        async def _ok(call: Call) -> Fate:
            return Fate.OK

        api.gate = _ok
        await remove(api, NetworkPolicy, "deny")
        await agree(api, store)


async def test_a_hand_that_changes_a_copy_is_undone() -> None:
    api, store = MemoryStore(), MemoryStore()
    await api.create(pod("db", app="db"))
    await api.create(policy("deny"))
    async with copying(api, store):
        await agree(api, store)
        await change(store, pod("db", app="web"))
        await agree(api, store)
        await remove(store, NetworkPolicy, "deny")
        await agree(api, store)
        await store.create(policy("allow-everything"))
        await agree(api, store)


async def test_policies_go_before_the_pods_that_they_are_for() -> None:
    api, gate = MemoryStore(), Writes()
    store = FaultyStore(MemoryStore(), gate)
    for number in range(40):
        await api.create(pod(f"p{number}"))
        await api.create(policy(f"n{number}"))
    await api.create(namespace("shop"))
    async with copying(api, store):
        await agree(api, store)
    kinds = [made.split()[1] for made in gate.made]
    assert kinds == sorted(kinds, key=["Namespace", "NetworkPolicy", "Pod"].index)


async def test_what_is_new_goes_before_what_is_gone() -> None:
    api, gate = MemoryStore(), Writes()
    store = FaultyStore(MemoryStore(), gate)
    await store.inner.create(policy("before"))
    await api.create(policy("after"))
    async with copying(api, store):
        await agree(api, store)
    assert gate.made == ["create NetworkPolicy shop/after", "delete NetworkPolicy shop/before"]


async def test_an_object_that_the_datastore_refuses_keeps_no_other_back() -> None:
    api, store = MemoryStore(), Picky(MemoryStore())
    heard: list[str] = []
    await api.create(policy("wrong"))
    await api.create(pod("db"))
    async with copying(api, store) as copier:
        copier.on_refused = lambda resource, why: heard.append(f"{resource.key}: {why}")
        await until(lambda: _has(store, "db"))
        assert heard == ["NetworkPolicy shop/wrong: spec: too wrong"]
        assert list(copier.complaints()) == [
            "NetworkPolicy shop/wrong can't be copied into the datastore: spec: too wrong"
        ]
        assert copier.ledgers[NetworkPolicy].due == 0
        await remove(api, NetworkPolicy, "wrong")
        await agree(api, store)
        assert list(copier.complaints()) == []


async def _has(store: Store, name: str) -> bool:
    return any(one.name == name for one in (await store.list(Pod)).items)


class Picky(FaultyStore):
    """A datastore that won't take what is called wrong."""

    async def create(self, resource: R) -> R:
        if resource.name == "wrong":
            raise Invalid("spec", "too wrong")
        return await super().create(resource)


async def test_two_clusters_dont_share_a_copy() -> None:
    store = MemoryStore()
    mine, theirs = MemoryStore(), MemoryStore()
    await mine.create(namespace(HOME, uid="mine"))
    await mine.create(policy("deny"))
    await theirs.create(namespace(HOME, uid="theirs"))
    async with copying(mine, store):
        await agree(mine, store)
    async with copying(theirs, store) as copier:
        async with asyncio.timeout(10):
            while not copier.failure:
                await asyncio.sleep(0.001)
        assert "another cluster" in copier.failure
        await asyncio.sleep(0.02)
        assert await everything(store) == await wanted(mine)
        await remove(store, Namespace, HOME)
        await agree(theirs, store)


async def test_who_may_not_lead_any_more_writes_nothing() -> None:
    api, gate, leads = MemoryStore(), Writes(), True
    store = FaultyStore(MemoryStore(), gate)
    await api.create(pod("db"))
    async with copying(api, store, lambda: leads) as copier:
        await agree(api, store)
        leads = False
        await change(api, pod("db", role="primary"))
        async with asyncio.timeout(10):
            while not copier.ledgers[Pod].due:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        assert gate.made == ["create Pod shop/db"]
        leads = True
        await agree(api, store)


async def test_how_far_behind_it_is_is_told() -> None:
    now = 0.0
    api, gate = MemoryStore(), Writes()
    store = FaultyStore(MemoryStore(), gate)
    gate.refuse = lambda call: Fate.REFUSED if call.verb in WRITES else Fate.OK
    await api.create(pod("a"))
    await api.create(pod("b"))
    copier = Copier(api, store, clock=lambda: now)
    tasks = [asyncio.ensure_future(work) for work in (copier.run(), *(sync.run() for sync in copier.syncs))]
    async with asyncio.timeout(20):
        while not copier.failure:
            await asyncio.sleep(0.001)
        now = 12.0
        ledger = copier.ledgers[Pod]
        assert (ledger.objects, ledger.due, ledger.behind_s()) == (2, 2, 12.0)
        assert any("2 pods of the Kubernetes API aren't in the datastore" in text for text in copier.complaints())
        gate.refuse = lambda call: Fate.OK
        await agree(api, store)
        while copier.failure or ledger.due:
            await asyncio.sleep(0.001)
        assert (ledger.behind_s(), list(copier.complaints())) == (0.0, [])
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# Whatever happens


FATES = (*[Fate.OK] * 4, Fate.REFUSED, Fate.LOST, Fate.LOST_APPLIED, Fate.LOST_LATER)
ACTS = st.lists(
    st.tuples(st.sampled_from(("api", "hand", "land", "rest")), st.integers(0, 5), st.booleans()), max_size=30
)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), ACTS, st.booleans())
def test_in_the_end_the_copy_is_what_the_api_has(seed: int, acts: list[tuple[str, int, bool]], two: bool) -> None:
    asyncio.run(_life(random.Random(seed), acts, two))  # noqa: S311  # replayed


async def _life(chance: random.Random, acts: list[tuple[str, int, bool]], two: bool) -> None:
    """What happens to the API, to the copy and to answers, while one or two copy; then everything works again."""
    api, inner = MemoryStore(keep=5), MemoryStore(keep=5)
    stormy = True

    async def gate(call: Call) -> Fate:
        await asyncio.sleep(0)
        return chance.choice(FATES) if stormy and call.verb != "list" else Fate.OK

    stores = [FaultyStore(inner, gate) for _ in range(1 + two)]
    async with copying(api, stores[0]), copying(api, stores[-1], lambda: two):
        for act, which, gone in acts:
            await _act(act, which, gone, api, inner, stores)
        stormy = False
        for store in stores:
            while store.late:
                await store.land()
        await agree(api, inner)


async def _act(act: str, which: int, gone: bool, api: Store, inner: Store, stores: list[FaultyStore]) -> None:
    target = api if act == "api" else inner
    one: Resource = pod(f"p{which}", n=str(random.random())) if which % 2 else policy(f"n{which}")  # noqa: S311
    try:
        if act in ("api", "hand"):
            await _tossed(target, one, gone)
        elif act == "land" and stores[0].late:
            await stores[0].land()
    except StoreError:
        pass  # the copier was quicker
    for _ in range(which):
        await asyncio.sleep(0)


async def _tossed(target: Store, one: Resource, gone: bool) -> None:
    there = {(type(found), found.name) for kind in (Pod, NetworkPolicy) for found in (await target.list(kind)).items}
    if (type(one), one.name) not in there:
        await target.create(one)
    elif gone:
        await remove(target, type(one), one.name)
    else:
        await change(target, one)
