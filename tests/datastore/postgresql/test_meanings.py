"""What each exception means, and that none of asyncpg's leaves the driver."""

import asyncio
import ssl

import asyncpg
import pytest

from datastore.errors import Forbidden, Invalid, StoreError, Unavailable, Unknown
from datastore.postgresql.failures import Doing, lost, meaning, no_answer, one_members, told


def server_error(code: str, severity: str = "ERROR", message: str = "it says", detail: str = "secret") -> Exception:
    """As a server sends it."""
    made: Exception = asyncpg.PostgresError.new(
        {"S": severity, "V": severity, "C": code, "M": message, "D": detail}, None
    )
    return made


@pytest.mark.parametrize(
    ("error", "connecting", "reading", "writing"),
    [
        pytest.param(server_error("28P01", "FATAL"), Forbidden, Forbidden, Unknown, id="wrong password"),
        pytest.param(server_error("28000", "FATAL"), Forbidden, Forbidden, Unknown, id="no entry in pg_hba"),
        pytest.param(server_error("42501"), Forbidden, Forbidden, Forbidden, id="no privilege"),
        pytest.param(server_error("3D000", "FATAL"), Unavailable, Unavailable, Unknown, id="no such database"),
        pytest.param(server_error("53300", "FATAL"), Unavailable, Unavailable, Unknown, id="too many connections"),
        pytest.param(server_error("57P03", "FATAL"), Unavailable, Unavailable, Unknown, id="starting up"),
        pytest.param(server_error("53100"), Unavailable, Unavailable, Unavailable, id="disk full"),
        pytest.param(server_error("53100", "PANIC"), Unavailable, Unavailable, Unknown, id="disk full at the log"),
        pytest.param(server_error("53200"), Unavailable, Unavailable, Unavailable, id="out of memory"),
        pytest.param(server_error("55P03"), Unavailable, Unavailable, Unavailable, id="lock not available"),
        pytest.param(server_error("57014"), Unavailable, Unavailable, Unavailable, id="cancelled"),
        pytest.param(server_error("40001"), Unavailable, Unavailable, Unavailable, id="serialization"),
        pytest.param(server_error("40P01"), Unavailable, Unavailable, Unavailable, id="deadlock"),
        pytest.param(server_error("40003"), Unavailable, Unavailable, Unknown, id="completion unknown"),
        pytest.param(server_error("08007"), Unavailable, Unavailable, Unknown, id="transaction resolution unknown"),
        pytest.param(server_error("23505"), Unavailable, Unavailable, Unavailable, id="somebody else's number"),
        pytest.param(server_error("25006"), Unavailable, Unavailable, Unavailable, id="read-only"),
        pytest.param(server_error("42P01"), Unavailable, Unavailable, Unavailable, id="no such table"),
        pytest.param(server_error("XX001"), Unavailable, Unavailable, Unavailable, id="data corrupted"),
        pytest.param(server_error("57P01", "FATAL"), Unavailable, Unavailable, Unknown, id="shut down"),
        pytest.param(server_error("57P02", "FATAL"), Unavailable, Unavailable, Unknown, id="crashed"),
        pytest.param(server_error("22021"), Unavailable, Invalid, Invalid, id="no such character"),
        pytest.param(server_error("54000"), Unavailable, Invalid, Invalid, id="too large for an index"),
        pytest.param(UnicodeEncodeError("utf-8", "x", 0, 1, ""), Unavailable, Invalid, Invalid, id="no Unicode"),
        pytest.param(asyncpg.ConnectionDoesNotExistError("x"), Unavailable, Unavailable, Unknown, id="cut"),
        pytest.param(asyncpg.InterfaceError("x"), Unavailable, Unavailable, Unknown, id="wrong use"),
        pytest.param(asyncpg.InternalClientError("x"), Unavailable, Unavailable, Unknown, id="fault of asyncpg"),
        pytest.param(ConnectionResetError(104, "reset"), Unavailable, Unavailable, Unknown, id="reset"),
        pytest.param(OSError(113, "no route"), Unavailable, Unavailable, Unknown, id="no route"),
        pytest.param(ssl.SSLError(1, "x"), Unavailable, Unavailable, Unknown, id="TLS"),
        pytest.param(asyncio.IncompleteReadError(b"", 4), Unavailable, Unavailable, Unknown, id="half an answer"),
        pytest.param(RuntimeError("a fault of ours"), Unavailable, Unavailable, Unknown, id="anything"),
    ],
)
def test_an_exception_means(
    error: Exception, connecting: type[StoreError], reading: type[StoreError], writing: type[StoreError]
) -> None:
    found = [meaning(error, doing, "the server") for doing in Doing]
    assert [type(one) for one in found] == [connecting, reading, writing]
    assert all(one.__cause__ is error and str(one).startswith("the server: ") for one in found)
    assert "secret" not in "".join(map(str, found))  # DETAIL quotes what was to be stored


def test_every_exception_of_asyncpg_has_a_meaning_and_one_line() -> None:
    classes = {found for found in vars(asyncpg.exceptions).values() if isinstance(found, type)}
    errors = [found("two\nlines") for found in classes if issubclass(found, Exception)]
    assert len(errors) > 200
    for error in errors:
        for doing in Doing:
            found = meaning(error, doing, "the server")
            assert isinstance(found, Unavailable | Unknown | Forbidden | Invalid)
            assert "\n" not in str(found)


def test_an_error_of_the_store_stays_what_it_is() -> None:
    error = Forbidden("may not")
    assert meaning(error, Doing.WRITING, "the server") is error
    assert error.__cause__ is None


def test_an_answer_that_does_not_come_is_unknown_for_writes_alone() -> None:
    assert [type(no_answer(doing, "the server", 1.5)) for doing in Doing] == [Unavailable, Unavailable, Unknown]
    assert str(no_answer(Doing.WRITING, "the server", 1.5)) == "the server: no answer within 1.5 s"


@pytest.mark.parametrize(
    ("error", "is_lost", "members"),
    [
        pytest.param(server_error("22021"), False, True, id="a value"),
        pytest.param(server_error("23505"), False, True, id="a constraint"),
        pytest.param(server_error("53100"), False, False, id="the disk"),
        pytest.param(server_error("25006"), True, False, id="the wrong server"),
        pytest.param(server_error("57P01", "FATAL"), True, False, id="the end"),
        pytest.param(server_error("22021", "FATAL"), True, False, id="the end, whatever it says"),
        pytest.param(OSError(), True, False, id="the network"),
        pytest.param(UnicodeEncodeError("utf-8", "x", 0, 1, ""), True, True, id="a text"),
    ],
)
def test_a_connection_is_kept_and_a_group_is_taken_apart(error: Exception, is_lost: bool, members: bool) -> None:
    assert (lost(error), one_members(error)) == (is_lost, members)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        pytest.param(server_error("99999"), "it says (99999)", id="its code"),
        pytest.param(
            server_error("53300"),
            "it says (max_connections or a CONNECTION LIMIT is reached, 53300)",
            id="what is behind it",
        ),
        pytest.param(RuntimeError(), "RuntimeError", id="an exception without words"),
        pytest.param(OSError(113, "no route"), "[Errno 113] no route", id="the system's"),
    ],
)
def test_an_exception_is_told_in_one_line(error: Exception, text: str) -> None:
    assert told(error) == text
