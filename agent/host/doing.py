"""Steps that are told, and with a dry run told only."""

from collections.abc import Callable
from dataclasses import dataclass, field

Tell = Callable[[str], None]


@dataclass
class Doing:
    """What a run does, one line each; a step that isn't needed is passed over in silence."""

    tell: Tell
    dry: bool = False
    done: list[str] = field(default_factory=list)

    def do(self, what: str, verb: str, act: Callable[[], object]) -> None:
        """One step that is needed: `relay /opt/cni/bin/tortie` `installed`."""
        self.note(what, verb)
        if not self.dry:
            act()

    def note(self, what: str, verb: str) -> None:
        """The same for what the caller does himself."""
        self.done.append(what)
        self.tell(f"{what}: {'would be ' if self.dry else ''}{verb}")
