"""What an etcd address may say, and that it says no secret."""

from pathlib import Path

import pytest

from datastore.errors import Invalid, Unavailable
from datastore.etcd.address import EtcdAddress, Login, Tls, parse
from datastore.urls import describe, open_store

FILES = "ca=/c.pem&cert=/p.pem&key=/p.key"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("etcd://db", EtcdAddress(("db:2379",)), id="a host alone"),
        pytest.param("etcd://db:1/", EtcdAddress(("db:1",)), id="a port and no prefix"),
        pytest.param("ETCD://db/x", EtcdAddress(("db:2379",), "/x"), id="a scheme in capitals"),
        pytest.param("etcd://a:1,b:2,c/t/x", EtcdAddress(("a:1", "b:2", "c:2379"), "/t/x"), id="several members"),
        pytest.param(
            "etcd://[fd00::1]:1,[fd00::2]", EtcdAddress(("[fd00::1]:1", "[fd00::2]:2379")), id="IPv6 addresses"
        ),
        pytest.param("etcd://d%62/a%20b//", EtcdAddress(("db:2379",), "/a b"), id="percent-encoded"),
        pytest.param("etcds://db/x", EtcdAddress(("db:2379",), "/x", Tls(), scheme="etcds"), id="TLS by its scheme"),
        pytest.param("etcd://db?tls=true", EtcdAddress(("db:2379",), tls=Tls()), id="TLS by a parameter"),
        pytest.param("etcd://db?tls=false", EtcdAddress(("db:2379",)), id="no TLS"),
        pytest.param("etcd://db?ca=/a%26b", EtcdAddress(("db:2379",), tls=Tls(Path("/a&b"))), id="TLS by a file"),
        pytest.param(
            f"etcd://db/x?{FILES}",
            EtcdAddress(("db:2379",), "/x", Tls(Path("/c.pem"), Path("/p.pem"), Path("/p.key"))),
            id="mutual TLS",
        ),
        pytest.param(
            "etcd://db?user=tortie&password-file=/run/secret",
            EtcdAddress(("db:2379",), login=Login("tortie", Path("/run/secret"))),
            id="a user",
        ),
        pytest.param("etcd://db?timeout=0.5", EtcdAddress(("db:2379",), timeout_s=0.5), id="a timeout"),
    ],
)
def test_an_address_names_members_and_a_prefix(url: str, expected: EtcdAddress) -> None:
    assert parse(url) == expected


@pytest.mark.parametrize(
    ("url", "says"),
    [
        pytest.param("etcd:", "no address", id="nothing"),
        pytest.param("etcd:db", "no address", id="no slashes"),
        pytest.param("etcd://", "where a host belongs", id="no host"),
        pytest.param("etcd://a,,b", "where a host belongs", id="an empty host"),
        pytest.param("etcd://fd00::1", "in brackets", id="IPv6 without brackets"),
        pytest.param("etcd://[db]", "where a host belongs", id="brackets around a name"),
        pytest.param("etcd://db:0", "where a port belongs", id="port 0"),
        pytest.param("etcd://db:http", "where a port belongs", id="a port by its name"),
        pytest.param("etcd://db:", "where a port belongs", id="a colon and no port"),
        pytest.param("etcd://d b", "where a host belongs", id="a space"),
        pytest.param("etcd://db/a//b", "prefix", id="an empty part of the prefix"),
        pytest.param("etcd://db/a%00", "prefix", id="a zero byte"),
        pytest.param("etcd://db/x#y", "no address", id="a fragment"),
        pytest.param("etcd://db?cacert=/x", "no parameter 'cacert'; there is tls, ca,", id="an unknown parameter"),
        pytest.param("etcd://db?tls=true&tls=true", "twice", id="a parameter twice"),
        pytest.param("etcd://db?ca", "parameters such as", id="a parameter without ="),
        pytest.param("etcd://db?ca=", "no value for ca", id="a parameter without a value"),
        pytest.param("etcd://db?ca=c.pem", "absolute", id="a relative path"),
        pytest.param("etcd://db?tls=yes", "true or false", id="another word for true"),
        pytest.param("etcds://db?tls=false", "beside", id="TLS and not"),
        pytest.param("etcd://db?tls=false&ca=/c.pem", "beside", id="a file of no TLS"),
        pytest.param("etcd://db?cert=/p.pem", "both", id="a certificate without its key"),
        pytest.param("etcd://db?user=u", "both", id="a user without a password"),
        pytest.param("etcd://db?password-file=/p", "both", id="a password without a user"),
        pytest.param("etcd://db?timeout=soon", "number of seconds", id="a timeout in words"),
        pytest.param("etcd://db?timeout=nan", "number of seconds", id="a timeout that is no number"),
        pytest.param("etcd://db?timeout=0", "number of seconds", id="no time at all"),
    ],
)
def test_a_wrong_address_is_refused_and_says_which_part(url: str, says: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(url)
    assert caught.value.path == "datastore"
    assert says in str(caught.value)


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(Invalid, match="password-file") as caught:
        parse("etcd://root:hunter2@db/x")
    assert "hunter2" not in str(caught.value)


def test_a_description_says_where_and_not_who() -> None:
    url = f"etcd://a,b:1/x?user=root&password-file=/run/secret&{FILES}"
    assert describe(url) == "etcd at a:2379, b:1 over TLS, below /x"


async def test_a_file_that_isnt_there_is_named() -> None:
    with pytest.raises(Unavailable, match="/nowhere/ca"):
        await open_store("etcd://127.0.0.1:1/x?ca=/nowhere/ca.pem")
