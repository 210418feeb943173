"""The datastore's address, as people configure it, to the driver that reads it.

    sqlite:///var/lib/tortie/tortie.db    a file; three slashes, then its absolute path
    memory:                               this process's memory, empty at first
    etcd://10.0.0.1:2379,10.0.0.2/tortie  an etcd cluster, and the prefix of our keys in it
    postgresql://tortie@db/tortie         a database; parameters in docs/datastores.md
    kubernetes:                           the cluster that this runs in, or kubectl's

Each driver's folder has an `address` module that takes its own addresses apart and imports no client library; the
driver itself is imported when its address is opened: SQLAlchemy alone is 0.3 s and 20 MB.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast

from datastore.errors import UnsupportedDatastore
from datastore.store import Store

_ADDRESSES: Mapping[str, str] = {
    "sqlite": "datastore.sql.address",
    "memory": "datastore.memory_address",
    "etcd": "datastore.etcd.address",
    "etcds": "datastore.etcd.address",
    "postgresql": "datastore.postgresql.address",
    "postgres": "datastore.postgresql.address",
    "kubernetes": "datastore.kubernetes.address",
}
"""By scheme, the module whose `parse(url)` gives the `Address`."""

SCHEMES = tuple(_ADDRESSES)
"""What there is a driver for."""


class Address(Protocol):
    """A datastore's address, taken apart."""

    @property
    def scheme(self) -> str:
        """What it begins with, in lower case."""
        ...

    @property
    def path(self) -> Path | None:
        """The file, where it is one's."""
        ...

    @property
    def shared(self) -> bool:
        """Whether other processes see the same store."""
        ...

    @property
    def description(self) -> str:
        """For people: what is behind the address. Never a secret."""
        ...

    async def open(self) -> Store:
        """The store, opened; the caller closes it.

        Raises:
            Unavailable: it can't be opened.
            Forbidden: these credentials may not.
        """
        ...


async def open_store(url: str) -> Store:
    """The store at `url`, opened; the caller closes it.

    Raises:
        UnsupportedDatastore: no driver reads such an address.
        Invalid: it is one of a driver's, but wrong.
        Unavailable: it can't be opened.
        Forbidden: these credentials may not.
    """
    return await parse(url).open()


def describe(url: str) -> str:
    """What is behind `url`, in words, without opening it and without secrets.

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
    scheme, colon, _ = url.partition(":")
    if not colon or scheme.lower() not in SCHEMES:
        raise UnsupportedDatastore(scheme, SCHEMES)
    return cast("Address", importlib.import_module(_ADDRESSES[scheme.lower()]).parse(url))
