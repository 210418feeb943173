"""The tables, and every statement that runs on them.

Written in SQLAlchemy Core and compiled once, to text with named parameters, for the DBAPI to run: executing through
SQLAlchemy costs 50 us a statement, and an update takes five (figures in DESIGN.md).
"""

from sqlalchemy import (
    BigInteger,
    BindParameter,
    CheckConstraint,
    ClauseElement,
    Column,
    ColumnElement,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateTable

VERSION = 1
"""Of the tables; a file with a higher one is refused."""

_METADATA = MetaData()

STORE = Table(
    "store",
    _METADATA,
    Column("id", Integer, CheckConstraint("id = 1"), primary_key=True),
    Column("schema", Integer, nullable=False),
    Column("identity", Text, nullable=False),
    Column("compacted", BigInteger, nullable=False),
)
OBJECT = Table(
    "object",
    _METADATA,
    Column("kind", Text, primary_key=True),
    Column("namespace", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("indexed", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
)
FIELD = Table(
    "field",
    _METADATA,
    Column("kind", Text, primary_key=True),
    Column("field", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("namespace", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    sqlite_with_rowid=False,
)
CHANGE = Table(
    "change",
    _METADATA,
    Column("revision", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("namespace", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("was", Text),
    Column("now", Text),
    sqlite_autoincrement=True,
)

_DIALECT = sqlite.dialect(paramstyle="named")


def _text(statement: ClauseElement) -> str:
    return str(statement.compile(dialect=_DIALECT))


def _this(table: Table) -> ColumnElement[bool]:
    columns = table.c
    return (
        (columns.kind == bindparam("kind"))
        & (columns.namespace == bindparam("namespace"))
        & (columns.name == bindparam("name"))
    )


_NEWEST = select(func.coalesce(func.max(CHANGE.c.revision), literal_column("0"))).scalar_subquery()
_ROW = (OBJECT.c.namespace, OBJECT.c.name, OBJECT.c.revision, OBJECT.c.body)
_OF_KIND = select(*_ROW).where(OBJECT.c.kind == bindparam("kind"))
_SAME_OBJECT = (
    (FIELD.c.kind == bindparam("kind")) & (FIELD.c.namespace == OBJECT.c.namespace) & (FIELD.c.name == OBJECT.c.name)
)

CREATE_TABLES = tuple(_text(CreateTable(table)) for table in _METADATA.sorted_tables)
CREATE_STORE = _text(
    insert(STORE).values({name: bindparam(name) for name in ("id", "schema", "identity", "compacted")})
)

SCHEMA = _text(select(STORE.c.schema))
HISTORY = _text(select(STORE.c.identity, STORE.c.compacted, _NEWEST))
"""identity, compacted, newest"""
COMPACTED = _text(update(STORE).values(compacted=bindparam("to")))
FORGET = _text(delete(CHANGE).where(CHANGE.c.revision <= bindparam("to")))

GET = _text(select(OBJECT.c.revision, OBJECT.c.body).where(_this(OBJECT)))
LIST = _text(_OF_KIND.order_by(OBJECT.c.namespace, OBJECT.c.name))
LIST_NAMESPACE = _text(_OF_KIND.where(OBJECT.c.namespace == bindparam("value")).order_by(OBJECT.c.name))
LIST_FIELD = _text(
    _OF_KIND.join(FIELD, _SAME_OBJECT)
    .where(FIELD.c.field == bindparam("field"), FIELD.c.value == bindparam("value"))
    .order_by(FIELD.c.namespace, FIELD.c.name)  # by FIELD's, or SQLite walks every object of the kind
)
"""namespace, name, revision, body"""
CHANGES = _text(
    select(CHANGE.c.namespace, CHANGE.c.name, CHANGE.c.was, CHANGE.c.now)
    .where(CHANGE.c.revision > bindparam("after"), CHANGE.c.kind == bindparam("kind"))
    .order_by(CHANGE.c.revision)
)
CHANGED_KINDS = _text(select(CHANGE.c.kind).distinct().where(CHANGE.c.revision > bindparam("after")))

CURRENT = _text(select(OBJECT.c.revision, OBJECT.c.indexed).where(_this(OBJECT)))
LOG = _text(insert(CHANGE).values({name: bindparam(name) for name in ("kind", "namespace", "name", "was", "now")}))
_NEW: dict[Column[object], BindParameter[object]] = {
    OBJECT.c[name]: bindparam(f"new_{name}") for name in ("revision", "indexed", "body")
}
_PLACE: dict[Column[object], BindParameter[object]] = {
    OBJECT.c[name]: bindparam(name) for name in ("kind", "namespace", "name")
}
INSERT = _text(insert(OBJECT).values({**_PLACE, **_NEW}))
UPDATE = _text(update(OBJECT).where(_this(OBJECT)).values(_NEW))
DELETE = _text(delete(OBJECT).where(_this(OBJECT)))
INDEX = _text(insert(FIELD).values({column.name: bindparam(column.name) for column in FIELD.c}))
UNINDEX = _text(
    delete(FIELD).where(_this(FIELD), FIELD.c.field == bindparam("field"), FIELD.c.value == bindparam("value"))
)
