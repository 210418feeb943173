"""An audit's part about owners: who is behind an allocation, and whose the address is that somebody says he has."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from datastore.resources.ipblock import Allocation, cell_of
from ipam.block import Address, Block
from ipam.findings import Fault, Finding, scope_of
from ipam.handles import is_attachments
from ipam.observed import Claim, Observed


@dataclass(frozen=True, slots=True)
class Owned:
    """An allocation and where it is."""

    address: Address
    block: Block
    allocation: Allocation

    @property
    def interface(self) -> tuple[str, str, str, str, int]:
        """Which of a pod's interfaces it is for, whatever the sandbox."""
        network, _, name = self.allocation.handle.split(":")
        return self.allocation.namespace, self.allocation.pod, network, name, self.address.version


def by_address(blocks: Iterable[Block]) -> dict[Address, list[Owned]]:
    """Every allocation; more than one for an address where blocks overlap."""
    owned: dict[Address, list[Owned]] = defaultdict(list)
    for block in blocks:
        for ordinal, allocation in block.record.spec.allocations.items():
            address = block.address_of(int(ordinal))
            owned[address].append(Owned(address, block, allocation))
    return owned


def of_owners(owned: Mapping[Address, Sequence[Owned]], seen: Observed, now: float) -> Iterator[Finding]:
    """Addresses with two owners, interfaces with two addresses, and owners that are nobody any more."""
    attached: dict[tuple[str, int], list[Owned]] = defaultdict(list)
    for address, several in owned.items():
        if len(several) > 1:
            yield _owned_twice(address, several)
        for one in several:
            if is_attachments(one.allocation.handle):
                attached[one.allocation.handle, address.version].append(one)
    living = _Living(owned, seen)
    for several in attached.values():
        if len(several) > 1:
            yield _owns_twice(several)
        for one in several:
            if not living.has(one):
                yield _leaked(one, seen, now)


def of_claims(owned: Mapping[Address, Sequence[Owned]], seen: Observed) -> Iterator[Finding]:
    """Addresses that somebody says he has, and that are another's or nobody's."""
    pools = [ip_network(pool.spec.cidr) for pool in seen.pools.values()]
    foreign = {node.name: [ip_network(text) for text in node.spec.pod_cidrs] for node in seen.nodes.values()}
    for claim in seen.claims:
        owners = owned.get(claim.address, ())
        if any(_is_owner(claim, one.allocation) for one in owners):
            continue
        ours = owners or any(claim.address in network for network in pools)
        if not ours or any(claim.address in network for network in foreign.get(claim.node, ())):
            continue  # another IPAM plugin's
        yield _wrong_claim(claim, owners)


def called(allocation: Allocation) -> str:
    """How messages name an owner."""
    return f"pod {allocation.namespace}/{allocation.pod}" if allocation.pod else allocation.handle


class _Living:
    """Which allocations somebody stands behind."""

    def __init__(self, owned: Mapping[Address, Sequence[Owned]], seen: Observed) -> None:
        self._pods = seen.pods
        self._handles = {claim.handle for claim in seen.claims}
        self._addresses = {claim.address for claim in seen.claims}
        shown = (one for address in self._addresses for one in owned.get(address, ()))
        self._shown = {one.interface: one.allocation.since for one in shown if is_attachments(one.allocation.handle)}

    def has(self, one: Owned) -> bool:
        """Whether it is in use, as far as the datastore can say.

        A Pod tells the addresses of one interface only. So whatever a Pod has that is there counts as in use, but for
        an earlier sandbox's address: one interface has none but that which the Pod tells.
        """
        found = one.allocation
        if found.on_link or found.handle in self._handles or one.address in self._addresses:
            return True  # what is on a link of another plugin's has no endpoint
        uid = self._pods.get((found.namespace, found.pod))
        if uid is None or (uid and found.uid and uid != found.uid):
            return False
        return self._shown.get(one.interface, 0) <= found.since


def _owned_twice(address: Address, several: Sequence[Owned]) -> Finding:
    what = f"{address} is allocated {len(several)} times: to {' and '.join(called(one.allocation) for one in several)}"
    remedy = "delete one of the two: with one address they can't both work"
    scope = scope_of(cells=tuple(one.block.record.spec.cell for one in several))
    return Finding(Fault.OWNED_TWICE, str(address), what, remedy, several[0].block.name, _ids(several), scope=scope)


def _owns_twice(several: Sequence[Owned]) -> Finding:
    first = several[0]
    addresses = ", ".join(sorted(str(one.address) for one in several))
    what = f"{called(first.allocation)} has {len(several)} addresses for one interface: {addresses}"
    remedy = "its removal frees them all; until then all but one are lost"
    scope = scope_of(cells=tuple(one.block.record.spec.cell for one in several))
    return Finding(Fault.OWNS_TWICE, str(first.address), what, remedy, first.block.name, _ids(several), scope=scope)


def _leaked(one: Owned, seen: Observed, now: float) -> Finding:
    found = one.allocation
    young = now - found.since < seen.configuration.reclaim_grace_seconds
    what = f"{one.address} is allocated to {called(found)} on node {found.node}, and no endpoint has it"
    if found.node in seen.nodes:
        remedy = "the node's agent frees it if neither a record nor a link there has it"
    else:
        remedy = "the node isn't there: the controller frees it"
    if young:
        remedy = f"perhaps it is just being added or removed; {remedy}"
    scope = scope_of(cells=(one.block.record.spec.cell,), namespaces=(found.namespace,), nodes=(found.node,))
    return Finding(Fault.LEAKED, str(one.address), what, remedy, one.block.name, found.id, warning=young, scope=scope)


def _wrong_claim(claim: Claim, owners: Sequence[Owned]) -> Finding:
    says = f"{claim.who} says it has {claim.address}, which is allocated to"
    cells, namespaces, nodes = (str(cell_of(ip_network(claim.address))),), (claim.namespace,), (claim.node,)
    scope = scope_of(cells=cells, namespaces=namespaces, nodes=nodes)
    evidence = " ".join((claim.who, claim.handle, claim.uid))
    if owners:
        what, remedy = f"{says} {called(owners[0].allocation)}", "delete that pod: it has another's address"
        block = owners[0].block.name
        return Finding(Fault.ANOTHERS, str(claim.address), what, remedy, block, evidence, scope=scope)
    remedy = "delete that pod: its address may be given to another at any time"
    return Finding(Fault.NOT_ALLOCATED, str(claim.address), f"{says} nobody", remedy, evidence=evidence, scope=scope)


def _is_owner(claim: Claim, allocation: Allocation) -> bool:
    """Whether a claim and an allocation are of one owner, as far as both tell."""
    if claim.handle:
        return claim.handle == allocation.handle
    if not claim.pod:
        return claim.node == allocation.node and not allocation.pod
    if claim.uid and allocation.uid and claim.uid != allocation.uid:
        return False
    return (claim.namespace, claim.pod) == (allocation.namespace, allocation.pod)


def _ids(several: Sequence[Owned]) -> str:
    return ",".join(sorted(one.allocation.id for one in several))
