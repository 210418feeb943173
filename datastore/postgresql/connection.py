"""A connection to the server, with a limit to every wait.

A session is asked one thing at a time. One whose answer didn't come is terminated, since nobody knows what it is doing;
the server ends the statement by itself, or at the latest when it has answered into nothing. `statement_timeout` is a
little shorter than our patience, so that who can still hear the server is told what became of a write.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar, cast

import asyncpg

from datastore.errors import Unavailable
from datastore.postgresql import failures, passfile
from datastore.postgresql.address import TLS, Host, PostgreSQLAddress
from datastore.postgresql.failures import Doing
from datastore.postgresql.schema import Statement

T = TypeVar("T")
Row = Sequence[object]

CONNECT_S = 5.0
"""How long a host may take until it has let us in, unless the address has a shorter timeout."""
SERVER_SHARE = 0.8
"""Of our patience, what the server may take for a statement."""
_CLOSE_S = 1.0
"""For a server to hear that we leave."""

_SET_UP = Statement(
    "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on',"
    " current_setting('fsync') = 'on',"
    " CASE WHEN NOT pg_is_in_recovery() THEN ltrim(substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), '0') END"
)
"""Standby, read-only, durable, timeline (the first eight digits of a WAL file's name, in upper-case hexadecimal)."""


class Prepared(Protocol):
    """What is used of asyncpg's prepared statement."""

    async def fetch(self, *values: object) -> Sequence[Row]: ...  # noqa: D102


class Connection(Protocol):
    """What is used of asyncpg's connection."""

    async def prepare(self, query: str) -> Prepared: ...  # noqa: D102
    async def execute(self, query: str) -> str: ...  # noqa: D102
    async def add_listener(self, channel: str, callback: Callable[..., None]) -> None: ...  # noqa: D102
    async def close(self, *, timeout: float) -> None: ...  # noqa: ASYNC109, D102
    def add_termination_listener(self, callback: Callable[..., None]) -> None: ...  # noqa: D102
    def terminate(self) -> None: ...  # noqa: D102
    def is_closed(self) -> bool: ...  # noqa: D102


class Session:
    """A connection that statements run on, each in a transaction of its own; `where` names its server."""

    def __init__(self, connection: Connection, where: str, timeout_s: float) -> None:
        self.where = where
        self.timeline = ""
        """Which of its histories the server is on: it begins another with each fail-over and each recovery."""
        self.is_durable = True
        """Whether the server waits for its disk."""
        self.used_at = 0.0
        """By the loop's clock; kept by who pools sessions."""
        self._connection = connection
        self._timeout_s = timeout_s
        self._prepared: dict[str, Prepared] = {}
        self._gave_up = False

    def is_closed(self) -> bool:
        """Whether it has ended, as far as is known here."""
        return self._connection.is_closed()

    async def set_up(self) -> None:
        """Ask the server what it is.

        Raises:
            Unavailable: it takes no writes, or doesn't answer.
        """
        ((standby, read_only, durable, timeline),) = await self.fetch(_SET_UP, {}, Doing.CONNECTING)
        if standby:
            raise Unavailable(f"{self.where}: is a standby, and the store is on the primary")
        if read_only:
            raise Unavailable(f"{self.where}: is set to be read-only (default_transaction_read_only)")
        self.is_durable = bool(durable)
        self.timeline = str(timeline)

    async def prepare(self, statement: Statement) -> Prepared:
        """The statement as the server knows it, so that running it is one message.

        Raises:
            StoreError: as `fetch` while reading.
        """
        prepared = self._prepared.get(statement.text)
        if prepared is None:
            prepared = await self._ask(lambda: self._connection.prepare(statement.text), Doing.READING)
            self._prepared[statement.text] = prepared
        return prepared

    async def fetch(self, statement: Statement, given: dict[str, object], doing: Doing) -> Sequence[Row]:
        """What `statement` gives.

        Raises:
            Unknown: it writes, and has perhaps been applied, or may be later.
            Invalid: a value can't be stored.
            Forbidden: these credentials may not.
            Unavailable: certainly not applied.
        """
        prepared = await self.prepare(statement)
        return await self._ask(lambda: prepared.fetch(*statement.values(given)), doing)

    async def execute(self, text: str) -> None:
        """Run a statement that has neither parameters nor an answer; for transactions, too.

        Raises:
            StoreError: as `fetch` while reading.
        """
        await self._ask(lambda: self._connection.execute(text), Doing.READING)

    async def listen(self, channel: str, heard: Callable[[str], None], ended: Callable[[], None]) -> None:
        """From now on call `heard` with what is told on `channel`, and `ended` when that is over.

        Raises:
            StoreError: as `fetch` while reading.
        """
        self._connection.add_termination_listener(lambda *_: ended())
        await self._ask(
            lambda: self._connection.add_listener(channel, lambda *told: heard(str(told[-1]))), Doing.READING
        )

    def terminate(self) -> None:
        """End it at once."""
        self._connection.terminate()

    async def close(self) -> None:
        """End it, after telling the server."""
        try:
            await self._connection.close(timeout=_CLOSE_S)
        except Exception:  # it ends either way
            self._connection.terminate()

    async def _ask(self, question: Callable[[], Awaitable[T]], doing: Doing) -> T:
        if self.is_closed():
            raise Unavailable(f"{self.where}: the connection has ended")
        timer = asyncio.get_running_loop().call_later(self._timeout_s, self._give_up)
        try:
            return await question()
        except Exception as error:
            if failures.lost(error):
                self.terminate()
            if self._gave_up:
                raise failures.no_answer(doing, self.where, self._timeout_s) from error
            raise failures.meaning(error, doing, self.where) from error
        except BaseException:  # cancelled: the answer to this would be taken for that to the next question
            self.terminate()
            raise
        finally:
            timer.cancel()

    def _give_up(self) -> None:
        self._gave_up = True
        self.terminate()


async def connect(address: PostgreSQLAddress, host: Host) -> Session:
    """A session with `host`, which takes writes.

    Raises:
        Unavailable: there is none.
        Forbidden: these credentials may not, or the password file is everybody's.
    """
    where = f"PostgreSQL at {host}"
    limit_s = min(CONNECT_S, address.timeout_s)
    try:
        secret = address.password
        if secret is None and address.passfile:
            secret = passfile.password(Path(address.passfile), host, address.database, address.user)
        async with asyncio.timeout(limit_s):
            connection = await asyncpg.connect(
                host=host.name,
                port=host.port,
                database=address.database,
                user=address.user,
                password=secret,
                ssl=_tls(address.tls),
                target_session_attrs="any",  # of its own, whatever PGTARGETSESSIONATTRS says
                server_settings=_settings(address.timeout_s),
                statement_cache_size=0,  # a session prepares what it runs
            )
    except TimeoutError as error:
        raise failures.no_answer(Doing.CONNECTING, where, limit_s) from error
    except Exception as error:
        raise failures.meaning(error, Doing.CONNECTING, where) from error
    session = Session(cast("Connection", connection), where, address.timeout_s)
    try:
        await session.set_up()
    except BaseException:
        session.terminate()
        raise
    return session


def _settings(timeout_s: float) -> dict[str, str]:
    """Of the session, whatever the role's and the database's are: those are weaker than what the client sends."""
    statement_ms = str(max(int(timeout_s * SERVER_SHARE * 1000), 1))
    return {
        "application_name": "tortie",
        "search_path": "pg_catalog",  # all names of ours have their schema, so nobody's tables or functions stand in
        "synchronous_commit": "on",
        "default_transaction_isolation": "read committed",
        "statement_timeout": statement_ms,
        "idle_in_transaction_session_timeout": statement_ms,
        "lock_timeout": "0",
        "idle_session_timeout": "0",
        "jit": "off",
    }


def _tls(tls: TLS) -> ssl.SSLContext | str | bool:
    if tls.mode in ("disable", "prefer"):
        return tls.mode
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = tls.mode == "verify-full"
    context.verify_mode = ssl.CERT_REQUIRED if tls.mode.startswith("verify-") else ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.root:
        _load("sslrootcert", tls.root, lambda: context.load_verify_locations(tls.root))
    else:
        context.load_default_certs()
    if tls.cert:
        cert = tls.cert
        _load("sslcert", cert, lambda: context.load_cert_chain(cert, tls.key, password=""))
    return context


def _load(parameter: str, path: str, load: Callable[[], None]) -> None:
    try:
        load()
    except (OSError, ssl.SSLError) as error:
        raise Unavailable(f"{parameter} {path}: can't be used: {error}") from error
