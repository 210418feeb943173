"""The agent dies in the middle of ADDs, and the disk loses what it wrote of them: reclaim is what is left."""

import asyncio
import subprocess
from contextlib import suppress

import pytest

from datastore.errors import AlreadyExists
from datastore.resources.clusterconfiguration import ClusterConfiguration, ClusterConfigurationSpec
from datastore.resources.value import Metadata
from datastore.urls import open_store
from tests.faults.conftest import Faulty
from tests.faults.left import eventually, eventually_as, everything
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
GRACE_S = 10
LIMIT_S = 60.0
"""The grace, and a margin for a loaded machine."""
WITHOUT_A_ROUTE = ("add assigned", "add made")
"""An address alone, and one with a link."""
ROUTED = "add connected"


async def with_a_short_grace(datastore: str) -> None:
    store = await open_store(datastore)
    spec = ClusterConfigurationSpec(reclaim_grace_seconds=GRACE_S)
    with suppress(AlreadyExists):
        await store.create(ClusterConfiguration(metadata=Metadata(name="default"), spec=spec))
    await store.close()


def test_addresses_of_adds_that_left_no_trace_come_back_and_nobody_else_loses_any(node: Faulty) -> None:
    asyncio.run(with_a_short_grace(node.host.datastore))
    with node.one_at_each("ADD", (*WITHOUT_A_ROUTE, ROUTED)) as kept:
        node.kill_agent()
    (routed,) = [one.container for one in kept if one.stop.place == ROUTED]
    forget_what_is_new(node)
    node.start_agent()
    assert len(new_addresses(node)) == 6
    eventually(lambda: len(new_addresses(node)) == 2, LIMIT_S)
    assert all(row.endswith(f"of net:{routed.id}:eth0") for row in new_addresses(node)), "the kernel has a route to it"
    for name in [one.container.namespace.name for one in kept]:
        subprocess.run(("ip", "netns", "del", name), check=True)
        node.host.pods.remove(name)
    eventually_as(node.before, node.host, LIMIT_S)
    node.bystanders.did_not_notice()


def new_addresses(node: Faulty) -> list[str]:
    return [row for row in everything(node.host)["addresses"] if row not in node.before["addresses"]]


def forget_what_is_new(node: Faulty) -> None:
    """Remove every record, lock and intent that wasn't there before, as a disk does that wasn't synced."""
    kept = {row.partition(":")[0] for row in node.before["files"]}
    for folder in ("attachments", "journal", "handles"):
        for path in (node.host.state / folder).iterdir():
            if str(path.relative_to(node.host.state.parent)) not in kept:
                path.unlink()
