"""Lease: who leads, for as long as it says so (coordination.k8s.io/v1, as Kubernetes' own leader elections use it).

In Kubernetes it is the API's own object; elsewhere the same one in our store.
"""

from typing import ClassVar

from datastore.resources import names
from datastore.resources.value import Kind, Resource, Value, check_below


class LeaseSpec(Value, frozen=True, kw_only=True):
    """Holder and times; times are RFC 3339 with microseconds, as Kubernetes' MicroTime.

    Nobody compares them with a clock: an observer measures by its own clock how long a Lease hasn't changed.
    """

    holder_identity: str = ""
    """Empty: given up."""
    lease_duration_seconds: int = 15
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int = 0

    def check(self) -> None:
        """Judge the duration.

        Raises:
            Invalid: names the field within the spec.
        """
        if self.lease_duration_seconds < 1:
            raise names.invalid("leaseDurationSeconds", self.lease_duration_seconds, "is not positive")


class Lease(Resource, frozen=True, kw_only=True):
    """coordination.k8s.io/v1 Lease."""

    KIND: ClassVar[Kind] = Kind("coordination.k8s.io", "v1", "Lease", "leases", True, ())

    spec: LeaseSpec = LeaseSpec()

    def check(self) -> None:
        """Judge metadata and spec.

        Raises:
            Invalid: names the field.
        """
        super().check()
        check_below(self.spec, "spec")
