"""Text that strangers wrote, made safe to show: visitors of websites, servers and proxies.

Sources: ECMA-48 (C0 and C1 control functions), Unicode Standard Annex 9 (bidirectional controls), Trojan Source
(CVE-2021-42574).
"""

from __future__ import annotations

import re

# Controls, separators of lines, what reorders or hides the text around it, and half surrogates; not the joiners U+200C
# and U+200D, which scripts and emoji need.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
_HALF_SURROGATE = re.compile(r"[\ud800-\udfff]")
_LONGEST_LINE, _LONG_WORD = 500, 100


def printable(text: str) -> str:
    """Replace controls by U+FFFD, so that no text moves a cursor, starts an escape sequence, or reorders a line."""
    return _UNPRINTABLE.sub("\ufffd", text)


def is_printable(text: str) -> bool:
    """Whether :func:`printable` leaves a text as it is."""
    return _UNPRINTABLE.search(text) is None


def replace_half_surrogates(text: str) -> str:
    """Text as every encoding takes it: half surrogates, as of a name that is no UTF-8, become U+FFFD."""
    return _HALF_SURROGATE.sub("\ufffd", text)


def escape_json(text: str) -> str:
    """Escape in JSON without line breaks what :func:`printable` replaces elsewhere; the data stay the same."""
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def one_line(text: str) -> str:
    """Text as a log or an error message may show it: on one line, printable, cut at 500 characters."""
    line = " ".join(text[:_LONGEST_LINE].split())
    if len(text) > _LONGEST_LINE:
        # Whole words, as half an API key is not recognized; a long one is text of a language without spaces.
        whole = line.rpartition(" ")[0]
        line = f"{whole if len(line) - len(whole) <= _LONG_WORD else line} [...]".lstrip()
    return printable(line)
