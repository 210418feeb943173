"""What a store can say no with; nothing else leaves a driver.

    StoreError
    ├── NotFound        the object is not there
    ├── AlreadyExists   create found one of that name
    ├── Conflict        the object has moved on: read again, decide again
    ├── Compacted       a watch asked for more history than is kept: list again
    ├── Forbidden       these credentials may not
    ├── Invalid         the object itself is wrong; names the field
    ├── Unavailable     certainly not applied; trying again later is safe
    ├── Unknown         perhaps applied, now or later
    ├── UnknownKind     no resource is called so
    └── UnsupportedDatastore   no driver for that address

A driver translates its library's exceptions where it names that library. Callers retry on `Conflict` and
`Unavailable` only. `Unknown` is settled by seeing the object at another revision, or by winning a write on it at
the same revision (design: a write that was lost on its way may still land after a read).
"""


class StoreError(Exception):
    """Every error of this package."""


class NotFound(StoreError):
    """There is no object `key`; `revision` is the store's revision at which that was so."""

    def __init__(self, key: str, revision: str) -> None:
        super().__init__(f"{key} is not in the datastore")
        self.key = key
        self.revision = revision


class AlreadyExists(StoreError):
    """An object `key` is there already."""

    def __init__(self, key: str) -> None:
        super().__init__(f"{key} is in the datastore already")
        self.key = key


class Conflict(StoreError):
    """The object `key` is no longer at `revision`: read again, decide again."""

    def __init__(self, key: str, revision: str) -> None:
        super().__init__(f"{key} has moved on since revision {revision}")
        self.key = key
        self.revision = revision


class Compacted(StoreError):
    """The history of `kind` no longer reaches back to `revision`, or belongs to another store: list again."""

    def __init__(self, kind: str, revision: str) -> None:
        super().__init__(f"the datastore keeps no history of {kind} since revision {revision}")
        self.kind = kind
        self.revision = revision


class Forbidden(StoreError):
    """The datastore refused these credentials."""


class Invalid(StoreError):
    """A field is wrong: `path` names it as a person would write it, such as spec.ingress[0].ports[1].port."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason

    def below(self, prefix: str) -> "Invalid":
        """The same fault seen from the object that holds the faulty one at `prefix`."""
        separator = "" if self.path.startswith("[") or not self.path else "."
        return Invalid(f"{prefix}{separator}{self.path}", self.reason)


class Unavailable(StoreError):
    """The datastore can't be reached or can't write; what was asked has certainly not been applied.

    `retry_after_s` is set where the datastore says itself how long to leave it alone.
    """

    def __init__(self, reason: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Unknown(StoreError):
    """The answer was lost: what was asked may have been applied, or may still be."""


class UnknownKind(StoreError):
    """No resource is called `name`; `near` are names that look like it."""

    def __init__(self, name: str, near: tuple[str, ...]) -> None:
        hint = f"; meant is perhaps {' or '.join(near)}" if near else ""
        super().__init__(f"no resource is called {name!r}{hint}")
        self.name = name
        self.near = near


class UnsupportedDatastore(StoreError):
    """No driver reads this datastore address; `scheme` is what it began with."""

    def __init__(self, scheme: str, supported: tuple[str, ...]) -> None:
        super().__init__(f"no driver for datastore type {scheme!r}; there is one for {', '.join(supported)}")
        self.scheme = scheme
        self.supported = supported
