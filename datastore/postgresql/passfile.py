"""Passwords in a file, as libpq reads it: `host:port:database:user:password`, a line each (PostgreSQL 15, 34.16).

Read by ourselves, for each host and each connection: asyncpg leaves the backslashes in, and a password that was changed
is to be found without a restart.
"""

import re
from pathlib import Path

from datastore.errors import Forbidden, Unavailable
from datastore.postgresql.address import Host

_LINE = re.compile(r"(?!#)" + 4 * r"((?:\\.|[^\\:])*):" + r"(.*)")
"""The password is the rest of the line, colons and all."""
_ESCAPED = re.compile(r"\\(.)")


def password(path: Path, host: Host, database: str, user: str | None) -> str:
    """The password of the first line that is for this connection; any field but the last may be `*`.

    Raises:
        Unavailable: the file can't be read.
        Forbidden: others may read it, so it is not; or no line is for this connection.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise Forbidden(f"passfile {path}: may be read by others, and so is not used: chmod 600")
        lines = path.read_text().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Unavailable(f"passfile {path}: {getattr(error, 'strerror', None) or 'is no text'}") from None
    names = (host.name, "localhost") if host.name.startswith("/") else (host.name,)
    wanted = (names, (str(host.port),), (database,), (user or "",))
    for line in lines:
        found = _LINE.fullmatch(line)
        fields = [_ESCAPED.sub(r"\1", field) for field in found.groups()] if found else []
        if fields and all(field == "*" or field in these for field, these in zip(fields, wanted, strict=False)):
            return fields[-1]
    raise Forbidden(f"passfile {path}: has no line for {host}, database {database}, user {user}")
