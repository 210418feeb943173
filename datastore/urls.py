"""The datastore's address, as people configure it, to the driver that reads it.

    sqlite:///var/lib/tortie/tortie.db    a file; three slashes, then its absolute path
    memory:                               this process's memory, empty at first

A driver is imported when its address is opened: SQLAlchemy alone is 0.3 s and 20 MB.
"""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from datastore.errors import Invalid, UnsupportedDatastore
from datastore.store import Store

SCHEMES = ("sqlite", "memory")
"""What there is a driver for."""


@dataclass(frozen=True, slots=True)
class Address:
    """A datastore's address, taken apart."""

    scheme: str
    path: Path | None = None
    """Of a file."""

    @property
    def description(self) -> str:
        """For people: what is behind the address."""
        return f"SQLite file {self.path}" if self.path else "memory of this process"


async def open_store(url: str) -> Store:
    """The store at `url`, opened; the caller closes it.

    Raises:
        UnsupportedDatastore: no driver reads such an address.
        Invalid: it is one of a driver's, but wrong.
        Unavailable: it can't be opened.
    """
    address = parse(url)
    if address.path is None:
        from datastore.memory import MemoryStore

        return MemoryStore()
    from datastore.sql.sqlite import SQLiteStore

    return await SQLiteStore.open(address.path)


def describe(url: str) -> str:
    """What is behind `url`, in words, without opening it.

    Raises:
        UnsupportedDatastore: no driver reads such an address.
        Invalid: it is one of a driver's, but wrong.
    """
    return parse(url).description


def parse(url: str) -> Address:
    """The address that `url` is.

    Raises:
        UnsupportedDatastore: no driver reads such an address.
        Invalid: it is one of a driver's, but wrong.
    """
    scheme, colon, rest = url.partition(":")
    if not colon or scheme.lower() not in SCHEMES:
        raise UnsupportedDatastore(scheme, SCHEMES)
    if scheme.lower() == "memory":
        if rest:
            raise Invalid("datastore", f"{url!r}: nothing follows memory:")
        return Address("memory")
    return Address("sqlite", _file_path(url))


def _file_path(url: str) -> Path:
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc or parts.query or parts.fragment or not path.startswith("/") or "\0" in path or path.endswith("/"):
        raise Invalid("datastore", f"{url!r} is no address of a file, such as sqlite:///var/lib/tortie/tortie.db")
    # The form with four slashes is SQLAlchemy's.
    return Path("/" + path.lstrip("/"))
