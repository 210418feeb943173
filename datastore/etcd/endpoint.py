"""One member of a cluster, and the channel to it.

Methods are named here instead of in generated stubs, so that a request may be sent as the bytes it was prepared as.
"""

from collections.abc import Callable

import grpc
import grpc.aio

from datastore.errors import Unavailable
from datastore.etcd.address import Tls
from datastore.etcd.etcd_pb2 import (
    AuthenticateRequest,
    AuthenticateResponse,
    TxnResponse,
    WatchCreateRequest,
    WatchRequest,
    WatchResponse,
)

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.enable_retries", 0),  # a write is never sent twice: neither by a service config nor "transparently"
    ("grpc.service_config_disable_resolution", 1),  # nor because a name's TXT record says so
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),  # a page of a list has what it has; 4 MiB is gRPC's own limit
    ("grpc.max_send_message_length", -1),  # etcd's limit decides, which an administrator can move
    ("grpc.keepalive_time_ms", 10_000),  # etcd closes connections that ping more often than every 5 s
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),  # a watch is mostly silence
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),  # a search gives up after seconds
    ("grpc.use_local_subchannel_pool", 1),  # two stores in a process don't share a broken connection
)
_UP = grpc.ChannelConnectivity.READY

Txn = Callable[..., "grpc.aio.UnaryUnaryCall[bytes, TxnResponse]"]


def credentials(tls: Tls | None) -> grpc.ChannelCredentials | None:
    """What `tls` says, read from its files.

    Raises:
        Unavailable: one of them can't be read.
    """
    if tls is None:
        return None
    try:
        ca, cert, key = (path.read_bytes() if path else None for path in (tls.ca, tls.cert, tls.key))
    except OSError as error:
        raise Unavailable(f"a file of the etcd address can't be read: {error}") from error
    return grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=cert)


class Stream:
    """One watch at a member."""

    def __init__(self, call: "grpc.aio.StreamStreamCall[WatchRequest, WatchResponse]", endpoint: str) -> None:
        self.endpoint = endpoint
        self._call = call

    async def begin(self, create: WatchCreateRequest) -> None:
        """Ask for what is to be watched.

        Raises:
            grpc.aio.AioRpcError: the stream is broken.
        """
        await self._call.write(WatchRequest(create_request=create))

    async def next(self) -> WatchResponse | None:
        """The next response; None at the stream's end. To cancel this is to end the stream.

        Raises:
            grpc.aio.AioRpcError: the stream is broken.
        """
        response = await self._call.read()
        return response if isinstance(response, WatchResponse) else None

    def end(self) -> None:
        """Let go of it."""
        self._call.cancel()


class Endpoint:
    """A member at `name` (host:port)."""

    def __init__(self, name: str, secret: grpc.ChannelCredentials | None) -> None:
        self.name = name
        target = f"dns:///{name}"
        self._channel = (
            grpc.aio.secure_channel(target, secret, _OPTIONS) if secret else grpc.aio.insecure_channel(target, _OPTIONS)
        )
        self.txn: Txn = self._channel.unary_unary(
            "/etcdserverpb.KV/Txn", request_serializer=None, response_deserializer=TxnResponse.FromString
        )
        self._authenticate = self._channel.unary_unary(
            "/etcdserverpb.Auth/Authenticate",
            request_serializer=AuthenticateRequest.SerializeToString,
            response_deserializer=AuthenticateResponse.FromString,
        )
        self._watch: grpc.aio.StreamStreamMultiCallable[WatchRequest, WatchResponse] = self._channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=WatchRequest.SerializeToString,
            response_deserializer=WatchResponse.FromString,
        )

    def is_up(self) -> bool:
        """Whether there is a connection."""
        return self._channel.get_state() is _UP

    async def authenticate(self, user: str, password: str, timeout_s: float) -> str:
        """A token.

        Raises:
            grpc.aio.AioRpcError: etcd gives none.
        """
        request = AuthenticateRequest(name=user, password=password)
        return (await self._authenticate(request, timeout=timeout_s)).token

    def stream(self, metadata: grpc.aio.Metadata) -> Stream:
        """A new watch."""
        return Stream(self._watch(metadata=metadata), self.name)

    async def close(self, grace_s: float) -> None:
        """Disconnect, once calls have ended or `grace_s` have passed."""
        await self._channel.close(grace_s)
