"""What moving a datastore can say no with, besides what the stores say.

TransferError
├── Refused     it can't be done as asked; nothing was changed
└── Disturbed   somebody else works on one of the two; what was done stays, and running it again goes on
"""


class TransferError(Exception):
    """Every error of this package's own; `hint` is what to do next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Refused(TransferError):
    """It can't be done as asked."""


class Disturbed(TransferError):
    """Somebody else's writes are in the way."""
