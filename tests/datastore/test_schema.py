"""Each statement finds its rows by a key, never by reading a table from end to end."""

import sqlite3
from contextlib import closing

import pytest

from datastore.sql import schema

PLACE = {"kind": "k", "namespace": "n", "name": "m"}
NEW = {"new_revision": 1, "new_indexed": "[]", "new_body": b""}


@pytest.mark.parametrize(
    ("statement", "values", "first"),
    [
        pytest.param(schema.GET, PLACE, "SEARCH object", id="get"),
        pytest.param(schema.CURRENT, PLACE, "SEARCH object", id="compare"),
        pytest.param(schema.UPDATE, {**PLACE, **NEW}, "SEARCH object", id="update"),
        pytest.param(schema.DELETE, PLACE, "SEARCH object", id="delete"),
        pytest.param(schema.LIST, PLACE, "SEARCH object", id="list"),
        pytest.param(schema.LIST_NAMESPACE, {**PLACE, "value": "v"}, "SEARCH object", id="list of a namespace"),
        pytest.param(schema.LIST_FIELD, {**PLACE, "field": "f", "value": "v"}, "SEARCH field", id="list of a field"),
        pytest.param(schema.UNINDEX, {**PLACE, "field": "f", "value": "v"}, "SEARCH field", id="unindex"),
        pytest.param(schema.CHANGES, {"after": 1, "kind": "k"}, "SEARCH change", id="changes"),
        pytest.param(schema.CHANGED_KINDS, {"after": 1}, "SEARCH change", id="changed kinds"),
        pytest.param(schema.FORGET, {"to": 1}, "SEARCH change", id="forget"),
    ],
)
def test_a_statement_begins_at_a_key(statement: str, values: dict[str, object], first: str) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        for table in schema.CREATE_TABLES:
            connection.execute(table)
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
    assert plan[0].startswith(first)
    assert not [step for step in plan if step.startswith("SCAN") or "ORDER BY" in step]
