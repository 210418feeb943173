"""A datastore as text: one JSON document a line, the same for the same content, and a line before them that says whose.

    {"apiVersion":"tortie.dev/v1","kind":"DatastoreExport","identity":"5f0c9a1e77b2","time":"2026-11-22T01:02:03Z",...}
    {"apiVersion":"tortie.dev/v1","kind":"IPBlock","metadata":{"name":"10-65-0-0-26"},"spec":{...}}

Each kind is of one revision; kinds are read one after the other, blocks before what refers to them.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from datastore import codec
from datastore.errors import Invalid
from datastore.resources.value import Resource
from datastore.store import Reader
from datastore.transfer.objects import ORDER, identity_of

KIND = "DatastoreExport"
API_VERSION = "tortie.dev/v1"
FORMAT = 1
"""Of the text; a higher one isn't read."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Export:
    """What a datastore held."""

    identity: str
    """Of the store, as its revisions have it."""
    time: float
    datastore: str
    """What was behind its address, in words."""
    objects: tuple[Resource, ...]

    @property
    def header(self) -> Document:
        """Whose objects these are."""
        counts: dict[str, int] = {}
        for one in self.objects:
            counts[one.KIND.full_name] = counts.get(one.KIND.full_name, 0) + 1
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "format": FORMAT,
            "identity": self.identity,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.time)),
            "datastore": self.datastore,
            "objects": counts,
        }

    def documents(self) -> Iterator[Document]:
        """The header, then every object, without revisions, which mean nothing elsewhere."""
        yield self.header
        for one in self.objects:
            yield codec.document(codec.stamped(one, ""))

    def lines(self) -> Iterator[str]:
        """The documents, each a line of JSON."""
        for document in self.documents():
            yield json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


async def export(
    store: Reader, datastore: str, kinds: Sequence[type[Resource]] = ORDER, clock: Callable[[], float] = time.time
) -> Export:
    """Everything of some kinds, by kind, namespace and name.

    Raises:
        StoreError: the store can't be read.
    """
    identity, objects, now = "", list[Resource](), clock()
    for kind in kinds:
        listing = await store.list(kind)
        identity = identity_of(listing.revision)
        objects += sorted(listing.items, key=lambda one: (one.namespace, one.name))
    return Export(identity, now, datastore, tuple(objects))


def begins(text: str) -> bool:
    """Whether a text is an export in lines: its first line is the header."""
    line, _, _ = text.partition("\n")
    return line.startswith("{") and f'"kind":"{KIND}"' in line


def is_header(document: object, source: str) -> bool:
    """Whether a document is the one that an export begins with.

    Raises:
        Invalid: it is one of a newer format; names the source.
    """
    if not isinstance(document, dict) or document.get("kind") != KIND:
        return False
    if document.get("format") != FORMAT:
        raise Invalid(source, f"is an export of format {document.get('format')!r}; this reads format {FORMAT}")
    return True
