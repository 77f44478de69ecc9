"""``--columns`` and ``--sort``; every format with columns is made of the same rows."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections import Counter
from contextlib import closing
from datetime import UTC
from typing import TYPE_CHECKING, Any

import pytest
from cli_helpers import IDS, PAGES, PER_WEBSITE, SINGLE, alike, api_url, contents, freeze_sandbox, main_at
from helpers import sample, unique_key

from zenovay_async import AnalyticsOverview, ErrorGroupList, HeatmapPages, QueryAnswer, VisitorPage, WebsiteDetail
from zenovay_async.cli import main
from zenovay_async.cli.cells import show_value
from zenovay_async.cli.output import make_writer
from zenovay_async.cli.time_zones import Clock
from zenovay_async.cli.view import View, make_view

if TYPE_CHECKING:
    from pathlib import Path

    from aioresponses import aioresponses

    from zenovay_async.cli.writer import Format
    from zenovay_async.sandbox import Sandbox


def written(kind: Format, result_type: Any, *results: Any, columns: str | None = None, sort: str | None = None) -> str:
    """What a format makes of results, each of a website of its own."""
    file = io.StringIO()
    view = make_view(kind, result_type, per_website=True, columns=columns, sort=sort)
    writer = make_writer(kind, result_type, file, per_website=True, name="any", view=view)
    for website_id, result in zip("abcdef", results, strict=False):
        writer.add(website_id, result)
    writer.close()
    return file.getvalue()


def pages(*found: tuple[str, int | None, str | None]) -> dict[str, Any]:
    names = ("url", "total_interactions", "last_updated")
    return {"pages": [dict(zip(names, values, strict=True)) for values in found]}


def answer(*columns: str, row: list[Any]) -> dict[str, Any]:
    return {"results": {"columns": list(columns), "rows": [row]}}


def cells(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


@pytest.mark.parametrize("command", sample([*PER_WEBSITE, *SINGLE]))
def test_table_csv_and_sqlite_have_the_same_columns_and_values(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    freeze_sandbox(monkeypatch)
    arguments = [*command.split(), "--sandbox", "3"]
    assert main([*arguments, "--format", "csv"]) == 0
    columns, *rows = csv.reader(io.StringIO(capsys.readouterr().out, newline=""))
    path = tmp_path / "rows.db"
    assert main([*arguments, "--format", "sqlite", "-o", str(path)]) == 0
    with closing(sqlite3.connect(path)) as database:
        ((name,),) = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        found = database.execute(f"SELECT * FROM {name}")  # noqa: S608 - our own table
        assert [column for column, *_ in found.description] == columns
        kept = Counter(tuple(map(alike, row)) for row in found)
    assert kept == Counter(tuple(map(alike, row)) for row in rows)
    capsys.readouterr()
    assert main([*arguments, "--columns", ",".join(columns)]) == 0
    titles, *lines = capsys.readouterr().out.splitlines()
    assert titles.replace(" (UTC)", "").split() == [word for column in columns for word in column.split("_")]
    clock = Clock(UTC)
    shown = ["".join(show_value(number(value), clock) for value in row).replace(" ", "") for row in rows]
    assert Counter(bars_off(line) for line in lines) == Counter(map(bars_off, shown))


def number(text: str) -> Any:
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text


def bars_off(line: str) -> str:
    return line.translate(dict.fromkeys(map(ord, " █▏▎▍▌▋▊▉"), ""))


def test_undocumented_fields_are_the_last_columns_of_every_format_and_only_if_there_are_any(tmp_path: Path) -> None:
    day = {"date": "2026-05-01", "total_visitors": 1, "unique_visitors": 1, "page_views": 2}
    plain, more = {"daily_stats": [day]}, {"daily_stats": [{**day, "extra": {"bounce": {"rate": 0.5}, "old": True}}]}
    documented = "website_id,date,total_visitors,unique_visitors,page_views"
    assert written("csv", AnalyticsOverview, plain).splitlines() == [documented, "a,2026-05-01,1,1,2"]
    assert written("csv", AnalyticsOverview, plain, more).splitlines() == [
        f"{documented},extra.bounce.rate,extra.old",
        "a,2026-05-01,1,1,2,,",
        "b,2026-05-01,1,1,2,0.5,true",
    ]
    path = tmp_path / "days.db"
    writer = make_writer("sqlite", AnalyticsOverview, io.StringIO(), per_website=True, name="days", path=path)
    writer.add("a", plain)
    writer.add("b", more)
    with closing(sqlite3.connect(path)) as database:
        found = database.execute("SELECT * FROM days")
        assert [column for column, *_ in found.description][-2:] == ["extra.bounce.rate", "extra.old"]
        assert [row[-2:] for row in found] == [(None, None), (0.5, 1)]
    titles, *rows = cells(written("table", AnalyticsOverview, plain, more, columns="website_id,extra.bounce.rate"))
    assert titles == ["website", "id", "extra.bounce.rate"]
    assert rows == [["a"], ["b", "0.5"]]
    settings = {"id": "w", "settings": {"heatmaps": True, "extra": {"beta": "x"}}}
    assert written("csv", WebsiteDetail, settings).splitlines()[0].endswith(",settings.heatmaps,settings.extra.beta")


def test_columns_are_those_that_are_named_in_this_order(tmp_path: Path) -> None:
    found = pages(("/a", 1, None), ("/b", 1200, None))
    assert written("csv", HeatmapPages, found, columns="total_interactions, url") == (
        "total_interactions,url\n1,/a\n1200,/b\n"
    )
    titles, *rows = cells(written("table", HeatmapPages, found, columns="url,total_interactions"))
    assert titles == ["url", "total", "interactions"]
    assert [row[:2] for row in rows] == [["/b", "1,200"], ["/a", "1"]]
    path = tmp_path / "pages.db"
    view = View(columns=("url", "website_id"))
    writer = make_writer("sqlite", HeatmapPages, io.StringIO(), per_website=True, name="pages", path=path, view=view)
    for _ in range(2):
        writer.add("a", found)
    writer.close()
    with closing(sqlite3.connect(path)) as database:
        # What replaces the rows of a website is there all the same.
        assert database.execute("SELECT * FROM pages").fetchall() == [("a", "/a"), ("a", "/b")]


def test_named_columns_of_a_table_are_all_there_however_wide(capsys: pytest.CaptureFixture[str]) -> None:
    names = ",".join(dict.fromkeys(("website_id", *VisitorPage._layout.columns)))
    assert main(["analytics", "visitors", "--limit", "2", "--sandbox", "2", "--columns", names]) == 0
    titles, *rows = capsys.readouterr().out.splitlines()
    assert len(titles) > 160
    assert "country name" in titles
    assert len(rows) == 4


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            "--columns url,last_update",
            "--columns last_update: unknown column; did you mean last_updated? The ",
        ),
        ("--columns total-interactions", "; did you mean total_interactions?"),
        ("--sort URL", "--sort URL: unknown column; did you mean url?"),
        ("--sort -nothing", "--sort nothing: unknown column. The columns are key_name, domain, website_id, url, total"),
        ("--columns url,,pages", "--columns 'url,,pages': expected names separated by commas"),
        ("--columns url,url", "--columns: url is there twice"),
        ("--columns url,pages", "url is a column of rows, pages one of a line for each website"),
        ("--columns url --sort pages", "url is a column of rows, pages one of a line for each website"),
        ("--columns domain --format csv", "--columns domain: unknown column"),
        ("--columns extra.a --format csv", "--columns extra.a: unknown column"),
        (
            "--columns url --format json",
            "--columns: --format json has no columns; expected table, csv, parquet or sqlite",
        ),
        ("--columns url --format ndjson", "--format ndjson has no columns"),
        ("--sort url --format ndjson", "--sort: --format ndjson is not sorted; expected table, csv or parquet"),
        ("--sort url --format sqlite -o x.db", "--sort: --format sqlite is not sorted"),
    ],
)
async def test_a_name_that_is_wrong_is_invalid_usage_and_nothing_is_requested(
    arguments: str,
    problem: str,
    sandbox: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert await main_at(sandbox, monkeypatch, *IDS, *arguments.split()) == 2
    assert problem in capsys.readouterr().err
    assert sandbox.count() == 0
    assert not contents(tmp_path)


def test_a_result_without_documented_columns_has_none_to_name(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--columns=a", "--sort=a", "--tz=UTC"):
        assert main(["stats", "aggregate", "--sandbox", "1", option]) == 2
        name = option.partition("=")[0]
        assert f"{name}: this result has no documented columns; use ndjson or json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("total_interactions", ["/c", "/a", "/b", "/none"]),
        ("-total_interactions", ["/b", "/a", "/c", "/none"]),
        ("last_updated", ["/b", "/a", "/c", "/none"]),
        ("-last_updated", ["/c", "/a", "/b", "/none"]),
        ("url", ["/a", "/b", "/c", "/none"]),
    ],
)
def test_rows_are_sorted_by_number_instant_or_text_and_those_without_are_last(sort: str, order: list[str]) -> None:
    found = pages(
        ("/none", None, None),
        ("/a", 9, "2026-05-01T02:00:00+02:00"),
        ("/b", 10, "2026-05-01T01:00:00+02:00"),
        ("/c", -1, "2026-05-01T01:00:00Z"),
    )
    assert [row[0] for row in cells(written("table", HeatmapPages, found, sort=sort))[1:]] == order
    assert written("csv", HeatmapPages, found, sort=sort, columns="url").split() == ["url", *order]


def test_values_of_any_kind_are_sorted_together() -> None:
    values = ["x", 10, True, {"a": 1}, None, 2.5, "2026-05-01T00:00:00Z", "0001-01-01T00:00:00+12:00", "a", "B", "A"]
    found = [answer("value", row=[value]) for value in values]
    file = io.StringIO()
    writer = make_writer("csv", QueryAnswer, file, per_website=True, name="query", view=View(("value",), "value"))
    for number, result in enumerate(found):
        writer.add(str(number), result)
    writer.close()
    assert [value for (value,) in csv.reader(io.StringIO(file.getvalue()))] == [
        *("value", "true", "2.5", "10", "0001-01-01T00:00:00+12:00", "2026-05-01T00:00:00Z", "A", "a", "B"),
        *("x", '{"a":1}', ""),
    ]


def test_the_lines_of_many_websites_are_sorted_and_have_the_columns_that_are_named() -> None:
    found = (pages(("/a", 5, None)), pages(("/b", 1, None), ("/c", 2, None)), pages())
    by_count = cells(written("table", HeatmapPages, *found, sort="pages"))
    assert [row[0] for row in by_count[1:]] == ["c", "a", "b"]
    assert cells(written("table", HeatmapPages, *found, columns="website_id,top_url,pages", sort="-top_url")) == [
        ["website", "id", "top", "url", "pages"],
        ["b", "/c", "2"],
        ["a", "/a", "1"],
        ["c", "0"],
    ]


def test_columns_of_rows_alone_make_a_table_of_all_rows_and_columns_of_lines_one_of_lines() -> None:
    found = (pages(("/a", 5, None)), pages(("/b", 7, None), ("/c", 2, None)))
    assert cells(written("table", HeatmapPages, *found, columns="website_id,url")) == [
        ["website", "id", "url"],
        ["b", "/b"],
        ["a", "/a"],
        ["b", "/c"],
    ]
    titles, *rows = cells(written("table", HeatmapPages, *found, sort="url"))
    assert titles[:3] == ["website", "id", "url"]
    assert [row[:2] for row in rows] == [["a", "/a"], ["b", "/b"], ["b", "/c"]]
    assert cells(written("table", HeatmapPages, found[1], columns="pages,top_url")) == [
        ["pages", "top", "url"],
        ["2", "/b"],
    ]


def test_an_answer_that_lacks_a_named_column_is_written_whole_and_the_run_can_go_on_with_another(
    canned: aioresponses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", unique_key())
    payload = {"success": True, "data": answer("source", "visitors", row=["google", 10])}
    canned.post(api_url("query/x"), payload=payload)
    file = tmp_path / "out.csv"
    arguments = ["query", "Sources?", "x", "--format", "csv", "-o", str(file)]
    assert main([*arguments, "--columns", "sources"]) == 2
    assert "--columns sources: no result has this column; did you mean source?" in capsys.readouterr().err
    assert file.with_name("out.csv.partial").read_text() == "website_id,source,visitors\nx,google,10\n"
    # The one response is not requested again.
    assert main([*arguments, "--columns", "source", "--resume"]) == 0
    assert file.read_text() == "source\ngoogle\n"


@pytest.mark.parametrize("kind", ["table", "csv"])
def test_a_misspelled_column_loses_no_answer(
    kind: str, canned: aioresponses, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", unique_key())
    canned.post(api_url("query/x"), payload={"success": True, "data": answer("\x1b[2Jsource", row=["google"])})
    assert main(["query", "Sources?", "x", "--format", kind, "--sort", "-sorce"]) == 2
    printed = capsys.readouterr()
    assert printed.out.count("google") == 1
    assert "--sort sorce: no result has this column" in printed.err
    assert "\x1b" not in printed.err
    canned.post(api_url("query/x"), payload={"success": True, "data": {"results": {"columns": [], "rows": []}}})
    assert main(["query", "Sources?", "x", "--format", kind, "--columns", "source"]) == 0


def test_a_database_has_the_columns_that_are_there_and_the_error_names_the_other(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    view = View(columns=("source", "sauce"))
    writer = make_writer("sqlite", QueryAnswer, io.StringIO(), per_website=True, name="query", path=path, view=view)
    writer.add("a", answer("source", row=["google"]))
    with pytest.raises(Exception, match="--columns sauce: no result has this column; did you mean source"):
        writer.close()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT website_id, source FROM query").fetchall() == [("a", "google")]


def test_csv_is_written_as_it_comes_if_the_columns_are_known() -> None:
    def streams(result_type: Any, **options: str) -> bool:
        view = make_view("csv", result_type, per_website=True, **options)
        return make_writer("csv", result_type, io.StringIO(), per_website=True, name="any", view=view).streams

    assert streams(HeatmapPages)
    assert not streams(HeatmapPages, sort="url")
    assert not streams(AnalyticsOverview)
    assert streams(AnalyticsOverview, columns="website_id,date,page_views")
    assert not streams(AnalyticsOverview, columns="date,extra.bounce_rate")
    assert not streams(QueryAnswer, columns="source")


def test_a_resumed_run_may_have_other_columns_and_another_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    freeze_sandbox(monkeypatch)
    file = tmp_path / "out"
    arguments = [*PAGES, *IDS, "--limit", "2", "--sandbox", "3", "--format", "csv", "-o", str(file)]
    assert main([*arguments, "--max-requests", "1", "--columns", "url"]) == 4
    assert main([*arguments, "--resume", "--columns", "total_interactions", "--sort", "-total_interactions"]) == 0
    title, *numbers = file.read_text().split()
    assert title == "total_interactions"
    assert len(numbers) == 6
    assert sorted(map(int, numbers), reverse=True) == list(map(int, numbers))


def test_rows_that_have_their_own_domain_keep_it() -> None:
    found = ({"id": "a", "domain": "own.example"}, {"id": "b", "domain": None})
    assert cells(written("table", WebsiteDetail, *found, columns="domain,id", sort="id")) == [
        ["domain", "id"],
        ["own.example", "a"],
        ["b"],
    ]


def test_error_groups_have_no_column_that_a_name_with_a_space_could_mean() -> None:
    groups = {"error_groups": [{"message": "x", "occurrence_count": 1}]}
    assert cells(written("table", ErrorGroupList, groups, groups, columns="error_groups,top_message")) == [
        ["error", "groups", "top", "message"],
        ["1", "x"],
        ["1", "x"],
    ]


def test_a_list_that_needs_no_ids_is_an_item_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["websites", "list", "--sandbox", "3", "--format", "ndjson"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [website["id"] for website in lines] == IDS
    assert main(["websites", "list", "--sandbox", "3", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["total"] == 3
    assert main(["usage", "--sandbox", "1", "--format", "ndjson"]) == 0
    assert "rate_limits" in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("kind", ["table", "csv"])
def test_the_name_of_a_key_is_a_column_as_any_other(kind: Format) -> None:
    file = io.StringIO()
    view = make_view(kind, HeatmapPages, per_website=True, columns="url,key_name", sort="key_name")
    writer = make_writer(kind, HeatmapPages, file, per_website=True, name="any", view=view)
    for key_name in ("globex", "acme"):
        writer.add("a", pages((f"/{key_name}", 1, None)), key_name)
    writer.close()
    words = file.getvalue().replace("key name", "key_name").replace(",", " ").split()
    assert words == ["url", "key_name", "/acme", "acme", "/globex", "globex"]
