"""An etcd that lies: calls go through to a real one, but what it says of watches is up to the test.

client ──► liar ──► etcd        liar.tell(response) -> what the client hears instead, perhaps later
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

import grpc
import grpc.aio

from datastore.etcd.etcd_pb2 import WatchRequest, WatchResponse

Context = grpc.aio.ServicerContext[bytes, bytes]


class Liar:
    """Made by `lying`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._calls: dict[str, grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = {
            method: channel.unary_unary(f"/etcdserverpb.{method}") for method in ("KV/Txn", "Auth/Authenticate")
        }
        self._watch = channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=WatchRequest.SerializeToString,
            response_deserializer=WatchResponse.FromString,
        )
        self.port = 0
        self.watches: list[WatchRequest] = []
        """What was asked to be watched."""
        self.on_watch: Callable[[], None] = lambda: None
        """Called before a watch is begun at the real etcd."""
        self.tell: Callable[[WatchResponse], Iterable[WatchResponse]] = lambda response: (response,)

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        watch = grpc.stream_stream_rpc_method_handler(
            self._watched,
            request_deserializer=WatchRequest.FromString,
            response_serializer=WatchResponse.SerializeToString,
        )
        return [
            grpc.method_handlers_generic_handler(
                "etcdserverpb.KV", {"Txn": grpc.unary_unary_rpc_method_handler(self._through("KV/Txn"))}
            ),
            grpc.method_handlers_generic_handler(
                "etcdserverpb.Auth",
                {"Authenticate": grpc.unary_unary_rpc_method_handler(self._through("Auth/Authenticate"))},
            ),
            grpc.method_handlers_generic_handler("etcdserverpb.Watch", {"Watch": watch}),
        ]

    def _through(self, method: str) -> Callable[[bytes, Context], Awaitable[bytes]]:
        async def asked(request: bytes, context: Context) -> bytes:
            try:
                answer: bytes = await self._calls[method](request)
            except grpc.aio.AioRpcError as error:
                await context.abort(error.code(), error.details() or "")
            return answer

        return asked

    async def _watched(self, requests: AsyncIterator[WatchRequest], _: Context) -> AsyncIterator[WatchResponse]:
        request = await anext(requests)
        self.watches.append(request)
        self.on_watch()
        call = self._watch()
        await call.write(request)
        try:
            async for response in call:
                for told in self.tell(response):
                    yield told
        finally:
            call.cancel()


@asynccontextmanager
async def lying(port: int) -> AsyncIterator[Liar]:
    """A liar before an etcd's port."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        liar = Liar(channel)
        # As etcd: a client may ask every five seconds whether it is still there.
        server = grpc.aio.server(options=[("grpc.http2.min_ping_interval_without_data_ms", 5000)])
        server.add_generic_rpc_handlers(liar.handlers())
        liar.port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield liar
        finally:
            await server.stop(None)
