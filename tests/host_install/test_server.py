"""A host whose datastore is a server: made a node and unmade, and nothing of it stays on either side."""

import asyncio
from pathlib import Path

import pytest

from datastore.resources import kinds
from datastore.urls import open_store
from tests.host_install.machine import INIT, machines
from tests.sandbox import needs_sandbox
from tests.servers import postgresql

pytestmark = [
    needs_sandbox,
    pytest.mark.kernel,
    pytest.mark.skipif(postgresql.missing() is not None, reason=postgresql.missing() or ""),
]


async def stored(url: str) -> list[str]:
    store = await open_store(url)
    try:
        return [one.key for kind in kinds.KINDS for one in (await store.list(kind)).items]
    finally:
        await store.close()


def test_init_makes_its_pools_there_and_remove_takes_them_away(tmp_path: Path) -> None:
    server = asyncio.run(postgresql.shared_server())
    place = f"tortie?host={server.folder}&schema={asyncio.run(server.new_store())}&sslmode=disable"
    url = f"postgresql://tortie@:{server.port}/{place}"
    with machines(tmp_path) as machine:
        before = machine.files()
        made = machine.done(*INIT, "--datastore", url)
        assert "tortie.db" not in made
        assert asyncio.run(stored(url)) == ["IPPool default-ipv4"]
        assert machine.ctl("host", "init").out == "nothing to change\n"
        machine.start("tortie-agent", "--node", "node-1", "--datastore", url, "--node-ip", "172.30.0.1")
        assert machine.call("ADD", "c1", machine.pod().path).status == 0
        assert "pods are attached" in machine.ctl("host", "remove").err
        removed = machine.done("host", "remove", "--force")
        assert "pool default-ipv4: removed" in removed
        assert machine.files() == before
    assert asyncio.run(stored(url)) == []
