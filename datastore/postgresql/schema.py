"""The tables, the function that writes, and every statement that runs on them.

Written in SQLAlchemy Core and compiled once when a store is opened, to text with numbered parameters, for asyncpg to
prepare and run: executing through SQLAlchemy's async engine costs 120 to 240 us of CPU a call (figures in DESIGN.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    ClauseElement,
    Column,
    ColumnElement,
    FromClause,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    and_,
    any_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by, asyncpg
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.schema import CreateTable

from datastore.postgresql.function import FUNCTION, create_function

VERSION = 1
"""Of the tables and the function; a schema with another one is refused."""
_TEXT = Text(collation="C")
"""Compared by its bytes, whatever the database's locale, as every other driver sorts."""


@dataclass(frozen=True, slots=True)
class Statement:
    """Text to prepare, and the names of its parameters in order."""

    text: str
    names: tuple[str, ...] = ()

    def values(self, given: dict[str, object]) -> Sequence[object]:
        """The parameters in order."""
        return [given[name] for name in self.names]


@dataclass(frozen=True, slots=True)
class Statements:
    """What runs on the tables of one schema; each reading statement is one snapshot."""

    channel: str
    """Where writers tell the kinds they wrote."""
    found: tuple[str, ...]
    """Makes the tables and the function, and takes part in no transaction by itself."""
    first_row: Statement
    """Gives the new store its identity."""
    version: Statement
    write: Statement
    """outcome, number, identity, compacted; a row for each write, in order"""
    get: Statement
    """identity, compacted, newest, revision, body; the last two are null if there is no such object"""
    list: Statement
    list_namespace: Statement
    list_entry: Statement
    """identity, compacted, newest, namespace, name, revision, body; one row with nulls if there is no object"""
    since: Statement
    """identity, compacted, newest, namespace, name, revision, body; one row with nulls if nothing changed, and no
    revision where the object is gone"""
    look: Statement
    """identity, compacted, newest, and the kinds with entries after a number"""
    forget: Statement
    """Compacts, and gives the number up to which that has been done"""


_FIRST: ColumnElement[int] = literal_column("1", Integer)
_DIALECT = cast("DefaultDialect", asyncpg.dialect())  # type: ignore[no-untyped-call]


def _statement(clause: ClauseElement) -> Statement:
    compiled = clause.compile(dialect=_DIALECT)
    return Statement(str(compiled), tuple(getattr(compiled, "positiontup", None) or ()))


def statements(schema: str) -> Statements:
    """For the tables in `schema`, which is an identifier that needs no quotes."""
    metadata = MetaData(schema=schema)
    store = Table(
        "store",
        metadata,
        Column("id", Integer, CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
        Column("schema", Integer, nullable=False),
        Column("identity", _TEXT, nullable=False),
        Column("compacted", BigInteger, nullable=False),
    )
    object_ = Table(
        "object",
        metadata,
        *(Column(name, _TEXT, primary_key=True) for name in ("kind", "namespace", "name")),
        Column("revision", BigInteger, nullable=False),
        Column("indexed", ARRAY(_TEXT), nullable=False),
        Column("body", LargeBinary, nullable=False),
    )
    field = Table(
        "field", metadata, *(Column(name, _TEXT, primary_key=True) for name in ("kind", "entry", "namespace", "name"))
    )
    change = Table(
        "change",
        metadata,
        Column("revision", BigInteger, primary_key=True, autoincrement=False),
        *(Column(name, _TEXT, nullable=False) for name in ("kind", "namespace", "name")),
        Column("was", ARRAY(_TEXT)),
        Column("now", ARRAY(_TEXT)),
    )

    newest = select(func.coalesce(func.max(change.c.revision), literal_column("0"))).scalar_subquery()
    history = (store.c.identity, store.c.compacted, newest.label("newest"))
    of_kind = object_.c.kind == bindparam("kind")

    def listing(objects: FromClause, condition: ColumnElement[bool]) -> Statement:
        row = (object_.c.namespace, object_.c.name, object_.c.revision, object_.c.body)
        found = select(*history, *row).select_from(store.outerjoin(objects, condition))
        return _statement(found.order_by(object_.c.namespace, object_.c.name))

    def this(name: str) -> ColumnElement[bool]:
        return object_.c[name] == bindparam(name)

    got = store.outerjoin(object_, and_(of_kind, this("namespace"), this("name")))
    in_where = object_.join(
        field,
        and_(field.c.kind == object_.c.kind, field.c.namespace == object_.c.namespace, field.c.name == object_.c.name),
    )
    has_entry = and_(of_kind, field.c.kind == bindparam("kind"), field.c.entry == bindparam("entry"))
    kinds = select(func.array_agg(change.c.kind.distinct())).where(change.c.revision > bindparam("after"))
    moved = (
        update(store)
        .values(compacted=bindparam("to"))
        .where(store.c.compacted < bindparam("to"))
        .returning(store.c.compacted)
        .cte("moved")
    )
    gone = (
        delete(change)
        .where(change.c.revision <= bindparam("to"), exists(select(moved.c.compacted)))
        .returning(change.c.revision)
        .cte("gone")
    )
    return Statements(
        channel=f"{schema}.change",
        found=(
            *(str(CreateTable(table).compile(dialect=_DIALECT)) for table in metadata.sorted_tables),
            create_function(schema),
        ),
        first_row=_statement(
            insert(store).values({name: bindparam(name) for name in ("id", "schema", "identity", "compacted")})
        ),
        version=_statement(select(store.c.schema)),
        write=_statement(_call(schema)),
        get=_statement(select(*history, object_.c.revision, object_.c.body).select_from(got)),
        list=listing(object_, of_kind),
        list_namespace=listing(object_, and_(of_kind, this("namespace"))),
        list_entry=listing(in_where, has_entry),
        since=_statement(_since(store, object_, change, history)),
        look=_statement(select(*history, kinds.scalar_subquery())),
        forget=_statement(
            select(func.coalesce(select(moved.c.compacted).scalar_subquery(), store.c.compacted)).add_cte(gone)
        ),
    )


def _call(schema: str) -> ClauseElement:
    texts = {name: ARRAY(_TEXT) for name in ("verbs", "kinds", "namespaces", "names", "revisions", "fields")}
    parameters = (
        *(bindparam(name, type_=type_) for name, type_ in texts.items()),
        bindparam("bodies", type_=ARRAY(LargeBinary())),
        bindparam("timeline", type_=_TEXT),
    )
    function = getattr(getattr(func, schema), FUNCTION)
    columns = ("outcome", "number", "identity", "compacted")
    return select(*(literal_column(name) for name in columns)).select_from(function(*parameters))


def _since(store: Table, object_: Table, change: Table, history: tuple[ColumnElement[object], ...]) -> ClauseElement:
    """What changed after a number, merged to one state an object, as `feed.merge` does."""

    def within(indexed: Column[object]) -> ColumnElement[bool]:
        entry = bindparam("entry", type_=_TEXT)
        return and_(indexed.is_not(None), or_(entry.is_(None), entry == any_(indexed)))

    entries = (
        select(
            change.c.namespace,
            change.c.name,
            func.array_agg(aggregate_order_by(within(change.c.was), change.c.revision))[_FIRST].label("was"),
            func.array_agg(aggregate_order_by(within(change.c.now), change.c.revision.desc()))[_FIRST].label("now"),
        )
        .where(change.c.revision > bindparam("after"), change.c.kind == bindparam("kind"))
        .group_by(change.c.namespace, change.c.name)
        .cte("entries")
    )
    present = and_(
        entries.c.now,
        object_.c.kind == bindparam("kind"),
        object_.c.namespace == entries.c.namespace,
        object_.c.name == entries.c.name,
    )
    return select(*history, entries.c.namespace, entries.c.name, object_.c.revision, object_.c.body).select_from(
        store.outerjoin(entries, or_(entries.c.was, entries.c.now)).outerjoin(object_, present)
    )
