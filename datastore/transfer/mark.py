"""The mark of a migration in a ClusterConfiguration: in the source that it is being left, in the target whose it is.

source   spec.migration {id, to, Frozen}, at last {id, to, Moved}
target   spec.migration {id, its own address, Frozen} while it is being filled: nobody may claim a block there
annotation tortie.dev/moved-by: id, which stays
"""

import asyncio
from urllib.parse import urlsplit

import msgspec

from datastore import urls
from datastore.errors import NotFound, StoreError
from datastore.resources.clusterconfiguration import NAME, ClusterConfiguration, Migration
from datastore.resources.value import Metadata
from datastore.store import Reader, Store
from datastore.transfer import settled
from datastore.transfer.objects import at, bare
from datastore.transfer.settled import Pause

MOVED_BY = "tortie.dev/moved-by"
FILLED_ANEW = "tortie.dev/filled-anew"
FROZEN, MOVED = "Frozen", "Moved"


async def read(store: Reader) -> ClusterConfiguration | None:
    """The ClusterConfiguration, None where there is none.

    Raises:
        StoreError: the store can't be read.
    """
    try:
        return await store.get(ClusterConfiguration, NAME)
    except NotFound:
        return None


def migration_of(found: ClusterConfiguration | None) -> Migration | None:
    """The migration that a datastore is marked with."""
    return found.spec.migration if found is not None else None


def moved_by(found: ClusterConfiguration | None) -> str:
    """The migration that filled a datastore, or fills it; empty if none did."""
    return found.metadata.annotations.get(MOVED_BY, "") if found is not None else ""


def filled_anew(found: ClusterConfiguration | None) -> str:
    """The migration by which a datastore was left that is being come back to; empty if it is none."""
    return found.metadata.annotations.get(FILLED_ANEW, "") if found is not None else ""


def marked(found: ClusterConfiguration | None, migration: Migration | None) -> ClusterConfiguration:
    """The configuration with another mark, at its revision."""
    found = found or ClusterConfiguration(metadata=Metadata(name=NAME))
    return msgspec.structs.replace(found, spec=msgspec.structs.replace(found.spec, migration=migration))


def opened(found: ClusterConfiguration | None) -> ClusterConfiguration:
    """A target's configuration once it counts, at its revision."""
    wanted = marked(found, None)
    annotations = {name: value for name, value in wanted.metadata.annotations.items() if name != FILLED_ANEW}
    return msgspec.structs.replace(wanted, metadata=msgspec.structs.replace(wanted.metadata, annotations=annotations))


def for_target(
    source: ClusterConfiguration | None, there: ClusterConfiguration | None, migration: Migration, left_by: str
) -> ClusterConfiguration:
    """The target's configuration: the source's settings, whose it is, and by what it was left once (`FILLED_ANEW`)."""
    wanted = bare(source or ClusterConfiguration(metadata=Metadata(name=NAME)))
    annotations = {name: value for name, value in wanted.metadata.annotations.items() if name != FILLED_ANEW}
    annotations |= {MOVED_BY: migration.id} | ({FILLED_ANEW: left_by} if left_by else {})
    wanted = msgspec.structs.replace(wanted, metadata=msgspec.structs.replace(wanted.metadata, annotations=annotations))
    wanted = marked(wanted, migration)
    return at(wanted, there) if there is not None else wanted


async def write(store: Store, wanted: ClusterConfiguration, pause: Pause = asyncio.sleep) -> ClusterConfiguration:
    """Create it, or replace the one at its revision.

    Raises:
        AlreadyExists, Conflict, NotFound: it has moved on.
        StoreError: the store can't be used.
    """
    return await (settled.update if wanted.revision else settled.create)(store, wanted, pause)


def said(url: str) -> str:
    """What is behind an address, in words and without secrets, whatever is stored as one."""
    try:
        return urls.describe(url)
    except StoreError:
        return f"a datastore of type {url.partition(':')[0][:40]!r}"


def has_password(url: str) -> bool:
    """Whether an address has a password in it, where everybody would see it who reads the datastore that is left."""
    credentials, _, _ = urlsplit(url).netloc.rpartition("@")
    return ":" in credentials
