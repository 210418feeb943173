"""IPReservation: addresses that are never given to whoever asks for any.

Fields and meaning are those of Calico's projectcalico.org/v3 IPReservation. Who asks for such an address by itself gets
it: a reservation keeps it free for that.
"""

from typing import ClassVar

import msgspec

from datastore.resources import names
from datastore.resources.value import Kind, Resource, Value, check_below


class IPReservationSpec(Value, frozen=True, kw_only=True):
    """What is kept free."""

    reserved_cidrs: tuple[str, ...] = msgspec.field(default=(), name="reservedCIDRs")
    """CIDRs or single addresses, of both families."""

    def check(self) -> None:
        """Judge every CIDR.

        Raises:
            Invalid: names the field within the spec.
        """
        for index, text in enumerate(self.reserved_cidrs):
            if "/" in text:
                names.parse_cidr(text, f"reservedCIDRs[{index}]")
            else:
                names.parse_address(text, f"reservedCIDRs[{index}]")


class IPReservation(Resource, frozen=True, kw_only=True):
    """tortie.dev/v1 IPReservation."""

    KIND: ClassVar[Kind] = Kind("tortie.dev", "v1", "IPReservation", "ipreservations", False, ("ipr",))

    spec: IPReservationSpec = IPReservationSpec()

    def check(self) -> None:
        """Judge metadata and spec.

        Raises:
            Invalid: names the field.
        """
        super().check()
        check_below(self.spec, "spec")
