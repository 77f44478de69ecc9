"""How notebooks and consoles show results: short, whatever their size, and harmless, whoever wrote their text."""

from __future__ import annotations

import gc
import re
import warnings
from datetime import UTC, date, datetime, timedelta, timezone
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest
from endpoints import DOCUMENTED, Endpoint, named
from helpers import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from zenovay_async import (
    BatchTable,
    CountryList,
    CountryStats,
    ErrorGroup,
    ErrorGroupList,
    Failure,
    HeatmapPage,
    HeatmapPages,
    InsightPage,
    NotFoundError,
    QueryAnswer,
    QueryResults,
    Success,
    Visitor,
    VisitorPage,
    Zenovay,
)
from zenovay_async._protocol.text import is_printable
from zenovay_async.tables import Table

TABLES = [endpoint for endpoint in DOCUMENTED if endpoint.result and issubclass(endpoint.result, Table)]
NOON = datetime(2026, 5, 1, 12, tzinfo=timezone(timedelta(hours=2)))
TAGS = {
    *("div", "table", "thead", "tbody", "tr", "th", "td"),
    *("svg", "rect"),
}
ATTRIBUTES = {"style", "scope", "role", "aria-label", "width", "height", "fill", "opacity"}
NASTY = "<script>alert(1)</script>&\"'\x1b[31m\u202e\ud800"


def pages(count: int, url: str = "/") -> HeatmapPages:
    return HeatmapPages(
        pages=tuple(HeatmapPage(url=url, total_interactions=count - n, last_updated=NOON) for n in range(count))
    )


def batch_table(*failures: str) -> BatchTable[str]:
    failed = [Failure(item, NotFoundError(f"No such website: {item}")) for item in failures]
    return BatchTable("website_id", [Success("a", pages(2)), Success("b", pages(30)), *failed])


class Shown(HTMLParser):
    """What a browser makes of HTML: its tags, their attributes, and the text of each cell."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.rows: list[list[str]] = []
        self.below: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "tr":
            self.rows.append([])
        elif tag in {"th", "td"}:
            self.rows[-1].append("")
        if tag != "rect":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1] == "div":
            self.below.append(data)
        else:
            self.rows[-1][-1] += data


def html(table: Table) -> Shown:
    """What a notebook shows of a table."""
    return Shown(table._repr_html_())


@pytest.mark.parametrize("count", range(4))
def test_a_result_of_up_to_three_rows_is_shown_whole(count: int) -> None:
    assert repr(pages(count)).count("HeatmapPage(url='/'") == count
    assert repr(pages(count)).startswith("HeatmapPages(pages=(")


def test_a_longer_result_is_shown_by_its_length_and_first_row() -> None:
    assert repr(pages(24_164)) == "HeatmapPages(24,164 pages, '/' 24,164 …)"
    visitors = tuple(Visitor(id="v", visited_at=NOON) for _ in range(4))
    assert repr(VisitorPage(visitors=visitors)) == "VisitorPage(4 visitors, 2026-05-01 10:00:00 UTC …)"
    nothing = tuple(CountryStats() for _ in range(4))
    assert repr(CountryList(countries=nothing)) == "CountryList(4 countries)"
    answer = QueryAnswer(results=QueryResults(columns=("source",), rows=(("google",),) * 4))
    assert repr(answer) == "QueryAnswer(4 rows, 'google' …)"


def test_text_of_strangers_is_escaped_and_cut_in_one_line() -> None:
    assert repr(pages(4, NASTY)) == (
        "HeatmapPages(4 pages, '<script>alert(1)</script>&\"\\'\\x1b[31m\\u202e\\ud800' 4 …)"
    )
    assert len(repr(pages(4, "x" * 10_000))) < 100
    large = HeatmapPages(pages=(HeatmapPage(url="/", total_interactions=10**1000),) * 4)
    assert len(repr(large)) < 100


def test_a_result_of_few_rows_and_much_text_is_cut() -> None:
    shown = repr(pages(1, "x" * 10**6))
    assert shown.startswith("HeatmapPages(pages=(HeatmapPage(url='xxx")
    assert shown.endswith("x…")
    assert len(shown) == 2001


@given(st.text(st.characters(codec=None)))
def test_one_line_has_no_control_character(url: str) -> None:
    assert is_printable(repr(pages(4, url)))
    assert is_printable(repr(pages(1, url)))


def test_a_large_result_is_shown_without_a_look_at_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    to_builtins = msgspec.to_builtins

    def count(value: Any, **options: Any) -> Any:
        made.append(len(value))
        return to_builtins(value, **options)

    large = pages(5_000)
    monkeypatch.setattr(msgspec, "to_builtins", count)
    repr(large)
    large._repr_html_()
    assert made == [1, 20]


def test_html_has_a_header_and_twenty_rows_and_says_how_many_there_are() -> None:
    shown = html(pages(100))
    assert shown.rows[0] == ["url", "total_interactions", "last_updated"]
    assert len(shown.rows) == 21
    assert shown.rows[1] == ["/", "100", "2026-05-01 10:00:00 UTC"]
    assert shown.below == ["pages: 20 of 100 shown"]
    assert html(pages(2)).below == ["pages: 2"]


def test_html_of_an_empty_result_has_its_columns_and_says_so() -> None:
    shown = html(pages(0))
    assert shown.rows == [["url", "total_interactions", "last_updated"]]
    assert shown.below == ["no pages"]
    assert html(QueryAnswer()).below == ["no rows"]


def test_numbers_are_aligned_to_the_right_with_separators() -> None:
    countries = tuple(
        CountryStats(country_name=name, visitors=visitors, avg_value_score=score)
        for name, visitors, score in (("A", 1_234_567, 12.0), ("B", None, 0.25))
    )
    text = CountryList(countries=countries)._repr_html_()
    assert Shown(text).rows[1:] == [["A", "1,234,567", "12", ""], ["B", "", "0.25", ""]]
    assert re.search(r'<th scope="col" style="text-align:left[^>]*>country_name', text)
    assert re.search(r'<th scope="col" style="text-align:right[^>]*>visitors', text)
    assert re.search(r'<td style="text-align:right[^>]*>1,234,567', text)


def bars(table: Table) -> list[tuple[str, float]]:
    """The label and the width of each bar."""
    found = re.findall(r'<svg role="img" aria-label="([^"]*)".*?<rect width="([\d.]+)"', table._repr_html_())
    return [(label, float(width)) for label, width in found]


def test_the_measure_has_a_bar_with_a_label_for_those_who_do_not_see_it() -> None:
    assert bars(pages(2)) == [("100% of the largest", 60.0), ("50% of the largest", 30.0)]
    assert bars(InsightPage(insights=())) == []


@pytest.mark.parametrize("value", [None, 0, -5, 10**400])
def test_what_has_no_size_has_no_bar(value: int | None) -> None:
    groups = ErrorGroup(id="a", occurrence_count=4), ErrorGroup(id="b", occurrence_count=value)
    assert [width for _, width in bars(ErrorGroupList(error_groups=groups))] == [60.0, 0.0]


def test_html_suits_light_and_dark_pages_and_loads_nothing() -> None:
    text = pages(3)._repr_html_()
    assert "currentColor" in text
    assert not re.search(r"background|#[0-9a-f]{3}|rgb|[^-]color:|url\(|href|src|<script|\bid=|class=|http", text)


@pytest.mark.parametrize("endpoint", TABLES, ids=named)
def test_every_documented_result_has_html_of_known_parts(endpoint: Endpoint) -> None:
    kind: Any = endpoint.result
    shown = html(msgspec.convert(endpoint.body()["data"], kind))
    assert set(shown.tags) <= TAGS
    assert {name for name, _ in shown.attributes} <= ATTRIBUTES
    assert len(shown.rows) > 1


def test_text_of_strangers_is_neither_markup_nor_control_in_html() -> None:
    text = pages(1, NASTY)._repr_html_()
    assert Shown(text).rows[1][0] == "<script>alert(1)</script>&\"'\ufffd[31m\ufffd\ufffd"
    assert "<script" not in text
    assert text.encode()


@settings(max_examples=examples(300))
@given(st.lists(st.text(st.characters(codec=None)), min_size=1, max_size=3), st.text(st.characters(codec=None)))
def test_no_text_leaves_another_tag_or_a_control_character_in_html(columns: list[str], value: str) -> None:
    """Names of columns and values alike, also where they are meant to end an attribute."""
    answer = QueryAnswer(results=QueryResults(columns=tuple(columns), rows=((value, [value], {"a": value}),)))
    text = answer._repr_html_()
    assert is_printable(text)
    assert set(Shown(text).tags) <= TAGS
    assert {name for name, _ in Shown(text).attributes} <= ATTRIBUTES


def test_long_text_and_many_columns_are_cut() -> None:
    columns = tuple(f"c{n}" for n in range(40))
    answer = QueryAnswer(results=QueryResults(columns=columns, rows=(("x" * 1000,) * 40,)))
    shown = html(answer)
    assert [len(row) for row in shown.rows] == [24, 24]
    assert shown.rows[1][0] == "x" * 100 + "…"
    assert shown.below == ["rows: 1; 16 more columns"]


def test_other_values_are_shown_as_the_command_line_does() -> None:
    values = (True, date(2026, 5, 1), 1e20, float("nan"), ["a"], None)
    answer = QueryAnswer(results=QueryResults(columns=tuple("abcdef"), rows=(values,)))
    assert html(answer).rows[1] == ["true", "2026-05-01", "1e+20", "nan", '["a"]', ""]


def test_the_table_of_a_batch_shows_its_items_and_failures() -> None:
    table = batch_table("x", "y")
    assert repr(table) == "BatchTable(pages: 32, items: 4, failures: NotFoundError 2)"
    shown = html(table)
    assert shown.rows[0][:2] == ["website_id", "url"]
    assert [row[0] for row in shown.rows[1:]] == ["a"] * 2 + ["b"] * 18
    assert shown.below == ["pages: 20 of 32 shown", "items: 4, failures: NotFoundError 2"]
    assert repr(batch_table()) == "BatchTable(pages: 32, items: 2)"
    assert repr(BatchTable("website_id", [])) == "BatchTable(rows: 0, items: 0)"


def test_items_of_any_kind_are_shown() -> None:
    table = BatchTable("item", [Success(object, pages(1))])
    assert html(table).rows[1][0].startswith("<class 'object'>")


def test_a_list_in_pages_says_how_to_read_it_and_does_not_warn_then() -> None:
    """As the last line of a cell."""
    zenovay = Zenovay("zv_test")
    says = "analytics.visitors: a list in pages; await it for one page, use async for to get every item"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert says in repr(zenovay.analytics.visitors("x").take(5))
        assert says in Shown(f"<div>{zenovay.analytics.visitors('x')._repr_html_()}</div>").below[0]
        gc.collect()


def test_utc_is_the_zone_of_every_time() -> None:
    visitors = (Visitor(id="v", visited_at=NOON), Visitor(id="w", visited_at=datetime(2026, 5, 1, tzinfo=UTC)))
    column = [row[0] for row in html(VisitorPage(visitors=visitors)).rows[1:]]
    assert column == ["2026-05-01 10:00:00 UTC", "2026-05-01 00:00:00 UTC"]
