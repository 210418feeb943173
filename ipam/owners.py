"""An audit's part about owners: who is behind an allocation, and whose the address is that somebody says he has."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from datastore.resources.ipblock import Allocation, cell_of
from ipam.block import Address, Block
from ipam.claims import Claims
from ipam.findings import Fault, Finding, scope_of
from ipam.observed import Observed
from ipam.reclaim import Api, Kind, home_of, kind_of


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
            kind = kind_of(one.allocation.handle)
            if kind is Kind.ATTACHMENT:
                attached[one.allocation.handle, address.version].append(one)
            elif kind is Kind.TUNNEL and home_of(one.allocation.handle, one.allocation.node) not in seen.nodes:
                yield _leaked(one, seen, now)
    shown = _shown(owned, seen.claims)
    for several in attached.values():
        if len(several) > 1:
            yield _owns_twice(several)
        for one in several:
            if not _is_alive(one, seen.claims, shown):
                yield _leaked(one, seen, now)


def of_claims(owned: Mapping[Address, Sequence[Owned]], seen: Observed) -> Iterator[Finding]:
    """Addresses that somebody says he has, and that are another's or nobody's."""
    pools = [ip_network(pool.spec.cidr) for pool in seen.pools.values()]
    foreign = {node.name: [ip_network(text) for text in node.spec.pod_cidrs] for node in seen.nodes.values()}
    for claimant in seen.claims.everyone():
        for address in map(ip_address, claimant.addresses):
            owners = owned.get(address, ())
            if any(claimant.has(one.allocation) for one in owners):
                continue
            ours = owners or any(address in network for network in pools)
            if not ours or any(address in network for network in foreign.get(claimant.node, ())):
                continue  # another IPAM plugin's
            evidence = " ".join((claimant.key, *claimant.identities))
            yield _wrong_claim(claimant.key, address, owners, evidence, (claimant.namespace,), (claimant.node,))
    for node in seen.nodes.values():
        for address in map(ip_address, node.spec.tunnel_addresses):
            owners = owned.get(address, ())
            if not any(_is_tunnel_of(node.name, one.allocation) for one in owners):
                yield _wrong_claim(f"Node {node.name}", address, owners, node.name, (), (node.name,))


def called(allocation: Allocation) -> str:
    """How messages name an owner."""
    return f"pod {allocation.namespace}/{allocation.pod}" if allocation.pod else allocation.handle


def _is_alive(one: Owned, claims: Claims, shown: Mapping[tuple[str, str, str, str, int], float]) -> bool:
    """Whether somebody stands behind an allocation, as far as the datastore can say.

    A Pod tells the addresses of one interface only. So whatever else a Pod has counts as in use, but for an earlier
    sandbox's address: one interface has none but that which the Pod tells.
    """
    found = one.allocation
    if found.on_link:
        return True  # what is on a link of another plugin's has no endpoint
    said = claims.of(one.address, found)
    if said is Api.OTHERS:
        return shown.get(one.interface, 0) <= found.since
    return said is not Api.SILENT


def _shown(owned: Mapping[Address, Sequence[Owned]], claims: Claims) -> dict[tuple[str, str, str, str, int], float]:
    """Since when each interface whose address a Pod or endpoint tells has had it."""
    told = {ip_address(text) for claimant in claims.everyone() for text in claimant.addresses}
    found = (one for address in told for one in owned.get(address, ()))
    return {one.interface: one.allocation.since for one in found if kind_of(one.allocation.handle) is Kind.ATTACHMENT}


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


def _wrong_claim(
    who: str,
    address: Address,
    owners: Sequence[Owned],
    evidence: str,
    namespaces: tuple[str, ...],
    nodes: tuple[str, ...],
) -> Finding:
    says = f"{who} says it has {address}, which is allocated to"
    scope = scope_of(cells=(str(cell_of(ip_network(address))),), namespaces=namespaces, nodes=nodes)
    if owners:
        what, remedy = f"{says} {called(owners[0].allocation)}", "delete one of the two: they have one address"
        return Finding(Fault.ANOTHERS, str(address), what, remedy, owners[0].block.name, evidence, scope=scope)
    remedy = "start it anew: its address may be given to another at any time"
    return Finding(Fault.NOT_ALLOCATED, str(address), f"{says} nobody", remedy, evidence=evidence, scope=scope)


def _is_tunnel_of(node: str, allocation: Allocation) -> bool:
    handle = allocation.handle
    return kind_of(handle) is Kind.TUNNEL and home_of(handle, allocation.node) == node


def _ids(several: Sequence[Owned]) -> str:
    return ",".join(sorted(one.allocation.id for one in several))
