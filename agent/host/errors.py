"""The one error of this folder."""


class HostError(Exception):
    """A host can't be changed as asked; `hint` is what to do next, `status` tortiectl's exit status."""

    def __init__(self, message: str, hint: str = "", status: int = 2) -> None:
        super().__init__(message)
        self.hint = hint
        self.status = status
