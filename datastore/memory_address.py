"""memory: - this process's memory, empty at first."""

from dataclasses import dataclass

from datastore.errors import Invalid
from datastore.store import Store


@dataclass(frozen=True, slots=True)
class MemoryAddress:
    """See `urls.Address`."""

    scheme: str = "memory"
    path: None = None
    shared: bool = False
    description: str = "memory of this process"

    async def open(self) -> Store:
        """A new, empty store."""
        from datastore.memory import MemoryStore

        return MemoryStore()


def parse(url: str) -> MemoryAddress:
    """The address that `url` is.

    Raises:
        Invalid: something follows the colon.
    """
    if url.partition(":")[2]:
        raise Invalid("datastore", f"{url!r}: nothing follows memory:")
    return MemoryAddress()
