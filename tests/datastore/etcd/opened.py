"""Stores for one test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from datastore.etcd.address import parse
from datastore.etcd.store import EtcdStore


@asynccontextmanager
async def opened(url: str, *, bookmark_s: float = 60.0) -> AsyncIterator[EtcdStore]:
    """The store at an address, until the block ends."""
    store = await EtcdStore.open(parse(url), bookmark_s=bookmark_s)
    try:
        yield store
    finally:
        await store.close()
