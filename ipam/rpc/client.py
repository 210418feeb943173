"""Calling a node's IPAM service; errors are told in one sentence."""

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import quote

import grpc
import grpc.aio

from ipam.errors import IpamError
from ipam.rpc import ipam_pb2, ipam_pb2_grpc

_LIMIT_S = 30.0


class ServiceError(IpamError):
    """The service said no, or didn't answer (`unreachable`); `bad_input` says whether what was asked makes no sense."""

    def __init__(self, message: str, *, unreachable: bool, bad_input: bool = False) -> None:
        super().__init__(message)
        self.unreachable = unreachable
        self.bad_input = bad_input


@dataclass(frozen=True, slots=True)
class Allocation:
    """An address and its owner."""

    address: str
    handle: str
    block: str
    ordinal: int
    id: str
    namespace: str
    pod: str
    node: str
    since: float


class IpamClient:
    """A connection to one node's service."""

    def __init__(self, stub: "ipam_pb2_grpc.IpamAsyncStub", path: Path) -> None:
        self._stub = stub
        self._path = path

    async def assign(self, handle: str, *, ipv4: bool, ipv6: bool, pools: tuple[str, ...] = ()) -> list[Allocation]:
        """See ipam.proto.

        Raises:
            ServiceError: refused, or no answer.
        """
        request = ipam_pb2.AssignRequest(handle=handle, ipv4=ipv4, ipv6=ipv6, ipv4_pools=pools, ipv6_pools=pools)
        with _told(self._path):
            return _allocations((await self._stub.Assign(request, timeout=_LIMIT_S)).allocations)

    async def release(self, allocation: Allocation) -> list[Allocation]:
        """See ipam.proto.

        Raises:
            ServiceError: refused, or no answer.
        """
        request = ipam_pb2.ReleaseRequest(block=allocation.block, ordinal=allocation.ordinal, id=allocation.id)
        with _told(self._path):
            return _allocations((await self._stub.Release(request, timeout=_LIMIT_S)).allocations)

    async def release_by_handle(self, handle: str) -> list[Allocation]:
        """See ipam.proto.

        Raises:
            ServiceError: refused, or no answer.
        """
        request = ipam_pb2.ReleaseByHandleRequest(handle=handle)
        with _told(self._path):
            return _allocations((await self._stub.ReleaseByHandle(request, timeout=_LIMIT_S)).allocations)

    async def list(self, node: str = "", handle: str = "") -> list[Allocation]:
        """See ipam.proto.

        Raises:
            ServiceError: refused, or no answer.
        """
        request = ipam_pb2.ListRequest(node=node, handle=handle)
        with _told(self._path):
            return _allocations((await self._stub.List(request, timeout=_LIMIT_S)).allocations)


@asynccontextmanager
async def connect(path: Path) -> AsyncIterator[IpamClient]:
    """A client of the service at a socket."""
    async with grpc.aio.insecure_channel(f"unix:{quote(str(path))}") as channel:
        # The generated types have a second stub, for aio channels, that exists for type checkers alone.
        yield IpamClient(cast("ipam_pb2_grpc.IpamAsyncStub", ipam_pb2_grpc.IpamStub(channel)), path)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNAVAILABLE and "connect" in (error.details() or "").lower():
            raise ServiceError(f"no agent serves IPAM at {path}", unreachable=True) from None
        bad_input = error.code() is grpc.StatusCode.INVALID_ARGUMENT
        raise ServiceError(error.details() or error.code().name, unreachable=False, bad_input=bad_input) from None


def _allocations(messages: Iterable[ipam_pb2.Allocation]) -> list[Allocation]:
    return [
        Allocation(one.address, one.handle, one.block, one.ordinal, one.id, one.namespace, one.pod, one.node, one.since)
        for one in messages
    ]
