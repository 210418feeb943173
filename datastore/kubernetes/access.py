"""How the API server is reached and as whom: kubeconfig or service account, TLS, tokens; the home of `kubernetes`.

    configuration   the package's loaders: in the cluster; a kubeconfig with token, token file, client certificate, exec
                    plugin, OIDC
    Link            one configuration in use: address, HTTP session with its TLS context, headers
    read again      when a file of it has changed (looked at once a second at most), and when the server says 401

Of the package only configuration, authentication and the TLS context are used: its requests go through `json.dumps`,
and its models cost 60 times as much as msgspec. A new configuration makes a new Link where more than the headers has
changed; requests on their way end on the old one.
"""

import asyncio
import os
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import aiohttp
import yaml
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config
from kubernetes.aio.config.incluster_config import (
    SERVICE_CERT_FILENAME,
    SERVICE_HOST_ENV_NAME,
    SERVICE_TOKEN_FILENAME,
)

from datastore.errors import Invalid, StoreError, Unavailable
from datastore.kubernetes.address import KubernetesAddress

LOOK_EVERY_S = 1.0
"""How often files are looked at: kubelets replace a token's file at 80 % of its life, an hour long."""
SERVICE_TOKEN = Path(SERVICE_TOKEN_FILENAME)
SERVICE_AUTHORITY = Path(SERVICE_CERT_FILENAME)
_BUFFER = 1 << 20
"""Bytes of a watch that wait here before the server is held up."""
_CONNECTIONS = 100
_AGENT = "tortie"

_Stamps = Mapping[Path, tuple[int, int, int]]


@dataclass(slots=True)
class Link:
    """One configuration in use; closed once it is retired and nobody uses it."""

    url: str
    session: aiohttp.ClientSession
    headers: dict[str, str]
    server_hostname: str | None
    proxy: str | None
    made_of: object
    """All that needs another session when it changes."""
    users: int = 0
    retired: bool = False

    async def release(self) -> None:
        """One user fewer."""
        self.users -= 1
        if self.retired and not self.users:
            await self.session.close()


@dataclass
class Access:
    """The link of the day; for one event loop."""

    address: KubernetesAddress
    generation: int = 0
    """Grows with each change of the link."""
    _link: Link | None = None
    _stamps: _Stamps = field(default_factory=dict)
    _looked_at: float = 0.0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def origin(self) -> str:
        """For messages: where the API server is, and where that is said."""
        return self._link.url if self._link else self.address.description

    async def take(self) -> Link:
        """The link to use for one request; `Link.release` it.

        Raises:
            Invalid: the configuration can't be read.
            Unavailable: there is none.
        """
        link = await self._current()
        link.users += 1
        return link

    async def renew(self, generation: int) -> bool:
        """Read the configuration again after a 401 under `generation`; whether the credentials are others now.

        Raises:
            Invalid: the configuration can't be read.
            Unavailable: there is none.
        """
        async with self._lock:
            if self.generation == generation:
                await self._load()
            return self.generation != generation

    async def close(self) -> None:
        """Close the session and every connection; what runs on them fails."""
        if self._link:
            await self._link.session.close()
            await asyncio.sleep(0)  # in which aborted connections are let go

    async def _current(self) -> Link:
        if self._link and time.monotonic() - self._looked_at < LOOK_EVERY_S:
            return self._link
        async with self._lock:
            if self._link is None or _look_at(self._stamps) != self._stamps:
                await self._load()
            self._looked_at = time.monotonic()
            return cast("Link", self._link)

    async def _load(self) -> None:
        configuration, files = await _configuration(self.address)
        stamps = _look_at(files)
        headers = _headers(configuration)
        made_of = _made_of(configuration)
        old = self._link
        if old and old.made_of == made_of:
            changed = old.headers != headers
            old.headers = headers
        else:
            self._link, changed = _link(configuration, headers, made_of), True
            await _retire(old)
        self._stamps = stamps
        self.generation += changed


async def _retire(link: Link | None) -> None:
    if link:
        link.retired = True
        link.users += 1
        await link.release()


def _link(configuration: Configuration, headers: dict[str, str], made_of: object) -> Link:
    try:
        rest = RESTClientObject(configuration)
    except (OSError, ValueError) as error:
        raise Invalid("datastore", f"the certificates of {configuration.host} can't be read: {error}") from error
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=_CONNECTIONS, ssl=rest.ssl_context),
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=_BUFFER,
        # Without it aiohttp asks netrc and the environment anew, in a thread, for every request.
        trust_env=False,
    )
    proxy = configuration.proxy or _proxy(configuration.host)
    return Link(configuration.host, session, headers, configuration.tls_server_name, proxy, made_of)


def _proxy(url: str) -> str | None:
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.netloc):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def _headers(configuration: Configuration) -> dict[str, str]:
    authorization = configuration.api_key.get("BearerToken") or ""
    # A compressed page costs both sides CPU, and the way to an API server is short.
    headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": _AGENT}
    return {**headers, "Authorization": authorization.strip()} if authorization else headers


async def _configuration(address: KubernetesAddress) -> tuple[Configuration, set[Path]]:
    configuration = Configuration()
    if _is_in_cluster(address):
        try:
            load_incluster_config(configuration, try_refresh_token=False)  # type: ignore[no-untyped-call]
        except (ConfigException, OSError) as error:
            raise Unavailable(f"the pod's service account can't be used: {error}") from error
        return configuration, {SERVICE_TOKEN, SERVICE_AUTHORITY}
    paths = _kubeconfigs(address)
    joined = os.pathsep.join(map(str, paths))
    try:
        await load_kube_config(  # type: ignore[no-untyped-call]
            joined, address.context or None, configuration, persist_config=False
        )
    except Exception as error:
        # Its loader meets a malformed file with whatever Python raises.
        raise _unreadable(joined, error) from error
    tls = (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file)
    return configuration, {*paths, *_token_files(paths), *(Path(path) for path in tls if path)}


def _is_in_cluster(address: KubernetesAddress) -> bool:
    return address.kubeconfig is None and not address.context and bool(os.environ.get(SERVICE_HOST_ENV_NAME))


def _kubeconfigs(address: KubernetesAddress) -> list[Path]:
    named = address.kubeconfig or os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config"
    paths = [Path(part).expanduser() for part in str(named).split(os.pathsep) if part]
    if not any(path.exists() for path in paths):
        raise Unavailable(f"there is no kubeconfig {named}; this is no pod with a service account either")
    return [path for path in paths if path.exists()]


def _unreadable(paths: str, error: Exception) -> StoreError:
    if isinstance(error, yaml.YAMLError):
        # A YAML error quotes the line, which may be the one with the token.
        mark = getattr(error, "problem_mark", None)
        return Invalid("datastore", f"kubeconfig {paths} is no YAML" + (f" (line {mark.line + 1})" if mark else ""))
    if isinstance(error, ConfigException):
        return Invalid("datastore", f"kubeconfig {paths}: {error}")
    if isinstance(error, OSError):
        return Unavailable(f"kubeconfig {paths} can't be read: {error}")
    return Invalid("datastore", f"kubeconfig {paths} can't be understood ({type(error).__name__})")


def _token_files(paths: list[Path]) -> Iterator[Path]:
    """Every user's, which does no harm: a change only means that all is read again."""
    for path in paths:
        document: Any = yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
        for user in document.get("users") or ():
            if token := (user.get("user") or {}).get("tokenFile"):
                yield path.parent / token


def _made_of(configuration: Configuration) -> object:
    files = (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file)
    read = _look_at({Path(path) for path in files if path})
    return configuration.host, configuration.tls_server_name, configuration.verify_ssl, configuration.proxy, read


def _look_at(paths: set[Path] | _Stamps) -> _Stamps:
    return {path: _stamp(path) for path in paths}


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_ino, found.st_size)
