"""Structured fields: the lists and dictionaries in HTTP headers (RFC 9651, sections 3.1 and 3.2).

More lenient than the RFC where servers are: keys in any case, spaces around ``=``, tokens of any characters.
"""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

# No header about limits is longer, and the time to parse one is bounded so.
_LONGEST = 1024
_KEY = r"[A-Za-z*][A-Za-z0-9_.*-]*"
# A string, a byte sequence, or a token or number.
_VALUE = r'"(?:[^"\\]|\\.)*+"|:[A-Za-z0-9+/=]*+:|[^\s,;="]++'
_MEMBER = re.compile(
    rf"[ \t]*+(?:({_KEY})[ \t]*+=[ \t]*+)?({_VALUE})((?:[ \t]*+;[ \t]*+{_KEY}(?:[ \t]*+=[ \t]*+(?:{_VALUE}))?)*+)"
    r"[ \t]*+(?:,|$)"
)
_ESCAPED = re.compile(r"\\(.)")
_PARAMETER = re.compile(rf";[ \t]*+({_KEY})(?:[ \t]*+=[ \t]*+({_VALUE}))?")


class Member(msgspec.Struct, frozen=True):
    """One member of a list or dictionary.

    Attributes:
        key: Its key in lower case; ``""`` in a list.
        value: Its value as text, a string without its quotes.
        parameters: Its parameters as text, by their keys in lower case.
    """

    key: str
    value: str
    parameters: dict[str, str]


# The policy of a server is the same in every response.
@lru_cache(maxsize=64)
def parse_members(text: str | None) -> tuple[Member, ...]:
    """Parse a list or dictionary; no members if the header is absent or any part of it is malformed."""
    if text is None or len(text) > _LONGEST:
        return ()
    members: list[Member] = []
    position, end = 0, len(text)
    while position < end:
        found = _MEMBER.match(text, position)
        if found is None:
            return ()
        key, value, parameters = found.groups()
        members.append(
            Member(
                (key or "").lower(),
                _unquote(value),
                {name.lower(): _unquote(stated) for name, stated in _PARAMETER.findall(parameters)},
            )
        )
        position = found.end()
    return tuple(members)


def _unquote(value: str) -> str:
    if not value.startswith('"'):
        return value
    return _ESCAPED.sub(r"\1", value) if "\\" in (value := value[1:-1]) else value
