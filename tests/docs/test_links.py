"""Links of the Markdown files lead to files and headings that are there."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

import pytest
import yaml
from blocks import PAGES, name_of
from build_site import nav_pages, without_code
from helpers import ROOT

if TYPE_CHECKING:
    from pathlib import Path

DOCUMENTS = [*PAGES, *(ROOT / name for name in ("CHANGELOG.md", "SECURITY.md"))]
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_DIRECTIVE = re.compile(r"^::: (\S+)$", re.MULTILINE)


def slug_of(heading: str) -> str:
    """The anchor of a heading, as Python-Markdown makes it."""
    text = re.sub(r"\[(.+?)\]\(.+?\)", r"\1", heading)
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", text).strip().lower())


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page: its headings, and what it documents."""
    text = page.read_text(encoding="utf-8")
    outside = re.sub(r"^ *(`{3,}).*?^ *\1 *$", "", text, flags=re.MULTILINE | re.DOTALL)
    return {slug_of(title) for title in re.findall(r"^#+ (.+)$", outside, re.MULTILINE)} | set(_DIRECTIVE.findall(text))


@pytest.mark.parametrize("page", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    wrong: list[str] = []
    for link in _LINK.findall(without_code(page.read_text(encoding="utf-8"))):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists():
            # Made with the site.
            if name not in {"llms.txt", "llms-full.txt"}:
                wrong.append(f"{link}: no such file")
        elif anchor and target.suffix == ".md" and anchor not in anchors_of(target):
            wrong.append(f"{link}: no such heading")
    assert not wrong, f"{name_of(page)}: " + "; ".join(wrong)


def test_the_nav_has_every_page_once() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    listed = [page.path for page in nav_pages(config["nav"])]
    assert sorted(listed) == sorted(
        path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")
    )
