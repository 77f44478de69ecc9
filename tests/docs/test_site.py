"""The tools that make the site: pictures, Markdown beside the pages, and the check of links."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from build_site import markdown_of, nav_pages, problems_of, settings, title_and_summary, write_markdown
from helpers import ROOT
from pictures import ASSETS, PICTURES, picture_of, text_of

if TYPE_CHECKING:
    from pathlib import Path

PAGES = list(nav_pages(settings()["nav"]))


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_shows_what_its_command_prints(name: str) -> None:
    kept = (ASSETS / f"{name}.svg").read_text(encoding="utf-8")
    assert text_of(kept) == text_of(picture_of(name)), "make pictures"
    assert picture_of(name) == picture_of(name)


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_loads_nothing(name: str) -> None:
    kept = (ASSETS / f"{name}.svg").read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\s\"']+", kept)) == {"http://www.w3.org/2000/svg"}
    assert "@font-face" not in kept
    assert "url(http" not in kept


def test_every_page_has_its_markdown_and_is_listed(tmp_path: Path) -> None:
    write_markdown(tmp_path)
    listed = (tmp_path / "llms.txt").read_text(encoding="utf-8")
    whole = (tmp_path / "llms-full.txt").read_text(encoding="utf-8")
    for page in PAGES:
        text = (tmp_path / page.path).read_text(encoding="utf-8")
        assert text in whole
        title, summary = title_and_summary(text)
        assert title
        assert summary, page.path
        assert f"- [{title}]({page.path}): {summary}" in listed or page.path == "index.md"
    assert problems_of(tmp_path)[0] == []


def test_the_markdown_of_the_reference_has_signatures_and_docstrings() -> None:
    text = markdown_of("reference/batch.md")
    assert "### `Journal`" in text
    assert re.search(r"```python\ntable\(self", text)
    assert not re.search(r"^::: |:(class|meth|func|attr|data):`", text, re.MULTILINE)


def test_the_markdown_of_the_reference_has_what_a_reader_needs_alone() -> None:
    client, resources = markdown_of("reference/client.md"), markdown_of("reference/resources.md")
    assert re.search(
        r"^Zenovay\(api_key: str \| None = None, \*, auth: AuthStyle = 'x-api-key', .*\)$", client, re.MULTILINE
    )
    assert "AuthStyle = Literal['x-api-key', 'bearer']" in client
    assert "#### `Paged.take`" in resources
    assert "#### `Paged.send`" not in resources, "part of the coroutine interface"
    assert "``" not in client.replace("```", "")


def test_the_markdown_of_the_first_page_has_no_settings_of_the_site() -> None:
    text = markdown_of("index.md")
    assert text.startswith("# zenovay-async\n")
    assert "{ ." not in text


def test_the_changelog_is_that_of_the_repository() -> None:
    assert markdown_of("changelog.md").strip() == (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").strip()


def section_of(page: str, anchor: str) -> str:
    """The text of a section of a page in ``docs/``, and of those below it."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for heading in re.finditer(r"^(#+) (.+)$", text, re.MULTILINE):
        if re.sub(r"[^\w-]", "", heading[2].lower().replace(" ", "-")) == anchor:
            return re.split(rf"^#{{1,{len(heading[1])}}} ", text[heading.end() :], maxsplit=1, flags=re.MULTILINE)[0]
    raise AssertionError(f"{page} has no section {anchor}")


def figures_of(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w.,])\d+(?:[.,]\d+)*(?!\w)", text))


@pytest.mark.parametrize("name", ["README.md", "docs/index.md"])
def test_the_figures_of_a_first_page_are_those_of_the_sections_that_it_links_to(name: str) -> None:
    checked = 0
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        measured = re.findall(r"\]\((?:docs/)?((?:benchmarks|dashboard|speed)\.md)#([\w-]+)\)", line)
        if line.startswith("|") and measured:
            known = figures_of(" ".join(section_of(*link) for link in measured))
            said = figures_of(re.sub(r"\]\(.+?\)", "]", line))
            assert said
            assert said <= known, f"{measured} has no {', '.join(said - known)}"
            checked += 1
    assert checked == 5


@pytest.mark.parametrize(
    ("html", "problem"),
    [
        ('<a href="other/">', None),
        ('<a href="other/#here">', None),
        ('<a href="#top"><p id="top">', None),
        ('<a href="https://site.example/x">', None),
        ('<a href="nowhere/">', "nowhere/: no such file in the site"),
        ('<a href="../outside">', "../outside: no such file in the site"),
        ('<img src="missing.svg">', "missing.svg: no such file in the site"),
        ('<a href="other/#gone">', "other/#gone: no such anchor"),
        ("<p>See :class:<code>Batch</code>", ":class:: the markup of a docstring"),
    ],
)
def test_a_link_that_leads_nowhere_is_named(tmp_path: Path, html: str, problem: str | None) -> None:
    site = tmp_path / "site"
    (site / "other").mkdir(parents=True)
    (tmp_path / "outside").touch()
    (site / "other" / "index.html").write_text('<h1 id="here">')
    (site / "index.html").write_text(html)
    wrong, outside = problems_of(site)
    assert wrong == ([f"index.html: {problem}"] if problem else [])
    assert bool(outside) == ("https" in html)
