r"""ADD: all of it, or nothing.

    settle        removals of the same attachment that are still owed come first
    record        not complete: start-up undoes what a dead ADD left
    addresses     one CAS, persisted       \\  side by side: only work that needs no address
    veth pair     straight into the pod    /   runs beside the CAS
    connect       addresses and routes on both sides
    record        complete
    gate          the kernel enforces the pod's policies
    answer        and the WorkloadEndpoint beside it

Whatever fails, or is cancelled because the relay went away, is undone by DEL's own steps (`cni.detach.remove`).
"""

import asyncio
import logging
import os
from dataclasses import dataclass
from ipaddress import ip_network

import msgspec

from cni import delegate, faults
from cni.annotations import annotated
from cni.config import Call
from cni.detach import Unfinished, remove, settle
from cni.ending import to_the_end
from cni.errors import CniError, InternalError, InvalidConfig, InvalidEnvironment, InvalidNamespace, TryAgainLater
from cni.links import NewPair, Pair, Taken
from cni.netconf import OURS
from cni.node import Node, NotEnforced
from cni.pods import NoSuchPod, described, is_named
from cni.records import HeldAddress, Port, Record
from cni.result import DNS, IP, Interface, Result, Route
from datastore.errors import StoreError
from ipam.allocator import Wanted
from ipam.block import Held, Owner
from ipam.errors import HandleBusy, IpamError, OutsidePools
from ipam.handles import Hold
from kernel import netns
from kernel.batch import NetlinkSocket
from kernel.errors import KernelError
from kernel.links import GATEWAY_IPV4, GATEWAY_IPV6, GATEWAY_MAC, host_interface

log = logging.getLogger(__name__)

EVERYWHERE = ("0.0.0.0/0", "::/0")
"""Where a pod's routes lead unless its configuration says otherwise."""


@dataclass(frozen=True, slots=True)
class Inside:
    """The pod's namespace: its descriptor, a netlink socket that speaks in it, its forwarding settings' files."""

    fd: int
    socket: NetlinkSocket
    forwarding: tuple[int, ...] = ()
    """Opened where the configuration says something of `container_settings.allow_ip_forwarding`."""


async def add(node: Node, call: Call, inside: Inside) -> Result:
    """Attach the pod and give what was made.

    Raises:
        CniError: with the SPEC's code; nothing of the attempt is left, or what is left is owed by the journal.
    """
    if netns.same_namespace(inside.fd):
        raise InvalidNamespace("CNI_NETNS is this node's own network namespace", call.netns)
    if call.config.ipam.type in OURS and not call.addressing.wanted.families:
        raise TryAgainLater("no address family to assign", "ipam.assign_ipv4 and ipam.assign_ipv6 are both false")
    try:
        async with node.handles.hold(call.attachment.handle) as hold:
            return await _add_held(node, await with_annotations(node, call), inside, hold)
    except HandleBusy as error:
        raise TryAgainLater("the attachment is busy", str(error)) from error


async def with_annotations(node: Node, call: Call) -> Call:
    """The call with what the Pod, its annotations and its namespace say.

    Raises:
        InvalidConfig: an annotation's value can't be meant.
        TryAgainLater: the pod or the namespace can't be looked up, or the pod isn't there.
    """
    try:
        facts = await node.pods.facts(call.pod) if is_named(call) else None
        if facts is not None:
            call = described(call, facts)
        return annotated(call, await node.namespaces.facts(call.pod.namespace))
    except NoSuchPod as error:
        raise TryAgainLater("the pod isn't there", str(error)) from error
    except StoreError as error:
        raise TryAgainLater("the pod can't be looked up", str(error)) from error


async def _add_held(node: Node, call: Call, inside: Inside, hold: Hold) -> Result:
    try:
        await settle(node, call.attachment, hold)
        before = node.records.read(call.attachment)
        if before is not None and _is_attached(node, before, call):
            return await _again(node, call, hold, before)
        if before is not None:
            await remove(node, call.attachment, hold)
    except Unfinished as error:
        raise TryAgainLater("an earlier removal of this attachment is still owed", error.reason) from error
    except (StoreError, IpamError, KernelError, NotEnforced) as error:
        raise told(error) from error
    try:
        return await _attach(node, call, inside, hold)
    except BaseException as error:
        log.warning("the ADD of %s/%s is undone: %r", call.pod.namespace, call.pod.name, error)
        await to_the_end(_undo(node, call, hold))
        if isinstance(error, StoreError | IpamError | KernelError | NotEnforced):
            raise told(error) from error
        raise


async def _attach(node: Node, call: Call, inside: Inside, hold: Hold) -> Result:
    record = _record(node, call)
    node.freed.pop(call.attachment.handle, None)
    _set_forwarding(call, inside)
    node.records.write(record)
    if faults.ACTIVE:
        await faults.at("add recorded")
    pair, record = await _made(node, call, inside, hold, record)
    record = msgspec.structs.replace(record, mac=pair.mac.hex(":"), complete=True)
    if faults.ACTIVE:
        await faults.at("add made")
    node.links.connect(pair, record.addresses, inside.socket, tuple(map(ip_network, record.routes)))
    if faults.ACTIVE:
        await faults.at("add connected")
    return await _finish(node, call, hold, record)


async def _again(node: Node, call: Call, hold: Hold, before: Record) -> Result:
    """The same answer for an attachment that is there: its addresses are adopted, nothing of it is undone on failure.

    Raises:
        CniError: it has other addresses than this ADD asks for.
    """
    if before.delegated is not None:
        return await _finish(node, call, hold, before)
    given = call.addressing.wanted
    wanted = Wanted(given.families, given.pools, use=given.use, namespace_labels=given.namespace_labels)
    # To its end: a DEL that cancels this ADD frees by the ids that it finds, and a new one is on its way.
    held = await to_the_end(node.allocator.assign(owner(node, call), wanted, hold, again=True))
    record = msgspec.structs.replace(before, held=texts(held))
    if record.addresses != before.addresses:
        raise InternalError("the attachment exists with other addresses", ", ".join(map(str, before.addresses)))
    return await _finish(node, call, hold, record)


async def _finish(node: Node, call: Call, hold: Hold, record: Record) -> Result:
    """Record, gate, answer."""
    node.records.write(record)
    hold.settle()
    if faults.ACTIVE:
        await faults.at("add completed")
    await node.policy.admit(record)
    if faults.ACTIVE:
        await faults.at("add enforced")
    node.endpoints.publish(record)
    return answer(record)


def answer(record: Record) -> Result:
    """What is there for a record.

    Interfaces name both ends, because chained plugins look for them: `bandwidth` wants the host end with an empty
    sandbox, `portmap` an address whose interface lies in the sandbox, podman a MAC on the inner one. An address has its
    gateway, because `sbr` makes default routes of that and not of `routes`.
    """
    outside = Interface(record.host_interface, GATEWAY_MAC.hex(":"), record.mtu)
    inside = Interface(record.interface, record.mac, record.mtu, record.netns)
    gateways = {4: str(GATEWAY_IPV4), 6: str(GATEWAY_IPV6)}
    ips = tuple(
        IP(f"{address}/{address.max_prefixlen}", interface=1, gateway=gateways[address.version])
        for address in record.addresses
    )
    versions = {address.version for address in record.addresses}
    routes = tuple(
        Route(text, gateways[6 if ":" in text else 4])
        for text in record.routes or EVERYWHERE
        if (6 if ":" in text else 4) in versions
    )
    return Result((outside, inside), ips, routes, record.dns)


async def _made(node: Node, call: Call, inside: Inside, hold: Hold, record: Record) -> tuple[Pair, Record]:
    """The veth pair, and the record with its addresses; no flow of their earlier owners is left."""
    if record.delegated is not None:
        # After the pair: dhcp speaks by the pod's own interface.
        pair = await _make_pair(node, call, inside, record)
        record = await _delegate(node, call, record, record.delegated)
        await node.flows.forgotten(record.addresses)
        return pair, record
    pair, held = await _side_by_side(node, call, inside, hold, record)
    await node.flows.forgotten(tuple(one.address for one in held if not one.fresh))
    return pair, msgspec.structs.replace(record, held=texts(held))


async def _delegate(node: Node, call: Call, record: Record, plugin: delegate.Delegated) -> Record:
    try:
        result, plugin = await delegate.add(plugin, call.attachment, call.config.cni_version)
    except delegate.DelegateFailed as error:
        if not error.ran:
            node.records.write(msgspec.structs.replace(record, delegated=None))  # it has nothing to undo
        raise
    return _with_result(call, msgspec.structs.replace(record, delegated=plugin), result)


def _with_result(call: Call, record: Record, result: Result) -> Record:
    """The record with what another IPAM plugin gave; its addresses are hosts here, its routes go by way of the node."""
    held = tuple(HeldAddress("", 0, "", ip.address.partition("/")[0]) for ip in result.ips)
    routes = tuple(dict.fromkeys(str(ip_network(route.dst, strict=False)) for route in result.routes))
    if routes and call.config.include_default_routes:
        routes = tuple(dict.fromkeys((*EVERYWHERE, *routes)))
    dns = record.dns if record.dns != DNS() else result.dns
    return msgspec.structs.replace(record, held=held, routes=routes, dns=dns)


async def _side_by_side(
    node: Node, call: Call, inside: Inside, hold: Hold, record: Record
) -> tuple[Pair, tuple[Held, ...]]:
    """The veth pair and the addresses; both have ended when this does."""
    making = asyncio.ensure_future(_make_pair(node, call, inside, record))
    assigning = asyncio.ensure_future(_assign(node, call, hold))
    try:
        await to_the_end(asyncio.wait((making, assigning)))
    finally:
        for task in (making, assigning):
            if task.done() and not task.cancelled():
                task.exception()  # seen: telling one failure is enough
    return making.result(), assigning.result()


async def _assign(node: Node, call: Call, hold: Hold) -> tuple[Held, ...]:
    if faults.ACTIVE:
        await faults.at("add before address")
    held = await node.allocator.assign(owner(node, call), call.addressing.wanted, hold)
    if faults.ACTIVE:
        await faults.at("add assigned")
    return held


async def _make_pair(node: Node, call: Call, inside: Inside, record: Record) -> Pair:
    alias = f"{record.namespace}/{record.pod}"
    wanted = NewPair(record.host_interface, alias, record.interface, inside.fd, record.mtu, call.mac)
    try:
        return await _create(node, wanted, inside)
    except Taken:
        # The name may be of a link that was retired and not yet deleted: the pod's end goes with the host's.
        await node.reaper.reaped()
    try:
        return await _create(node, wanted, inside)
    except Taken as taken:
        if taken.host is not None:
            raise InternalError(f"the node has an interface {record.host_interface} already") from taken
        raise InvalidEnvironment(f"CNI_IFNAME {record.interface} exists in the pod's namespace") from taken


async def _create(node: Node, wanted: NewPair, inside: Inside) -> Pair:
    if faults.ACTIVE:
        await faults.at("add before pair")
    pair = await node.links.create(wanted, inside.socket)
    if faults.ACTIVE:
        faults.note("add paired")
    return pair


async def _undo(node: Node, call: Call, hold: Hold) -> None:
    try:
        await remove(node, call.attachment, hold)
    except (KernelError, OSError) as error:
        log.warning("%s could not be undone; its DEL will try again: %s", call.attachment.handle, error)


def _is_attached(node: Node, before: Record, call: Call) -> bool:
    """Whether a recorded attachment is whole and is what this ADD asks for."""
    if not before.complete or before.netns != call.netns:
        return False
    link = node.links.find(before.host_interface)
    return link is not None and link.up


def _record(node: Node, call: Call) -> Record:
    attachment, args = call.attachment, call.config.args.cni
    return Record(
        network=attachment.network,
        container_id=attachment.container_id,
        interface=attachment.interface,
        host_interface=host_interface(attachment.network, attachment.container_id, attachment.interface),
        netns=call.netns,
        namespace=call.pod.namespace,
        pod=call.pod.name,
        uid=call.pod.uid,
        labels={label.key: label.value for label in args.labels},
        ports=tuple(Port(port.name, port.port, port.protocol) for port in args.ports),
        mtu=call.config.mtu or node.mtu(),
        routes=tuple(str(ip_network(route.dst, strict=False)) for route in call.config.ipam.routes),
        dns=call.config.resolver,
        delegated=delegate.delegated(call, node.pod_cidrs),
    )


def _set_forwarding(call: Call, inside: Inside) -> None:
    allowed = call.config.container_settings.allow_ip_forwarding
    for fd in inside.forwarding if allowed is not None else ():
        os.write(fd, b"1" if allowed else b"0")


def owner(node: Node, call: Call) -> Owner:
    """Who an address of this call is assigned to."""
    pod = call.pod
    return Owner(call.attachment.handle, node.name, pod.name, pod.namespace, pod.uid, on_link=call.alone)


def texts(held: tuple[Held, ...]) -> tuple[HeldAddress, ...]:
    """Allocations as a record keeps them."""
    return tuple(HeldAddress(one.block, one.ordinal, one.id, str(one.address)) for one in held)


def told(error: Exception) -> CniError:
    """What the runtime is told of a failure."""
    match error:
        case delegate.DelegateFailed():
            return error.told
        case OutsidePools():
            return InvalidConfig("ipam.subnet, ipam.ranges or a request names what no pool has", str(error))
        case NotEnforced():
            return TryAgainLater("the pod's policy is not in force", error.reason)
        case KernelError():
            return InternalError("the pod's interface could not be made", str(error))
        case _:
            return TryAgainLater("no address could be assigned", str(error))
