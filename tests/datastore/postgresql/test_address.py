"""Addresses of PostgreSQL databases: what they mean, what is refused, and that no password is ever said."""

import pytest

from datastore.errors import Invalid
from datastore.postgresql.address import TLS, Host, PostgreSQLAddress, parse
from datastore.urls import describe


@pytest.mark.parametrize(
    ("url", "address"),
    [
        pytest.param("postgresql://db/t", PostgreSQLAddress((Host("db", 5432),), "t"), id="the least"),
        pytest.param("postgres://db/t", PostgreSQLAddress((Host("db", 5432),), "t"), id="the other scheme"),
        pytest.param("PostgreSQL://db/t", PostgreSQLAddress((Host("db", 5432),), "t"), id="a scheme in capitals"),
        pytest.param(
            "postgresql://me:p%40ss%3Aw%2Frd@db:6000/t",
            PostgreSQLAddress((Host("db", 6000),), "t", user="me", password="p@ss:w/rd"),  # noqa: S106
            id="user, password and port",
        ),
        pytest.param(
            "postgresql://me:@db/t",
            PostgreSQLAddress((Host("db", 5432),), "t", user="me", password=""),
            id="an empty password",
        ),
        pytest.param(
            "postgresql://a,b:6000,[fd00::1],[fd00::2]:6001/t",
            PostgreSQLAddress((Host("a", 5432), Host("b", 6000), Host("fd00::1", 5432), Host("fd00::2", 6001)), "t"),
            id="several hosts",
        ),
        pytest.param(
            "postgresql:///t?host=/run/postgresql",
            PostgreSQLAddress((Host("/run/postgresql", 5432),), "t"),
            id="a socket",
        ),
        pytest.param(
            "postgresql://me@:6000/t?host=/run/postgresql",
            PostgreSQLAddress((Host("/run/postgresql", 6000),), "t", user="me"),
            id="a socket with a port",
        ),
        pytest.param(
            "postgresql://me@%2Frun%2Fpostgresql:6000/t",
            PostgreSQLAddress((Host("/run/postgresql", 6000),), "t", user="me"),
            id="a socket as a host",
        ),
        pytest.param("postgresql://db/a%20b", PostgreSQLAddress((Host("db", 5432),), "a b"), id="an odd database"),
        pytest.param(
            "postgresql://db/t?sslmode=verify-full&sslrootcert=/ca&sslcert=/crt&sslkey=/key&passfile=/pw",
            PostgreSQLAddress((Host("db", 5432),), "t", passfile="/pw", tls=TLS("verify-full", "/ca", "/crt", "/key")),
            id="files",
        ),
        pytest.param(
            "postgresql://db/t?schema=_x1&pool=2&timeout=0.5",
            PostgreSQLAddress((Host("db", 5432),), "t", schema="_x1", pool=2, timeout_s=0.5),
            id="ours",
        ),
    ],
)
def test_an_address_means(url: str, address: PostgreSQLAddress) -> None:
    assert parse(url) == address


@pytest.mark.parametrize(
    ("url", "told"),
    [
        pytest.param("postgresql:", "names no database", id="nothing"),
        pytest.param("postgresql://me:hunter2@db", "names no database", id="no database"),
        pytest.param("postgresql://me:hunter2@db/a/b", "names no database", id="a path"),
        pytest.param("postgresql://me:hunter2@db/a%00b", "names no database", id="a NUL in the database"),
        pytest.param("postgresql:///t", "names no host", id="no host"),
        pytest.param("postgresql://me:hunter2@a,,b/t", "names no host", id="an empty host"),
        pytest.param("postgresql://me:hunter2@a%00/t", "names no host", id="a NUL in the host"),
        pytest.param("postgresql://me:hunter2@db:x/t", "port", id="a port of letters"),
        pytest.param("postgresql://me:hunter2@db:0/t", "port", id="port 0"),
        pytest.param("postgresql://me:hunter2@db:65536/t", "port", id="a port too high"),
        pytest.param("postgresql://me:hunter2@db:/t", "port", id="a colon without a port"),
        pytest.param("postgresql://me:hunter2@[fd00::1/t", "is no URL", id="half a bracket"),
        pytest.param("postgresql://me:hunter2@[fd00::1]5432/t", "port", id="no colon after a bracket"),
        pytest.param("postgresql://me:hunter#2@db/t", "fragment", id="a # in the password"),
        pytest.param("postgresql://me@db/t#x", "fragment", id="a fragment"),
        pytest.param("postgresql://me:hunter2@db/t?x=hunter2", "x: is no parameter", id="an unknown parameter"),
        pytest.param("postgresql://me:hunter2@db/t?schema", "is no URL", id="a parameter without a value"),
        pytest.param("postgresql://db/t?schema=a&schema=b", "twice", id="a parameter twice"),
        pytest.param("postgresql://db/t?password=hunter2", "password: is no parameter", id="a password elsewhere"),
        pytest.param("postgresql://db/t?host=db2", "host: is no absolute path", id="a host as a parameter"),
        pytest.param("postgresql://db/t?schema=Tortie", "schema", id="a schema that needs quotes"),
        pytest.param('postgresql://db/t?schema=a";--', "schema", id="a schema with a quote"),
        pytest.param("postgresql://db/t?schema=" + "a" * 49, "schema", id="a schema too long"),
        pytest.param("postgresql://db/t?schema=", "schema", id="an empty schema"),
        pytest.param("postgresql://db/t?pool=1", "pool: is not within 2 and 100", id="too few connections"),
        pytest.param("postgresql://db/t?pool=x", "pool: is no number", id="letters for a number"),
        pytest.param("postgresql://db/t?pool=2.5", "pool: is no number", id="half a connection"),
        pytest.param("postgresql://db/t?timeout=0", "timeout: is not within", id="no time"),
        pytest.param("postgresql://db/t?timeout=inf", "timeout: is no number", id="all the time"),
        pytest.param("postgresql://db/t?sslmode=allow", "sslmode: is none of", id="a mode that encrypts at times"),
        pytest.param("postgresql://db/t?sslrootcert=/ca", "sslrootcert: is looked at with", id="a CA for nothing"),
        pytest.param("postgresql://db/t?sslmode=prefer&sslcert=/c", "sslcert: needs", id="a certificate for nothing"),
        pytest.param("postgresql://db/t?sslmode=require&sslkey=/k", "sslkey: has no sslcert", id="a key alone"),
        pytest.param("postgresql://db/t?passfile=pw", "passfile: is no absolute path", id="a relative path"),
    ],
)
def test_a_wrong_address_is_refused_by_what_is_wrong_and_without_its_password(url: str, told: str) -> None:
    with pytest.raises(Invalid, match=told) as caught:
        parse(url)
    assert caught.value.path == "datastore"
    assert "hunter" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_address_is_described_without_its_password() -> None:
    url = "postgresql://me:hunter2@a,[fd00::1]:6000/t?schema=other"
    assert describe(url) == "PostgreSQL database t at a:5432, [fd00::1]:6000, schema other"
    assert describe("postgresql://me:hunter2@:6000/t?host=/run/pg") == "PostgreSQL database t at /run/pg/.s.PGSQL.6000"
    assert "hunter2" not in repr(parse(url))
