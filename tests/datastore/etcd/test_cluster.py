"""Three members with mutual TLS: one may go at any time, and what was acknowledged stays."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import aclosing, suppress
from pathlib import Path

import pytest

from datastore.errors import Unavailable, Unknown
from datastore.etcd.store import EtcdStore
from datastore.resources.networkpolicy import NetworkPolicy
from tests.datastore.drivers import PATIENCE_S, Follower
from tests.datastore.endurance import Load, Mirror, again, listed, until
from tests.datastore.etcd.opened import opened
from tests.datastore.samples import policy, relabelled
from tests.servers.etcd import Certificates, Etcd, Member, program

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def cluster(version: str, tmp_path: Path) -> Iterator[Etcd]:
    with Etcd(program(version), tmp_path / "etcd", size=3, tls=True) as etcd:
        yield etcd


def used_by(store: EtcdStore, cluster: Etcd) -> Member:
    """The member that a store talks to."""
    name = store._connection._present.name
    return next(member for member in cluster.members if name.endswith(f":{member.port}"))


async def test_a_leader_that_is_killed_under_load_takes_nothing_with_it(cluster: Etcd) -> None:
    async with opened(cluster.url("t")) as store, opened(cluster.url("t")) as other:
        mirrors = [await Mirror.of(one) for one in (store, other)]
        following = [asyncio.create_task(mirror.follow()) for mirror in mirrors]
        load = Load(store)
        writing = [asyncio.create_task(load.write(writer)) for writer in range(8)]
        await load.until_acknowledged(100)
        leader = await asyncio.to_thread(cluster.leader)
        leader.kill()
        await load.until_acknowledged(100)  # by the other two
        leader.start()
        await asyncio.to_thread(cluster.wait)
        await load.until_acknowledged(100)
        load.stopped = True
        await asyncio.gather(*writing)
        for task in following:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        true = await listed(other)
        load.check(true)
        for mirror, one in zip(mirrors, (store, other), strict=True):
            mirror.follower.watch = one.watch(NetworkPolicy, mirror.revision)
            await mirror.until_holds(true)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
async def test_a_watch_goes_on_at_another_member_when_its_own_is(cluster: Etcd, how: signal.Signals) -> None:
    async with opened(cluster.url("t", timeout="2"), bookmark_s=0.5) as store:
        revision = (await store.list(NetworkPolicy)).revision
        async with aclosing(store.watch(NetworkPolicy, revision)) as watch:
            follower = Follower(watch)
            made = await store.create(policy())
            await follower.until_sees("db")
            own = used_by(store, cluster)
            own.signal(how)
            others = [member.port for member in cluster.members if member is not own]
            async with opened(cluster.url("t", *others)) as direct:
                await again(lambda: direct.update(relabelled(made, app="web")))
            await follower.until(lambda mirror: bool(mirror["shop", "db"].metadata.labels))
        assert used_by(store, cluster) is not own
        own.signal(signal.SIGCONT)


async def test_a_member_that_is_silent_is_left(cluster: Etcd) -> None:
    async with opened(cluster.url("t", timeout="2")) as store:
        made = await store.create(policy())
        own = used_by(store, cluster)
        own.signal(signal.SIGSTOP)
        with pytest.raises(Unknown):
            await store.update(made)
        await again(lambda: store.create(policy("after")))
        assert used_by(store, cluster) is not own
        own.signal(signal.SIGCONT)


async def test_a_member_without_the_others_neither_reads_nor_writes(cluster: Etcd) -> None:
    alone, *others = cluster.members
    async with opened(cluster.url("t", alone.port, timeout="3")) as store:
        made = await store.create(policy())
        for member in others:
            member.kill()
        with pytest.raises(Unavailable):
            await store.get(NetworkPolicy, "db", "shop")
        with pytest.raises((Unavailable, Unknown)):
            await store.update(made)
        with pytest.raises(Unavailable):
            await store.list(NetworkPolicy)
        for member in others:
            member.start()
        await asyncio.to_thread(cluster.wait)
        assert (await again(lambda: store.get(NetworkPolicy, "db", "shop"))).name == "db"


async def test_a_watch_at_a_member_without_the_others_doesnt_pretend(cluster: Etcd) -> None:
    """The member itself would go on for ever, with nothing to tell."""
    alone, *others = cluster.members
    async with opened(cluster.url("t", alone.port, timeout="2"), bookmark_s=0.05) as store:
        revision = (await store.list(NetworkPolicy)).revision
        async with aclosing(store.watch(NetworkPolicy, revision)) as watch:
            await anext(watch)
            for member in others:
                member.kill()
            async with asyncio.timeout(PATIENCE_S):
                with pytest.raises(Unavailable):
                    await Follower(watch).until(lambda _: False)


async def test_clients_spread_over_the_members(cluster: Etcd) -> None:
    used = set[str]()
    while len(used) < len(cluster.members):
        async with opened(cluster.url("t")) as store:
            used.add(used_by(store, cluster).name)


async def test_a_write_that_waits_for_the_others_lands_after_its_caller_gave_up(cluster: Etcd) -> None:
    """It was handed to the leader, which is only stopped: the caller's giving up doesn't take it back."""
    leader = await asyncio.to_thread(cluster.leader)
    follower = next(member for member in cluster.members if member is not leader)
    async with opened(cluster.url("t", follower.port, timeout="0.3")) as store:
        made = await again(lambda: store.create(policy()))
        leader.signal(signal.SIGSTOP)
        with pytest.raises(Unknown):
            await store.update(relabelled(made, late="yes"))
        leader.signal(signal.SIGCONT)

        async def landed() -> bool:
            now = await again(lambda: store.get(NetworkPolicy, "db", "shop"))
            return now.revision != made.revision

        await until(landed)
        assert (await store.get(NetworkPolicy, "db", "shop")).metadata.labels == {"late": "yes"}


async def test_a_search_ends_with_the_member_that_is_there(cluster: Etcd) -> None:
    first, second, last = cluster.members
    async with opened(cluster.url("t")) as store:
        await store.create(policy())
    dead = 1  # nobody listens on tcpmux's port
    async with asyncio.timeout(PATIENCE_S), opened(cluster.url("t", dead, first.port)) as store:
        assert (await store.get(NetworkPolicy, "db", "shop")).name == "db"
    second.kill()
    async with asyncio.timeout(PATIENCE_S), opened(cluster.url("t", second.port, last.port)) as store:
        assert (await store.get(NetworkPolicy, "db", "shop")).name == "db"


async def test_who_trusts_another_authority_doesnt_connect(cluster: Etcd, tmp_path: Path) -> None:
    stranger = Certificates.make(tmp_path / "stranger")
    with pytest.raises(Unavailable):
        async with opened(cluster.url("t", ca=stranger.ca, timeout="2")):
            pass


async def test_who_has_no_certificate_of_its_own_is_not_let_in(cluster: Etcd) -> None:
    assert cluster.certificates
    hosts = ",".join(f"127.0.0.1:{member.port}" for member in cluster.members)
    with pytest.raises(Unavailable):
        async with opened(f"etcds://{hosts}/t?ca={cluster.certificates.ca}&timeout=2"):
            pass


async def test_who_speaks_without_tls_is_not_let_in(cluster: Etcd) -> None:
    with pytest.raises(Unavailable):
        async with opened(f"etcd://127.0.0.1:{cluster.members[0].port}/t?timeout=2"):
            pass
