"""Times in tables: in UTC or in the zone of ``--tz``, and which of them is said."""

from __future__ import annotations

import io
import sys
import time
import zoneinfo
from datetime import UTC
from typing import TYPE_CHECKING, Any

import pytest
from cli_helpers import IDS, PAGES, main_at

from zenovay_async import ConfigurationError, HeatmapPages, QueryAnswer, Usage, VisitorPage
from zenovay_async.cli import main
from zenovay_async.cli.output import make_writer
from zenovay_async.cli.time_zones import find_zone
from zenovay_async.cli.view import make_view

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from zenovay_async.sandbox import Sandbox


def pages(*times: str | None) -> dict[str, Any]:
    return {"pages": [{"url": f"/{n}", "total_interactions": -n, "last_updated": at} for n, at in enumerate(times)]}


def written(result_type: Any, *results: Any, tz: str | None = None) -> list[str]:
    """The lines of a table."""
    file = io.StringIO()
    view = make_view("table", result_type, per_website=True, tz=tz)
    writer = make_writer("table", result_type, file, per_website=True, name="any", view=view)
    for number, result in enumerate(results):
        writer.add(f"w{number}", result)
    writer.close()
    return file.getvalue().splitlines()


@pytest.fixture
def machine_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine in New York."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "America/New_York")
        time.tzset()
        yield
    time.tzset()


def test_the_title_of_a_column_of_times_says_that_they_are_in_utc() -> None:
    titles, row = written(HeatmapPages, pages("2026-05-01T00:30:00+02:00"))
    assert titles.endswith("last updated (UTC)")
    assert row.endswith("2026-04-30 22:30")
    # With or without a time, of one website or many.
    assert written(HeatmapPages, pages(None))[0].endswith("last updated (UTC)")
    assert "last updated (UTC)" in written(HeatmapPages, pages(None), pages(None))[0]
    assert "newest visited at (UTC)" in written(VisitorPage, {"visitors": []}, {"visitors": []})[0]


def test_times_of_another_zone_have_their_offset_also_in_the_hour_that_comes_twice() -> None:
    found = pages("2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-03-29T00:59:00Z", "2026-03-29T01:00:00Z")
    titles, *rows = written(HeatmapPages, found, tz="Europe/Zurich")
    assert titles.endswith("last updated")
    assert [row.split("  ")[-1].strip() for row in rows] == [
        "2026-10-25 02:30+02:00",
        "2026-10-25 02:30+01:00",
        "2026-03-29 01:59+01:00",
        "2026-03-29 03:00+02:00",
    ]
    assert written(HeatmapPages, pages("2026-05-01T00:00:00Z"), tz="Asia/Kolkata")[1].endswith("05:30+05:30")


@pytest.mark.usefixtures("machine_zone")
def test_local_is_the_zone_of_the_machine_on_that_day() -> None:
    _, *rows = written(HeatmapPages, pages("2026-01-01T12:00:00Z", "2026-07-01T12:00:00Z"), tz="local")
    assert [row[-11:] for row in rows] == ["07:00-05:00", "08:00-04:00"]


def test_a_time_that_has_no_year_in_the_zone_is_as_the_server_says_it() -> None:
    never = "9999-12-31T23:59:59-12:00"
    for tz in ("UTC", "Asia/Tokyo"):
        assert written(HeatmapPages, pages(never), tz=tz)[1].endswith(never)


def test_text_that_looks_like_a_time_is_one_only_where_columns_are_not_documented() -> None:
    text = "2026-05-01T00:00:00Z"
    page = {"url": text, "total_interactions": 1, "last_updated": None}
    assert written(HeatmapPages, {"pages": [page]})[1].startswith(text)
    answer = {"results": {"columns": ["at", "text"], "rows": [[text, "2026-05-01T00:00:00 no"], [None, "x"]]}}
    titles, row, _ = written(QueryAnswer, answer)
    assert titles.split("  ")[0] == "at (UTC)"
    assert row.startswith("2026-05-01 00:00")
    assert "2026-05-01T00:00:00 no" in row


def test_the_usage_says_in_which_zone_the_quota_resets() -> None:
    usage = {"usage": {"monthly_requests": 1, "monthly_reset_at": "2099-12-01T00:00:00Z"}}
    assert "2099-12-01 00:00 UTC, in " in written(Usage, usage)[-1]
    assert "2099-12-01 01:00+01:00, in " in written(Usage, usage, tz="Europe/Zurich")[-1]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("Zurich", "--tz 'Zurich': unknown time zone; did you mean Europe/Zurich?"),
        ("new york", "did you mean America/New_York?"),
        ("europe/zurich", "did you mean Europe/Zurich?"),
        ("Europe/Zurch", "did you mean Europe/Zurich?"),
        ("Mars/Olympus", "--tz 'Mars/Olympus': unknown time zone; expected UTC, local or a name such as Europe/Zurich"),
        ("Europe", "unknown time zone"),
        ("", "unknown time zone"),
        ("/etc/passwd", "unknown time zone"),
        ("../x", "unknown time zone"),
        ("x\0", "unknown time zone"),
    ],
)
def test_an_unknown_zone_is_an_error_with_the_one_that_may_be_meant(name: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        find_zone(name)
    assert problem in str(caught.value)


async def test_an_unknown_zone_is_invalid_usage_and_nothing_is_requested(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await main_at(sandbox, monkeypatch, *IDS, "--tz", "Zurich") == 2
    assert capsys.readouterr().err.startswith("zenovay-async: --tz 'Zurich': ")
    assert sandbox.count() == 0


def test_a_machine_without_zones_says_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        for name in ("tzdata", *(name for name in sys.modules if name.startswith("tzdata."))):
            patched.setitem(sys.modules, name, None)
        zoneinfo.reset_tzpath([str(tmp_path)])
        zoneinfo.ZoneInfo.clear_cache()
        try:
            with pytest.raises(ConfigurationError, match="this machine has no time zones; pip install tzdata, or use"):
                find_zone("Europe/Zurich")
            assert find_zone("utc") is UTC
            assert find_zone("Local") is None
        finally:
            zoneinfo.reset_tzpath()


@pytest.mark.parametrize("kind", ["json", "ndjson", "csv"])
def test_formats_for_programs_keep_times_as_they_are(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, "--sandbox", "1", "--format", kind, "--tz", "UTC"]) == 2
    assert f"--tz: --format {kind} has times as the API sends them, with their zone" in capsys.readouterr().err
