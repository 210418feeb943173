"""etcd://host:2379,host2:2379/prefix?parameter=value: where an etcd cluster is, and where in it a store lies.

    etcds:// or tls=true     TLS; also meant by giving one of ca, cert and key
    ca=/path                 who signed the servers' certificates; else the roots that grpcio brings with it
    cert=/path  key=/path    the client's own certificate, for mutual TLS
    user=name                a user of etcd's own
    password-file=/path      the user's password, one line; read again when etcd asks again
    timeout=5                seconds that a call waits for etcd

Everything but scheme and commas may be percent-encoded. Secrets stand in files, never in the address: it is shown in
process lists and logs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from datastore.errors import Invalid
from datastore.store import Store

PORT = 2379
"""etcd's own (IANA: etcd-client)."""
PREFIX = "/tortie"
"""Where a store lies in etcd unless the address says so."""
TIMEOUT_S = 5.0
"""How long a call waits for etcd, which itself gives up on a proposal after 7 s, mostly for want of a leader."""
_EXAMPLE = "etcd://10.0.0.1:2379,10.0.0.2:2379/tortie"
_FILES = ("ca", "cert", "key", "password-file")
_PARAMETERS = ("tls", *_FILES, "user", "timeout")


@dataclass(frozen=True, slots=True)
class Tls:
    """The files of a TLS connection; without `ca` grpcio's own roots are trusted."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Those that there are."""
        return tuple(path for path in (self.ca, self.cert, self.key) if path)


@dataclass(frozen=True, slots=True)
class Login:
    """A user of etcd's own, and the file with its password."""

    user: str
    password_file: Path


@dataclass(frozen=True, slots=True)
class EtcdAddress:
    """An etcd cluster and the prefix of all our keys in it; see `urls.Address`."""

    endpoints: tuple[str, ...]
    """Each host:port, an IPv6 host in brackets."""
    prefix: str = PREFIX
    tls: Tls | None = None
    login: Login | None = None
    timeout_s: float = TIMEOUT_S
    scheme: str = "etcd"
    path: None = None
    shared: bool = True

    @property
    def description(self) -> str:
        """The cluster and the prefix."""
        secured = " over TLS" if self.tls else ""
        return f"etcd at {', '.join(self.endpoints)}{secured}, below {self.prefix}"

    async def open(self) -> Store:
        """The store in the cluster; it is made where there is none.

        Raises:
            Unavailable: no member answers.
            Forbidden: etcd refuses the user.
        """
        from datastore.etcd.store import EtcdStore

        return await EtcdStore.open(self)


def parse(url: str) -> EtcdAddress:
    """The cluster and prefix that `url` names.

    Raises:
        Invalid: it names none; says which part is wrong.
    """
    scheme, _, rest = url.partition(":")
    if not rest.startswith("//") or "#" in rest:
        raise _wrong(f"is no address of an etcd cluster, such as {_EXAMPLE}")
    place, _, query = rest[2:].partition("?")
    hosts, _, path = place.partition("/")
    if "@" in hosts:
        # The address itself isn't shown: what stands before the @ may be a password.
        raise _wrong("names a user before the hosts; give user= and password-file= instead")
    values = _parameters(query)
    return EtcdAddress(
        endpoints=tuple(_endpoint(part) for part in hosts.split(",")),
        prefix=_prefix(path),
        tls=_tls(values, secure=scheme.lower() == "etcds"),
        login=_login(values),
        timeout_s=_timeout(values.get("timeout", str(TIMEOUT_S))),
        scheme=scheme.lower(),
    )


def _wrong(reason: str) -> Invalid:
    return Invalid("datastore", f"the etcd address {reason}")


def _endpoint(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or "]" in port:
        host, port = text, str(PORT)
    host = unquote(host)
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    odd = any(character.isspace() or character in "/,%[]" for character in bare)
    if not bare or odd or (":" in bare) != (bare != host):
        raise _wrong(f"has {text!r} where a host belongs, such as {_EXAMPLE}; an IPv6 address stands in brackets")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise _wrong(f"has {port!r} where a port belongs")
    return f"{host}:{int(port)}"


def _prefix(path: str) -> str:
    prefix = unquote(path).strip("/")
    if not prefix:
        return PREFIX
    if not all(part and part.isprintable() for part in prefix.split("/")):
        raise _wrong(f"has {path!r} where the prefix of the keys belongs, such as {_EXAMPLE}")
    return f"/{prefix}"


def _parameters(query: str) -> Mapping[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=len(_PARAMETERS))
    except ValueError:
        raise _wrong("has more after the ? than parameters such as ca=/etc/etcd/ca.pem") from None
    values = dict(pairs)
    if len(values) != len(pairs):
        raise _wrong("has a parameter twice")
    for name, value in values.items():
        if name not in _PARAMETERS:
            raise _wrong(f"has no parameter {name!r}; there is {', '.join(_PARAMETERS)}")
        if not value or not value.isprintable():
            raise _wrong(f"has no value for {name}")
        if name in _FILES and not Path(value).is_absolute():
            raise _wrong(f"names the file {value!r} for {name}; it must be an absolute path")
    return values


def _tls(values: Mapping[str, str], secure: bool) -> Tls | None:
    word = values.get("tls", "true" if secure else "")
    if word not in ("", "true", "false"):
        raise _wrong(f"says tls={word}; it is true or false")
    named = {name: Path(values[name]) for name in ("ca", "cert", "key") if name in values}
    if word == "false" and (secure or named):
        raise _wrong("says tls=false beside etcds://, ca, cert or key")
    if ("cert" in named) != ("key" in named):
        raise _wrong("names one of cert and key; a client's certificate needs both")
    return Tls(**named) if named or word == "true" else None


def _login(values: Mapping[str, str]) -> Login | None:
    if ("user" in values) != ("password-file" in values):
        raise _wrong("names one of user and password-file; etcd asks for both")
    return Login(values["user"], Path(values["password-file"])) if "user" in values else None


def _timeout(text: str) -> float:
    try:
        timeout_s = float(text)
    except ValueError:
        timeout_s = 0.0
    if not 0.1 <= timeout_s <= 3600:
        raise _wrong(f"says timeout={text}; it is a number of seconds, from 0.1 to 3600")
    return timeout_s
