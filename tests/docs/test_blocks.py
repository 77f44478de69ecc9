"""Every block of the documentation runs, or is parsed, or has a reason not to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from blocks import GUIDES, PAGES, SKIPPED, blocks_of, blocks_to_run, find_blocks, guide_of, name_of
from helpers import ROOT
from machine import OPTIONAL, commands_of, machine_in, shows

if TYPE_CHECKING:
    from pathlib import Path

BLOCKS = [block for page in PAGES for block in blocks_of(page)]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_to_run(page)], ids=name_of)
def test_the_blocks_of_a_page_run_one_after_another(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with machine_in(tmp_path, monkeypatch) as machine:
        for block in blocks_to_run(page):
            machine.run(block)
    if machine.passed_over:
        pytest.skip("all but " + "; ".join(machine.passed_over))


def test_what_needs_a_block_that_was_passed_over_is_passed_over_and_a_slip_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPTIONAL, "no_such_package", "cannot be installed")
    texts = (
        "import no_such_package as package\nframe = [row for row in await package.rows()]\ndef show(x): y = x",
        "columns = frame.columns",
        "print(columns)",
        "show(package)",
    )
    first, *others = blocks = find_blocks("p.md", "".join(f"```python\n{text}\n```\n" for text in texts))
    with machine_in(tmp_path, monkeypatch) as machine:
        for block in blocks:
            machine.run(block)
        assert len(machine.passed_over) == len(blocks)
        assert machine.passed_over[0] == f"{first} needs no_such_package: cannot be installed"
        assert [text.rpartition(": ")[2] for text in machine.passed_over[1:]] == [
            f"name '{name}' is not defined" for name in ("frame", "columns", "show")
        ]
        for slip in ("fram", "row", "x", "y"):
            with pytest.raises(NameError, match=f"'{slip}'"):
                machine.run(others[0]._replace(text=slip))


def test_every_fence_is_a_block_with_a_language() -> None:
    for page in PAGES:
        fences = sum(line.lstrip().startswith("```") for line in page.read_text(encoding="utf-8").splitlines())
        assert fences == 2 * len(blocks_of(page)), f"{name_of(page)}: a fence is not closed"
    bare = [str(block) for block in BLOCKS if not block.language]
    assert not bare, f"a fence without a language, such as ```text or ```python: {', '.join(bare)}"


def test_a_test_that_runs_blocks_names_their_page() -> None:
    for guide in GUIDES:
        assert guide.page.rpartition("/")[2] in (ROOT / guide.test).read_text(encoding="utf-8")
        assert [block for block in BLOCKS if guide_of(block) == guide], f"{guide}: no such block"


def test_every_reason_to_skip_is_that_of_one_block() -> None:
    for page, start in SKIPPED:
        assert len([block for block in BLOCKS if block.page == page and block.text.startswith(start)]) == 1, start


def test_blocks_are_found_with_their_lines() -> None:
    page = (
        'Text\n\n```console\n$ ls\n```\n\n```text title="x"\na\n```\n\n1. In a list\n\n   ```python\n   x = 1\n   ```\n'
    )
    console, text, python = find_blocks("p.md", page)
    assert (console.line, console.language, console.is_next) == (4, "console", False)
    assert (text.title, text.is_next) == ("x", True)
    assert (python.line, python.text, python.is_next) == (14, "x = 1\n", False)


def test_commands_have_the_output_beneath_them() -> None:
    (block,) = find_blocks("p.md", "```console\n$ a \\\n    | b\none\n...\n$ c  # nothing\n```\n")
    first, second = commands_of(block)
    assert (first.text, first.output, first.line) == ("a | b", ["one", "..."], 2)
    assert (second.text, second.output) == ("c  # nothing", [])


@pytest.mark.parametrize(
    ("shown", "printed", "is_shown"),
    [
        (["a  1"], ["a    1"], True),
        (["200 in 0.4 s, 12/s"], ["200 in 17 ms, 1,400/s"], True),
        (["2026-01-01 10:00 x"], ["2025-02-02 11:11 x"], True),
        (["a", "..."], ["a", "b", "c"], True),
        (["a", "...", "c"], ["a", "c"], True),
        (["a"], ["a", "b"], False),
        (["a 1"], ["a 2"], False),
    ],
)
def test_what_a_page_shows_is_what_is_printed(shown: list[str], printed: list[str], *, is_shown: bool) -> None:
    assert shows(shown, printed) == is_shown
