"""Build the documentation into ``site/``: pages, the Markdown of each beside it, and ``llms.txt``; then check it.

    python docs/tools/build_site.py

The exit code is 1 if a link leads nowhere, or if a page shows the markup of a docstring.
"""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Coroutine
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urldefrag, urlsplit

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DOCS, SITE = ROOT / "docs", ROOT / "site"
ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`([^`]+)`")
_ATTRIBUTES = re.compile(r"^\{ [.#][^}]+ \}\n|\{ [.#][^}]+ \}", re.MULTILINE)
_MODULES = re.compile(r"\b(?:[a-z_]+\.)+(?=[A-Z])")
_ROLE_IN_HTML = re.compile(r":(?:attr|class|data|exc|func|meth|mod):|::(?=</p>)")


class NavPage(NamedTuple):
    """A page of the nav: the title of its group, empty for the first page, and its path in ``docs/``."""

    group: str
    path: str


def nav_pages(entries: list[str | dict[str, Any]], group: str = "") -> Iterator[NavPage]:
    """The pages of the nav of ``mkdocs.yml``, in order; those of a group within a group are of the outer one."""
    for entry in entries:
        titled: dict[str, Any] = entry if isinstance(entry, dict) else {"": entry}
        for title, value in titled.items():
            if isinstance(value, str):
                yield NavPage(group, value)
            else:
                yield from nav_pages(value, group or title)


def settings() -> dict[str, Any]:
    """What ``mkdocs.yml`` says."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    return found


def markdown_of(path: str) -> str:
    """The Markdown of a page on its own: with what it includes, and docstrings in place of their directives."""
    text = re.sub(r"\A---\n.*?^---\n", "", (DOCS / path).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    text = _ATTRIBUTES.sub("", text)
    text = re.sub(r'^--8<-- "(.+)"$', lambda m: (ROOT / m[1]).read_text(encoding="utf-8"), text, flags=re.MULTILINE)
    return (
        re.sub(r"^::: (\S+)\n((?:    .*\n)*)", lambda m: _documented(m[1]), text + "\n", flags=re.MULTILINE).strip()
        + "\n"
    )


def _documented(path: str) -> str:
    """A public name with its signature and docstring, and so its public methods."""
    module, _, name = path.rpartition(".")
    value = getattr(importlib.import_module(module), name)
    parts = [f"### `{name}`", *_docstring(name, value)]
    if inspect.isclass(value):
        for member, method in _members(value).items():
            if member.startswith("_") or (issubclass(value, Coroutine) and hasattr(Coroutine, member)):
                continue
            if inspect.isfunction(method) or isinstance(method, property):
                parts += [f"#### `{name}.{member}`", *_docstring(member, method)]
    return "\n\n".join(parts) + "\n\n"


def _members(cls: type) -> dict[str, Any]:
    """What a class has by itself, and from bases that are no public names."""
    public = importlib.import_module("zenovay_async").__all__
    own = [
        base
        for base in cls.__mro__
        if base is cls or (base.__module__.startswith("zenovay") and base.__name__ not in public)
    ]
    return {name: value for base in reversed(own) for name, value in vars(base).items()}


class _Source:
    """An annotation as it stands in the source."""

    def __init__(self, annotation: Any) -> None:
        self._text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)

    def __repr__(self) -> str:
        return self._text


def _signature(function: Any) -> inspect.Signature:
    signature = inspect.signature(function)
    empty = inspect.Parameter.empty
    parameters = [
        parameter if parameter.annotation is empty else parameter.replace(annotation=_Source(parameter.annotation))
        for parameter in signature.parameters.values()
    ]
    returned = empty if inspect.isclass(function) else signature.return_annotation
    return signature.replace(
        parameters=parameters, return_annotation=returned if returned is empty else _Source(returned)
    )


def _docstring(name: str, value: Any) -> list[str]:
    if not (inspect.isclass(value) or inspect.isroutine(value) or isinstance(value, property)):
        return [f"```python\n{name} = {_MODULES.sub('', str(value))}\n```"]
    text = ROLE.sub(r"`\1`", inspect.getdoc(value) or "").replace("``", "`").replace("::\n", ":\n")
    has_arguments = inspect.isfunction(value) or (inspect.isclass(value) and "\nArgs:\n" in text)
    return [*([f"```python\n{name}{_signature(value)}\n```"] if has_arguments else []), *([text] if text else [])]


def title_and_summary(text: str) -> tuple[str, str]:
    """The first heading of a page, and the first sentence beneath it."""
    title = re.search(r"^# (.+)$", text, re.MULTILINE)
    rest = re.sub(r"^```.*?^```$", "", text[title.end() if title else 0 :], flags=re.MULTILINE | re.DOTALL)
    paragraphs = (part.strip() for part in rest.split("\n\n"))
    summary = next((part for part in paragraphs if re.match(r"[A-Z0-9`\[]", part)), "")
    summary = re.sub(r"\[(.+?)\]\(.+?\)", r"\1", " ".join(summary.split()))
    return title[1] if title else "", re.split(r"(?<=[.:])\s", summary)[0].removesuffix(":")


def write_markdown(site: Path) -> None:
    """Write the Markdown of each page beside it, all of them as ``llms-full.txt``, and their list as ``llms.txt``."""
    config = settings()
    index = [f"# {config['site_name']}", "", f"> {config['site_description']}"]
    whole: list[str] = []
    group = ""
    for page in nav_pages(config["nav"]):
        text = markdown_of(page.path)
        title, summary = title_and_summary(text)
        if page.group != group:
            group = page.group
            index += ["", f"## {group}", ""]
        if group:
            index.append(f"- [{title}]({page.path}): {summary}")
        whole.append(f"<!-- {page.path} -->\n\n{text}")
        (site / page.path).parent.mkdir(parents=True, exist_ok=True)
        (site / page.path).write_text(text, encoding="utf-8")
    (site / "llms.txt").write_text("\n".join(index) + "\n", encoding="utf-8")
    (site / "llms-full.txt").write_text("\n".join(whole), encoding="utf-8")


class _Page(HTMLParser):
    """The anchors of a page, and what it links to."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the anchors and links of a tag."""
        del tag
        for name, value in attrs:
            if name in {"id", "name"} and value:
                self.anchors.add(value)
            elif name in {"href", "src"} and value is not None:
                self.links.append(value)


def read_page(path: Path) -> _Page:
    """Parse a page."""
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def problems_of(site: Path) -> tuple[list[str], set[str]]:
    """Check the links of all pages, and of the Markdown and text files, inside a built site.

    Returns:
        What is wrong, and the links that lead outside of the site, which are not followed.
    """
    pages = {path: read_page(path) for path in sorted(site.rglob("*.html"))}
    wrong: list[str] = []
    outside: set[str] = set()
    texts = [*site.rglob("*.md"), site / "llms.txt"]
    links = [(path, link) for path, page in pages.items() if path.name != "404.html" for link in page.links]
    links += [
        (path, link)
        for path in texts
        if path.exists()
        for link in re.findall(r"(?<!!)\[[^\]\n]+\]\(([^)\s]+)\)", without_code(path.read_text(encoding="utf-8")))
    ]
    for path, link in links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            outside.add(link)
            continue
        name, anchor = urldefrag(link)
        target = (path.parent / unquote(name)).resolve() if name else path
        target = target / "index.html" if target.is_dir() else target
        if not target.is_relative_to(site.resolve()) or not target.exists():
            wrong.append(f"{path.relative_to(site)}: {link}: no such file in the site")
        elif anchor and target in pages and unquote(anchor) not in pages[target].anchors:
            wrong.append(f"{path.relative_to(site)}: {link}: no such anchor")
    wrong += [
        f"{path.relative_to(site)}: {role[0]}: the markup of a docstring"
        for path in pages
        if (role := _ROLE_IN_HTML.search(path.read_text(encoding="utf-8")))
    ]
    return wrong, outside


def without_code(text: str) -> str:
    """Markdown without its blocks and spans of code, which have no links."""
    text = re.sub(r"^ *(`{3,}).*?^ *\1 *$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"(`+)[^`]+?\1", "", text)


def main() -> int:
    """Build the site and check it."""
    built = subprocess.run([sys.executable, "-m", "zensical", "build", "--clean", "--strict"], cwd=ROOT, check=False)
    if built.returncode:
        return built.returncode
    write_markdown(SITE)
    wrong, outside = problems_of(SITE.resolve())
    for problem in wrong:
        sys.stderr.write(f"{problem}\n")
    hosts = sorted({urlsplit(link).netloc for link in outside})
    sys.stdout.write(f"{len(wrong)} problems; {len(outside)} links outside of the site, to {', '.join(hosts)}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
