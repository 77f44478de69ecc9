"""The headers that announce the end of an endpoint.

Sources: RFC 9745 (``Deprecation``, a date such as ``@1688169599``), its drafts (draft-dalal-deprecation-header,
draft-ietf-httpapi-deprecation-header-02: ``true`` or an HTTP date), RFC 8594 (``Sunset``, an HTTP date), RFC 8288
(``Link``) with the relations ``deprecation`` (RFC 9745), ``sunset`` (RFC 8594) and ``successor-version`` (RFC 5829).
The API documents none of them.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from zenovay_async._protocol.headers import parse_datetime, parse_http_date

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# No such header is longer, and the time to parse one is bounded so.
_LONGEST = 4096
# An older draft has no @; fewer digits would be before 1973.
_SECONDS = re.compile(r"(?:@|(?=\d{9}))(\d{1,11})(?:\.\d*)?", re.ASCII)
_NOT_DEPRECATED = {"", "false", "?0", "0"}
_PARAMETER = r"[ \t]*+;[ \t]*+[\w!#$%&'*+.^`|~-]*+(?:[ \t]*+=[ \t]*+(?:\"(?:[^\"\\]|\\.)*+\"|[^\s,;\"<]*+))?"
_LINK = re.compile(rf"<([^<>]*+)>((?:{_PARAMETER})*+)", re.DOTALL)
_RELATIONS = re.compile(r";\s*+rel\s*+=\s*+(?:\"([^\"]*+)\"|([^\s,;\"]++))", re.IGNORECASE)
# The characters of a URL (RFC 3986), few enough for a line of a log.
_WEB = re.compile(r"https?://[\w.~:/?#\[\]@!$&'()*+,;=%-]{1,400}", re.IGNORECASE | re.ASCII)
_BY_IMPORTANCE = ("deprecation", "sunset", "successor-version")


class Deprecation(msgspec.Struct, frozen=True):
    """What a response says about the end of its endpoint.

    Attributes:
        deprecated_at: From when on it is deprecated, in UTC, maybe in the future; ``None`` if that is not stated.
        sunset_at: When it ends, in UTC; ``None`` if that is not stated.
        link: ``http`` or ``https`` URL of a page about it, else of what replaces it; ``None`` if there is none.
    """

    deprecated_at: datetime | None
    sunset_at: datetime | None
    link: str | None


def find_deprecation(headers: Mapping[str, str]) -> Deprecation | None:
    """Find what a response says about the end of its endpoint; ``None`` if that is nothing.

    A ``Link`` alone says nothing: an endpoint may link to a policy while it is not deprecated (RFC 9745, section 3.1).

    Args:
        headers: Headers of the response, looked up regardless of case.
    """
    deprecation = _bare(headers.get("Deprecation", ""))
    sunset_at = _parse_time(_bare(headers.get("Sunset", "")))
    if deprecation.lower() in _NOT_DEPRECATED and sunset_at is None:
        return None
    getall = getattr(headers, "getall", None)
    links = headers.get("Link", "") if getall is None else ", ".join(getall("Link", ()))
    return Deprecation(_parse_time(deprecation), sunset_at, _find_link(links))


def _bare(text: str) -> str:
    """The value of a header without its parameters and quotes."""
    return text[:_LONGEST].partition(";")[0].strip(' \t"')


def _parse_time(text: str) -> datetime | None:
    """Parse ``@`` and Unix seconds, an HTTP date, or ISO 8601; ``None`` if it is none of them."""
    found = _SECONDS.fullmatch(text)
    seconds = float(found[1]) if found else parse_http_date(text)
    if seconds is None:
        parsed = parse_datetime(text)
        return None if parsed is None else parsed.astimezone(UTC)
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        # Outside of the calendar.
        return None


def _find_link(text: str) -> str | None:
    by_relation: dict[str, str] = {}
    for relation, url in _links(text[:_LONGEST]):
        by_relation.setdefault(relation, url)
    return next((by_relation[relation] for relation in _BY_IMPORTANCE if relation in by_relation), None)


def _links(text: str) -> Iterator[tuple[str, str]]:
    """Each relation of each link to a web page."""
    for url, parameters in _LINK.findall(text):
        relations = _RELATIONS.search(parameters)
        if relations and _WEB.fullmatch(url):
            yield from ((relation, url) for relation in (relations[1] or relations[2] or "").lower().split())
