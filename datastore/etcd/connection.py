"""The way to an etcd cluster: one member at a time, another when that one is away, slow, or apart from the others.

    read, write, stream ──► the present member ── fails ──► doubted ──► the next call searches:
                                                            members are asked in turn, the first that answers is it

Each member has a channel of its own, so that its certificate is checked against its own name, and so that a member
which takes connections but has lost its cluster can be left; one channel to all addresses would stay with it. A member
answers if it can read linearizably, which needs a leader.

Nothing is sent twice: gRPC's own retries are off, and a write goes only to a member whose channel is up or that has
just answered, so one that finds no connection was certainly not sent. The exception is a call that etcd refused for its
token, which it does before anything else: that is sent again with a new one.

A caller that is cancelled leaves its write alone.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import grpc.aio

from datastore.errors import Forbidden, Unavailable, Unknown
from datastore.etcd import failures
from datastore.etcd.address import EtcdAddress
from datastore.etcd.endpoint import Endpoint, Stream, credentials
from datastore.etcd.etcd_pb2 import TxnResponse, WatchCreateRequest
from datastore.etcd.failures import Failure

_Call = Callable[[Endpoint, bytes], Awaitable[TxnResponse]]

_PAUSE_S = 0.1
"""Between two rounds of a search; an election takes a second or so."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds."""

    answer_s: float
    """For the answer to one call."""
    probe_s: float
    """For a member to say that it is there."""
    election_s: float
    """For one that can be used, while some take connections."""
    connect_s: float
    """The same while none does."""

    @classmethod
    def of(cls, timeout_s: float) -> "Patience":
        """What an address that says timeout= means."""
        return cls(timeout_s, min(timeout_s, 2.0), timeout_s, min(timeout_s, 1.0))


class Connection:
    """For one event loop; `open` it, `close` it.

    `probe` is what a member must be able to read, and `on_found` has its answer before anything else is sent there.
    """

    def __init__(self, address: EtcdAddress, probe: bytes, on_found: Callable[[TxnResponse], object]) -> None:
        """Raises Unavailable: a file of the address can't be read."""
        secret = credentials(address.tls)
        self._endpoints: Sequence[Endpoint] = tuple(Endpoint(name, secret) for name in address.endpoints)
        self._login = address.login
        self._probe = probe
        self._on_found = on_found
        self._cluster = 0
        """Its id; 0 before it is known."""
        self._patience = Patience.of(address.timeout_s)
        # Clients that all began with the first would all stay there.
        self._present = random.choice(self._endpoints)  # noqa: S311
        self._doubted = True
        self._search: asyncio.Task[Endpoint] | None = None
        self._logging_in = asyncio.Lock()
        self._token = ""
        self._metadata = _metadata("")
        self._streams: set[Stream] = set()
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        """Done once the connection is being closed."""

    async def open(self) -> None:
        """Find a member, and get a token if there is a user.

        Raises:
            Unavailable: no member answers.
            Forbidden: etcd refuses the user.
        """
        endpoint = await self._endpoint()
        if self._login:
            await self._renew_token(endpoint, "")

    async def read(self, request: bytes) -> TxnResponse:
        """What a transaction that writes nothing finds.

        Raises:
            failures.RevisionGone, failures.RevisionAhead: there is nothing at the revision it asks for.
            Unavailable, Forbidden: it can't be read.
        """
        return await self._with_token(self._ask, request, failures.of_read)

    async def write(self, request: bytes) -> TxnResponse:
        """What a transaction that may write did.

        Raises:
            failures.NoSpace: etcd's quota is used up; this may have been applied.
            Unavailable, Forbidden, Invalid: certainly not applied.
            Unknown: perhaps applied.
        """
        return await self._with_token(self._send, request, failures.of_write)

    async def stream(self, create: WatchCreateRequest) -> Stream:
        """A watch that was asked for; give it back with `end`.

        Raises:
            Unavailable: no member answers.
        """
        endpoint = await self._endpoint()
        stream = endpoint.stream(self._metadata)
        self._streams.add(stream)
        try:
            async with asyncio.timeout(self._patience.answer_s):
                await stream.begin(create)
        except (Failure, TimeoutError, asyncio.CancelledError) as error:
            self.end(stream)
            if isinstance(error, asyncio.CancelledError) and not self.closed.done():
                raise
            self.doubt(stream)
            raise Unavailable(f"etcd at {endpoint.name}: a watch can't be begun: {error}") from error
        return stream

    def end(self, stream: Stream) -> None:
        """Let go of a watch."""
        self._streams.discard(stream)
        stream.end()

    def doubt(self, stream: Stream) -> None:
        """Look for another member at the next call: the one that served `stream` failed."""
        if stream.endpoint == self._present.name:
            self._doubted = True

    async def renew_token(self) -> None:
        """Get a token, whatever there was.

        Raises:
            Unavailable: no member answers.
            Forbidden: etcd refuses the user, or there is none in the address.
        """
        await self._renew_token(await self._endpoint(), self._token)

    async def close(self) -> None:
        """Wait for answers that are under way, then disconnect; streams end."""
        if self.closed.done():
            return
        self.closed.set_result(None)
        if self._search:
            self._search.cancel()
        for stream in tuple(self._streams):
            self.end(stream)
        await asyncio.gather(*(endpoint.close(self._patience.answer_s) for endpoint in self._endpoints))

    async def _with_token(self, call: _Call, request: bytes, told: Callable[[Failure, str], Exception]) -> TxnResponse:
        endpoint, token = await self._endpoint(), self._token
        try:
            try:
                return await call(endpoint, request)
            except Failure as failure:
                if self._login is None or not failures.is_stale_token(failure):
                    raise
            await self._renew_token(endpoint, token)
            return await call(endpoint, request)
        except Failure as failure:
            if endpoint is self._present and failures.is_members(failure):
                self._doubted = True
            raise told(failure, endpoint.name) from failure
        except grpc.aio.UsageError as error:
            raise Unavailable(failures.CLOSED) from error

    async def _ask(self, endpoint: Endpoint, request: bytes) -> TxnResponse:
        try:
            return await endpoint.txn(request, timeout=self._patience.answer_s, metadata=self._metadata)
        except asyncio.CancelledError:
            if self.closed.done():
                raise Unavailable(failures.CLOSED) from None
            raise

    async def _send(self, endpoint: Endpoint, request: bytes) -> TxnResponse:
        call = endpoint.txn(request, timeout=self._patience.answer_s, metadata=self._metadata)
        # To await the call would cancel it with the caller; a task and a shield do it, too, but cost 25 us.
        answered: asyncio.Future[None] = self._loop.create_future()
        call.add_done_callback(lambda _: None if answered.done() else answered.set_result(None))
        await answered
        try:
            return await call
        except asyncio.CancelledError:
            if call.cancelled():
                raise Unknown("the datastore was closed before it answered") from None
            raise

    async def _endpoint(self) -> Endpoint:
        if self.closed.done():
            raise Unavailable(failures.CLOSED)
        if not self._doubted and self._present.is_up():
            return self._present
        if self._search is None or self._search.done():
            self._search = self._loop.create_task(self._find(), name="tortie-etcd-search")
            self._search.add_done_callback(_retrieved)
        try:
            return await asyncio.shield(self._search)
        except asyncio.CancelledError:
            if self.closed.done():
                raise Unavailable(failures.CLOSED) from None
            raise

    async def _find(self) -> Endpoint:
        began = self._loop.time()
        while True:
            at = self._endpoints.index(self._present) + (1 if self._doubted else 0)
            tried: list[tuple[Endpoint, Failure]] = []
            for endpoint in (*self._endpoints[at:], *self._endpoints[:at]):
                try:
                    await self._asked_for_the_store(endpoint)
                except Failure as failure:
                    if failures.is_members(failure):
                        tried.append((endpoint, failure))
                        continue
                self._present, self._doubted = endpoint, False
                return endpoint
            unconnected = all(failures.was_not_sent(failure) for _, failure in tried)
            limit_s = self._patience.connect_s if unconnected else self._patience.election_s
            if self._loop.time() - began >= limit_s:
                raise Unavailable("; ".join(failures.told(failure, endpoint.name) for endpoint, failure in tried))
            await asyncio.sleep(_PAUSE_S)

    async def _asked_for_the_store(self, endpoint: Endpoint) -> None:
        """Ask a member for the store's key.

        Raises:
            Unavailable: it is another cluster's, so what is about to be sent was meant for another store.
        """
        answer = await endpoint.txn(self._probe, timeout=self._patience.probe_s, metadata=self._metadata)
        before, self._cluster = self._cluster, answer.header.cluster_id
        self._on_found(answer)
        if before not in (0, self._cluster):
            raise Unavailable(f"another etcd cluster answers at {endpoint.name} than did before")

    async def _renew_token(self, endpoint: Endpoint, stale: str) -> None:
        async with self._logging_in:
            if self._token == stale:
                self._token = await self._authenticated(endpoint)
                self._metadata = _metadata(self._token)

    async def _authenticated(self, endpoint: Endpoint) -> str:
        if self._login is None:
            raise Forbidden(f"etcd at {endpoint.name} asks for a user; give user= and password-file= in the address")
        try:
            password = self._login.password_file.read_text().strip("\r\n")
        except (OSError, UnicodeError) as error:
            raise Unavailable(f"the password file of the etcd address can't be read: {error}") from error
        try:
            return await endpoint.authenticate(self._login.user, password, self._patience.answer_s)
        except Failure as failure:
            if failures.has_no_users(failure):
                return ""
            raise failures.of_read(failure, endpoint.name) from failure


def _metadata(token: str) -> grpc.aio.Metadata:
    # hasleader: a member without a leader says so at once, instead of when its own patience ends.
    leader = ("hasleader", "true")
    return grpc.aio.Metadata(leader, ("token", token)) if token else grpc.aio.Metadata(leader)


def _retrieved(search: asyncio.Task[Endpoint]) -> None:
    # Callers that were cancelled in the meantime don't ask how it ended.
    if not search.cancelled():
        search.exception()
