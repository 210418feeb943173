"""One controller put together, in this process: it leads, counts, answers, and ends without a trace of its Lease."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from agent import asking
from controller.controller import Controller
from controller.leader import NAME, Timing
from controller.options import Options, parse
from datastore.memory import MemoryStore
from datastore.resources.ippool import IPPool
from datastore.resources.lease import Lease
from tests.controller.test_view import blocks

TIMING = Timing(duration_s=15, deadline_s=10, every_s=0.01)


def options(state: Path, identity: str = "c1") -> Options:
    return Options("memory:", identity, "kube-system", state, "INFO")


@asynccontextmanager
async def running(store: MemoryStore, state: Path, identity: str = "c1") -> AsyncIterator[Controller]:
    controller = Controller(options(state, identity), store, TIMING)
    ready = asyncio.Event()
    task = asyncio.ensure_future(controller.run(ready.set))
    try:
        async with asyncio.timeout(20):
            await ready.wait()
            yield controller
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def asked(state: Path) -> dict[str, Any]:
    said = await asyncio.to_thread(asking.status, state / "controller.sock")
    return cast("dict[str, Any]", said)


async def test_it_leads_counts_and_says_what_it_knows(tmp_path: Path) -> None:
    store = MemoryStore()
    await blocks(store, tmp_path)
    async with running(store, tmp_path / "state"):
        while not (await store.get(IPPool, "p")).status.capacity:
            await asyncio.sleep(0.01)
        said = await asked(tmp_path / "state")
        assert (said["leads"], said["leader"], said["blocks"], said["failures"]) == (True, "c1", 2, [])
        assert said["departed"] == ["n1", "n2", "n3"]
    assert (await store.get(Lease, NAME, "kube-system")).spec.holder_identity == ""


async def test_one_that_does_not_lead_knows_nothing_and_says_who_does(tmp_path: Path) -> None:
    store = MemoryStore()
    async with running(store, tmp_path / "a"):
        while not (await asked(tmp_path / "a"))["leads"]:
            await asyncio.sleep(0.01)
        async with running(store, tmp_path / "b", "c2"):
            while (said := await asked(tmp_path / "b"))["leader"] != "c1":
                await asyncio.sleep(0.01)
            assert (said["leads"], said["blocks"]) == (False, 0)


async def test_a_socket_that_a_dead_one_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "controller.sock").touch()
    async with running(MemoryStore(), tmp_path):
        assert (await asked(tmp_path))["identity"] == "c1"
    assert (tmp_path / "controller.sock").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        pytest.param(["--datastore", "memory:", "--lease-namespace", "A_B"], "--lease-namespace", id="no namespace"),
        pytest.param(["--datastore", "memory:", "--identity", "ä\n"], "--identity", id="no identity"),
        pytest.param(["--datastore", "memory:", "--state", f"/{'x' * 100}"], "--state", id="too long for a socket"),
        pytest.param([], "--datastore", id="no datastore"),
    ],
)
def test_options_are_judged_before_anything_is_touched(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(argv)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_no_two_processes_have_the_same_identity() -> None:
    argv = ["--datastore", "memory:", "--identity", "host"]
    assert len({parse(argv).identity for _ in range(5)}) == 5
