"""A store against a plain dict: whatever was written, compacted and slept through, every mirror is what the dict is."""

import asyncio
import tempfile
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test

from datastore.errors import AlreadyExists, Compacted, Conflict, NotFound
from datastore.resources.ipblock import IPBlock
from datastore.resources.value import Metadata
from datastore.store import Revision, Store, Where
from tests.datastore.drivers import DRIVERS, PATIENCE_S, Follower
from tests.datastore.samples import ip_block

T = TypeVar("T")

CIDRS = ("10.65.0.0/26", "10.65.0.64/26", "10.65.16.0/26")
NODES = st.lists(st.sampled_from(("a", "b", "c")), min_size=1, max_size=3, unique=True).map(tuple)
"""A block's owner, then its borrowers."""
WHERES = st.sampled_from(
    (None, Where("node", "a"), Where("node", "b"), Where("cell", "10.65.0.0/20"), Where("pool", "none"))
)
KEEP = 4
"""Log entries: few, so that watchers often fall behind."""
EXAMPLES = {"kubernetes": 12}
"""Fewer, where a write takes milliseconds."""


def matches(block: IPBlock, where: Where | None) -> bool:
    return where is None or where.value in block.indexed()[where.field]


@dataclass
class Watcher:
    where: Where | None
    follower: Follower[IPBlock]
    behind: int = 0
    """Writes since the state that its mirror is."""
    after: int = 0
    """Writes since the last one that it is told of: a batch needn't be newer than what it tells."""


class StoreMachine(RuleBasedStateMachine):
    """`driver` is set by the tests below."""

    driver = ""
    watchers: Bundle[Watcher] = Bundle("watchers")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        opener = DRIVERS[self.driver](Path(folder), self.stack)
        try:
            self.store: Store = self.run(opener(keep=KEEP))
        except BaseException:  # skipped: there is no such server here
            self.run(self.stack.aclose())
            self.loop.close()
            raise
        self.model: dict[str, IPBlock] = {}
        self.former: list[IPBlock] = []
        self.all: list[Watcher] = []

    def run(self, call: Awaitable[T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(call, PATIENCE_S))

    def teardown(self) -> None:
        for watcher in self.all:
            self.run(watcher.follower.watch.aclose())
        self.run(self.stack.aclose())
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def wrote(self, was: IPBlock | None, now: IPBlock | None) -> None:
        for watcher in self.all:
            told = any(block and matches(block, watcher.where) for block in (was, now))
            watcher.behind += 1
            watcher.after = 0 if told else watcher.after + 1

    @rule(cidr=st.sampled_from(CIDRS), nodes=NODES)
    def create(self, cidr: str, nodes: tuple[str, ...]) -> None:
        wanted = ip_block(cidr, node=nodes[0], borrowers=nodes)
        if wanted.name in self.model:
            with pytest.raises(AlreadyExists):
                self.run(self.store.create(wanted))
            return
        self.model[wanted.name] = self.run(self.store.create(wanted))
        self.wrote(None, self.model[wanted.name])

    @rule(cidr=st.sampled_from(CIDRS), nodes=NODES)
    def update(self, cidr: str, nodes: tuple[str, ...]) -> None:
        wanted = ip_block(cidr, node=nodes[0], borrowers=nodes)
        current = self.model.get(wanted.name)
        if current is None:
            with pytest.raises(NotFound):
                self.run(self.store.update(wanted))
            return
        self.former.append(current)
        metadata = Metadata(name=wanted.name, resource_version=current.revision)
        self.model[wanted.name] = self.run(self.store.update(msgspec.structs.replace(wanted, metadata=metadata)))
        self.wrote(current, self.model[wanted.name])

    @rule(cidr=st.sampled_from(CIDRS))
    def delete(self, cidr: str) -> None:
        name = ip_block(cidr).name
        current = self.model.pop(name, None)
        if current is not None:
            self.former.append(current)
            self.run(self.store.delete(current))
            self.wrote(current, None)

    @rule(data=st.data())
    def write_at_an_old_revision(self, data: st.DataObject) -> None:
        if self.former:
            old = data.draw(st.sampled_from(self.former))
            refusal = Conflict if old.name in self.model else NotFound
            with pytest.raises(refusal):
                self.run(self.store.update(old))
            with pytest.raises(refusal):
                self.run(self.store.delete(old))

    @rule(target=watchers, where=WHERES)
    def watch(self, where: Where | None) -> Watcher:
        watcher = Watcher(where, self.relisted(where))
        self.all.append(watcher)
        return watcher

    def relisted(self, where: Where | None) -> Follower[IPBlock]:
        listing = self.run(self.store.list(IPBlock, where))
        mirror = {(item.namespace, item.name): item for item in listing.items}
        return Follower(self.store.watch(IPBlock, listing.revision, where), mirror)

    @rule(watcher=watchers)
    def catch_up(self, watcher: Watcher) -> None:
        expected = {("", name): block for name, block in self.model.items() if matches(block, watcher.where)}
        try:
            while watcher.follower.mirror != expected:
                before = {block.revision for block in watcher.follower.mirror.values()}
                batch = self.run(watcher.follower.next())
                assert before.isdisjoint(change.revision for change in batch.changes if isinstance(change, IPBlock))
                if watcher.follower.mirror == expected:
                    watcher.behind = watcher.after
        except Compacted:
            assert watcher.behind > KEEP
            watcher.follower = self.relisted(watcher.where)
            watcher.behind = watcher.after = 0
        assert watcher.follower.mirror == expected

    @rule(watcher=consumes(watchers))
    def resume(self, watcher: Watcher) -> None:
        """The watch breaks; its consumer goes on from the last batch it saw."""
        self.all.remove(watcher)
        self.run(watcher.follower.watch.aclose())
        if watcher.follower.batches and watcher.behind <= KEEP:
            revision: Revision = watcher.follower.batches[-1].revision
            watcher.follower.watch = self.store.watch(IPBlock, revision, watcher.where)
            self.all.append(watcher)
            self.catch_up(watcher)

    @invariant()
    def lists_are_what_the_dict_says(self) -> None:
        for where in (None, Where("node", "a"), Where("cell", "10.65.0.0/20")):
            listed = {item.name: item for item in self.run(self.store.list(IPBlock, where)).items}
            assert listed == {name: block for name, block in self.model.items() if matches(block, where)}


@pytest.mark.parametrize("driver", DRIVERS)
def test_every_mirror_is_what_the_dict_says(driver: str) -> None:
    machine = type("Machine", (StoreMachine,), {"driver": driver})
    size = settings(max_examples=EXAMPLES.get(driver, 40), stateful_step_count=30, deadline=None)
    run_state_machine_as_test(machine, settings=size)
