"""What reclaim would take back, and what it leaves although nobody seems to have it; from what was read, no I/O.

It is what the controller sees (`ipam.reclaim`): of nodes that are there only they themselves can tell, by their records
and routes, so what looks ownerless on one of them is listed as left to it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from datastore.resources.ipblock import Allocation
from datastore.resources.workloadendpoint import WorkloadEndpoint
from ipam.block import Block
from ipam.claims import Claimant
from ipam.observed import Observed
from ipam.owners import called
from ipam.reclaim import Api, Evidence, Kind, home_of, judge, kind_of


@dataclass(frozen=True, slots=True)
class Candidate:
    """An address, endpoint or block that seems to be nobody's."""

    kind: str
    subject: str
    owner: str
    node: str
    taken: bool
    """Whether it is taken back once it has looked so for the grace."""
    reason: str


def candidates(seen: Observed) -> tuple[Candidate, ...]:
    """Endpoints and addresses first, then blocks, as they would go."""
    migrating = seen.configuration.migration is not None
    blocks = sorted(map(Block.read, seen.blocks.values()), key=_place)
    found = [*_endpoints(seen), *(one for block in blocks for one in _addresses(block, seen)), *_blocks(blocks, seen)]
    if not migrating:
        return tuple(found)
    reason = "nothing is taken back while the datastore is being moved"
    return tuple(Candidate(one.kind, one.subject, one.owner, one.node, False, reason) for one in found)


def _endpoints(seen: Observed) -> Iterator[Candidate]:
    for one in seen.claims.everyone():
        if one.kind is WorkloadEndpoint and one.node not in seen.nodes:
            yield Candidate("endpoint", f"{one.namespace}/{one.name}", "", one.node, True, f"node {one.node} is gone")


def _addresses(block: Block, seen: Observed) -> Iterator[Candidate]:
    def counts(one: Claimant) -> bool:
        return one.kind is not WorkloadEndpoint or one.node in seen.nodes  # those of departed nodes go, too

    for ordinal, found in block.record.spec.allocations.items():
        home = home_of(found.handle, found.node)
        node = seen.nodes.get(home)
        api = seen.claims.of(block.address_of(int(ordinal)), found, counts)
        frozen = bool(block.record.spec.frozen)
        machine = node.spec.machine if node is not None else None
        verdict = judge(Evidence(found.handle, home, machine, api, frozen=frozen))
        if verdict.ownerless or (node is not None and _seems_left(found, api)):
            address = str(block.address_of(int(ordinal)))
            yield Candidate("address", address, called(found), home, verdict.ownerless, verdict.reason)


def _seems_left(found: Allocation, api: Api) -> bool:
    return kind_of(found.handle) is Kind.ATTACHMENT and not found.on_link and api is Api.SILENT


def _blocks(blocks: list[Block], seen: Observed) -> Iterator[Candidate]:
    for block in blocks:
        spec = block.record.spec
        if spec.node not in seen.nodes and block.empty:
            reason = "its block is being moved" if spec.frozen else f"node {spec.node} is gone, and it is empty"
            yield Candidate("block", str(block.network), "", spec.node, not spec.frozen, reason)


def _place(block: Block) -> tuple[int, int]:
    return block.network.version, int(block.network.network_address)
