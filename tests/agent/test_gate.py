"""The gate opens when the kernel has what an ADD needs, and says so when it doesn't come to that (invariant 3)."""

import asyncio
from collections.abc import Sequence

import pytest

from agent.dataplane import Dataplane
from agent.gate import Gate
from agent.graph import Graph
from cni.node import NotEnforced
from kernel.errors import CommandFailed
from kernel.fake import FakeKernel
from kernel.ipset import Ipset
from kernel.iptables import Backend, Iptables
from kernel.sets import SetName
from policy.compiler import Compiler
from tests.agent.test_dataplane import SlowKernel
from tests.agent.test_graph import record

PODS = SetName("tt4-pods")


class Refusing(FakeKernel):
    """Refuses every restore of tables, when told."""

    refuses = False

    def run(self, argv: Sequence[str], stdin: str = "") -> str:
        if self.refuses and argv[0].endswith("tables-nft-restore"):
            raise CommandFailed(argv, 4, "Another app is currently holding the xtables lock", stdin)
        return super().run(argv, stdin)


async def made(kernel: FakeKernel, wait_s: float = 10) -> Gate:
    compiler = Compiler("node-1")
    graph = Graph("node-1", compiler)
    dataplane = Dataplane(compiler, Iptables(kernel, Backend.NFT), Ipset(kernel, kernel))
    await dataplane.start()
    return Gate(graph, dataplane, wait_s)


async def test_when_the_gate_opens_the_kernel_has_the_pod_and_when_it_is_dismissed_no_more() -> None:
    kernel = FakeKernel()
    gate = await made(kernel)
    await gate.admit(record())
    assert "10.65.0.1" in set(map(str, kernel.sets[PODS].members))
    await gate.dismiss(record())
    assert "10.65.0.1" not in set(map(str, kernel.sets[PODS].members))


async def test_a_kernel_that_refuses_keeps_the_gate_shut_with_its_words() -> None:
    kernel = Refusing()
    gate = await made(kernel)
    kernel.refuses = True
    with pytest.raises(NotEnforced, match="xtables lock"):
        await gate.admit(record())
    await gate.dismiss(record())


async def test_a_kernel_that_takes_too_long_keeps_the_gate_shut() -> None:
    kernel = SlowKernel()
    gate = await made(kernel, 0.05)
    kernel.quick.clear()
    with pytest.raises(NotEnforced, match=r"within 0\.05 s"):
        await gate.admit(record())
    kernel.quick.set()
    async with asyncio.timeout(10):
        await gate.dismiss(record())
