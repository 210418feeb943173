r"""A small HTTP server for three pages; whoever asks anything else is told what there is.

    /livez      200 while the event loop turns: restarting helps only a process that is stuck
    /readyz     200, or 503 with a reason in each line; what isn't a reason but worth knowing follows as `warning: ...`
    /metrics    Prometheus' text format

One request a connection, read with a limit of size and of time, since whatever reaches the port may connect. Nothing
said here is secret, and nothing can be changed.

Source: RFC 9112 for the little of HTTP/1.1; kubernetes.io/docs/reference/using-api/health-checks for the names.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from monitoring.address import HttpAddress

log = logging.getLogger(__name__)

_HEAD_MAX = 16 << 10
_LIMIT_S = 10.0
_AT_ONCE = 32
"""Connections; a probe and a Prometheus or two are a handful."""
_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a program does its work."""

    reasons: Sequence[str] = ()
    """Why it doesn't; none: it does."""
    warnings: Sequence[str] = ()
    """What somebody should look at nevertheless."""


@dataclass(frozen=True, slots=True)
class Page:
    """An answer."""

    status: HTTPStatus
    body: bytes
    content: str = _TEXT


class MonitoringServer:
    """Answers until it is closed."""

    def __init__(self, readiness: Callable[[], Readiness], metrics: Callable[[], tuple[bytes, str]]) -> None:
        self._pages: Mapping[str, Callable[[], Page]] = {
            "/livez": lambda: Page(HTTPStatus.OK, b"ok\n"),
            "/readyz": lambda: _ready(readiness()),
            "/metrics": lambda: Page(HTTPStatus.OK, *metrics()),
        }
        self._server: asyncio.Server | None = None
        self._serving = 0

    async def start(self, address: HttpAddress) -> None:
        """Listen.

        Raises:
            OSError: the port isn't to be had.
        """
        self._server = await asyncio.start_server(
            self._serve, address.host or None, address.port, limit=_HEAD_MAX, reuse_address=True
        )

    @property
    def ports(self) -> list[int]:
        """Where it listens, one for each address family."""
        return [sock.getsockname()[1] for sock in self._server.sockets] if self._server is not None else []

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving += 1
        try:
            if self._serving > _AT_ONCE:
                return
            async with asyncio.timeout(_LIMIT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(head))
                await writer.drain()
        except (OSError, EOFError, asyncio.LimitOverrunError, TimeoutError) as error:
            log.debug("a connection asked nothing: %r", error)
        finally:
            self._serving -= 1
            writer.close()

    def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0].decode("ascii", "replace")
        page = self._pages.get(path)
        if method not in (b"GET", b"HEAD"):
            answer = Page(HTTPStatus.METHOD_NOT_ALLOWED, b"GET is all there is\n")
        elif page is None:
            answer = Page(HTTPStatus.NOT_FOUND, f"there are: {' '.join(self._pages)}\n".encode())
        else:
            answer = _made(path, page)
        return _head(answer) + (b"" if method == b"HEAD" else answer.body)


def _made(path: str, page: Callable[[], Page]) -> Page:
    try:
        return page()
    except Exception:
        log.exception("%s can't be told", path)
        return Page(HTTPStatus.INTERNAL_SERVER_ERROR, b"see the log\n")


def _ready(found: Readiness) -> Page:
    lines = [*(found.reasons or ("ok",)), *(f"warning: {text}" for text in found.warnings)]
    status = HTTPStatus.SERVICE_UNAVAILABLE if found.reasons else HTTPStatus.OK
    return Page(status, "".join(f"{line}\n" for line in lines).encode())


def _head(page: Page) -> bytes:
    lines = (
        f"HTTP/1.1 {page.status.value} {page.status.phrase}",
        f"Content-Type: {page.content}",
        f"Content-Length: {len(page.body)}",
        "Connection: close",
        "",
        "",
    )
    return "\r\n".join(lines).encode()
