"""etcd's own users: who may, who may not, and a token that is no longer good."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing, suppress
from pathlib import Path

import pytest

from datastore.errors import Forbidden, Unavailable
from datastore.resources.networkpolicy import NetworkPolicy
from tests.datastore.endurance import Mirror, again, listed
from tests.datastore.etcd.opened import opened
from tests.datastore.samples import policy, relabelled
from tests.servers.etcd import Etcd, program


@pytest.fixture
def guarded(version: str, tmp_path: Path) -> Iterator[Etcd]:
    """An etcd in which `tortie` may use /t, and nobody may anything without a user."""
    with Etcd(program(version), tmp_path / "etcd") as etcd:
        etcd.switch_users_on("tortie", "right", "t")
        yield etcd


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("right\n")
    return path


def url(etcd: Etcd, password: Path, prefix: str = "t") -> str:
    return etcd.url(prefix, user="tortie", **{"password-file": password})


async def test_a_user_does_what_it_may(guarded: Etcd, password: Path) -> None:
    async with opened(url(guarded, password)) as store:
        revision = (await store.list(NetworkPolicy)).revision
        made = await store.create(policy())
        async with aclosing(store.watch(NetworkPolicy, revision)) as watch:
            assert (await anext(watch)).changes == (made,)
        await store.delete(await store.update(made))


async def test_who_gives_no_user_is_forbidden_and_told_how(guarded: Etcd) -> None:
    with pytest.raises(Forbidden, match="password-file="):
        async with opened(guarded.url("t")):
            pass


async def test_a_wrong_password_is_forbidden_and_not_repeated(guarded: Etcd, password: Path) -> None:
    password.write_text("hunter2")
    with pytest.raises(Forbidden) as caught:
        async with opened(url(guarded, password)):
            pass
    assert "hunter2" not in str(caught.value)


async def test_a_password_file_that_isnt_there_is_named(guarded: Etcd, password: Path) -> None:
    password.unlink()
    with pytest.raises(Unavailable, match="password"):
        async with opened(url(guarded, password)):
            pass


async def test_elsewhere_the_user_is_forbidden(guarded: Etcd, password: Path) -> None:
    with pytest.raises(Forbidden):
        async with opened(url(guarded, password, "other")):
            pass


async def test_a_user_whose_role_was_taken_away_is_forbidden_everything(guarded: Etcd, password: Path) -> None:
    async with opened(url(guarded, password)) as store:
        made = await store.create(policy())
        revision = (await store.list(NetworkPolicy)).revision
        guarded.ask("auth/user/revoke", {"name": "tortie", "role": "writers"})
        for call in (
            store.get(NetworkPolicy, "db", "shop"),
            store.list(NetworkPolicy),
            store.create(policy("other")),
            store.update(made),
            store.delete(made),
            anext(store.watch(NetworkPolicy, revision)),
        ):
            with pytest.raises(Forbidden):
                await call


async def test_a_token_that_was_lost_is_renewed_and_nobody_notices(guarded: Etcd, password: Path) -> None:
    """etcd keeps its simple tokens in memory; they expire after five minutes, and with its process."""
    async with opened(url(guarded, password)) as store:
        made = await store.create(policy())
        mirror = await Mirror.of(store)
        following = asyncio.create_task(mirror.follow())
        guarded.members[0].kill()
        guarded.members[0].start()
        await asyncio.to_thread(guarded.wait)
        # With a connection, one try is enough.
        await again(lambda: store.list(NetworkPolicy))
        await store.update(relabelled(made, app="web"))
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        mirror.follower.watch = store.watch(NetworkPolicy, mirror.revision)
        await mirror.until_holds(await listed(store))


@pytest.mark.parametrize("verb", ["get", "update"])
async def test_a_token_older_than_a_change_of_users_is_renewed(guarded: Etcd, password: Path, verb: str) -> None:
    async with opened(url(guarded, password)) as store:
        made = await store.create(policy())
        guarded.ask("auth/user/add", {"name": "somebody", "password": "else"})
        await (store.get(NetworkPolicy, "db", "shop") if verb == "get" else store.update(made))


async def test_a_new_password_is_read_from_its_file(guarded: Etcd, password: Path) -> None:
    async with opened(url(guarded, password)) as store:
        made = await store.create(policy())
        guarded.ask("auth/user/changepw", {"name": "tortie", "password": "new"})
        password.write_text("new\n")
        await store.update(made)


async def test_a_user_where_there_are_none_is_let_in(server: Etcd, password: Path) -> None:
    async with opened(url(server, password, "")) as store:
        await store.create(policy())
