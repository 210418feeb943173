"""What is left on a node that no attachment needs: found by reading the kernel, the store and the files, agent or not.

    link        a host end that no record names
    route       of our protocol to a pod that no record names
    member      of a set: a local pod's address that no record has
    file        records whose ADD died or whose pod has gone, removals owed, tombstones, locks nobody holds, temporaries
    address     owned by an attachment that isn't here, or a record's that the store doesn't know
    endpoint    a WorkloadEndpoint of this node that no record names

An ADD or DEL under way leaves such things for a moment. Who works on an attachment holds its handle's lock, so what is
held is nobody's leftover; and what isn't there at a second look was on its way.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address

from agent.endpoints import endpoint_key
from cni.records import Record
from ipam.block import Address
from ipam.handles import is_attachments
from kernel.ipset import ActualSet
from kernel.links import Route, is_host_interface
from kernel.sets import SetName, SetType

_LOCAL = ("local", "pods", "f-", "t-", "fb-", "tb-")
"""How the names of sets go on after `tt4-` that hold pods of this node alone (`policy.names`)."""
_PODS = (SetType.ADDRESSES.value, SetType.ADDRESS_PORTS.value)
"""Types of the other sets that hold pods; sets of networks hold what policies say, whether somebody has it or not."""


@dataclass(frozen=True, slots=True, order=True)
class Leftover:
    """One thing that is left."""

    kind: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Owned:
    """An address of this node in the store."""

    address: Address
    handle: str
    id: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """Everything that one look has found."""

    records: tuple[Record, ...] = ()
    journal: tuple[Record, ...] = ()
    held: frozenset[str] = frozenset()
    """Handles of records, journal entries and addresses that somebody works on now."""
    files: tuple[Leftover, ...] = ()
    """Files that are left over by themselves."""
    links: frozenset[str] = frozenset()
    routes: frozenset[Route] = frozenset()
    sets: Mapping[SetName, ActualSet] = field(default_factory=dict)
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """This node's blocks."""
    owned: tuple[Owned, ...] = ()
    lent: frozenset[Address] = frozenset()
    """Addresses of these blocks that other nodes have borrowed."""
    endpoints: frozenset[str] = frozenset()
    """Keys of this node's WorkloadEndpoints."""


def leftovers(found: Inventory) -> list[Leftover]:
    """What of it is left over."""
    parts = (found.files, _records(found), _links(found), _routes(found), _members(found), _addresses(found))
    return sorted({one for part in (*parts, _endpoints(found)) for one in part})


def _records(found: Inventory) -> Iterator[Leftover]:
    for record in found.records:
        handle = record.attachment.handle
        if handle in found.held:
            continue
        if not record.complete:
            yield Leftover("file", f"record of {handle}", "its ADD died half-way")
        elif not record.on_link and record.host_interface not in found.links:
            yield Leftover("file", f"record of {handle}", f"link {record.host_interface} has gone, and no DEL came")
    for record in found.journal:
        if record.attachment.handle not in found.held:
            yield Leftover("file", f"journal of {record.attachment.handle}", "its removal is still owed")


def _links(found: Inventory) -> Iterator[Leftover]:
    known = {record.host_interface for record in _all(found)}
    for name in found.links:
        if is_host_interface(name) and name not in known:
            yield Leftover("link", name, "no attachment has it")


def _routes(found: Inventory) -> Iterator[Leftover]:
    known = {record.host_interface: record for record in _all(found)}
    for route in found.routes:
        record = known.get(route.interface)
        if not is_host_interface(route.interface):
            continue
        if record is None or (record.complete and route.destination.network_address not in record.addresses):
            yield Leftover("route", f"{route.destination} dev {route.interface}", "no attachment has it")


def _members(found: Inventory) -> Iterator[Leftover]:
    local = {str(address) for record in _all(found) for address in record.addresses}
    for name, actual in found.sets.items():
        of_this_node = name.partition("-")[2].startswith(_LOCAL)
        for member in actual.members if of_this_node or actual.type in _PODS else ():
            text = member.partition(",")[0]
            if text not in local and (of_this_node or _is_here(found, text)):
                yield Leftover("member", f"{member} of {name}", "no attachment has the address")


def _is_here(found: Inventory, text: str) -> bool:
    """Whether an address is one that a pod of this node would have."""
    address = ip_address(text)
    return address not in found.lent and any(address in network for network in found.networks)


def _addresses(found: Inventory) -> Iterator[Leftover]:
    known = {record.attachment.handle: record for record in _all(found)}
    for one in found.owned:
        if one.handle in found.held or not is_attachments(one.handle):
            continue
        record = known.get(one.handle)
        if record is None or (record.complete and one.id not in {held.id for held in record.held}):
            yield Leftover("address", str(one.address), f"of {one.handle}, which has no attachment here")
    stored = {one.id for one in found.owned}
    for record in found.records:
        ours = record.delegated is None and record.attachment.handle not in found.held
        for held in record.held if ours else ():
            if held.id not in stored:
                yield Leftover("address", held.address, f"{record.attachment.handle} has it, and not by the datastore")


def _endpoints(found: Inventory) -> Iterator[Leftover]:
    known = {endpoint_key(record) for record in _all(found)}
    for key in found.endpoints - known:
        yield Leftover("endpoint", key, "no attachment has it")


def _all(found: Inventory) -> Iterable[Record]:
    """Journal entries, too: they say themselves that something is left."""
    return (*found.records, *found.journal)
