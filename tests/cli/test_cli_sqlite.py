"""SQLite: each website has the rows of its newest result, in a file that several commands and programs may share."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from cli_helpers import FREE, IDS, PAGES, STATS

from zenovay_async import AnalyticsOverview, ConfigurationError, HeatmapPages, QueryAnswer, Usage
from zenovay_async.cli import main, sqlite_file
from zenovay_async.cli.output import make_writer
from zenovay_async.cli.sqlite_file import SqliteFile

if TYPE_CHECKING:
    from pathlib import Path

    from zenovay_async.cli.writer import Writer

DAY = "2026-05-01T00:00:00Z"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "site.db"


def writer(path: Path, result: Any = HeatmapPages, name: str = "heatmaps.pages", *, per_website: bool = True) -> Writer:
    return make_writer("sqlite", result, StringIO(), per_website=per_website, name=name, path=path)


def pages(*urls: str, updated: str | None = DAY, total: int = 1) -> dict[str, Any]:
    return {"pages": [{"url": url, "total_interactions": total, "last_updated": updated} for url in urls]}


def answer(*columns: str, row: list[Any]) -> dict[str, Any]:
    return {"results": {"columns": list(columns), "rows": [row]}}


def select(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(query).fetchall()


def columns(path: Path, table: str) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT name, type FROM pragma_table_info(?)", (table,)).fetchall()


def test_a_website_has_the_rows_of_its_newest_result_and_others_keep_theirs(path: Path) -> None:
    first = writer(path)
    first.add("a", pages("/old", "/older"))
    first.add("b", pages("/b"))
    first.close()
    again = writer(path)
    again.add("a", pages("/new"))
    again.add_failure({"website_id": "b", "error": "NotFoundError"})
    again.close()
    assert select(path, "SELECT website_id, url FROM heatmaps_pages ORDER BY 1") == [("a", "/new"), ("b", "/b")]
    again.add("a", pages())
    assert select(path, "SELECT website_id FROM heatmaps_pages") == [("b",)]


def test_columns_have_the_types_that_are_documented(path: Path) -> None:
    writer(path).close()
    writer(path, AnalyticsOverview, "analytics.overview").close()
    assert columns(path, "heatmaps_pages") == [
        ("website_id", "TEXT"),
        ("url", "TEXT"),
        ("total_interactions", "INTEGER"),
        ("last_updated", "TEXT"),
    ]
    assert ("date", "TEXT") in columns(path, "analytics_overview")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("2026-05-01T00:30:00+02:00", "2026-04-30T22:30:00Z"),
        ("2026-05-01T00:00:00.5Z", "2026-05-01T00:00:00.500000Z"),
        (None, None),
        ("9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59-12:00"),
    ],
)
def test_times_are_in_utc_so_that_they_compare_as_text(path: Path, given: str | None, kept: str | None) -> None:
    writer(path).add("a", pages("/", updated=given))
    assert select(path, "SELECT last_updated FROM heatmaps_pages") == [(kept,)]


def test_results_and_their_plain_values_are_kept_alike(path: Path) -> None:
    made = writer(path)
    made.add("a", HeatmapPages(pages=()))
    made.add("b", pages("/\ud800\0\u202e", total=10**30))
    assert select(path, "SELECT url, total_interactions FROM heatmaps_pages") == [("/\ufffd\0\u202e", 1e30)]


def test_columns_of_answers_are_added_as_they_come_and_none_is_lost(path: Path) -> None:
    made = writer(path, QueryAnswer, "query")
    made.add("a", answer("Visits", "visits", "website_id", "key_name", row=[1, 2.5, "x", True]))
    made.add("b", answer("visits", 'a "b"\0', row=[None, {"c": [1]}]))
    made.close()
    assert [name for name, _ in columns(path, "query")] == [
        *("website_id", "Visits", "visits_2", "website_id_2", "key_name_2", 'a "b"\ufffd'),
    ]
    assert select(path, "SELECT * FROM query") == [
        ("a", 1, 2.5, "x", 1, None),
        ("b", None, None, None, None, '{"c":[1]}'),
    ]


def test_names_that_sqlite_keeps_alike_are_columns_of_their_own_in_every_run(path: Path) -> None:
    for _ in range(2):
        writer(path, QueryAnswer, "query").add("a", answer("x\0", "X\ufffd", "x\ud800", row=[1, 2, 3]))
        assert [name for name, _ in columns(path, "query")][1:] == ["x\ufffd", "X\ufffd_2", "x\ufffd_3"]
        assert select(path, "SELECT * FROM query") == [("a", 1, 2, 3)]


def test_a_table_of_fewer_columns_gets_those_that_are_new(path: Path) -> None:
    writer(path).add("a", pages("/a"))
    with closing(sqlite3.connect(path)) as database:
        database.execute("ALTER TABLE heatmaps_pages DROP COLUMN total_interactions")
    writer(path).add("b", pages("/b"))
    assert select(path, "SELECT url, total_interactions FROM heatmaps_pages") == [("/a", None), ("/b", 1)]


def test_two_keys_that_reach_a_website_have_rows_each(path: Path) -> None:
    writer(path).add("a", pages("/nobody"))
    made = writer(path)
    for key_name in ("x", "y", "x"):
        made.add("a", pages(f"/{key_name}"), key_name)
    assert select(path, "SELECT key_name, url FROM heatmaps_pages") == [("y", "/y"), ("x", "/x")]
    other = path.with_name("other.db")
    writer(other).add("a", pages("/a"), "x")
    assert columns(other, "heatmaps_pages")[0] == ("key_name", "TEXT")
    writer(path).add("a", pages("/all"))
    assert select(path, "SELECT key_name, url FROM heatmaps_pages") == [(None, "/all")]


def test_a_single_result_replaces_the_one_before(path: Path) -> None:
    usage = {"api_key": {"id": "ak_1"}, "rate_limits": {}, "subscription": {}}
    for used in (1, 2):
        writer(path, Usage, "usage", per_website=False).add("", {**usage, "usage": {"monthly_requests": used}})
    assert select(path, "SELECT id, monthly_requests FROM usage") == [("ak_1", 2)]


@pytest.mark.parametrize("command", [*FREE, *STATS])
def test_a_result_without_documented_columns_is_json(command: str, path: Path) -> None:
    assert main([*command.split(), "--sandbox", "2", "--format", "sqlite", "-o", str(path)]) == 0
    ((table,),) = select(path, "SELECT name FROM sqlite_master WHERE type = 'table'")
    found = select(path, f"SELECT data FROM {table}")  # noqa: S608 - our own table
    assert len(found) == (2 if command in FREE else 1)
    assert json.loads(found[0][0])


def test_commands_share_a_file_and_a_run_that_failed_leaves_a_table(path: Path) -> None:
    assert main([*PAGES, "nobody", "--sandbox", "1", "--format", "sqlite", "-o", str(path)]) == 1
    assert select(path, "SELECT * FROM heatmaps_pages") == []
    for _ in range(2):
        assert main([*PAGES, "--limit", "2", "--sandbox", "3", "--format", "sqlite", "-o", str(path)]) == 0
    assert main(["websites", "list", "--sandbox", "3", "--format", "sqlite", "-o", str(path)]) == 0
    joined = "SELECT domain, count(*) FROM heatmaps_pages JOIN websites_list ON id = website_id GROUP BY 1"
    assert [count for _, count in select(path, joined)] == [2] * len(IDS)


_WITHOUT_END = """
import io, itertools, pathlib, sys
from zenovay_async import HeatmapPages
from zenovay_async.cli.output import make_writer

path = pathlib.Path(sys.argv[1])
made = make_writer("sqlite", HeatmapPages, io.StringIO(), per_website=True, name="heatmaps.pages", path=path)
for total in itertools.count():
    page = {"url": "/", "total_interactions": total, "last_updated": None}
    made.add(str(total % 5), {"pages": [page] * 100})
    print(end=".", flush=True)
"""


def refused(path: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        writer(path)
    return str(caught.value)


def test_it_needs_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, "--sandbox", "1", "--format", "sqlite"]) == 2
    assert capsys.readouterr().err == "zenovay-async: --format sqlite: needs -o FILE\n"


def test_what_cannot_be_written_is_refused_before_any_request_and_stays_as_it_is(path: Path, tmp_path: Path) -> None:
    path.write_text("visits of May")
    assert refused(path) == f"--output {path}: it is no SQLite database; choose another file"
    assert path.read_text() == "visits of May"
    assert refused(tmp_path) == f"--output {tmp_path}: --format sqlite needs a file"
    lost = tmp_path / "nowhere" / "site.db"
    assert refused(lost) == f"--output {lost}: its directory cannot be written"
    assert "File name too long" in refused(tmp_path / ("x" * 300))


@pytest.mark.parametrize("other", ["TABLE heatmaps_pages (website_id, mine)", "VIEW Heatmaps_Pages AS SELECT 1"])
def test_a_table_that_another_program_created_is_refused(path: Path, other: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"CREATE {other}")
    assert refused(path).endswith("has a table heatmaps_pages that another program created; use another file")


def test_a_file_that_another_program_writes_is_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "_MAX_WAIT", 0.01)
    made = writer(path)
    made.add("a", pages("/a"))
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        with pytest.raises(OSError, match="locked by another program"):
            writer(path)
        with pytest.raises(OSError, match="locked by another program"):
            made.add("a", pages("/b"))
        database.execute("COMMIT")
    made.add("a", pages("/b"))
    assert select(path, "SELECT url FROM heatmaps_pages") == [("/b",)]


def test_a_run_that_another_program_keeps_from_its_file_goes_on_later(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sqlite_file, "_MAX_WAIT", 0.01)
    arguments = [*PAGES, "--sandbox", "3", "--format", "sqlite", "-o", str(path)]
    add = SqliteFile.add
    with closing(sqlite3.connect(path, isolation_level=None)) as other, monkeypatch.context() as patched:

        def add_and_lock(file: SqliteFile, *given: Any) -> None:
            add(file, *given)
            other.execute("BEGIN IMMEDIATE")

        patched.setattr(SqliteFile, "add", add_and_lock)
        assert main(arguments) == 4
        other.execute("ROLLBACK")
    errors = capsys.readouterr().err.splitlines()
    assert errors[-1] == f"zenovay-async: --output {path}: locked by another program for 0.01 s"
    assert errors[-2].endswith("; go on with --resume")
    assert main([*arguments, "--resume"]) == 0
    assert select(path, "SELECT count(DISTINCT website_id) FROM heatmaps_pages") == [(3,)]


def test_a_full_disk_is_an_error_that_says_so_and_leaves_whole_results(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = writer(path)
    made.add("a", pages("/a"))

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        database = sqlite3.Connection(*arguments, **options)
        database.execute("PRAGMA max_page_count = 4")
        return database

    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", connect)
        with pytest.raises(OSError, match="No space left") as caught:
            made.add("a", pages(*("/" + "x" * 1000 for _ in range(100))))
    assert caught.value.errno == errno.ENOSPC
    assert select(path, "SELECT url FROM heatmaps_pages") == [("/a",)]


def test_a_killed_program_leaves_whole_results(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _WITHOUT_END, str(path)], stdout=subprocess.PIPE) as process:  # noqa: S603 - our own code
        assert process.stdout is not None
        process.stdout.read(20)
        process.kill()
    counts = select(path, "SELECT count(*), count(DISTINCT total_interactions) FROM heatmaps_pages GROUP BY website_id")
    assert set(counts) == {(100, 1)}
    made = writer(path)
    made.add("0", {"pages": [{"url": "/", "total_interactions": 1, "last_updated": DAY}]})
    assert select(path, "SELECT count(*), max(last_updated) FROM heatmaps_pages WHERE website_id = '0'") == [(1, DAY)]
    assert select(path, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_as_the_database_is_opened_may_be_mended_until_the_next_run(
    path: Path, number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*PAGES, "--sandbox", "3", "--format", "sqlite", "-o", str(path)]
    assert main(arguments) == 0

    def fail(_: SqliteFile, __: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(SqliteFile, "_find_table", fail)
    capsys.readouterr()
    assert main(arguments) == 4
    assert capsys.readouterr().err == f"zenovay-async: --output {path}: {os.strerror(number)}\n"
