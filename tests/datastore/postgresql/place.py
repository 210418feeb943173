"""A role and its database on a server, and the sessions that a test puts in the way of stores there."""

from contextlib import AsyncExitStack
from itertools import count
from typing import Any
from urllib.parse import quote

import asyncpg

from datastore import feed
from datastore.postgresql.address import PostgreSQLAddress, parse
from datastore.postgresql.news import TIMER_S
from datastore.postgresql.postgresql import PostgreSQLStore
from tests.servers.postgresql import PASSWORD, PostgreSQLServer

_numbers = count()


class Place:
    """The role owns the database; both have the same name, and the stores are in schema `tortie`."""

    def __init__(self, server: PostgreSQLServer) -> None:
        self.server = server
        self.name = f"r{next(_numbers)}"
        self._stack = AsyncExitStack()
        self.sql(
            f"CREATE ROLE {self.name} LOGIN PASSWORD '{PASSWORD}'", f"CREATE DATABASE {self.name} OWNER {self.name}"
        )

    def sql(self, *statements: str) -> str:
        """What the superuser is answered, in no database of ours."""
        return self.server.sql(*statements)

    def here(self, *statements: str) -> str:
        """What the superuser is answered in this database."""
        return self.server.sql(*statements, database=self.name)

    def url(self, *, port: int = 0, hosts: str = "", password: str | None = PASSWORD, **parameters: object) -> str:
        """The address of the store here; `hosts` or `port` lead to it by another way."""
        secret = "" if password is None else f":{quote(password, safe='')}"
        way = hosts or f"127.0.0.1:{port or self.server.port}"
        given = {"sslmode": "disable", **parameters}
        query = "&".join(f"{name}={value}" for name, value in given.items())
        return f"postgresql://{self.name}{secret}@{way}/{self.name}?{query}"

    def address(self, **given: Any) -> PostgreSQLAddress:  # noqa: ANN401  # as of `url`
        return parse(self.url(**given))

    async def open(
        self, *, keep: int = feed.KEEP, bookmark_s: float = 60.0, timer_s: float = TIMER_S, **given: object
    ) -> PostgreSQLStore:
        """A store that is closed when the test ends."""
        store = await PostgreSQLStore.open(self.address(**given), keep=keep, bookmark_s=bookmark_s, timer_s=timer_s)
        self._stack.push_async_callback(store.close)
        return store

    async def session(self) -> Any:  # noqa: ANN401  # asyncpg has no types
        """A superuser's session in this database."""
        opened = await asyncpg.connect(
            host=str(self.server.folder), port=self.server.port, user="postgres", database=self.name
        )
        self._stack.push_async_callback(opened.close, timeout=1)
        return opened

    async def close(self) -> None:
        await self._stack.aclose()  # may be done before, and then does nothing
        self.sql(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)", f"DROP ROLE IF EXISTS {self.name}")
