"""What an agent does now and then, once due: owed removals, idle groups."""

import asyncio

from agent.upkeep import forget_idle_groups
from policy.model import EndpointId
from tests.agent.test_dataplane import DB_FROM_API, Node


async def test_chains_and_sets_of_a_group_without_pods_go_after_a_while_and_not_at_once() -> None:
    node = Node()
    node.compiler.set_policy(DB_FROM_API)
    node.pod("web", "web", 2)
    await node.dataplane.start()
    before = node.held()
    node.pod("db", "db", 1)
    await node.dataplane.settled()
    with_group = node.held()[1]
    node.compiler.remove_endpoint(EndpointId("shop/db"), keep_group=True)
    await node.dataplane.settled()
    assert node.held()[1] == with_group
    forgetting = asyncio.create_task(forget_idle_groups(node.compiler, node.dataplane, 0.01))
    async with asyncio.timeout(10):
        while node.held() != before:
            await asyncio.sleep(0.01)
    forgetting.cancel()
