"""One idea, one word: what the language table of ``CONTRIBUTING.md`` retires is found nowhere.

Names, strings, docstrings and comments of the package are read, and the documentation. Names are read word by word, so
that ``on_its_way`` and ``OnItsWay`` are found as well.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import pytest
from helpers import ROOT

if TYPE_CHECKING:
    from pathlib import Path

RETIRED = {
    r"answer(s|ed|ing)?": "response; respond",
    r"(reply|replies|replied)": "response; respond",
    r"on (its|their) way(?! (out|through))": "in flight",
    r"used up": "exhausted",
    r"g(ive|ives|iving|ave|iven) back": "settle or refund (a permit), release (a slot)",
    r"learnt": "learned",
    r"stray(s|ed|ing)?": "schema drift; does not match",
    r"closed gate": "rate limited",
    r"may repeat": "idempotent; is_retryable",
    r"(grants?|granting|granted(?! total))": "permit; acquire",
    r"(whose|their|its) turn": "permit; acquire",
    r"(the month s requests|requests of the month)": "monthly quota",
    r"tried again by itself": "retried",
}
"""What is retired, and what to write; words are in lower case, with ``_`` and ``'`` as spaces."""

# The answer to a question in natural language is called so.
QUESTIONS = ("zenovay_async/resources/query.py",)
QUESTION = re.compile(r"query|question", re.IGNORECASE)

DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CODE_OF_CONDUCT.md"]

_HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_WORDS = [(re.compile(rf"\b{old}\b".replace(" ", r"[\s#]+")), new) for old, new in RETIRED.items()]
# A table that lists retired words, as a glossary does, has a last column "not".
_GLOSSARY = re.compile(r"^\|.*\| *not *\| *\n(\|.*\n)+", re.MULTILINE | re.IGNORECASE)


class Found(NamedTuple):
    """A retired word."""

    file: str
    line: int
    word: str
    instead: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.word!r}; write: {self.instead}"


def plain(text: str) -> str:
    """Text in lower case with names taken apart, line by line as before."""
    return _HUMPS.sub(" ", text).replace("_", " ").replace("'", " ").replace("’", " ").lower()


def find(file: str, text: str) -> list[Found]:
    """The retired words of a file."""
    if file.endswith(".md"):
        text = _GLOSSARY.sub(lambda table: "\n" * table[0].count("\n"), text)
    lines, words = text.splitlines(), plain(text)
    found: list[Found] = []
    for pattern, instead in _WORDS:
        for match in pattern.finditer(words):
            line = words.count("\n", 0, match.start())
            if match[0].startswith("answer") and (file in QUESTIONS or QUESTION.search(lines[line])):
                continue
            found.append(Found(file, line + 1, re.sub(r"[\s#]+", " ", match[0]), instead))
    return sorted(found)


def files() -> list[Path]:
    """What is read."""
    package = list((ROOT / "zenovay_async").rglob("*.py"))
    docs = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").rglob("*.py")]
    return sorted(package) + sorted(docs) + [ROOT / name for name in DOCUMENTS]


@pytest.mark.parametrize("path", files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_retired_word(path: Path) -> None:
    found = find(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    assert not found, "\n".join(map(str, found))


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("def read_answer(): ...", 1, "answer"),
        ("class RawAnswer: ...", 1, "answer"),
        ("x = 1\n# 100 requests are on their way.", 2, "on their way"),
        ('"""What is on\n    its way."""', 1, "on its way"),
        ("# what is used\n# up", 1, "used up"),
        ("permit.give_back()", 1, "give back"),
        ("The month's requests", 1, "the month s requests"),
        ("class GateX:\n  def closed_gate(self): ...", 2, "closed gate"),
    ],
)
def test_a_retired_word_is_named(text: str, line: int, word: str) -> None:
    (found,) = find("zenovay_async/x.py", text)
    assert (found.line, found.word) == (line, word)
    assert str(found).startswith(f"zenovay_async/x.py:{line}: {word!r}; write: ")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("README.md", "from zenovay_async import QueryAnswer"),
        ("README.md", 'answer = await zenovay.query(website_id, "Where from?")'),
        ("zenovay_async/resources/query.py", "# the answer in words"),
        ("README.md", "immigrants: granted_total; asyncio.run closes it on its way out"),
        (
            "docs/architecture.md",
            "| idea | word | not |\n|---|---|---|\n| 429 | rate limited | closed gate |\n",
        ),
    ],
)
def test_other_words_pass(file: str, text: str) -> None:
    assert find(file, text) == []


def test_only_the_glossary_may_name_them() -> None:
    text = "| idea | word | not |\n|---|---|---|\n| x | response | reply |\n\nA reply.\n"
    assert [(found.line, found.word) for found in find("docs/x.md", text)] == [(5, "reply")]
