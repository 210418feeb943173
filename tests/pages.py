"""Pages of docs/ as tests see them: commands, and what the page shows that they print."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
_VARYING = re.compile(r"\btort[0-9a-f]{11}|[0-9a-f]+(:[0-9a-f]*){2,7}|\d+(\.\d+){3}|\b(nft|legacy)\b")
"""Host interfaces, addresses, and which iptables the machine uses."""


def blocks(page: str, language: str) -> list[str]:
    """What stands between fences of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)


def commands(page: str) -> list[tuple[str, str]]:
    """Each command of a page with what it prints there."""
    parts = re.split(r"^\$ (.*)\n", "".join(blocks(page, "console")), flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def plain(text: str) -> list[str]:
    """Lines without what differs between two machines, and without the spaces that make columns."""
    return [" ".join(_VARYING.sub("*", line).split()) for line in text.splitlines()]
