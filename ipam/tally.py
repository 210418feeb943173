"""How often addresses were given, refused and freed here, since the process began: for metrics, and nothing else."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

ADOPTED = "adopted"
BORROWED = "borrowed"
OWN = "own"


@dataclass(slots=True)
class Tally:
    """One allocator's; adding one is all that an ADD pays for it."""

    given: Counter[tuple[int, str]] = field(default_factory=Counter)
    """By family, and whether from a block of this node, from another's, or given to its handle before."""
    refused: Counter[str] = field(default_factory=Counter)
    """By the error's name."""
    freed: Counter[int] = field(default_factory=Counter)
    """By family."""

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """Count what is raised within."""
        try:
            yield
        except Exception as error:
            self.refused[type(error).__name__] += 1
            raise
