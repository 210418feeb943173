"""A lab's datastore is moved while pods talk, come and go: agents and controller follow, and no packet is lost."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from lab import controller, pods, topology
from lab.state import Folder, LabError
from tests.lab.cluster import Cluster
from tests.lab.test_breakage import ISOLATE_DB, eventually, flow
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]


@pytest.fixture
def own() -> Iterator[Cluster]:
    """A lab of this test's own."""
    folder = Folder(Path(tempfile.mkdtemp(prefix="tt-move-")))
    topology.up(folder, 2)
    try:
        yield Cluster(folder)
    finally:
        topology.down(folder)
        shutil.rmtree(folder.path, ignore_errors=True)


def come_and_go(cluster: Cluster, number: int) -> None:
    """A pod that is made and removed; while no address is given, its runtime tries again."""
    name = f"burst-{number}"
    for _ in range(100):
        with suppress(LabError):
            cluster.run(f"shop/{name}", node=f"node-{1 + number % 2}")
            break
    pods.remove(cluster.folder, cluster.state, "shop", name)


def follows(cluster: Cluster, node: str, url: str) -> bool:
    said = cluster.status(node)
    return said.get("datastore") == url and said.get("ready") is True


def test_a_lab_moves_while_its_pods_talk_and_come_and_go(own: Cluster) -> None:
    own.run("shop/web", {"app": "web"}, ["53/UDP"], node="node-1")
    own.run("shop/db", {"app": "db"}, ["53/UDP"], node="node-2")
    own.run("shop/api", {"app": "api"}, ["53/UDP"], node="node-1")
    own.done("apply", "-f", "-", stdin=ISOLATE_DB)
    old, new = own.folder.datastore, f"sqlite://{own.folder.path}/moved.db"
    described = f"SQLite file {own.folder.path}/moved.db"
    with flow(own, "shop/api", "shop/db") as ended, ThreadPoolExecutor(max_workers=4) as bursts:
        coming = [bursts.submit(come_and_go, own, number) for number in range(12)]
        own.done("datastore", "migrate", "--from", old, "--to", new)
        eventually(lambda: follows(own, "node-1", new) and follows(own, "node-2", new), 60)
        eventually(lambda: (controller.status(own.folder) or {}).get("datastore") == described, 60)
        for one in coming:
            one.result()
        sent, lost = ended()
    assert sent > 100
    assert lost == 0

    assert own.folder.datastore == new
    (own.folder.path / "tortie.db").unlink()  # nobody needs it any more
    own.run("shop/late", {"app": "api"}, ["53/UDP"], node="node-2")
    assert own.reaches("shop/late", "shop/db", 53, "UDP")
    assert not own.reaches("shop/web", "shop/db", 53, "UDP")
    own.done("ipam", "check")
    own.done("datastore", "check")
    own.kill_agent("node-1")
    own.restart_agent("node-1")
    assert follows(own, "node-1", new)
    pods.remove(own.folder, own.state, "shop", "web")
    shown = json.loads(own.done("ipam", "show", "-o", "json"))["items"]
    assert [one["used"] for one in shown] == [3, 3]
