"""CSV: every value comes back as it was, whatever the results are, and no spreadsheet runs one if asked not to."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from cli_helpers import PAGES, api_url
from helpers import unique_key
from hypothesis import given
from hypothesis import strategies as st

from zenovay_async import HeatmapPage, HeatmapPages, QueryAnswer, QueryResults
from zenovay_async.cli import main
from zenovay_async.cli.output import make_writer, plain_values

if TYPE_CHECKING:
    from aioresponses import aioresponses


DAY = datetime(2026, 5, 1, tzinfo=UTC)


def written(*results: tuple[str, Any], safe: bool = False) -> str:
    file = io.StringIO()
    writer = make_writer("csv", type(results[0][1]), file, per_website=True, name="query", csv_safe=safe)
    for website_id, result in results:
        writer.add(website_id, plain_values(result))
    writer.close()
    return file.getvalue()


def answer(*columns: str, rows: tuple[tuple[Any, ...], ...] = ()) -> QueryAnswer:
    return QueryAnswer(results=QueryResults(columns=columns, rows=rows))


def cell(value: Any, *, safe: bool = True) -> str:
    """A value in a CSV file as a reader finds it."""
    text = written(("x", answer("a", rows=((value,),))), safe=safe)
    (_, a), (_, found) = csv.reader(io.StringIO(text, newline=""))
    assert a == "a"
    return found


def test_columns_are_those_of_all_answers_whatever_comes_first() -> None:
    text = written(
        ("a", answer()),
        ("b", answer("source", "visitors", rows=(("google", 10), ("direct", 5)))),
        ("c", answer("country", "visitors", rows=(("CH", 3),))),
        ("d", answer("devices")),
    )
    assert text == ("website_id,source,visitors,country,devices\nb,google,10,,\nb,direct,5,,\nc,,3,CH,\n")


def test_longer_rows_equal_names_and_objects_are_all_there() -> None:
    text = written(("x", answer("website_id", "a", "a", rows=((1, 2, 3, [4, {"b": True}], None), ("short",)))))
    assert text == ('website_id,website_id_2,a,a_2,column_4,column_5\nx,1,2,3,"[4,{""b"":true}]",\nx,short,,,,\n')


def test_answers_without_rows_are_a_header() -> None:
    assert written(("x", answer("source", "visitors"))) == "website_id,source,visitors\n"
    assert written(("x", answer())) == "website_id\n"


def test_a_query_of_several_websites_loses_no_column(
    canned: aioresponses, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", unique_key())
    for website_id, rows in (("a", []), ("b", [["google", 10]])):
        data = {"results": {"columns": ["source", "visitors"], "rows": rows}}
        canned.post(api_url(f"query/{website_id}"), payload={"success": True, "data": data})
    assert main(["query", "Sources?", "a", "b", "--concurrency", "1", "--format", "csv"]) == 0
    assert capsys.readouterr().out == "website_id,source,visitors\nb,google,10\n"


def test_a_table_of_an_answer_has_every_column_of_every_row(
    canned: aioresponses, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", unique_key())
    data = {"results": {"columns": ["s", "s"], "rows": [["x"], ["y", 2, {"z": [True]}]]}}
    canned.post(api_url("query/a"), payload={"success": True, "data": data})
    assert main(["query", "Sources?", "a"]) == 0
    titles, *rows = capsys.readouterr().out.splitlines()
    assert titles.split() == ["s", "s", "2", "column", "3"]
    assert [row.split() for row in rows] == [["x"], ["y", "2", '{"z":[true]}']]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_any_text_comes_back_as_it_was(texts: list[str]) -> None:
    pages = tuple(HeatmapPage(url=text, total_interactions=1, last_updated=DAY) for text in texts)
    text = written(("x", HeatmapPages(pages=pages)))
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert [row[1] for row in rows[1:]] == texts
    # Readers that take a lone carriage return for the end of a row find none outside quotes.
    assert "\r" not in "".join(text.split('"')[::2])


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1+cmd|' /C calc'!A0",
        "-1+1",
        "@SUM(1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "\ttext",
        "  =1",
        "\u3000=1",
        "\u200b=1",
        "\x00=1",
        "＝1+1",
        " ＋1+1",
        "－1+1",
        "＠SUM(1)",
        "﹦1",
        "--5",
        "-5 apples",
    ],
)
def test_a_cell_that_a_spreadsheet_would_run_starts_with_an_apostrophe_if_asked(text: str) -> None:
    assert cell(text) == f"'{text}"
    assert cell(text, safe=False) == text
    assert written(("x", answer(text)), safe=True).startswith(("website_id,'", "website_id,\"'"))


@pytest.mark.parametrize("value", [-5, -0.5, "-5", "+4", "-1.5e-3", "text", "a=b", "", "1-2", True, ["=1"], "'=1"])
def test_other_cells_stay_as_they_are(value: Any) -> None:
    assert cell(value) == cell(value, safe=False)


def test_safe_cells_are_for_csv_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, "--sandbox", "1", "--csv-safe"]) == 2
    assert capsys.readouterr().err == "zenovay-async: --csv-safe: only --format csv has cells to make safe\n"
    assert main([*PAGES, "--sandbox", "1", "--format", "csv", "--csv-safe"]) == 0


def test_an_id_of_its_own_in_a_result_is_kept_beside_the_one_asked_for(
    canned: aioresponses, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", unique_key())
    data = {"website_id": None, "a": 1}
    canned.get(api_url("analytics/x/pages"), payload={"success": True, "data": data})
    assert main(["analytics", "pages", "x", "--format", "ndjson"]) == 0
    assert capsys.readouterr().out == '{"website_id":"x","a":1,"website_id_2":null}\n'
