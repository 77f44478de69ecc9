"""Tables in pages of the documentation, each written by the benchmark that measured it.

A table is between two comments, which stay::

    <!-- made by make bench: short -->
    ...
    <!-- end -->
"""

from __future__ import annotations

import os
import platform
import re
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping, Sequence

DOCS = Path(__file__).parents[2] / "docs"
BENCHMARKS, DASHBOARD, OBSERVABILITY = DOCS / "benchmarks.md", DOCS / "dashboard.md", DOCS / "observability.md"

_BLOCK = re.compile(
    r"(?P<start><!-- made by make (?P<target>[a-z-]+): (?P<name>[a-z-]+) -->\n)(?P<text>.*?)(?P<end><!-- end -->)",
    re.DOTALL,
)


class Blocks:
    """The blocks of a page that one target of make writes.

    Args:
        page: The page.
        target: The target, such as ``bench``.
    """

    def __init__(self, page: Path, target: str) -> None:
        self._page, self._target = page, target

    def read(self) -> dict[str, str]:
        """The text of each block, by its name."""
        found = _BLOCK.finditer(self._page.read_text(encoding="utf-8"))
        return {block["name"]: block["text"].strip() for block in found if block["target"] == self._target}

    def write(self, texts: Mapping[str, str]) -> None:
        """Replace the texts of blocks, each with when and where it was measured.

        Raises:
            LookupError: The page has no block of a name.
        """
        if missing := texts.keys() - self.read().keys():
            raise LookupError(f"{self._page}: no block of make {self._target} is called {', '.join(sorted(missing))}")

        def replace(block: re.Match[str]) -> str:
            if block["target"] != self._target or block["name"] not in texts:
                return block[0]
            parts = texts[block["name"]].split("\n\n")
            text = "\n\n".join(part if part.startswith("|") else textwrap.fill(part, 120) for part in parts)
            return f"{block['start']}\n{text}\n\n*{make_caption()}*\n\n{block['end']}"

        page = self._page.read_text(encoding="utf-8")
        self._page.write_text(_BLOCK.sub(replace, page), encoding="utf-8")


def make_table(head: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1) -> str:
    """A table in Markdown; the first ``words`` columns are aligned to the left, all others to the right."""
    cells = [[*head], *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rule = ["-" * width if place < words else "-" * (width - 1) + ":" for place, width in enumerate(widths)]

    def line(row: Sequence[str]) -> str:
        aligned = (
            cell.ljust(width) if place < words else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return f"| {' | '.join(aligned)} |"

    return "\n".join([line(cells[0]), line(rule), *map(line, cells[1:])])


def make_caption() -> str:
    """When and where was measured."""
    machine = f"{platform.system()} on {os.cpu_count()} cores of {platform.machine()}"
    return f"Measured on {datetime.now(UTC):%Y-%m-%d} with Python {platform.python_version()}, {machine}."


def add_write_option(options: argparse.ArgumentParser) -> None:
    """Add ``--write``."""
    options.add_argument("--write", action="store_true", help="write the tables into the pages of docs/")


def check_complete(missing: Sequence[str]) -> None:
    """End the program where results lack that the pages have, rather than write tables with fewer rows."""
    if missing:
        sys.exit("\n".join(["Nothing was written into docs/:", *missing]))
