"""What a CNI command can fail with: the SPEC's codes, and nothing but them on standard output.

    CniError
    ├── IncompatibleVersion   1
    ├── UnsupportedField      2
    ├── InvalidEnvironment    4
    ├── IoFailure             5
    ├── Undecodable           6
    ├── InvalidConfig         7
    ├── InvalidNamespace      8   (the reference plugins' own; the SPEC's table ends at 7)
    ├── TryAgainLater         11
    ├── NotAvailable          50
    ├── LimitedConnectivity   51
    ├── NotAsMade             100 (ours: what CHECK found)
    ├── NotCollected          101 (ours: what GC could not remove)
    └── InternalError         999 (the reference plugins' own)

Source: CNI SPEC 1.1.0 section 5, "Error"; containernetworking/cni pkg/types.
"""

import json


class CniError(Exception):
    """A failure as the runtime is told it."""

    CODE = 999

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(f"{message}: {details}" if details else message)
        self.message = message
        self.details = details

    def to_json(self, version: str) -> bytes:
        """The SPEC's error object, in one line."""
        body = {"cniVersion": version, "code": self.CODE, "msg": self.message, "details": self.details}
        return json.dumps(body).encode() + b"\n"


class IncompatibleVersion(CniError):
    """The configuration's cniVersion isn't ours."""

    CODE = 1


class UnsupportedField(CniError):
    """A field that asks for what isn't there; the message holds key and value."""

    CODE = 2


class InvalidEnvironment(CniError):
    """A CNI_* variable is missing or wrong; the message names it."""

    CODE = 4


class IoFailure(CniError):
    """Standard input couldn't be read."""

    CODE = 5


class Undecodable(CniError):
    """Standard input is no JSON object."""

    CODE = 6


class InvalidConfig(CniError):
    """A key of the network configuration is wrong; the message names it."""

    CODE = 7


class InvalidNamespace(CniError):
    """The network namespace is none, or is this node's own."""

    CODE = 8


class TryAgainLater(CniError):
    """Nothing is wrong with the request; what it needs isn't to be had at the moment."""

    CODE = 11


class NotAvailable(CniError):
    """STATUS: ADD can't be served."""

    CODE = 50


class LimitedConnectivity(CniError):
    """STATUS: ADD can't be served, and pods that run are hurt as well."""

    CODE = 51


class NotAsMade(CniError):
    """CHECK: the attachment isn't as it was made; the details say what differs."""

    CODE = 100


class NotCollected(CniError):
    """GC: something stale could not be removed; the rest was."""

    CODE = 101


class InternalError(CniError):
    """Something we didn't foresee, or that the kernel refused."""
