"""Connections that are encrypted, and whom they trust."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from datastore.errors import Forbidden, StoreError, Unavailable
from tests.datastore.postgresql.place import Place
from tests.datastore.samples import policy
from tests.servers.certificates import Authority
from tests.servers.postgresql import USER, PostgreSQLServer, missing

HOSTS = """\
hostssl certified all 127.0.0.1/32 cert
hostssl all all 127.0.0.1/32 scram-sha-256
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl")
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def tls_server(authority: Authority) -> Iterator[PostgreSQLServer]:
    """One that takes encrypted connections alone, and whose certificate is for 127.0.0.1 alone."""
    if reason := missing():
        pytest.skip(reason)
    conf = "ssl = on\nssl_cert_file = '../server.crt'\nssl_key_file = '../server.key'\nssl_ca_file = '../ca.crt'"
    server = PostgreSQLServer(conf=conf, hosts=HOSTS)
    certificate, key = authority.sign("server", "IP:127.0.0.1")
    for source, name in ((certificate, "server.crt"), (key, "server.key"), (authority.certificate, "ca.crt")):
        target = server.folder / name
        shutil.copy(source, target)
        target.chmod(0o600)
        if (user := USER) and target.owner() == "root":
            shutil.chown(target, user, user)
    asyncio.run(server.start())
    yield server
    server.remove()


@pytest.fixture
async def tls_place(tls_server: PostgreSQLServer) -> AsyncIterator[Place]:
    place = Place(tls_server)
    yield place
    await place.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize(
    ("mode", "trusts", "error"),
    [
        pytest.param("disable", False, Forbidden, id="not encrypted"),
        pytest.param("prefer", False, None, id="prefer"),
        pytest.param("require", False, None, id="require"),
        pytest.param("verify-ca", True, None, id="verify-ca"),
        pytest.param("verify-ca", False, Unavailable, id="verify-ca, another authority"),
        pytest.param("verify-full", True, None, id="verify-full"),
        pytest.param("verify-full", False, Unavailable, id="verify-full, another authority"),
    ],
)
async def test_a_connection_is_as_safe_as_its_address_asks(
    tls_place: Place,
    authority: Authority,
    tmp_path: Path,
    host: str,
    mode: str,
    trusts: bool,
    error: type[StoreError] | None,
) -> None:
    root = authority.certificate if trusts else Authority(tmp_path, "other").certificate
    files: dict[str, Any] = {"sslrootcert": root} if mode.startswith("verify-") else {}
    hosts = f"{host}:{tls_place.server.port}"
    if mode == "verify-full" and host == "localhost":
        error = Unavailable  # the certificate isn't for that name
    if error:
        with pytest.raises(error):
            await tls_place.open(hosts=hosts, sslmode=mode, **files)
        return
    store = await tls_place.open(hosts=hosts, sslmode=mode, **files)
    await store.create(policy())
    encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = "
    assert tls_place.sql(f"{encrypted} '{tls_place.name}'") == "t"


async def test_without_an_authority_of_its_own_the_systems_decide(tls_place: Place) -> None:
    with pytest.raises(Unavailable, match="certificate verify failed"):
        await tls_place.open(sslmode="verify-full")


@pytest.mark.parametrize("name", ["certified", "somebody"])
async def test_a_certificate_stands_for_a_role_of_its_name(tls_place: Place, authority: Authority, name: str) -> None:
    certificate, key = authority.sign(name)
    tls_place.sql(f"ALTER ROLE {tls_place.name} RENAME TO certified")
    role, tls_place.name = tls_place.name, "certified"
    tls_place.sql(f"ALTER DATABASE {role} RENAME TO certified")
    files: dict[str, Any] = {"sslrootcert": authority.certificate, "sslcert": certificate, "sslkey": key}
    if name == "certified":
        store = await tls_place.open(password=None, sslmode="verify-full", **files)
        await store.create(policy())
    else:
        with pytest.raises(Forbidden, match="certificate authentication failed"):
            await tls_place.open(password=None, sslmode="verify-full", **files)


@pytest.mark.parametrize("parameter", ["sslrootcert", "sslcert"])
async def test_a_file_that_cannot_be_used_is_named(tls_place: Place, tmp_path: Path, parameter: str) -> None:
    for file in (tmp_path / "absent", tmp_path / "empty"):
        if file.name == "empty":
            file.touch()
        given: dict[str, Any] = {parameter: file}
        with pytest.raises(Unavailable, match=f"{parameter} {file}: can't be used"):
            await tls_place.open(sslmode="verify-full", **given)
