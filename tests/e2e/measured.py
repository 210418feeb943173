"""What a run has measured, to be compared at its end."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(slots=True)
class Measured:
    """Seconds until sixty pods are ready; 0 where it wasn't measured."""

    NOISE: ClassVar[float] = 1.25
    """Between two runs with the same plugins, on two processors that others use too."""
    reference_s: float = 0.0
    tortie_s: float = 0.0
