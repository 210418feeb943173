"""What people are told where they look for it: on Kubernetes as Events (`kubectl describe`, `kubectl get events`).

The log has everything; an Event is for what somebody should know or do something about, and says what. Telling never
waits and never fails: who tells has other work.
"""

from dataclasses import dataclass, field
from typing import Protocol

from datastore.resources.value import Resource


@dataclass(frozen=True, slots=True)
class About:
    """The object that an Event is about."""

    kind: type[Resource]
    name: str
    namespace: str = ""
    uid: str = ""
    revision: str = field(default="", compare=False)
    """Where it was read, if it was: kubectl describe shows an Event with the object's uid, which is a part of this."""

    @classmethod
    def of(cls, resource: Resource) -> "About":
        """An object that was read."""
        return cls(type(resource), resource.name, resource.namespace, resource.metadata.uid, resource.revision)


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, for people."""

    about: About
    reason: str
    """CamelCase, one for each thing that can happen."""
    message: str
    """What is so, and the next command."""
    warning: bool = True
    shared: bool = False
    """Whether many programs see the same: then the first to tell it is enough."""
    alike: bool = False
    """Whether it is the same thing again whatever its message says: what changes in it are details."""


def not_understood(policy: About, why: str) -> Event:
    """A policy says what isn't understood: agents that have its pods and the controller tell the same."""
    message = f"not in force as it stands; its last form that was understood stays in force, if there was one: {why}"
    return Event(policy, "UnsupportedField", message, shared=True)


class Events(Protocol):
    """Where people look."""

    def tell(self, event: Event) -> None:
        """Tell it soon; what is told again and again, once in a while."""
        ...

    async def told(self) -> None:
        """Return when what was told has been written, or could not be; for a program that ends."""
        ...


class NoEvents:
    """Where only the log is read."""

    def tell(self, event: Event) -> None:
        """See `Events.tell`."""

    async def told(self) -> None:
        """See `Events.told`."""
