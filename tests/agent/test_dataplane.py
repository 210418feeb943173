"""The kernel is brought to what is desired, in an order that never opens or breaks anything; on the fake kernel."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.dataplane import Dataplane
from agent.plan import TABLES
from kernel.errors import CommandFailed, KernelError
from kernel.fake import FakeKernel
from kernel.ipset import Ipset
from kernel.iptables import Backend, Iptables
from kernel.sets import SetName
from kernel.tables import Family, TableName
from policy.compiler import Compiler
from policy.desired import Changes
from policy.model import Endpoint, EndpointId
from tests.policy.cluster import policy

DB_FROM_API = policy(
    "{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: api}}}]}]}"
)
DB_CLOSED = policy("{podSelector: {matchLabels: {app: db}}, ingress: []}")


class Node:
    """A compiler and a fake kernel, and what keeps them alike."""

    def __init__(self, kernel: FakeKernel | None = None) -> None:
        self.kernel = kernel or FakeKernel()
        self.compiler = Compiler("node-1")
        self.dataplane = Dataplane(self.compiler, Iptables(self.kernel, Backend.NFT), Ipset(self.kernel, self.kernel))

    def pod(self, name: str, app: str, number: int, node: str = "node-1") -> Endpoint:
        interface = f"tort{number:011x}" if node == "node-1" else ""
        address = ip_address("10.65.0.0") + number
        made = Endpoint(EndpointId(f"shop/{name}"), "shop", name, node, {"app": app}, (address,), (), interface)
        self.compiler.set_endpoint(made)
        return made

    def held(self) -> tuple[dict[SetName, frozenset[str]], dict[object, object]]:
        """What the kernel holds of ours."""
        sets = {name: frozenset(map(str, found.members)) for name, found in self.kernel.sets.items()}
        tables = {key: self.dataplane._iptables.read(*key) for key in self.kernel.tables if key[1] in TABLES}
        return sets, dict(tables)

    def wanted(self) -> dict[SetName, frozenset[str]]:
        return {name: frozenset(map(str, found.members)) for name, found in self.compiler.desired.sets.items()}


@pytest.fixture
def node() -> Node:
    return Node()


async def test_nothing_is_touched_before_the_start(node: Node) -> None:
    node.pod("db", "db", 1)
    await node.dataplane.settled()
    assert node.kernel.commands == []


async def test_the_start_writes_sets_then_chains_then_jumps_after_reading_back(node: Node) -> None:
    node.pod("db", "db", 1)
    await node.dataplane.start()
    assert node.held()[0] == node.wanted()
    verbs = [argv[0].rsplit("-", 1)[-1] if argv[0] != "ipset" else argv[1] for argv in node.kernel.commands]
    first_rules = next(n for n, argv in enumerate(node.kernel.commands) if argv[0].endswith("-restore"))
    assert "restore" in verbs[:first_rules]
    assert len(await node.dataplane.refresh()) == 0


async def test_the_start_says_what_it_found_and_finds_nothing_where_an_earlier_process_left_all_right(
    node: Node,
) -> None:
    node.pod("db", "db", 1)
    assert await node.dataplane.start() != ()
    again = Dataplane(node.compiler, Iptables(node.kernel, Backend.NFT), Ipset(node.kernel, node.kernel))
    assert await again.start() == ()


async def test_a_member_that_is_refused_makes_the_next_change_compare_everything(node: Node) -> None:
    node.pod("db", "db", 1)
    await node.dataplane.start()
    del node.kernel.sets[SetName("tt4-pods")]
    node.pod("db-2", "db", 2)
    with pytest.raises(KernelError):
        await node.dataplane.settled()
    await node.dataplane.settled()
    assert node.held()[0] == node.wanted()


class Confused(Compiler):
    """Can't say what has changed, once."""

    confused = False

    def take_changes(self) -> Changes:
        if self.confused:
            self.confused = False
            raise RuntimeError("a mistake of ours")
        return super().take_changes()


async def test_a_mistake_of_ours_does_not_lock_everybody_out(node: Node) -> None:
    node.compiler = compiler = Confused("node-1")
    node.dataplane = Dataplane(compiler, Iptables(node.kernel, Backend.NFT), Ipset(node.kernel, node.kernel))
    await node.dataplane.start()
    node.pod("db", "db", 1)
    compiler.confused = True
    with pytest.raises(RuntimeError):
        await node.dataplane.settled()
    async with asyncio.timeout(5):
        await node.dataplane.settled()
    assert node.held()[0] == node.wanted()


async def test_many_members_at_once_go_by_one_command(node: Node) -> None:
    node.pod("db", "db", 1)
    await node.dataplane.start()
    before = len(node.kernel.commands)
    for number in range(2, 102):
        node.pod(f"db-{number}", "db", number)
    await node.dataplane.settled()
    assert [argv[:2] for argv in node.kernel.commands[before:]] == [("ipset", "restore")]
    assert node.held()[0] == node.wanted()


async def test_a_new_pod_of_a_known_group_needs_no_command(node: Node) -> None:
    node.pod("a", "web", 1)
    await node.dataplane.start()
    node.kernel.commands.clear()
    node.pod("b", "web", 2)
    await node.dataplane.settled()
    assert node.kernel.commands == []
    assert node.held()[0] == node.wanted()


async def test_a_policy_comes_and_goes(node: Node) -> None:
    node.pod("db", "db", 1)
    await node.dataplane.start()
    before = node.held()
    node.compiler.set_policy(DB_FROM_API)
    await node.dataplane.settled()
    assert node.held()[0] == node.wanted()
    node.compiler.remove_policy(DB_FROM_API.key)
    await node.dataplane.settled()
    assert node.held() == before


async def test_applying_twice_changes_nothing(node: Node) -> None:
    node.pod("db", "db", 1)
    node.compiler.set_policy(DB_FROM_API)
    await node.dataplane.start()
    held = node.held()
    node.kernel.commands.clear()
    await node.dataplane.settled()
    assert node.kernel.commands == []
    assert await node.dataplane.refresh() == ()
    assert node.held() == held


async def test_a_restarted_agent_finds_nothing_to_change(node: Node) -> None:
    node.pod("db", "db", 1)
    node.compiler.set_policy(DB_FROM_API)
    await node.dataplane.start()
    again = Node()
    again.kernel = node.kernel
    again.dataplane = Dataplane(again.compiler, Iptables(node.kernel, Backend.NFT), Ipset(node.kernel, node.kernel))
    again.compiler.set_policy(DB_FROM_API)
    again.pod("db", "db", 1)
    assert await again.dataplane.start() == ()


async def test_what_an_earlier_agent_left_and_nobody_wants_goes(node: Node) -> None:
    node.pod("db", "db", 1)
    node.compiler.set_policy(DB_CLOSED)
    await node.dataplane.start()
    empty = Node()
    empty.kernel = node.kernel
    empty.dataplane = Dataplane(empty.compiler, Iptables(node.kernel, Backend.NFT), Ipset(node.kernel, node.kernel))
    assert await empty.dataplane.start() != ()
    assert empty.held()[0] == empty.wanted()


BREAKS = {
    "a chain flushed": "*mangle\n-F TORTIE-TO\nCOMMIT\n",
    "a jump deleted": None,
    "every chain of a table flushed": "*mangle\n-F FORWARD\n-F INPUT\n-F POSTROUTING\n-F TORTIE-FORWARD\nCOMMIT\n",
    "a foreign rule in our chain": "*mangle\n-A TORTIE-TO -j ACCEPT\nCOMMIT\n",
    "a chain of ours nobody wants": "*filter\n:TORTIE-OLD - [0:0]\n-A TORTIE-OLD -j DROP\nCOMMIT\n",
}


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in BREAKS.items()])
async def test_a_refresh_mends_tables_and_says_what_it_found(node: Node, text: str | None) -> None:
    node.pod("db", "db", 1)
    await node.dataplane.start()
    held = node.held()
    if text is None:
        del node.kernel.tables[Family.IPV4, TableName.RAW]["PREROUTING"][0]
    else:
        node.kernel.run(("iptables-nft-restore", "--noflush", "-w", "1"), text)
    assert node.held() != held
    found = await node.dataplane.refresh()
    assert found
    assert node.held() == held
    assert await node.dataplane.refresh() == ()


class SlowKernel(FakeKernel):
    """Takes its time for restores, when told, and counts how many commands run at once."""

    def __init__(self) -> None:
        super().__init__()
        self.quick = threading.Event()
        self.quick.set()
        self.restoring = threading.Event()
        self.running = self.most = 0

    def run(self, argv: Sequence[str], stdin: str = "") -> str:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if argv[0].endswith("-restore") and not self.quick.is_set():
                self.restoring.set()
                self.quick.wait(10)
            return super().run(argv, stdin)
        finally:
            self.running -= 1


async def test_an_apply_whose_caller_gave_up_ends_before_the_next_begins() -> None:
    kernel = SlowKernel()
    node = Node(kernel)
    await node.dataplane.start()
    kernel.quick.clear()
    node.pod("db", "db", 1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await node.dataplane.settled()
    node.compiler.remove_endpoint(EndpointId("shop/db"))
    waiting = asyncio.ensure_future(node.dataplane.refresh())
    await asyncio.to_thread(kernel.restoring.wait, 10)
    await asyncio.sleep(0.1)  # time enough to begin too early
    kernel.quick.set()
    await waiting
    assert kernel.most == 1
    assert node.held()[0] == node.wanted()


MEANWHILE: dict[str, Callable[[Node], object]] = {
    "a pod of a new group": lambda node: node.pod("api", "api", 2),
    "a pod of a known group": lambda node: node.pod("db-2", "db", 2),
    "a pod that goes": lambda node: node.compiler.remove_endpoint(EndpointId("shop/db")),
    "a pod that goes and leaves its group": lambda node: node.compiler.remove_endpoint(
        EndpointId("shop/db"), keep_group=True
    ),
    "a peer": lambda node: node.pod("far", "api", 3, "node-2"),
    "a policy that says something else": lambda node: node.compiler.set_policy(DB_CLOSED),
    "a node": lambda node: node.compiler.set_node("node-2", (ip_address("172.30.0.2"),)),
}


@pytest.mark.parametrize("change", [pytest.param(change, id=name) for name, change in MEANWHILE.items()])
async def test_a_change_that_comes_while_the_kernel_is_read_is_applied_and_no_repair(
    node: Node, change: Callable[[Node], object]
) -> None:
    node.compiler.set_policy(DB_FROM_API)
    node.pod("db", "db", 1)
    await node.dataplane.start()
    change(node)
    assert await node.dataplane.refresh() == ()
    assert node.held()[0] == node.wanted()
    assert await node.dataplane.refresh() == ()


@pytest.mark.parametrize("kind", ["a member lost", "a member too many", "flushed", "gone", "one too many"])
async def test_a_refresh_mends_sets_and_says_what_it_found(node: Node, kind: str) -> None:
    node.pod("db", "db", 1)
    await node.dataplane.start()
    held = node.held()
    pods = node.kernel.sets[SetName("tt4-pods")]
    match kind:
        case "a member lost" | "flushed":
            pods.members.clear()
        case "a member too many":
            node.kernel.change([(SetName("tt4-pods"), next(iter(pods.members)).replace("10.", "11."))])  # type: ignore[list-item]
        case "gone":
            del node.kernel.sets[SetName("tt4-pods")]
        case _:
            node.kernel.run(("ipset", "restore", "-exist"), "create tt4-old hash:ip family inet maxelem 5\n")
    assert (await node.dataplane.refresh()) != ()
    assert node.held() == held


async def test_what_is_not_ours_stays_as_it_is(node: Node) -> None:
    foreign = "*filter\n:KUBE-X - [0:0]\n-A KUBE-X -j DROP\n-A FORWARD -j KUBE-X\nCOMMIT\n"
    node.kernel.run(("iptables-nft-restore", "--noflush", "-w", "1"), foreign)
    node.kernel.run(("ipset", "restore", "-exist"), "create KUBE-SET hash:ip family inet maxelem 5\n")
    before = node.kernel.tables[Family.IPV4, TableName.FILTER]["KUBE-X"]
    await node.dataplane.start()
    assert node.kernel.tables[Family.IPV4, TableName.FILTER]["KUBE-X"] == before
    assert "KUBE-SET" in node.kernel.sets
    assert any("KUBE-X" in words for words in node.kernel.tables[Family.IPV4, TableName.FILTER]["FORWARD"])


class Failing(FakeKernel):
    """Refuses the commands whose number is told."""

    def __init__(self) -> None:
        super().__init__()
        self.refuse: set[int] = set()
        self.ran = 0

    def run(self, argv: Sequence[str], stdin: str = "") -> str:
        self.ran += 1
        if self.ran in self.refuse:
            raise CommandFailed(argv, 4, "Another app is currently holding the xtables lock", stdin)
        return super().run(argv, stdin)


def failing_node() -> tuple[Node, Failing]:
    node, kernel = Node(), Failing()
    node.kernel = kernel
    node.dataplane = Dataplane(node.compiler, Iptables(kernel, Backend.NFT), Ipset(kernel, kernel))
    return node, kernel


@pytest.mark.parametrize("at", range(1, 30))
async def test_a_start_that_fails_anywhere_is_made_good_by_the_next(at: int) -> None:
    node, kernel = failing_node()
    node.pod("db", "db", 1)
    node.compiler.set_policy(DB_FROM_API)
    kernel.refuse = {at}
    try:
        await node.dataplane.start()
    except KernelError:
        await node.dataplane.start()
    kernel.refuse.clear()
    assert node.held()[0] == node.wanted()
    assert await node.dataplane.refresh() == ()


@pytest.mark.parametrize("after", range(1, 8))
async def test_a_change_that_fails_anywhere_is_made_good_by_the_next(after: int) -> None:
    node, kernel = failing_node()
    node.pod("db", "db", 1)
    node.pod("api", "api", 2, node="node-2")
    await node.dataplane.start()
    kernel.refuse = {kernel.ran + after}
    node.compiler.set_policy(DB_FROM_API)
    node.pod("web", "web", 3)
    try:
        await node.dataplane.settled()
    except KernelError:
        await node.dataplane.settled()
    kernel.refuse.clear()
    assert node.held()[0] == node.wanted()
    assert await node.dataplane.refresh() == ()


async def test_many_who_wait_share_one_apply(node: Node) -> None:
    await node.dataplane.start()
    node.kernel.commands.clear()
    for number in range(1, 20):
        node.pod(f"p{number}", f"app{number}", number)
    node.compiler.set_policy(DB_CLOSED)
    await asyncio.gather(*(node.dataplane.settled() for _ in range(20)))
    assert len([argv for argv in node.kernel.commands if argv[0].endswith("-restore")]) <= 2
    assert node.held()[0] == node.wanted()


CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("pod"), st.integers(1, 6), st.sampled_from(["db", "api", "web"])),
        st.tuples(st.just("gone"), st.integers(1, 6), st.just("")),
        st.tuples(st.just("policy"), st.booleans(), st.just("")),
        st.tuples(st.just("settle"), st.none(), st.just("")),
    ),
    max_size=25,
)


@given(CHANGES)
@settings(max_examples=60)
def test_any_path_of_changes_leaves_the_kernel_as_a_fresh_start_would(path: list[tuple[str, object, str]]) -> None:
    async def walk() -> None:
        node, fresh = Node(), Node()
        await node.dataplane.start()
        for verb, what, app in [*path, ("settle", None, "")]:
            for one in (node, fresh):
                if verb == "pod" and isinstance(what, int):
                    one.pod(f"p{what}", app, what)
                elif verb == "gone":
                    one.compiler.remove_endpoint(EndpointId(f"shop/p{what}"))
                elif verb == "policy":
                    one.compiler.set_policy(DB_FROM_API if what else DB_CLOSED)
            if verb == "settle":
                await node.dataplane.settled()
        await fresh.dataplane.start()
        assert node.held() == fresh.held()

    asyncio.run(walk())
