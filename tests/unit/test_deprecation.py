"""Headers that announce the end of an endpoint are understood as the RFCs, and their drafts, have them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from zenovay_async._protocol.deprecation import Deprecation, find_deprecation

JUNE = datetime(2023, 6, 30, 23, 59, 59, tzinfo=UTC)
NOVEMBER = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)


def find(*headers: tuple[str, str]) -> Deprecation | None:
    return find_deprecation(CIMultiDict(headers))


@pytest.mark.parametrize(
    ("value", "when"),
    [
        ("@1688169599", JUNE),
        ("@1688169599; scope=v1", JUNE),
        (" @1688169599 ", JUNE),
        ("@0", datetime(1970, 1, 1, tzinfo=UTC)),
        ("1688169599", JUNE),
        ("Fri, 30 Jun 2023 23:59:59 GMT", JUNE),
        ('"Fri, 30 Jun 2023 23:59:59 GMT"', JUNE),
        ("2023-06-30T23:59:59Z", JUNE),
        ("2023-07-01T01:59:59+02:00", JUNE),
        ("true", None),
        ("?1", None),
        ('version="v1"', None),
        ("@99999999999999", None),
        ("@\u0661\u0666\u0668\u0668\u0661\u0666\u0669\u0665\u0669\u0669", None),
        ("Fri, 31 Dec 9999 23:59:59 -1200", None),
        ("9999-12-31T23:59:59-12:00", None),
        ("x" * 100_000, None),
    ],
)
def test_a_deprecation_is_a_date_or_any_older_form(value: str, when: datetime | None) -> None:
    assert find(("deprecation", value)) == Deprecation(when, None, None)


@pytest.mark.parametrize("value", ["", " ", "false", "False", "?0", "0", "?0; a=b"])
def test_an_endpoint_that_is_said_not_to_be_deprecated_is_not(value: str) -> None:
    assert find(("Deprecation", value)) is None


@pytest.mark.parametrize(
    "value", ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
)
def test_a_sunset_is_an_http_date_in_any_of_its_three_forms(value: str) -> None:
    assert find(("Sunset", value)) == Deprecation(None, NOVEMBER, None)
    assert find(("Sunset", value), ("Deprecation", "false")) == Deprecation(None, NOVEMBER, None)
    assert find(("Sunset", value), ("Deprecation", "@1688169599")) == Deprecation(JUNE, NOVEMBER, None)


def test_a_sunset_without_a_date_announces_nothing() -> None:
    assert find(("Sunset", "soon")) is None
    assert find(("Sunset", "soon"), ("Deprecation", "true")) == Deprecation(None, None, None)


def test_a_link_alone_announces_nothing() -> None:
    """It may lead to a policy (RFC 9745, section 3.1)."""
    assert find(("Link", '<https://docs.example/policy>; rel="deprecation"')) is None


@pytest.mark.parametrize(
    ("links", "found"),
    [
        (['<https://docs.example/a>; rel="deprecation"; type="text/html"'], "https://docs.example/a"),
        (["<http://docs.example/a?b=1,2#c>;REL=Deprecation"], "http://docs.example/a?b=1,2#c"),
        (['<https://docs.example/a>; type="a; b=\\"<c>\\""; rel="next sunset"'], "https://docs.example/a"),
        (['<https://docs.example/v2>; rel = "successor-version"'], "https://docs.example/v2"),
        (['<https://a.example>; rel="sunset", <https://b.example>; rel="deprecation"'], "https://b.example"),
        (['<https://a.example>; rel="successor-version"', '<https://b.example>; rel="sunset"'], "https://b.example"),
        (['<https://a.example>; rel="sunset"', '<https://b.example>; rel="sunset"'], "https://a.example"),
        (['<https://a.example>; rel="next"; rel="sunset"'], None),
        (["<https://a.example>"], None),
        (['https://a.example; rel="sunset"'], None),
        (['</docs/a>; rel="sunset"'], None),
        (['<//a.example/>; rel="sunset"'], None),
        (['<javascript:alert(1)>; rel="sunset"'], None),
        (['<file:///etc/passwd>; rel="sunset"', '<https://b.example>; rel="sunset"'], "https://b.example"),
        (['<https://a.example/ b>; rel="sunset"'], None),
        (['<https://a.example/"b>; rel="sunset"'], None),
        (['<https://a.example/\x1b[2J>; rel="sunset"'], None),
        (['<https://a.example/\u202e>; rel="sunset"'], None),
        ([f'<https://a.example/{"b" * 500}>; rel="sunset"'], None),
        ([f'<https://a.example>; a="{"b" * 100_000}"; rel="sunset"'], None),
        ([""], None),
    ],
)
def test_the_link_is_to_a_web_page_about_it_or_to_what_replaces_it(links: list[str], found: str | None) -> None:
    assert find(("Deprecation", "true"), *(("Link", link) for link in links)) == Deprecation(None, None, found)


def test_headers_of_any_mapping_are_found() -> None:
    headers = {"Deprecation": "@1688169599", "Link": "<https://a.example>; rel=sunset"}
    assert find_deprecation(headers) == Deprecation(JUNE, None, "https://a.example")
    assert find_deprecation({}) is None


_PARTS = st.sampled_from([*'@<>;,="\\-:0', "1688169599", "https://a.example", "rel", "sunset", "Fri, 30 Jun"])


@given(*[st.text() | st.lists(_PARTS).map("".join) | st.datetimes().map(str) for _ in range(3)])
def test_no_text_of_a_header_is_an_error(deprecation: str, sunset: str, link: str) -> None:
    found = find(("Deprecation", deprecation), ("Sunset", sunset), ("Link", link))
    if found is not None:
        assert all(when is None or when.tzinfo is UTC for when in (found.deprecated_at, found.sunset_at))
        link = found.link or "http"
        assert link.startswith("http")
        assert link.isascii()
        assert link.isprintable()
