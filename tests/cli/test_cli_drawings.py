"""Days as a sparkline, retention as shaded cells, bars; and what a terminal without them shows."""

from __future__ import annotations

import io
import re
from typing import IO, Any

import pytest
from cli_helpers import Terminal
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from zenovay_async import AnalyticsOverview, HeatmapPages, QueryAnswer, RetentionCohorts
from zenovay_async.cli.blocks import bar, shade, sparkline
from zenovay_async.cli.output import make_writer

BLOCKS = "▁▂▃▄▅▆▇█"


def print_table(file: IO[str], result_type: Any, *results: Any) -> None:
    writer = make_writer("table", result_type, file, per_website=True, name="any")
    for number, result in enumerate(results):
        writer.add(f"w{number}", result)
    writer.close()


def written(file: io.StringIO, result_type: Any, *results: Any) -> list[str]:
    """The lines of a table."""
    print_table(file, result_type, *results)
    return file.getvalue().splitlines()


def encoded(encoding: str, result_type: Any, *results: Any) -> list[str]:
    """The lines of a table that is written in an encoding."""
    data = io.BytesIO()
    with io.TextIOWrapper(data, encoding, errors="zenovay_async.cli") as file:
        print_table(file, result_type, *results)
        file.flush()
        return data.getvalue().decode(encoding).splitlines()


def days(*visitors: int | None, domain: str | None = None) -> dict[str, Any]:
    stats = [
        {"date": f"2026-05-{n:02}", "total_visitors": count, "unique_visitors": 1, "page_views": 1}
        for n, count in enumerate(visitors, 1)
    ]
    return {"website": {"domain": domain}, "daily_stats": stats}


def cohorts(*rows: tuple[str, int, Any, Any]) -> dict[str, Any]:
    names = ("cohort_date", "period_number", "total_users", "retention_rate")
    return {"cohorts": [{**dict(zip(names, row, strict=True)), "retained_users": 1} for row in rows]}


RETENTION = cohorts(
    ("2026-05-01", 0, 1200, 100), ("2026-05-01", 1, 1200, 43.61), ("2026-05-01", 2, 1200, 0), ("2026-05-08", 0, 9, 55)
)


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ((0, 1, 2, 3, 4, 5, 6, 7), BLOCKS),
        ((7,), "█"),
        ((0, 0, 0), "▁▁▁"),
        ((None, 7, None, 0), " █ ▁"),
        ((None, None), "  "),
        ((-7, 0, 7), "▁▅█"),
        ((-7, -14), "▅▁"),
        ((), ""),
        ((0.5, 1.0), "▅█"),
        ((10**400, 0), "█▁"),
    ],
)
def test_a_sparkline_has_a_block_for_each_value(values: tuple[float | None, ...], shown: str) -> None:
    assert sparkline(values, 30) == shown


def test_of_more_values_than_fit_a_block_is_the_mean_of_several_also_the_last_one() -> None:
    assert sparkline([1, 1, 3, 4], 2) == "▃█"
    assert sparkline([1, None, None, None, 2, 2], 3) == "▅ █"
    assert sparkline([5] * 31, 30) == "█" * 16
    assert len(sparkline(range(1000), 30)) <= 30


@given(st.lists(st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False, width=32), max_size=99))
def test_any_values_have_a_sparkline_no_longer_than_asked_for(values: list[float | None]) -> None:
    shown = sparkline(values, 30)
    assert len(shown) <= 30
    assert set(shown) <= {" ", *BLOCKS}


def test_bars_and_shades_are_in_proportion_and_within_bounds() -> None:
    assert [len(bar(value, 100, 8)) for value in (100, 50, 0.01, 0, -5)] == [8, 4, 1, 0, 0]
    assert [shade(percent) for percent in (-5, 0, 1, 25, 26, 60, 99, 150)] == [*"  ░░▒▓██"]


def test_the_days_of_one_website_are_a_line_above_its_rows() -> None:
    lines = written(io.StringIO(), AnalyticsOverview, days(1200, 0, 600))
    assert lines[:2] == ["total visitors  █▁▅  1,800 in all, 0 to 1,200 a day", ""]
    assert lines[2].startswith("date ")
    assert len(lines) == 2 + 1 + 3


@pytest.mark.parametrize("visitors", [(), (5,), (None, None), (None, 5)])
def test_less_than_two_days_have_no_line(visitors: tuple[int | None, ...]) -> None:
    lines = written(io.StringIO(), AnalyticsOverview, days(*visitors))
    assert lines[0].startswith("date ")
    assert len(lines) == 1 + len(visitors)


def test_the_days_of_many_websites_are_a_column() -> None:
    found = (days(0, 7, domain="a.example"), days(3, domain="b.example"), days(domain="c.example"))
    titles, *rows = written(io.StringIO(), AnalyticsOverview, *found)
    assert titles.split() == ["domain", "days", "total", "visitors", "website", "id"]
    assert [row.split()[:3] for row in rows] == [
        ["a.example", "▁█", "7"],
        ["b.example", "█", "3"],
        ["c.example", "0", "w2"],
    ]


def test_the_domain_stands_alone_only_if_it_is_known_and_no_other_website_has_it() -> None:
    for found, titles in (
        ((days(1, domain="a.example"), days(1, domain="a.example")), ["domain", "website", "id", "days"]),
        ((days(1, domain="a.example"), days(1)), ["domain", "website", "id", "days"]),
        ((days(1, domain="a.example"), days(1, domain="b.example")), ["domain", "days"]),
        ((days(1), days(1)), ["website", "id", "days"]),
    ):
        line = written(io.StringIO(), AnalyticsOverview, *found)[0].split()
        assert line[: len(titles)] == titles


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437"])
def test_an_encoding_without_blocks_has_numbers_in_their_place(encoding: str) -> None:
    one = encoded(encoding, AnalyticsOverview, days(5, 6))
    assert one[0].startswith("date ")
    titles, first, _ = encoded("ascii", AnalyticsOverview, days(5, 6), days(1))
    assert "days" in titles
    assert first.split()[:3] == ["w0", "2", "11"]
    grid = encoded("ascii", RetentionCohorts, RETENTION)
    assert grid[1].split() == ["2026-05-01", "1,200", "100.0%", "43.6%", "0.0%"]


def test_retention_is_a_line_for_each_cohort_with_a_shaded_cell_for_each_period() -> None:
    titles, *rows = written(io.StringIO(), RetentionCohorts, RETENTION)
    assert titles.split() == ["cohort", "users", "period", "0", "1", "2"]
    assert [row.split() for row in rows] == [
        ["2026-05-01", "1,200", "100.0%", "█", "43.6%", "▒", "0.0%"],
        ["2026-05-08", "9", "55.0%", "▓"],
    ]


def test_a_terminal_with_colors_shades_the_cells_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    _, first, second = written(Terminal(), RetentionCohorts, RETENTION)
    assert re.findall(r"48;5;(\d+)m *([\d.]+%)", first) == [("25", "100.0%"), ("153", "43.6%")]
    assert re.findall(r"48;5;(\d+)m *([\d.]+%)", second) == [("75", "55.0%")]
    monkeypatch.setenv("NO_COLOR", "1")
    _, first, _ = written(Terminal(), RetentionCohorts, RETENTION)
    assert "48;5" not in first
    assert "43.6% ▒" in first


def test_more_periods_than_fit_have_whole_percentages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    periods = [("2026-05-01", period, 12_345, 100 - 7.77 * period) for period in range(9)]
    titles, row = written(Terminal(), RetentionCohorts, cohorts(*periods))
    assert "8" in titles.split()[-1]
    assert row.split() == ["2026-05-01", "12,345", *(f"{rate:.0f}%" for *_, rate in periods)]


@pytest.mark.parametrize(
    "found",
    [
        cohorts(("2026-05-01", 0, 10, 100), ("2026-05-01", 0, 10, 90)),
        cohorts(("2026-05-01", 0, 10, 100), ("2026-05-01", 1, 11, 90)),
        cohorts(("2026-05-01", 0, 10, None)),
        cohorts(),
    ],
    ids=["equal periods", "sizes that differ", "no rate", "none"],
)
def test_rows_that_a_grid_cannot_show_stay_rows(found: dict[str, Any]) -> None:
    titles, *rows = written(io.StringIO(), RetentionCohorts, found)
    assert "retention rate" in titles
    assert len(rows) == len(found["cohorts"])


@pytest.mark.parametrize("columns", [10, 40, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal_and_the_first_column_is_always_there(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    pages = {"pages": [{"url": "/é" * 40, "total_interactions": 10**6, "last_updated": "2026-05-01T00:00:00Z"}] * 2}
    cases = (
        (HeatmapPages, pages),
        (HeatmapPages, pages, pages),
        (RetentionCohorts, RETENTION),
        (AnalyticsOverview, days(*[7] * 31)),
    )
    for result_type, *found in cases:
        lines = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in written(Terminal(), result_type, *found)]
        assert all(len(line) <= max(columns, 12) for line in lines)
        assert len(lines) >= 2


def test_text_of_wide_characters_is_cut_where_it_has_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    page = {"url": "/訪問者" * 20, "total_interactions": 1, "last_updated": None}
    _, row = written(Terminal(), HeatmapPages, {"pages": [page]})
    assert "…" in row
    assert cell_len(re.sub(r"\x1b\[[\d;]*m", "", row)) <= 60


@pytest.mark.parametrize("values", [(1, 2), ("a long text that is cut", 2)])
def test_a_column_that_a_server_named_with_a_sentence_is_cut_to_its_width(
    values: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    results = {"columns": ["which pages do visitors leave most often", "n"], "rows": [[values[0], 7], [values[1], 8]]}
    titles, *rows = written(Terminal(), QueryAnswer, {"question": "?", "results": results})
    assert "…  n" in titles
    assert [row.split()[-1] for row in rows] == ["7", "8"]
    assert all(len(re.sub(r"\x1b\[[\d;]*m", "", line)) <= 40 for line in (titles, *rows))


def test_a_result_without_columns_is_no_line() -> None:
    assert written(io.StringIO(), QueryAnswer, {"question": "?", "results": {"columns": [], "rows": []}}) == []
    assert written(io.StringIO(), HeatmapPages) == []


def test_no_line_ends_with_blanks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    for file in (io.StringIO(), Terminal()):
        for found in ([days(5, 0)], [days(5), days()]):
            lines = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in written(file, AnalyticsOverview, *found)]
            assert all(line == line.rstrip() for line in lines)


def test_the_id_of_a_domain_that_two_websites_share_takes_no_other_column_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    found = [days(1, 2, domain=f"{'long' * 18}.example")] * 2
    titles, *_ = written(Terminal(), AnalyticsOverview, *found)
    assert re.sub(r"\x1b\[[\d;]*m", "", titles).split() == ["domain", "website", "id", "days", "total", "visitors"]
