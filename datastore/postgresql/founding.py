"""Making the tables, once, however many programs start at once.

look ── absent ── BEGIN ── lock ── look again ── tables, function, identity ── COMMIT
"""

from datastore.errors import Forbidden, Unavailable
from datastore.postgresql.connection import Session
from datastore.postgresql.failures import Doing
from datastore.postgresql.function import LOCK
from datastore.postgresql.schema import VERSION, Statement, Statements
from datastore.revisions import new_identity

_LOOK = Statement(
    "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1), EXISTS (SELECT FROM pg_class JOIN pg_namespace"
    " ON pg_namespace.oid = relnamespace WHERE nspname = $1 AND relname = 'store')",
    ("schema",),
)
"""By the catalogue's tables: to_regclass and the like answer from a cache, which no advisory lock brings up to date."""


async def found(session: Session, statements: Statements, schema: str) -> None:
    """See to it that there is a store in `schema`.

    Raises:
        Unavailable: it is another program's or another version's.
        Forbidden: these credentials may neither make nor read it.
    """
    if not (await _look(session, schema))[1]:
        try:
            await _make(session, statements, schema)
        except Forbidden as error:
            raise Forbidden(
                f"{error}: making schema {schema} takes CREATE on the database, or a schema {schema} owned by the role"
            ) from error
        except BaseException:
            session.terminate()  # which rolls back
            raise
    rows = await session.fetch(statements.version, {}, Doing.READING)
    if not rows:
        raise Unavailable(f"{session.where}: schema {schema} holds tables of another program")
    if rows[0][0] != VERSION:
        raise Unavailable(f"{session.where}: schema {schema} has version {rows[0][0]}; this program knows {VERSION}")


async def _look(session: Session, schema: str) -> tuple[bool, bool]:
    ((schema_there, store_there),) = await session.fetch(_LOOK, {"schema": schema}, Doing.READING)
    return bool(schema_there), bool(store_there)


async def _make(session: Session, statements: Statements, schema: str) -> None:
    await session.execute("BEGIN")
    await session.execute(f"SELECT pg_advisory_xact_lock({LOCK}, 0)")
    schema_there, store_there = await _look(session, schema)
    if not store_there:
        if not schema_there:  # CREATE SCHEMA IF NOT EXISTS takes CREATE on the database even where it exists
            await session.execute(f"CREATE SCHEMA {schema}")
        for statement in statements.found:
            await session.execute(statement)
        first = {"id": 1, "schema": VERSION, "identity": new_identity(), "compacted": 0}
        await session.fetch(statements.first_row, first, Doing.READING)
    await session.execute("COMMIT")
