"""Results as tables, JSON, NDJSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from cli_helpers import FREE, IDS, PAGES, PER_WEBSITE, SINGLE, STATS, freeze_sandbox
from helpers import sample, unique_key

from zenovay_async import HeatmapPage, HeatmapPages, Usage, WebsiteDetail
from zenovay_async._protocol.base_url import DEFAULT_BASE_URL
from zenovay_async._tables.layout import Layout
from zenovay_async.cli import main
from zenovay_async.cli.output import make_writer, plain_values

if TYPE_CHECKING:
    from aioresponses import aioresponses

    from zenovay_async.cli.writer import Format


@pytest.fixture(autouse=True)
def _same_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    freeze_sandbox(monkeypatch)


def test_json_is_one_array_with_all_websites(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, "--sandbox", "3", "--limit", "2", "--format", "json"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert {website["website_id"] for website in found} == set(IDS)
    assert all(len(website["pages"]) == 2 for website in found)


def test_ndjson_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, "--sandbox", "3", "--format", "ndjson"]) == 0
    assert {json.loads(line)["website_id"] for line in capsys.readouterr().out.splitlines()} == set(IDS)


def test_csv_has_a_row_for_each_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, "--sandbox", "3", "--limit", "2", "--format", "csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert len(rows) == 6
    assert list(rows[0]) == ["website_id", "url", "total_interactions", "last_updated"]


def test_a_table_of_many_has_a_line_for_each_and_no_colors_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, "--sandbox", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 3
    assert "\x1b" not in "".join(lines)
    totals = [int(line.split()[2].replace(",", "")) for line in lines[1:]]
    assert totals == sorted(totals, reverse=True)


def test_a_table_of_one_has_a_line_for_each_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, IDS[0], "--sandbox", "3", "--limit", "4"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 4


def test_a_table_names_the_website_when_only_one_of_several_came(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, IDS[0], "nobody", "--sandbox", "3"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 1
    assert IDS[0] in lines[1]


def totals(result: Any) -> list[dict[str, Any]]:
    return [{"id": "t_1", "pages": len(result["pages"]), "first": result["pages"][0]["url"]}]


@pytest.mark.parametrize("columns", [("pages", "first"), ("id", "pages")])
def test_a_table_of_single_rows_names_the_website_of_each(
    columns: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(HeatmapPages, "_layout", Layout(rows=totals, columns=columns, noun=None))
    monkeypatch.setattr("zenovay_async.cli.table.column_types", lambda _: {})
    assert main([*PAGES, *IDS, "--sandbox", "3", "--limit", "2"]) == 0
    titles, *lines = capsys.readouterr().out.splitlines()
    assert titles.split() == ["domain", *columns, "website", "id"]
    assert {line.split()[-1] for line in lines} == set(IDS)
    assert main([*PAGES, IDS[0], "--sandbox", "3", "--limit", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 1
    assert main([*PAGES, IDS[0], "nobody", "--sandbox", "3"]) == 1
    assert IDS[0] in capsys.readouterr().out


def test_the_top_row_of_a_website_is_the_greatest_in_any_order() -> None:
    found = HeatmapPages(
        pages=tuple(
            HeatmapPage(url=url, total_interactions=n, last_updated=datetime(2026, 5, n, tzinfo=UTC))
            for n, url in ((3, "/some"), (9, "/most"), (1, "/least"))
        )
    )
    titles, *lines = written("table", HeatmapPages, *((website_id, found) for website_id in IDS[:2])).splitlines()
    assert "top url" in titles
    assert all("/most" in line for line in lines)


@pytest.mark.parametrize("command", sample(PER_WEBSITE))
def test_every_command_has_its_data_in_every_format(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    def printed(kind: str, *ids: str) -> str:
        assert main([*command.split(), *ids, "--sandbox", "3", "--format", kind]) == 0
        return capsys.readouterr().out

    objects = json.loads(printed("json", IDS[0]))
    assert [found["website_id"] for found in objects] == [IDS[0]]
    assert json.loads(printed("ndjson", IDS[0])) == objects[0]
    rows = list(csv.DictReader(printed("csv", IDS[0]).splitlines()))
    assert rows
    assert {row["website_id"] for row in rows} == {IDS[0]}
    assert None not in rows[0]
    assert len(printed("table", IDS[0], "--columns", ",".join(list(rows[0])[1:])).splitlines()) == 1 + len(rows)
    of_all = printed("table")
    assert len(of_all.splitlines()) == 1 + 3
    assert all(website_id in of_all for website_id in IDS)


@pytest.mark.parametrize("command", SINGLE)
def test_a_single_result_needs_no_ids(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("table", "json", "ndjson", "csv"):
        assert main([*command.split(), "--sandbox", "3", "--format", kind]) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        if kind == "json":
            assert isinstance(json.loads(printed.out), dict)
        if kind == "csv":
            assert len(list(csv.DictReader(printed.out.splitlines()))) in {1, 3}


@pytest.mark.parametrize("command", [*FREE, *STATS])
def test_a_result_without_documented_columns_is_json_and_has_no_csv(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command.split(), "--sandbox", "3"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert main([*command.split(), "--sandbox", "3", "--format", "csv"]) == 2
    assert "use ndjson" in capsys.readouterr().err


def test_usage_shows_plan_rate_limit_and_quota_at_a_glance(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["usage", "--sandbox", "1"]) == 0
    shown = capsys.readouterr().out
    for text in ("enterprise", "6,000 requests a minute", "1 of 1,000,000 requests", "999,999", "UTC, in"):
        assert text in shown


USAGE = {
    "api_key": {"id": None, "name": None},
    "usage": {"monthly_requests": 850, "monthly_limit": 1000, "monthly_reset_at": "2099-12-01T00:00:00+02:00"},
}
ZONES = {
    "pages": [
        {"url": "/a", "total_interactions": 2, "last_updated": "2026-12-01T00:30:00+02:00"},
        {"url": "/b", "total_interactions": 1, "last_updated": None},
        {"url": "2026-12-01T00:00:00_no_time", "total_interactions": 0, "last_updated": "2026-01-01T05:00:00Z"},
    ]
}


@pytest.mark.parametrize("limit", [None, 0, -1])
def test_usage_without_a_quota_shows_the_count_alone(
    limit: int | None, canned: aioresponses, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", unique_key())
    data = {"usage": {"monthly_requests": 10, "monthly_limit": limit}}
    canned.get(f"{DEFAULT_BASE_URL}/usage", payload={"success": True, "data": data})
    assert main(["usage"]) == 0
    shown = capsys.readouterr()
    assert re.search(r"^quota +10 requests *$", shown.out, re.MULTILINE)
    assert shown.err == ""


def test_a_table_shows_every_time_in_utc(
    canned: aioresponses, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", unique_key())
    canned.get(f"{DEFAULT_BASE_URL}/usage", payload={"success": True, "data": USAGE})
    assert main(["usage"]) == 0
    shown = capsys.readouterr()
    assert "2099-11-30 22:00 UTC" in shown.out
    assert "unknown, permission unknown" in shown.out
    assert shown.err == "80 % of the monthly quota used: 850 of 1,000 requests\n"
    canned.get(f"{DEFAULT_BASE_URL}/heatmaps/x/pages", payload={"success": True, "data": ZONES}, repeat=True)
    assert main(["heatmaps", "pages", "x"]) == 0
    shown = capsys.readouterr()
    assert "2026-11-30 22:30" in shown.out
    assert "2026-12-01T00:00:00_no_time" in shown.out
    assert main(["heatmaps", "pages", "x", "--format", "csv"]) == 0
    assert "x,/a,2,2026-12-01T00:30:00+02:00\nx,/b,1,\n" in capsys.readouterr().out
    assert main(["heatmaps", "pages", "x", "x"]) == 0
    assert "2026-11-30 22:30" in capsys.readouterr().out


@pytest.mark.parametrize("never", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00"])
def test_a_month_that_never_ends_is_shown_as_the_server_says_it(
    never: str, canned: aioresponses, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", unique_key())
    data = {"usage": {"monthly_requests": 10, "monthly_limit": 1000, "monthly_reset_at": never}}
    canned.get(f"{DEFAULT_BASE_URL}/usage", payload={"success": True, "data": data})
    assert main(["usage"]) == 0
    assert never[5:16].replace("T", " ") in capsys.readouterr().out


def test_a_quota_is_at_100_percent_only_when_it_is_used_up(
    canned: aioresponses, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", unique_key())
    for used, share in ((9_999, "99%"), (10_000, "100%"), (10**400, f"{10**398}%")):
        data = {"usage": {"monthly_requests": used, "monthly_limit": 10_000}}
        canned.get(f"{DEFAULT_BASE_URL}/usage", payload={"success": True, "data": data})
        assert main(["usage"]) == 0
        assert f" {share}\n" in capsys.readouterr().out


def test_a_bar_is_never_longer_than_its_column(
    canned: aioresponses, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", unique_key())
    for numbers in ([-1, -10_000], [0, -5], [10**30, -(10**30)]):
        pages = [{"url": "/", "total_interactions": number, "last_updated": None} for number in numbers]
        canned.get(f"{DEFAULT_BASE_URL}/heatmaps/x/pages", payload={"success": True, "data": {"pages": pages}})
        assert main(["heatmaps", "pages", "x"]) == 0
        shown = capsys.readouterr().out
        assert "total interactions" in shown
        assert re.findall("[█▏▎▍▌▋▊▉]+", shown) == (["█" * 16] if max(numbers) > 0 else [])
        assert f"{numbers[1]:,}" in shown


def test_a_float_of_hundreds_of_digits_leaves_room_for_other_columns(
    canned: aioresponses, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", unique_key())
    results = {"columns": ["ratio", "source"], "rows": [[1e300, "google"], [-2e15, "bing"]]}
    canned.post(f"{DEFAULT_BASE_URL}/query/x", payload={"success": True, "data": {"results": results}})
    assert main(["query", "Where?", "x"]) == 0
    shown = capsys.readouterr().out.split()
    assert shown == ["ratio", "source", "1e+300", "google", "-2,000,000,000,000,000", "bing"]


def test_visitors_cannot_control_a_terminal(
    canned: aioresponses, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", "zv_x")
    data = {"visitors": [{"id": "v1", "landing_page": "/\x1b[2J\x1b]0;mine\x07\n/", "referrer": "\x9b31m"}]}
    canned.get("https://api.zenovay.com/api/external/v1/analytics/x/visitors", payload={"success": True, "data": data})
    assert main(["analytics", "visitors", "x"]) == 0
    shown = capsys.readouterr().out
    assert "/\ufffd[2J\ufffd]0;mine\ufffd\ufffd/" in shown
    assert not {"\x1b", "\x07", "\x9b"} & set(shown)


def written(
    kind: Format,
    result_type: Any,
    *results: tuple[str, Any],
    key_names: tuple[str, ...] = (),
    domains: dict[str, str] | None = None,
    failure: dict[str, Any] | None = None,
    ended_early: bool = False,
) -> str:
    """What a format makes of results, the first of which come from keys of these names."""
    file = io.StringIO()
    writer = make_writer(kind, result_type, file, per_website=result_type is not Usage, name="any")
    writer.record_domains(domains or {})
    for number, (website_id, result) in enumerate(results):
        writer.add(website_id, plain_values(result), *key_names[number : number + 1])
    if failure is not None:
        writer.add_failure(failure)
    if ended_early:
        writer.record_early_end()
    writer.close()
    return file.getvalue()


FOUND = HeatmapPages(
    pages=(HeatmapPage(url="/a", total_interactions=2, last_updated=datetime(2026, 5, 1, tzinfo=UTC)),)
)
NONE = HeatmapPages(pages=())
FAILURE = {"website_id": "b", "error": "NotFoundError", "status": 404, "code": None}


def test_a_website_that_failed_differs_from_one_without_rows() -> None:
    assert written("ndjson", HeatmapPages, ("a", NONE), failure=FAILURE).splitlines() == [
        '{"website_id":"a","pages":[]}',
        '{"website_id":"b","error":"NotFoundError","status":404,"code":null}',
    ]
    assert json.loads(written("json", HeatmapPages, ("a", NONE), failure=FAILURE)) == [
        {"website_id": "a", "pages": []},
        FAILURE,
    ]
    assert written("csv", HeatmapPages, ("a", FOUND), failure=FAILURE).count("\n") == 2
    # The table of one names no website.
    assert "website id" not in written("table", HeatmapPages, ("a", FOUND))
    assert "website id" in written("table", HeatmapPages, ("a", FOUND), failure=FAILURE)
    assert "website id" in written("table", HeatmapPages, ("a", FOUND), ended_early=True)


def test_the_name_of_a_key_comes_first_in_every_format() -> None:
    names = ("x", "y")
    results = (("a", FOUND), ("a", FOUND))
    lines = written("ndjson", HeatmapPages, *results, key_names=names).splitlines()
    assert [list(json.loads(line)) for line in lines] == [["key_name", "website_id", "pages"]] * 2
    objects = json.loads(written("json", HeatmapPages, *results, key_names=names))
    assert [found["key_name"] for found in objects] == ["x", "y"]
    titles, *rows = written("csv", HeatmapPages, *results, key_names=names).splitlines()
    assert titles.startswith("key_name,website_id,url,")
    assert [row[:6] for row in rows] == ["x,a,/a", "y,a,/a"]
    titles, *rows = written("table", HeatmapPages, *results, key_names=names).splitlines()
    assert titles.split()[:4] == ["key", "name", "website", "id"]
    assert sorted(row.split()[0] for row in rows) == ["x", "y"]
    titles, row = written("table", HeatmapPages, ("a", FOUND), key_names=names).splitlines()
    assert (titles.split()[:3], row.split()[:2]) == (["key", "name", "url"], ["x", "/a"])
    sites = (("a", WebsiteDetail(id="a")), ("b", WebsiteDetail(id="b")))
    titles, *rows = written("table", WebsiteDetail, *sites, key_names=names).splitlines()
    assert titles.split()[:3] == ["key", "name", "id"]
    assert [row.split()[:2] for row in rows] == [["x", "a"], ["y", "b"]]


def test_a_table_of_many_shows_the_domains_that_are_known() -> None:
    domains = {"a": "example.com", "other": "example.org"}
    titles, *rows = written("table", HeatmapPages, ("a", FOUND), ("b", NONE), domains=domains).splitlines()
    assert titles.split()[:3] == ["domain", "website", "id"]
    assert [row.split()[:2] for row in rows] == [["example.com", "a"], ["b", "0"]]
    assert "domain" not in written("table", HeatmapPages, ("c", FOUND), ("b", NONE), domains=domains)
    sites = (("a", WebsiteDetail(id="a")), ("b", WebsiteDetail(id="c", domain="own.example")))
    titles, *rows = written("table", WebsiteDetail, *sites, domains=domains).splitlines()
    assert titles.split()[:4] == ["domain", "website", "id", "id"]
    assert rows[1].split()[:3] == ["own.example", "b", "c"]


def test_a_sandbox_whose_websites_cannot_be_listed_shows_their_ids(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, "--sandbox", "1", "--timeout", "1e-6"]) == 1
    printed = capsys.readouterr()
    assert "domain" not in printed.out
    assert IDS[0] in printed.err
