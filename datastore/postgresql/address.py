"""The address of a PostgreSQL database, such as postgresql://tortie@db1:5432,db2/tortie?sslmode=verify-full.

As libpq writes it (PostgreSQL 15, section 34.1.1.2), with parameters of ours. A password is never in what this module
says of an address: messages name the parameter that is wrong, and quote nothing else.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

from datastore.errors import Invalid
from datastore.store import Store

PORT = 5432
SSL_MODES = ("disable", "prefer", "require", "verify-ca", "verify-full")
"""libpq's but `allow`, which encrypts only where a server insists on it."""
POOL = 3
"""Connections for calls: one writes, the others read. Watching takes one more. A server has 100 by default
(max_connections), so this is what 25 nodes may have."""
TIMEOUT_S = 10.0
"""How long a call waits for the server."""
_PARAMETERS = (
    *("host", "sslmode", "sslrootcert", "sslcert", "sslkey", "passfile"),  # libpq's
    *("schema", "pool", "timeout"),  # ours
)
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,47}")
"""An identifier that needs no quotes, short enough to be part of a channel's name (63 bytes)."""
_EXAMPLE = "postgresql://tortie@db.example/tortie"


@dataclass(frozen=True, slots=True)
class Host:
    """A server: a name or address, or the folder of its unix socket."""

    name: str
    port: int

    def __str__(self) -> str:
        if self.name.startswith("/"):
            return f"{self.name}/.s.PGSQL.{self.port}"
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


@dataclass(frozen=True, slots=True)
class TLS:
    """How connections are encrypted, and whom they trust; paths are files in PEM."""

    mode: str = "prefer"
    root: str | None = None
    """Certificates that servers' ones must be signed by; the system's, if none."""
    cert: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class PostgreSQLAddress:
    """Where a store's tables are; see `urls.Address`."""

    hosts: tuple[Host, ...]
    """In the order they are tried: the store is on the one that takes writes."""
    database: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    passfile: str | None = None
    tls: TLS = TLS()
    schema: str = "tortie"
    pool: int = POOL
    timeout_s: float = TIMEOUT_S
    scheme: str = "postgresql"
    path: None = None
    shared: bool = True

    @property
    def description(self) -> str:
        """The database, and where."""
        schema = "" if self.schema == "tortie" else f", schema {self.schema}"
        return f"PostgreSQL database {self.database} at {', '.join(map(str, self.hosts))}{schema}"

    async def open(self) -> Store:
        """The store in the database; its tables are made where they are missing.

        Raises:
            Unavailable: it can't be reached, or takes no writes, or is another program's or a newer version's.
            Forbidden: these credentials may not.
        """
        from datastore.postgresql.postgresql import PostgreSQLStore

        return await PostgreSQLStore.open(self)


def parse(url: str) -> PostgreSQLAddress:
    """The database that `url` names.

    Raises:
        Invalid: it names none, or has a parameter that is wrong or unknown.
    """
    try:
        # Several hosts are no URL's authority by RFC 3986, and urlsplit leaves it in one piece.
        parts = urlsplit(url)
        parameters = _parameters(parts.query)
    except ValueError:
        _refuse(f"is no URL such as {_EXAMPLE}")
    if parts.fragment:
        _refuse("has a fragment: a # in a user or password is written %23")
    credentials, _, netloc = parts.netloc.rpartition("@")
    user, colon, password = credentials.partition(":")
    database = unquote(parts.path.removeprefix("/"))
    if not database or "/" in database or "\0" in database:
        _refuse(f"names no database, as {_EXAMPLE} does")
    schema = parameters.get("schema", "tortie")
    if not _SCHEMA.fullmatch(schema):
        _refuse("schema: is no lower-case identifier of at most 48 letters, digits and underscores")
    return PostgreSQLAddress(
        hosts=_hosts(netloc, parameters.get("host")),
        database=database,
        user=unquote(user) or None,
        password=unquote(password) if colon else None,
        passfile=_file(parameters, "passfile"),
        tls=_tls(parameters),
        schema=schema,
        pool=int(_number(parameters, "pool", POOL, 2, 100)),
        timeout_s=_number(parameters, "timeout", TIMEOUT_S, 0.1, 3600),
    )


def _parameters(query: str) -> Mapping[str, str]:
    pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    parameters = dict(pairs)
    unknown = sorted(set(parameters) - set(_PARAMETERS))
    if unknown:
        _refuse(f"{unknown[0]}: is no parameter; there are {', '.join(_PARAMETERS)}")
    if len(parameters) != len(pairs):
        _refuse("has a parameter twice")
    return parameters


def _hosts(netloc: str, folder: str | None) -> tuple[Host, ...]:
    if folder is not None:
        if not folder.startswith("/"):
            _refuse("host: is no absolute path of a socket's folder; name hosts before the database")
        return tuple(Host(folder, _port(text)) for text in netloc.split(","))
    return tuple(_host(text) for text in netloc.split(","))


def _host(text: str) -> Host:
    name, bracket, port = text.partition("]") if text.startswith("[") else text.partition(":")
    if bracket == "]":
        name, port = name.removeprefix("["), port
    else:
        port = f":{port}" if bracket else ""
    name = unquote(name)
    if not name or "\0" in name:
        _refuse("names no host; a socket's folder is given as ?host=/run/postgresql")
    return Host(name, _port(port))


def _port(text: str) -> int:
    number = text.removeprefix(":")
    if not text:
        return PORT
    if not (text.startswith(":") and number.isascii() and number.isdigit() and 0 < int(number[:6]) < 1 << 16):
        _refuse("has a port that is none")
    return int(number)


def _tls(parameters: Mapping[str, str]) -> TLS:
    mode = parameters.get("sslmode", "prefer")
    if mode not in SSL_MODES:
        _refuse(f"sslmode: is none of {', '.join(SSL_MODES)}")
    root, cert, key = (_file(parameters, name) for name in ("sslrootcert", "sslcert", "sslkey"))
    if root and not mode.startswith("verify-"):
        _refuse("sslrootcert: is looked at with sslmode=verify-ca and verify-full only")
    if (cert or key) and mode in ("disable", "prefer"):
        _refuse("sslcert: needs sslmode=require, verify-ca or verify-full")
    if key and not cert:
        _refuse("sslkey: has no sslcert beside it")
    return TLS(mode, root, cert, key)


def _file(parameters: Mapping[str, str], name: str) -> str | None:
    path = parameters.get(name)
    if path is not None and (not path.startswith("/") or "\0" in path):
        _refuse(f"{name}: is no absolute path")
    return path


def _number(parameters: Mapping[str, str], name: str, default: float, least: float, most: float) -> float:
    text = parameters.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"\d{1,6}(\.\d{1,3})?" if isinstance(default, float) else r"\d{1,6}", text, re.ASCII):
        _refuse(f"{name}: is no number")
    if not least <= float(text) <= most:
        _refuse(f"{name}: is not within {least} and {most}")
    return float(text)


def _refuse(reason: str) -> NoReturn:
    raise Invalid("datastore", f"the PostgreSQL address {reason}") from None
