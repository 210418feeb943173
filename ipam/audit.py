"""Everything that can be wrong with who has which address, found in what was read of a datastore; no I/O.

    blocks    sound in themselves, alone in their range, of a pool that holds them, of a node that is there
    owners    one for an address, one address of a family for an interface, each with somebody behind it
    claims    each address that an endpoint tells is allocated to it       (both in `ipam.owners`)
    pools     those that are enabled can be used
    nodes     each Node tells just the blocks and borrowed addresses that it has

A finding may be of a moment: an ADD or a DEL that is under way looks like one. Who reports looks again (`ipam.survey`).
"""

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address, ip_network

from datastore.errors import Invalid
from datastore.resources.ipblock import IPBlock
from datastore.resources.ippool import IPPool
from datastore.resources.node import Node
from ipam.block import Block, Network
from ipam.findings import Fault, Finding, scope_of
from ipam.observed import Observed
from ipam.owners import by_address, of_claims, of_owners
from ipam.pools import Catalogue

UNREADY_S = 60.0
"""How long a claim may take; it takes milliseconds."""
_FAULTS = {fault: place for place, fault in enumerate(Fault)}


def audit(seen: Observed, now: float) -> list[Finding]:
    """Everything that is wrong, by fault and then by address; `now` is in Unix seconds."""
    sound, findings = _sound(seen.blocks.values())
    owned = by_address(sound)
    findings += _overlaps(sound)
    for block in sound:
        findings += _of_block(block, seen, now)
    findings += of_owners(owned, seen, now)
    findings += of_claims(owned, seen)
    findings += _of_nodes(sound, seen)
    findings += _of_pools(seen)
    return sorted(findings, key=lambda one: (_FAULTS[one.fault], _order(one.subject), one.evidence))


def _sound(records: Iterable[IPBlock]) -> tuple[list[Block], list[Finding]]:
    """The blocks that make sense in themselves, by address, and a finding for each other one."""
    sound, findings = [], []
    for record in records:
        try:
            record.check()
            sound.append(Block.read(record))
        except Invalid as error:
            what = f"block {record.name} makes no sense: {error}"
            remedy = "none of our programs writes such a block; see who did, and put it right"
            scope = scope_of(cells=(record.spec.cell,), nodes=(record.spec.node,))
            findings.append(Finding(Fault.UNSOUND, record.name, what, remedy, record.name, str(error), scope=scope))
    return sorted(sound, key=_place), findings


def _overlaps(blocks: Sequence[Block]) -> Iterator[Finding]:
    """Ready blocks that share addresses. Of two claims that overlap, one deletes its own before it is ready."""
    before: Block | None = None
    for block in (one for one in blocks if one.record.spec.ready):
        if before is not None and before.network.overlaps(block.network):
            nodes = f"{before.record.spec.node} and {block.record.spec.node}"
            what = f"blocks {before.network} and {block.network} overlap, of nodes {nodes}"
            remedy = "move the pods of one elsewhere and delete it, or addresses are given twice"
            scope = scope_of(cells=(before.record.spec.cell, block.record.spec.cell))
            yield Finding(Fault.OVERLAP, str(block.network), what, remedy, block.name, before.name, scope=scope)
        else:
            before = block  # of nested ones the widest comes first


def _of_block(block: Block, seen: Observed, now: float) -> Iterator[Finding]:
    spec = block.record.spec
    scope = scope_of(cells=(spec.cell,), nodes=(spec.node,))

    def finding(fault: Fault, what: str, remedy: str, evidence: str = "") -> Finding:
        cidr = str(block.network)
        return Finding(fault, cidr, f"block {cidr} {what}", remedy, block.name, evidence, scope=scope)

    for fault, what, remedy in _of_pool(block, seen.pools.get(spec.pool)) if spec.ready else ():
        yield finding(fault, what, remedy, spec.pool)
    node = seen.nodes.get(spec.node)
    if node is None:
        remedy = "if the node is gone for good the controller frees it; if not, its agent writes the Node again"
        yield finding(Fault.NODE_GONE, f"is of node {spec.node}, which isn't there", remedy, spec.node)
    elif node.spec.machine != spec.machine:
        remedy = "the machine was replaced: the controller frees what the old one had"
        yield finding(Fault.OTHER_MACHINE, f"is of another machine than node {node.name} is now", remedy, spec.machine)
    if not spec.ready and spec.claimed_at + UNREADY_S < now:
        remedy = "a claim died half-way: the next claim of its node takes it up"
        yield finding(Fault.UNREADY, f"was claimed by node {spec.node} and never made ready", remedy)
    migration = seen.configuration.migration
    if spec.frozen and (migration is None or migration.id != spec.frozen):
        remedy = "thaw it: tortiectl datastore migrate --from URL --abort"
        yield finding(Fault.FROZEN, "is frozen, and no migration is under way", remedy, spec.frozen)


def _of_pool(block: Block, pool: IPPool | None) -> Iterator[tuple[Fault, str, str]]:
    if pool is None:
        name = block.record.spec.pool
        yield Fault.NO_POOL, f"is of pool {name}, which isn't there", "apply the pool again, or empty the block"
        return
    network = ip_network(pool.spec.cidr)
    if not _within(block.network, network):
        what = f"lies outside its pool {pool.name}, {network}"
        yield Fault.OUTSIDE_POOL, what, "give the pool its CIDR back, or empty the block"
    elif block.network.prefixlen != pool.block_prefix_len:
        what = f"isn't as large as blocks of its pool {pool.name}, /{pool.block_prefix_len}"
        yield Fault.WRONG_SIZE, what, "give the pool its block size back, or empty the block"


def _of_pools(seen: Observed) -> Iterator[Finding]:
    for name, why in Catalogue(seen.pools.values()).unused.items():
        if not seen.pools[name].spec.disabled:
            what = f"IPPool {name} isn't used: it {why}"
            yield Finding(Fault.UNUSED_POOL, f"IPPool {name}", what, "put it right, or delete it", evidence=why)


def _of_nodes(blocks: Sequence[Block], seen: Observed) -> Iterator[Finding]:
    """Where a Node's own account of its blocks and borrowed addresses isn't what the blocks say."""
    has: dict[str, set[str]] = {name: set() for name in seen.nodes}
    for block in blocks:
        spec = block.record.spec
        node = seen.nodes.get(spec.node)
        if node is not None and spec.ready and spec.machine == node.spec.machine:
            has[node.name].add(str(block.network))
        for ordinal, allocation in spec.allocations.items():
            borrower = seen.nodes.get(allocation.node)
            if borrower is not None and (spec.node, spec.machine) != (borrower.name, borrower.spec.machine):
                has[borrower.name].add(str(block.address_of(int(ordinal))))
    for name, node in seen.nodes.items():
        tells = _told(node)
        for text in sorted(has[name] - tells, key=_order):
            yield _stale(name, text, f"doesn't tell {text}, which it has: peers have no route to it")
        for text in sorted(tells - has[name], key=_order):
            yield _stale(name, text, f"tells {text}, which it hasn't")


def _told(node: Node) -> set[str]:
    blocks = {str(ip_network(text)) for text in node.spec.blocks}
    return blocks | {str(ip_address(text)) for text in node.spec.borrowed}


def _stale(node: str, text: str, what: str) -> Finding:
    remedy = "its agent writes it when it runs: see whether it does"
    scope = scope_of(nodes=(node,))
    return Finding(Fault.STALE_NODE, f"Node {node}", f"Node {node} {what}", remedy, evidence=what, scope=scope)


def _within(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and inner.prefixlen >= outer.prefixlen and inner.overlaps(outer)


def _place(block: Block) -> tuple[int, int, int]:
    return block.network.version, int(block.network.network_address), block.network.prefixlen


def _order(subject: str) -> tuple[int, int, str]:
    """Addresses and CIDRs by number, everything else after them by name."""
    try:
        network = ip_network(subject)
    except ValueError:
        return 9, 0, subject
    return network.version, int(network.network_address), subject
