"""The IPAM service of one node, served by its agent: `tortie.ipam.v1` on a unix socket.

    Assign             NOT_FOUND: no pool for a family; RESOURCE_EXHAUSTED: no address left
                       INVALID_ARGUMENT: none of the pools that were asked for is one
    List               INVALID_ARGUMENT: there is no such node
    Release*           FAILED_PRECONDITION: the handle is an attachment's, which its DEL frees
    all                INVALID_ARGUMENT, ABORTED (handle busy), UNAVAILABLE (datastore)

Source of the status codes: google.rpc.Code.
"""

import os
import re
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import grpc
import grpc.aio

from datastore.errors import NotFound, StoreError
from datastore.resources.ipblock import IPBlock
from datastore.resources.node import Node
from datastore.store import Reader, Where
from ipam.allocator import Allocator, Wanted
from ipam.block import Block, Held, Owner
from ipam.errors import HandleBusy, IpamError, NoAddress, NoPool
from ipam.handles import Handles
from ipam.rpc import ipam_pb2, ipam_pb2_grpc

T = TypeVar("T")
_HANDLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./:-]{0,252}")
_STATUS = {
    NoAddress: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HandleBusy: grpc.StatusCode.ABORTED,
}
_GRACE_S = 1.0
MANUAL = "/"
"""What handles of addresses taken by hand hold, and attachments' can't: a network's name has no slash."""


class Refused(Exception):
    """A request that can't be served, with its status."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class IpamService(ipam_pb2_grpc.IpamServicer):
    """Answers with one node's allocator; `is_attached` says whether a handle is an attachment's."""

    def __init__(
        self, allocator: Allocator, handles: Handles, reader: Reader, node: str, is_attached: Callable[[str], bool]
    ) -> None:
        self._allocator = allocator
        self._handles = handles
        self._reader = reader
        self._node = node
        self._is_attached = is_attached

    async def Assign(  # noqa: N802  # the name in ipam.proto
        self, request: ipam_pb2.AssignRequest, context: "grpc.aio.ServicerContext[object, object]"
    ) -> ipam_pb2.AssignResponse:
        """See ipam.proto."""
        allocations = await _answered(self._assign(request), context)
        return ipam_pb2.AssignResponse(allocations=allocations)

    async def Release(  # noqa: N802
        self, request: ipam_pb2.ReleaseRequest, context: "grpc.aio.ServicerContext[object, object]"
    ) -> ipam_pb2.ReleaseResponse:
        """See ipam.proto."""
        allocations = await _answered(self._release(request), context)
        return ipam_pb2.ReleaseResponse(allocations=allocations)

    async def ReleaseByHandle(  # noqa: N802
        self, request: ipam_pb2.ReleaseByHandleRequest, context: "grpc.aio.ServicerContext[object, object]"
    ) -> ipam_pb2.ReleaseResponse:
        """See ipam.proto."""
        allocations = await _answered(self._release_handle(request.handle), context)
        return ipam_pb2.ReleaseResponse(allocations=allocations)

    async def List(  # noqa: N802
        self, request: ipam_pb2.ListRequest, context: "grpc.aio.ServicerContext[object, object]"
    ) -> ipam_pb2.ListResponse:
        """See ipam.proto."""
        return ipam_pb2.ListResponse(allocations=await _answered(self._list_known(request), context))

    async def _assign(self, request: ipam_pb2.AssignRequest) -> list[ipam_pb2.Allocation]:
        _check_handle(request.handle)
        if self._is_attached(request.handle):
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, f"handle {request.handle} is an attachment's")
        families = ((4,) if request.ipv4 else ()) + ((6,) if request.ipv6 else ())
        if not families:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "neither ipv4 nor ipv6 is asked for")
        owner = Owner(request.handle, self._node, request.pod, request.namespace)
        wanted = Wanted(families, {4: tuple(request.ipv4_pools), 6: tuple(request.ipv6_pools)})
        async with self._handles.hold(request.handle) as hold:
            held = await self._allocator.assign(owner, wanted, hold)
            hold.settle()
        return [_message(one, owner) for one in held]

    async def _release(self, request: ipam_pb2.ReleaseRequest) -> list[ipam_pb2.Allocation]:
        found = [
            one
            for one in await self._list(ipam_pb2.ListRequest())
            if (one.block, one.ordinal, one.id) == (request.block, request.ordinal, request.id)
        ]
        for one in found:
            self._check_free(one.handle, one.node)
            async with self._handles.hold(one.handle):
                await self._allocator.release([_held(one)])
        return found

    async def _release_handle(self, handle: str) -> list[ipam_pb2.Allocation]:
        _check_handle(handle)
        self._check_free(handle, self._node)
        async with self._handles.hold(handle) as hold:
            freed = await self._allocator.release_handle(handle, hold)
            hold.settle()
        return [_message(one, Owner(handle, self._node)) for one in freed]

    async def _list_known(self, request: ipam_pb2.ListRequest) -> list[ipam_pb2.Allocation]:
        found = await self._list(request)
        if request.node and not found:
            try:
                await self._reader.get(Node, request.node)
            except NotFound:
                raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"there is no node {request.node[:80]!r}") from None
        return found

    async def _list(self, request: ipam_pb2.ListRequest) -> list[ipam_pb2.Allocation]:
        listing = await self._reader.list(IPBlock, Where("node", request.node) if request.node else None)
        return [
            one
            for record in listing.items
            for one in _allocations(Block.read(record))
            if request.handle in ("", one.handle) and request.node in ("", one.node)
        ]

    def _check_free(self, handle: str, node: str) -> None:
        """Whether an address was taken by hand, or is of an attachment that its own node knows nothing of.

        Only a node's own agent can tell whether an attachment of it is alive.
        """
        if MANUAL in handle:
            return
        if node != self._node:
            message = f"handle {handle} may be an attachment's of {node}: ask that node's agent"
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, message)
        if self._is_attached(handle):
            message = f"handle {handle} is an attachment's: its address is freed by its DEL"
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, message)


class IpamServer:
    """Serves at a unix socket until it is closed."""

    def __init__(self, service: IpamService) -> None:
        self._server = grpc.aio.server()
        ipam_pb2_grpc.add_IpamServicer_to_server(service, self._server)

    async def start(self, path: Path) -> None:
        """Listen; only the socket's owner may connect."""
        before = os.umask(0o177)
        try:
            self._server.add_insecure_port(f"unix:{quote(str(path))}")
            await self._server.start()
        finally:
            os.umask(before)

    async def close(self) -> None:
        """Stop; calls under way have a second to end."""
        await self._server.stop(_GRACE_S)


async def _answered(work: Awaitable[T], context: "grpc.aio.ServicerContext[object, object]") -> T:
    try:
        return await work
    except Refused as error:
        await context.abort(error.code, str(error))
    except NoPool as error:
        # A name that no pool has is a mistake of the caller's; no pool at all is the cluster's.
        code = grpc.StatusCode.INVALID_ARGUMENT if error.asked else grpc.StatusCode.NOT_FOUND
        await context.abort(code, str(error))
    except IpamError as error:
        await context.abort(_STATUS.get(type(error), grpc.StatusCode.UNAVAILABLE), str(error))
    except StoreError as error:
        await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))


def _check_handle(handle: str) -> None:
    if not _HANDLE.fullmatch(handle):
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"{handle[:80]!r} is no handle")


def _allocations(block: Block) -> Iterable[ipam_pb2.Allocation]:
    for ordinal, found in sorted(block.record.spec.allocations.items(), key=lambda item: int(item[0])):
        yield ipam_pb2.Allocation(
            address=str(block.address_of(int(ordinal))),
            handle=found.handle,
            block=block.name,
            ordinal=int(ordinal),
            id=found.id,
            namespace=found.namespace,
            pod=found.pod,
            node=found.node,
            since=found.since,
        )


def _message(held: Held, owner: Owner) -> ipam_pb2.Allocation:
    return ipam_pb2.Allocation(
        address=str(held.address),
        handle=owner.handle,
        block=held.block,
        ordinal=held.ordinal,
        id=held.id,
        namespace=owner.namespace,
        pod=owner.pod,
        node=owner.node,
    )


def _held(message: ipam_pb2.Allocation) -> Held:
    return Held(message.block, message.ordinal, message.id, ip_address(message.address))
