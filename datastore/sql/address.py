"""sqlite:///var/lib/tortie/tortie.db: three slashes, then a file's absolute path."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from datastore.errors import Invalid
from datastore.store import Store


@dataclass(frozen=True, slots=True)
class SQLiteAddress:
    """Where a database file is; see `urls.Address`."""

    path: Path
    scheme: str = "sqlite"
    shared: bool = True

    @property
    def description(self) -> str:
        """The file."""
        return f"SQLite file {self.path}"

    async def open(self) -> Store:
        """The store in the file.

        Raises:
            Unavailable: it can't be opened.
        """
        from datastore.sql.sqlite import SQLiteStore

        return await SQLiteStore.open(self.path)


def parse(url: str) -> SQLiteAddress:
    """The file that `url` names.

    Raises:
        Invalid: it names none.
    """
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc or parts.query or parts.fragment or not path.startswith("/") or "\0" in path or path.endswith("/"):
        raise Invalid("datastore", f"{url!r} is no address of a file, such as sqlite:///var/lib/tortie/tortie.db")
    # The form with four slashes is SQLAlchemy's.
    return SQLiteAddress(Path("/" + path.lstrip("/")))
