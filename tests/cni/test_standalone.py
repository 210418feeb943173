"""`python -I -m cni` without an agent: DEL always, ADD only where no policy is asked for."""

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from datastore.resources.clusterconfiguration import Migration
from datastore.resources.ipblock import IPBlock
from datastore.resources.node import Node, NodeSpec
from datastore.resources.value import Metadata
from datastore.transfer import mark
from datastore.transfer.copying import Side
from datastore.transfer.migrate import migrate
from datastore.urls import open_store
from tests.cni.node import World, fill, worlds
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with worlds(tmp_path) as made:
        yield made


def run(world: World, command: str, **config: object) -> tuple[int, str]:
    document = {
        "cniVersion": "1.1.0",
        "name": "net",
        "type": "tortie",
        "datastore": f"sqlite://{world.state}/tortie.db",
        "state": str(world.state / "node"),
        "nodename": "node-1",
        "machine": "m1",
        **config,
    }
    environment = [
        f"CNI_COMMAND={command}",
        "CNI_CONTAINERID=c1",
        f"CNI_NETNS={world.pods[0].path}",
        "CNI_IFNAME=eth0",
        f"TORTIE_CNI_SOCKET={world.state}/none.sock",
    ]
    program = 'set +e; env "$@"; echo "exit $?"'
    output = world.namespace.run(
        "sh", "-c", program, "sh", *environment, sys.executable, "-I", "-m", "cni", stdin=json.dumps(document)
    )
    body, _, status = output.rpartition("exit ")
    return int(status), body


async def handles(url: str) -> list[str]:
    store = await open_store(url)
    try:
        blocks = (await store.list(IPBlock)).items
        return [found.handle for block in blocks for found in block.spec.allocations.values()]
    finally:
        await store.close()


async def machines(url: str) -> dict[str, str]:
    store = await open_store(url)
    try:
        return {node.name: node.spec.machine for node in (await store.list(Node)).items}
    finally:
        await store.close()


async def prepared(url: str, machine: str = "") -> None:
    store = await open_store(url)
    if machine:
        await store.create(Node(metadata=Metadata(name="node-1"), spec=NodeSpec(machine=machine)))
    await fill(store, v4="10.65.0.0/16")
    await store.close()


def test_add_without_policy_and_delete(world: World) -> None:
    url = f"sqlite://{world.state}/tortie.db"
    asyncio.run(prepared(url))
    status, body = run(world, "ADD")
    assert status == 0, body
    assert json.loads(body)["ips"][0]["address"].endswith("/32")
    assert asyncio.run(handles(url)) == ["net:c1:eth0"]
    assert asyncio.run(machines(url)) == {"node-1": "m1"}, "without a Node its address would be taken back"
    assert len(world.host_ends()) == 1
    for _ in range(2):
        assert run(world, "DEL") == (0, "")
    assert asyncio.run(handles(url)) == []
    assert world.host_ends() == []


def test_add_under_a_name_that_is_another_machines_is_refused(world: World) -> None:
    url = f"sqlite://{world.state}/tortie.db"
    asyncio.run(prepared(url, "m9"))
    status, body = run(world, "ADD")
    assert (status, json.loads(body)["code"]) == (1, 11)
    assert "tortiectl delete nodes.tortie.dev node-1 --force" in body
    assert asyncio.run(handles(url)) == []


@pytest.mark.parametrize(
    ("config", "code", "said"),
    [
        pytest.param({"policy": {"type": "k8s"}}, 11, "policy", id="policy needs an agent"),
        pytest.param({"datastore_type": "etcdv3"}, 7, "etcdv3", id="a datastore type without a driver"),
        pytest.param({"datastore": "mysql://x"}, 7, "mysql", id="a datastore address without a driver"),
        pytest.param(
            {"datastore": "sqlite:///proc/nosuch/x.db"}, 11, "datastore", id="a datastore that can't be opened"
        ),
    ],
)
def test_what_needs_more_than_this_process_is_refused(
    world: World, config: dict[str, object], code: int, said: str
) -> None:
    asyncio.run(prepared(f"sqlite://{world.state}/tortie.db"))
    status, body = run(world, "ADD", **config)
    assert (status, json.loads(body)["code"]) == (1, code)
    assert said in body
    assert world.host_ends() == []


async def moved(source: str, target: str) -> None:
    left, entered = Side(await open_store(source), source), Side(await open_store(target), target)
    await migrate(left, entered, lambda _: None)
    await left.store.close()
    await entered.store.close()


def test_a_datastore_that_was_moved_is_followed_and_so_is_the_note_when_it_is_gone(world: World) -> None:
    old, new = f"sqlite://{world.state}/tortie.db", f"sqlite://{world.state}/new.db"
    asyncio.run(prepared(old))
    asyncio.run(moved(old, new))
    status, output = run(world, "ADD")
    assert (status, asyncio.run(handles(new))) == (0, ["net:c1:eth0"]), output
    (world.state / "tortie.db").unlink()
    assert (run(world, "DEL"), asyncio.run(handles(new))) == ((0, ""), [])
    assert not (world.state / "tortie.db").exists()


def test_while_a_datastore_is_being_moved_a_runtime_is_told_to_try_again(world: World) -> None:
    old = f"sqlite://{world.state}/tortie.db"
    asyncio.run(prepared(old))

    async def begun() -> None:
        store = await open_store(old)
        await mark.write(store, mark.marked(None, Migration(id="m1", to="sqlite:///elsewhere.db")))
        await store.close()

    asyncio.run(begun())
    status, output = run(world, "ADD")
    assert (status, json.loads(output)["code"]) == (1, 11)
