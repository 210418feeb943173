"""README and the pages of docs/ as tests see them: what stands in fences, and what commands print, as the page shows.

| fence | what it is |
|---|---|
| sh | commands, of which each must succeed |
| console | commands after `$ `, each with what it prints |
| yaml, json | a file, named by its first line if that is a comment: # NAME.yaml |
| text, sql | for readers |
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LANGUAGES = frozenset({"sh", "console", "yaml", "json", "text", "sql"})
COMMANDS = frozenset({"sh", "console"})
_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$|^#+ (?P<heading>[^\n]*)$", re.DOTALL | re.MULTILINE)
_NAME = re.compile(r"# (\S+\.yaml)\n")
_VARYING = re.compile(r"\btort[0-9a-f]{11}|[0-9a-f]+(:[0-9a-f]*){2,7}|\d+(\.\d+){3}|\b(nft|legacy)\b")
"""Host interfaces, addresses, and which iptables the machine uses."""

NOT_RUN: Mapping[str, str] = {
    "make image": "`make e2e` has just made it, and the tests install that",
    "kubeadm init --pod-network-cidr=10.244.0.0/16": "test_kubeadm.py gives it a file and images (TORTIE_KUBEADM=1)",
    "kind create cluster --config kind.yaml": "kind wants docker or podman, and a registry that has its node image",
    "curl -sfL https://get.k3s.io | sh -s - --flannel-backend=none --disable-network-policy"
    " --cluster-cidr=10.244.0.0/16": "k3s comes from the internet; its folders are tried",
    "tortiectl delete nodes.tortie.dev NAME --force": "NAME is nobody's; tests/ctl and tests/controller delete nodes",
    "kubectl apply -k FOLDER": "FOLDER is the admin's; tests/e2e/test_etcd_mode.py does these with one of its own",
    "kubectl apply -k manifests/crds": "`kubectl apply -k manifests` has them in it",
    "tortiectl lab run shop/web --annotation 'cni.tortie.dev/ipv4pools=[\"blue\"]'": "tests/ipam does it without a lab",
}
"""Blocks of commands, by their first line, that no test types, and why."""


@dataclass(frozen=True, slots=True)
class Block:
    """What stands between two fences."""

    page: str
    section: str
    language: str
    text: str

    @property
    def first(self) -> str:
        """Its first line, by which a person knows it."""
        return self.text.partition("\n")[0].removeprefix("$ ").partition("  #")[0].strip()

    @property
    def file(self) -> str:
        """The name of the file that it is; empty for others."""
        named = _NAME.match(self.text)
        return named[1] if named else ""

    @property
    def commands(self) -> list[tuple[str, str]]:
        """Each command of a console with what it prints there."""
        parts = re.split(r"^\$ (.*)\n", self.text, flags=re.MULTILINE)
        return list(zip(parts[1::2], parts[2::2], strict=True))


def fences(page: str) -> list[Block]:
    """All of a page, in its order; a page is a file of docs/, or README.md."""
    found, section = [], ""
    path = ROOT / page if page == "README.md" else DOCS / page
    for match in _FENCE.finditer(path.read_text()):
        if match["heading"] is not None:
            section = match["heading"]
        else:
            found.append(Block(page, section, match["language"], match["text"]))
    return found


def blocks(page: str, language: str) -> list[str]:
    """What stands between fences of a language."""
    return [block.text for block in fences(page) if block.language == language]


def commands(page: str) -> list[tuple[str, str]]:
    """Each command of a page's consoles with what it prints there."""
    return [one for block in fences(page) if block.language == "console" for one in block.commands]


def plain(text: str) -> list[str]:
    """Lines without what differs between two machines, and without the spaces that make columns."""
    return [" ".join(_VARYING.sub("*", line).split()) for line in text.splitlines()]
