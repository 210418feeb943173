"""Every block of commands in the docs is typed by a test, or listed as not, with the reason."""

import re

import pytest

from tests.pages import COMMANDS, DOCS, LANGUAGES, NOT_RUN, ROOT, Block, fences

PAGES = ("README.md", *sorted(path.name for path in DOCS.glob("*.md")))
TYPED_BY = {
    ("README.md", "sh"): ".ci/run",
    ("cni.md", "console"): "tests/contract/test_docs.py",
    ("host.md", "console"): "tests/host_install/test_docs.py",
    ("kubernetes.md", "console"): "tests/e2e/test_docs.py",
    ("kubernetes.md", "sh"): "tests/e2e/test_docs.py",
    ("lab.md", "console"): "tests/lab/test_docs.py",
    ("operating.md", "sh"): "tests/e2e/test_docs.py",
}
"""Who types all blocks of a language on a page, but for those of `NOT_RUN`."""
EVERY = [block for page in PAGES for block in fences(page)]


def shown(block: Block) -> str:
    return f"{block.page}: {block.first}"


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page: str) -> None:
    unnamed = [block.first for block in fences(page) if block.language not in LANGUAGES]
    assert unnamed == [], f"a fence says which of {sorted(LANGUAGES)} it is"


@pytest.mark.parametrize("block", [one for one in EVERY if one.language in COMMANDS], ids=shown)
def test_a_test_types_it_or_there_is_a_reason(block: Block) -> None:
    typed = (block.page, block.language) in TYPED_BY
    assert typed or block.first in NOT_RUN, "type it in a test, or give the reason in tests/pages.py"


def test_every_reason_is_of_a_block_that_is_there() -> None:
    assert NOT_RUN.keys() <= {block.first for block in EVERY if block.language in COMMANDS}


@pytest.mark.parametrize(("page", "test"), {(page, test) for (page, _), test in TYPED_BY.items()})
def test_who_types_a_page_names_it(page: str, test: str) -> None:
    assert page == "README.md" or page in (ROOT / test).read_text()


def test_the_readmes_commands_are_ours_of_ci() -> None:
    run = (ROOT / ".ci" / "run").read_text().splitlines()
    readmes = [line.partition("#")[0].strip() for block in fences("README.md") for line in block.text.splitlines()]
    made = [line for line in readmes if re.match("make ", line)]
    assert len(made) == 3
    assert set(made) <= set(run)
