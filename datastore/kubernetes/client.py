"""Requests to the API server: paced, with fresh credentials, never sent twice where that could matter.

aiohttp sends a PUT or DELETE again when a kept connection turns out to be dead. That may apply a write twice, and its
compare-and-swap would then report a conflict with itself; a middleware hides such failures of writes from that loop.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp

from datastore.errors import StoreError, Unavailable
from datastore.kubernetes.access import Access, Link
from datastore.kubernetes.failures import Call, lost, refusal, retry_after_s, status_of, told
from datastore.kubernetes.pace import Pace

CONNECT_S = 5.0
PATIENCE_S = 30.0
"""How long a read that is turned away with 429 is tried again, altogether."""
_NEVER_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientProxyConnectionError)
_LOST = (aiohttp.ClientError, OSError, TimeoutError)

Query = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent, and what for."""

    call: Call
    method: str
    path: str
    query: Query | None = None
    body: bytes | None = None
    content: str = "application/json"
    """What `body` is."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said."""

    code: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def is_ok(self) -> bool:
        """Whether it did what was asked."""
        return HTTPStatus.OK <= self.code < HTTPStatus.MULTIPLE_CHOICES


class _Sent(Exception):
    """A write failed after it may have been sent; no aiohttp error, so that aiohttp doesn't send it again."""


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    try:
        return await handler(request)
    except _NEVER_SENT:
        raise
    except _LOST as error:
        raise _Sent(told(error)) from error


class Client:
    """For one event loop."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._pace = Pace(access.address.qps)
        self._limits = aiohttp.ClientTimeout(total=access.address.timeout_s, sock_connect=CONNECT_S)
        self._closed = False
        self.outages = 0
        """How often the server couldn't be reached or a connection broke: it may be another one now."""

    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    async def ask(self, request: Request) -> Answer:
        """The answer to a request, whatever it is but 401 and, for a read, 429.

        Raises:
            Unavailable: nothing was applied.
            Unknown: a write may have been.
            Forbidden: the credentials aren't good, though they were read again.
            Invalid: the configuration can't be read.
        """
        clock = asyncio.get_running_loop().time
        until = clock() + PATIENCE_S
        while True:
            answer = await self._ask_as_somebody(request)
            if answer.code != HTTPStatus.TOO_MANY_REQUESTS or request.call.writes:
                return answer
            wait_s = retry_after_s(status_of(answer.body), answer.headers)
            if clock() + wait_s > until:
                return answer
            await asyncio.sleep(wait_s)

    @asynccontextmanager
    async def stream(self, request: Request, idle_s: float) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """A response that goes on; reading raises aiohttp's errors, after `idle_s` without a byte too.

        Raises:
            Unavailable: no connection.
        """
        limits = aiohttp.ClientTimeout(sock_connect=CONNECT_S, sock_read=idle_s)
        for again in (True, False):
            await self._turn()
            async with self._sent(request, limits) as (response, generation):
                if response.status == HTTPStatus.UNAUTHORIZED and again and await self._access.renew(generation):
                    continue
                yield response
                return

    async def close(self) -> None:
        """Close every connection; what is being asked fails."""
        self._closed = True
        await self._access.close()

    async def _ask_as_somebody(self, request: Request) -> Answer:
        await self._turn()
        answer, generation = await self._ask_once(request)
        if answer.code == HTTPStatus.UNAUTHORIZED and await self._access.renew(generation):
            # Turned away before anything was looked at: sending it again isn't a second try.
            answer, _ = await self._ask_once(request)
        if answer.code == HTTPStatus.UNAUTHORIZED:
            raise refusal(request.call, answer.code, answer.body, answer.headers)
        return answer

    async def _ask_once(self, request: Request) -> tuple[Answer, int]:
        async with self._sent(request, self._limits) as (response, generation):
            try:
                return Answer(response.status, await response.read(), response.headers), generation
            except _LOST as error:
                self.outages += 1
                raise self._said(lost(request.call, error)) from error

    @asynccontextmanager
    async def _sent(
        self, request: Request, limits: aiohttp.ClientTimeout
    ) -> AsyncGenerator[tuple[aiohttp.ClientResponse, int], None]:
        link = await self._access.take()
        generation = self._access.generation
        try:
            response = await self._send(link, request, limits)
            try:
                yield response, generation
            finally:
                _drop(response)
        finally:
            await link.release()

    async def _send(self, link: Link, request: Request, limits: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        call, body = request.call, request.body
        try:
            return await link.session.request(
                request.method,
                link.url + request.path,
                params=request.query,
                data=body,
                headers=link.headers if body is None else {**link.headers, "Content-Type": request.content},
                timeout=limits,
                proxy=link.proxy,
                server_hostname=link.server_hostname,
                allow_redirects=False,
                middlewares=(_once,) if call.writes else (),
            )
        except (*_NEVER_SENT, RuntimeError) as error:
            self.outages += 1
            told_ = f"{call.verb} {call.key}: {link.url} can't be reached: {told(error)}"
            raise self._said(Unavailable(told_)) from error
        except (_Sent, *_LOST) as error:
            self.outages += 1
            raise self._said(lost(call, error)) from error

    async def _turn(self) -> None:
        await self._pace.turn()
        if self._closed:
            raise Unavailable("the datastore is closed")

    def _said(self, error: StoreError) -> StoreError:
        return Unavailable("the datastore is closed") if self._closed and isinstance(error, Unavailable) else error


def _drop(response: aiohttp.ClientResponse) -> None:
    # An answer that was read to its end has given its connection back; any other ends with it, and at once: saying
    # goodbye in TLS takes longer than some event loops live.
    if response.connection and response.connection.transport:
        response.connection.transport.abort()
    response.close()
