"""The fenced blocks of the documentation: where they stand, and what runs them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from helpers import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
"""The pages whose blocks are run."""

_FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,})(?P<info>[^`\n]*)\n(?P<text>.*?)^(?P=indent)(?P=fence) *$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        page: The page, from the root of the repository.
        line: The line of its first line of text.
        language: What stands behind the fence; empty if nothing does.
        title: The name of the file that it is, if it has one.
        text: The text, without the indentation of the fence.
        is_next: Whether nothing but blank lines stands between it and the block before.
    """

    page: str
    line: int
    language: str
    title: str | None
    text: str
    is_next: bool

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def name_of(page: Path) -> str:
    """The path of a page from the root of the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    return find_blocks(name_of(page), page.read_text(encoding="utf-8"))


def find_blocks(page: str, text: str) -> list[Block]:
    """The blocks in the text of a page, in order."""
    found: list[Block] = []
    end = 0
    for match in _FENCE.finditer(text):
        language, _, rest = match["info"].strip().partition(" ")
        title = re.search(r'title="(.+?)"', rest)
        source = re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
        line = text.count("\n", 0, match.start("text")) + 1
        is_next = bool(found) and not text[end : match.start()].strip()
        found.append(Block(page, line, language, title and title[1], source, is_next))
        end = match.end()
    return found


class Guide(NamedTuple):
    """Blocks that a test of their own runs.

    Attributes:
        page: Their page.
        language: Their language.
        test: The test file.
    """

    page: str
    language: str
    test: str


GUIDES = [
    Guide("docs/nightly.md", "sh", "tests/cli/test_nightly_guide.py"),
    Guide("docs/nightly.md", "console", "tests/cli/test_nightly_guide.py"),
    Guide("docs/nightly.md", "python", "tests/cli/test_nightly_guide.py"),
    Guide("docs/observability.md", "python", "tests/http/test_observability_guide.py"),
    Guide("docs/testing.md", "python", "tests/testing/test_testing_guide.py"),
]

SKIPPED = {
    ("docs/architecture.md", '_PAGES = Endpoint("heatmaps.pages"'): "a part of zenovay_async/resources/heatmaps.py",
    ("CONTRIBUTING.md", '"""Funnels: the steps that visitors take.'): "an endpoint that does not exist",
    ("CONTRIBUTING.md", '@ROUTES.route("/funnels/'): "an endpoint that does not exist",
    ("CONTRIBUTING.md", "Endpoint(\n"): "an endpoint that does not exist",
    ("docs/networks.md", "import aiohttp\nfrom aiohttp_socks"): "needs a SOCKS proxy",
}
"""Blocks that nothing runs, by page and how they begin: why."""


def guide_of(block: Block) -> Guide | None:
    """The test that runs a block, if it has one of its own."""
    for guide in GUIDES:
        if (guide.page, guide.language) == (block.page, block.language):
            return guide
    return None


def reason_to_skip(block: Block) -> str | None:
    """Why nothing runs a block, if nothing does."""
    for (page, start), reason in SKIPPED.items():
        if page == block.page and block.text.startswith(start):
            return reason
    return None


def blocks_to_run(page: Path) -> list[Block]:
    """The blocks of a page that the machinery of this folder runs."""
    blocks = blocks_of(page)
    is_run = [guide_of(block) is None and reason_to_skip(block) is None for block in blocks]
    # What a block prints that another test runs, that test compares.
    return [
        block._replace(is_next=block.is_next and is_run[number - 1])
        for number, block in enumerate(blocks)
        if is_run[number]
    ]
