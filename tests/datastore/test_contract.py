"""The Store contract (datastore/store.py) on reading and writing, one sentence a test, for every driver."""

import asyncio
from contextlib import aclosing

import msgspec
import pytest

from datastore.errors import AlreadyExists, Conflict, Invalid, NotFound
from datastore.resources.ipblock import IPBlock
from datastore.resources.kubernetes import KubernetesNode
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.node import Node, NodeSpec
from datastore.resources.value import Metadata, Resource, UnknownFields
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.store import Revision, Store, Where
from tests.datastore.drivers import Follower, Opener
from tests.datastore.samples import at_revision, endpoint, ip_block, moved, policy, relabelled


async def now(store: Store, kind: type[Resource] = WorkloadEndpoint) -> Revision:
    return (await store.list(kind)).revision


# get and list


async def test_what_was_created_is_read_back_with_its_revision(store: Store) -> None:
    created = await store.create(policy(team="red"))
    assert created.revision
    assert await store.get(NetworkPolicy, "db", "shop") == created == at_revision(policy(team="red"), created.revision)


async def test_fields_nobody_knows_are_read_back(store: Store) -> None:
    unknown = UnknownFields({"new": [1, {"a": "b"}]})
    block = msgspec.structs.replace(ip_block(), spec=msgspec.structs.replace(ip_block().spec, unknown=unknown))
    created = await store.create(block)
    assert await store.get(IPBlock, block.name) == created
    assert created.spec.unknown == {"new": [1, {"a": "b"}]}


async def test_an_absent_object_is_not_found_at_a_revision_from_which_a_watch_sees_it_come(store: Store) -> None:
    with pytest.raises(NotFound) as caught:
        await store.get(WorkloadEndpoint, "web", "shop")
    assert caught.value.key == "WorkloadEndpoint shop/web"
    await store.create(endpoint("web"))
    async with aclosing(store.watch(WorkloadEndpoint, Revision(caught.value.revision))) as watch:
        await Follower(watch).until_sees("web")


async def test_names_are_one_kinds_and_one_namespaces(store: Store) -> None:
    here = await store.create(policy("db", "shop"))
    there = await store.create(policy("db", "bank"))
    await store.create(endpoint("db"))
    assert await store.get(NetworkPolicy, "db", "shop") == here
    assert (await store.list(NetworkPolicy)).items == (there, here)


async def test_kubernetes_node_and_ours_are_two_kinds(store: Store) -> None:
    ours = await store.create(Node(metadata=Metadata(name="n"), spec=NodeSpec(machine="m")))
    theirs = await store.create(KubernetesNode(metadata=Metadata(name="n")))
    assert (await store.list(Node)).items == (ours,)
    assert (await store.list(KubernetesNode)).items == (theirs,)


async def test_a_list_of_nothing_has_a_revision(store: Store) -> None:
    listing = await store.list(IPBlock)
    assert listing.items == ()
    assert listing.revision


@pytest.mark.parametrize(
    ("where", "found"),
    [
        pytest.param(Where("node", "a"), {"10-65-0-0-26", "10-65-0-64-26"}, id="its own and what it borrowed from"),
        pytest.param(Where("node", "b"), {"10-65-0-64-26", "10-65-16-0-26"}, id="another node"),
        pytest.param(Where("node", "c"), set(), id="a node without blocks"),
        pytest.param(Where("cell", "10.65.0.0/20"), {"10-65-0-0-26", "10-65-0-64-26"}, id="a cell"),
        pytest.param(Where("pool", "default-ipv4"), {"10-65-0-0-26", "10-65-0-64-26", "10-65-16-0-26"}, id="a pool"),
        pytest.param(Where("zone", "a"), set(), id="a field that isn't indexed"),
    ],
)
async def test_a_list_holds_what_is_in_where(store: Store, where: Where, found: set[str]) -> None:
    await store.create(ip_block("10.65.0.0/26", node="a"))
    await store.create(ip_block("10.65.0.64/26", node="b", borrowers=("b", "a")))
    await store.create(ip_block("10.65.16.0/26", node="b"))
    assert {block.name for block in (await store.list(IPBlock, where)).items} == found


async def test_a_list_of_one_namespace_holds_that_namespaces_objects(store: Store) -> None:
    await store.create(policy("db", "shop"))
    there = await store.create(policy("db", "bank"))
    assert (await store.list(NetworkPolicy, Where("namespace", "bank"))).items == (there,)


async def test_where_follows_every_update(store: Store) -> None:
    web = await store.create(endpoint("web", node="a"))
    web = await store.update(moved(web, "b"))
    assert (await store.list(WorkloadEndpoint, Where("node", "a"))).items == ()
    assert (await store.list(WorkloadEndpoint, Where("node", "b"))).items == (web,)
    await store.delete(web)
    assert (await store.list(WorkloadEndpoint, Where("node", "b"))).items == ()


# create, update, delete


async def test_create_refuses_a_name_that_is_taken(store: Store) -> None:
    first = await store.create(policy())
    with pytest.raises(AlreadyExists) as caught:
        await store.create(policy(team="red"))
    assert caught.value.key == "NetworkPolicy shop/db"
    assert await store.get(NetworkPolicy, "db", "shop") == first


async def test_create_takes_a_copy_of_what_another_store_gave(store: Store, open_new: Opener) -> None:
    elsewhere = await (await open_new()).create(policy())
    created = await store.create(elsewhere)
    assert created.revision != elsewhere.revision


async def test_update_replaces_what_is_at_its_revision(store: Store) -> None:
    first = await store.create(policy())
    second = await store.update(relabelled(first, team="red"))
    assert second.revision != first.revision
    assert await store.get(NetworkPolicy, "db", "shop") == second


async def test_an_update_that_changes_nothing_still_moves_the_revision(store: Store) -> None:
    first = await store.create(policy())
    assert (await store.update(first)).revision != first.revision


async def test_a_write_at_an_old_revision_is_a_conflict_and_changes_nothing(store: Store) -> None:
    first = await store.create(policy())
    second = await store.update(first)
    with pytest.raises(Conflict) as caught:
        await store.update(relabelled(first, team="red"))
    assert (caught.value.key, caught.value.revision) == ("NetworkPolicy shop/db", first.revision)
    with pytest.raises(Conflict):
        await store.delete(first)
    assert await store.get(NetworkPolicy, "db", "shop") == second


@pytest.mark.parametrize("revision", ["", "1", "x", "1-", "-1", "99999999999999999999-a", "\u0661-a"])
async def test_a_write_at_a_revision_nobody_gave_is_a_conflict(store: Store, revision: str) -> None:
    await store.create(policy())
    with pytest.raises(Conflict):
        await store.update(at_revision(policy(), revision))
    with pytest.raises(Conflict):
        await store.delete(at_revision(policy(), revision))


async def test_a_write_at_another_stores_revision_is_a_conflict(store: Store, open_new: Opener) -> None:
    await store.create(policy())
    foreign = await (await open_new()).create(policy())
    with pytest.raises(Conflict):
        await store.update(foreign)
    with pytest.raises(Conflict):
        await store.delete(foreign)


async def test_a_write_on_what_is_gone_is_not_found(store: Store) -> None:
    first = await store.create(policy())
    await store.delete(first)
    with pytest.raises(NotFound) as caught:
        await store.update(first)
    assert caught.value.key == "NetworkPolicy shop/db"
    with pytest.raises(NotFound):
        await store.delete(first)
    with pytest.raises(NotFound):
        await store.get(NetworkPolicy, "db", "shop")


async def test_a_revision_of_an_object_that_was_deleted_and_made_again_is_a_conflict(store: Store) -> None:
    first = await store.create(policy())
    await store.delete(first)
    await store.create(policy())
    with pytest.raises(Conflict):
        await store.update(first)
    with pytest.raises(Conflict):
        await store.delete(first)


async def test_no_revision_comes_twice(open_new: Opener) -> None:
    store = await open_new(keep=1)
    seen = []
    for _ in range(5):
        made = await store.create(policy())
        changed = await store.update(made)
        await store.delete(changed)
        seen += [made.revision, changed.revision]
    assert len(set(seen)) == len(seen)


async def test_what_fails_its_own_check_is_invalid_and_not_stored(store: Store) -> None:
    with pytest.raises(Invalid) as caught:
        await store.create(policy(app="no value"))
    assert caught.value.path == "metadata.labels[app]"
    good = await store.create(policy())
    with pytest.raises(Invalid):
        await store.update(relabelled(good, app="no value"))
    assert (await store.list(NetworkPolicy)).items == (good,)


async def test_a_text_that_is_no_unicode_is_refused(store: Store) -> None:
    with pytest.raises(Invalid):
        await store.create(policy(namespace="shop", name="db", team="\ud800"))
    with pytest.raises((Invalid, NotFound)):
        await store.get(NetworkPolicy, "\ud800", "shop")


async def test_of_many_writers_at_one_revision_one_wins(store: Store) -> None:
    first = await store.create(policy())
    tries = (store.update(relabelled(first, writer=str(number))) for number in range(20))
    results = await asyncio.gather(*tries, return_exceptions=True)
    (winner,) = (result for result in results if isinstance(result, NetworkPolicy))
    assert sum(isinstance(result, Conflict) for result in results) == 19
    assert await store.get(NetworkPolicy, "db", "shop") == winner


async def test_a_refused_write_doesnt_fail_those_beside_it(store: Store) -> None:
    stale = await store.create(policy("stale"))
    await store.update(stale)
    tries = [store.create(policy("a")), store.update(stale), store.create(policy("stale")), store.create(policy("b"))]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert [type(result).__name__ for result in results] == [
        "NetworkPolicy",
        "Conflict",
        "AlreadyExists",
        "NetworkPolicy",
    ]
    assert {found.name for found in (await store.list(NetworkPolicy)).items} == {"stale", "a", "b"}


async def test_cancelling_a_caller_doesnt_cancel_its_write(store: Store) -> None:
    revision = await now(store)
    writing = asyncio.create_task(store.create(endpoint("web")))
    await asyncio.sleep(0)
    writing.cancel()
    async with aclosing(store.watch(WorkloadEndpoint, revision)) as watch:
        await Follower(watch).until_sees("web")


async def test_every_acknowledged_write_is_seen_by_the_next_read(store: Store) -> None:
    current = await store.create(policy())
    for number in range(20):
        current = await store.update(relabelled(current, number=str(number)))
        assert await store.get(NetworkPolicy, "db", "shop") == current
        assert (await store.list(NetworkPolicy)).items == (current,)
