"""Revisions of this driver: a resourceVersion, the cluster that gave it, and for an object its uid.

    4711-5f8aa07e834a                                          of a list, a batch, an absence
    4711-5f8aa07e834a-0c5ff0a8-6d0e-4d0b-9d1e-6f9d0b8a7c11     of an object

The cluster's identity is the uid of its namespace kube-system, which lives as long as the cluster. An object's uid goes
with every write as a precondition: after etcd is restored from a backup a resourceVersion may come again, a uid can't;
and a PUT of a Lease that is gone would make a new one (seen with 1.35), whatever its resourceVersion.
"""

from dataclasses import dataclass

from datastore.revisions import number_of
from datastore.store import Revision

_IDENTITY_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Stamp:
    """A revision, taken apart."""

    number: int
    identity: str
    uid: str = ""

    @property
    def text(self) -> Revision:
        """What callers see and give back."""
        return Revision(f"{self.number}-{self.identity}-{self.uid}" if self.uid else f"{self.number}-{self.identity}")


def identity_of(uid: str) -> str:
    """The identity of the cluster whose namespace kube-system has this uid."""
    return uid.replace("-", "")[:_IDENTITY_DIGITS]


def stamp_of(text: str, identity: str) -> Stamp | None:
    """The revision that the cluster `identity` gave as `text`; None for any other text."""
    number_text, _, rest = text.partition("-")
    given_by, _, uid = rest.partition("-")
    number = number_of(f"{number_text}-{given_by}", identity)
    return None if number is None else Stamp(number, identity, uid)


def version_of(revision: str) -> int:
    """The resourceVersion in a revision that this driver made."""
    return int(revision.partition("-")[0])


def uid_of(revision: str) -> str:
    """The uid in an object's revision that this driver made; empty in any other."""
    return "-".join(revision.split("-")[2:])
