"""Any path of the API, for tools: objects that the store has no kind for, logs, and pods by the API server's proxy.

The same client as the store's: paced, with fresh credentials, no write sent twice. What comes back is decoded into a
msgspec type that the caller names, so it says itself which fields it reads.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TypeVar

import msgspec

from datastore.errors import Unavailable
from datastore.kubernetes.access import Access
from datastore.kubernetes.address import KubernetesAddress
from datastore.kubernetes.client import Answer, Client, Request
from datastore.kubernetes.failures import Call, refusal

T = TypeVar("T")

_PAGE = "500"
_PAGES = 1000
"""At most: half a million objects."""


class _ListMeta(msgspec.Struct):
    token: str = msgspec.field(default="", name="continue")


class _Page(msgspec.Struct):
    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)
    items: Sequence[msgspec.Raw] | None = None


class Requests:
    """Asks one API server; for one event loop."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def answer(self, path: str, query: Mapping[str, str] | None = None) -> Answer:
        """Whatever the server answers to a GET.

        Raises:
            Unavailable, Forbidden, Invalid: there is no answer.
        """
        return await self._client.ask(Request(Call("get", path), "GET", path, query))

    async def read(self, path: str, shape: type[T], query: Mapping[str, str] | None = None) -> T | None:
        """One object, None where there is none.

        Raises:
            Unavailable, Forbidden, Invalid: there is no answer, or none that can be used.
        """
        answer = await self.answer(path, query)
        if answer.code == HTTPStatus.NOT_FOUND:
            return None
        return _decoded(path, _good(Call("get", path), answer).body, shape)

    async def items(self, path: str, shape: type[T], query: Mapping[str, str] | None = None) -> list[T]:
        """Every object of a list, page by page; none where the server has no such kind.

        Raises:
            Unavailable, Forbidden, Invalid: there is no answer, or none that can be used.
        """
        found: list[T] = []
        asked = {**(query or {}), "limit": _PAGE}
        for _ in range(_PAGES):
            page = await self.read(path, _Page, asked)
            if page is None:
                break
            found += [_decoded(path, bytes(one), shape) for one in page.items or ()]
            if not page.metadata.token:
                break
            asked = {**asked, "continue": page.metadata.token}
        return found

    async def create(self, path: str, body: object) -> None:
        """POST an object.

        Raises:
            AlreadyExists: there is one of that name.
            Unavailable, Unknown, Forbidden, Invalid: it isn't there, or perhaps not.
        """
        call = Call("create", path, writes=True)
        _good(call, await self._client.ask(Request(call, "POST", path, body=msgspec.json.encode(body))))

    async def delete(self, path: str) -> bool:
        """DELETE an object; gives whether there was one.

        Raises:
            Unavailable, Unknown, Forbidden, Invalid: it may be there still.
        """
        call = Call("delete", path, writes=True)
        answer = await self._client.ask(Request(call, "DELETE", path))
        if answer.code == HTTPStatus.NOT_FOUND:
            return False
        _good(call, answer)
        return True


@asynccontextmanager
async def requests(address: KubernetesAddress) -> AsyncGenerator[Requests, None]:
    """Requests to the API server at `address`; nothing is sent before the first."""
    client = Client(Access(address))
    try:
        yield Requests(client)
    finally:
        await client.close()


def _good(call: Call, answer: Answer) -> Answer:
    if not answer.is_ok:
        raise refusal(call, answer.code, answer.body, answer.headers)
    return answer


def _decoded(path: str, body: bytes, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.DecodeError as error:
        raise Unavailable(f"what {path} says can't be understood: {error}") from error
