"""Text of strangers: on a terminal, in a pipe, in any encoding; it never controls a terminal nor ends a run."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import pty
import select
import subprocess
import sys
import termios
from typing import TYPE_CHECKING, Any

import pytest
from cli_helpers import COMMAND, EVIL, PAGES, Terminal, api_url, controls_in, on_terminal, read_terminal
from helpers import unique_key
from hypothesis import given
from hypothesis import strategies as st
from raw_server import RawServer

from zenovay_async import AnalyticsOverview, HeatmapPages, QueryAnswer, VisitorPage
from zenovay_async._protocol.text import is_printable
from zenovay_async.cli import main
from zenovay_async.cli.output import make_writer
from zenovay_async.cli.view import View

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aioresponses import aioresponses

    from zenovay_async.cli.writer import Format

FORMATS = ["table", "json", "ndjson", "csv"]
PAGE = {"url": EVIL, "total_interactions": 1, "last_updated": "2026-05-01T00:00:00Z"}
RESULTS = {
    "heatmaps pages x": ("heatmaps/x/pages", {"pages": [PAGE]}),
    "websites list": (
        "websites",
        {"websites": [{"id": "w", "domain": EVIL, "name": EVIL, "created_at": f"2026-{EVIL}"[:10] + "T" + EVIL}]},
    ),
    "query Where? x": ("query/x", {"results": {"columns": [EVIL, "b"], "rows": [[EVIL, {EVIL: [EVIL]}]]}}),
    "usage": (
        "usage",
        {
            "api_key": {"id": EVIL, "name": EVIL, "permission": EVIL},
            "usage": {"monthly_requests": 1, "monthly_limit": 10},
            "subscription": {"tier": EVIL},
        },
    ),
}
"""Commands, and what they get."""


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", unique_key())


@pytest.fixture
def terminal() -> Iterator[tuple[str, int]]:
    """The name of a terminal, and its other end."""
    parent, child = pty.openpty()
    termios.tcsetwinsize(child, (40, 200))
    yield os.ttyname(child), parent
    os.close(child)
    os.close(parent)


def respond(canned: aioresponses, command: str) -> Any:
    path, data = RESULTS[command]
    getattr(canned, "post" if path.startswith("query") else "get")(
        api_url(path), payload={"success": True, "data": data}
    )
    return data


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("command", RESULTS)
def test_no_value_controls_a_terminal_in_any_format(
    command: str, kind: str, canned: aioresponses, terminal: tuple[str, int]
) -> None:
    respond(canned, command)
    name, parent = terminal
    assert main([*command.split(), "--format", kind, "-o", name]) == 0
    seen = b""
    while select.select([parent], [], [], 0.1)[0]:
        seen += os.read(parent, 65536)
    assert b"mine" in seen
    assert controls_in(seen.decode()) == set()


@pytest.mark.parametrize("kind", ["json", "ndjson"])
def test_json_on_a_terminal_has_escapes_and_every_character(
    kind: str, canned: aioresponses, terminal: tuple[str, int]
) -> None:
    respond(canned, "heatmaps pages x")
    name, parent = terminal
    assert main([*PAGES, "x", "--format", kind, "-o", name]) == 0
    shown = json.loads(read_terminal(parent, until=rb"\}\r\n(\]\r\n)?$"))
    assert (shown[0] if kind == "json" else shown)["pages"][0]["url"] == EVIL


@pytest.mark.parametrize("kind", FORMATS)
async def test_standard_output_and_error_on_a_terminal_show_no_controls(kind: str) -> None:
    async with RawServer() as server:
        body = json.dumps({"success": True, "data": {"pages": [PAGE]}})
        server.response = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        env = {"ZENOVAY_API_KEY": "zv_x", "ZENOVAY_BASE_URL": server.url}

        def shown() -> bytes:
            with on_terminal("x", "y\x1b[2J", "\x9bz", b"caf\xe9", "--format", kind, env=env) as (process, parent, _):
                seen = read_terminal(parent, until=b"3 failed")
                assert process.wait() == 1
                return seen

        seen = (await asyncio.to_thread(shown)).decode()
    assert "caf\ufffd: " in seen
    assert controls_in(seen) == set()


async def test_an_error_of_the_server_shows_no_controls(
    capsys: pytest.CaptureFixture[str], canned: aioresponses
) -> None:
    error = {"message": f"{EVIL}\nagain {EVIL * 500}", "code": "NOT_FOUND"}
    canned.get(api_url("heatmaps/x/pages"), status=404, payload={"success": False, "error": error}, repeat=True)
    assert await asyncio.to_thread(main, [*PAGES, "x"]) == 1
    printed = capsys.readouterr().err
    assert controls_in(printed) == set()
    assert len(printed.splitlines()) == 2
    assert len(printed) < 1000


@pytest.mark.parametrize(
    "arguments",
    [["--limit", EVIL], ["--format", EVIL], [f"--{EVIL}"], ["-o", f"/nowhere/{EVIL}"], ["-o", "\udcff\x9b/x"]],
)
def test_an_argument_that_is_wrong_shows_no_controls(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, "x", *(argument.replace("\x00", "") for argument in arguments)]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("zenovay-async: ")
    assert controls_in(printed) == set()
    assert len(printed.splitlines()) == 1


@pytest.mark.parametrize("kind", ["json", "ndjson", "csv"])
@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-16", "latin-1", "cp437"])
def test_data_are_in_utf_8_whatever_standard_output_is(
    encoding: str, kind: str, canned: aioresponses, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = {**PAGE, "url": "/łódź/\x9b"}
    canned.get(api_url("heatmaps/x/pages"), payload={"success": True, "data": {"pages": [page]}})
    written = io.BytesIO()
    stdout = io.TextIOWrapper(written, encoding)
    monkeypatch.setattr(sys, "stdout", stdout)
    assert main([*PAGES, "x", "--format", kind]) == 0
    assert "/łódź/\x9b" in written.getvalue().decode()
    assert (stdout.encoding, stdout.errors) == (encoding, "strict")


@pytest.mark.parametrize(
    ("encoding", "url", "bar"),
    [("cp1252", "/?ód?/?", "#"), ("ascii", "/??d?/?", "#"), ("cp437", "/?ód?/?", "█"), ("utf-16", "/łódź/\ufffd", "█")],
)
def test_a_table_has_marks_for_what_standard_output_lacks(
    encoding: str, url: str, bar: str, canned: aioresponses, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = {**PAGE, "url": "/łódź/\x9b"}
    canned.get(api_url("heatmaps/x/pages"), payload={"success": True, "data": {"pages": [page]}})
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding))
    assert main([*PAGES, "x"]) == 0
    assert {url, bar * 16} <= set(written.getvalue().decode(encoding).split())


def test_standard_error_has_marks_for_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(written, "ascii"))
    assert main([*PAGES, "łódź/", "caf\udce9", "--sandbox", "1"]) == 1
    sys.stderr.flush()
    assert written.getvalue().startswith(b"??d?/: '/' is not part of an ID")
    assert b"\ncaf?: not valid Unicode" in written.getvalue()


def test_arguments_and_an_environment_that_are_not_utf_8_give_no_traceback() -> None:
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
    command = [
        *(word.encode() for word in COMMAND),
        b"caf\xe9",
        "łódź".encode(),
        b"--sandbox",
        b"1",
        b"--format",
        b"csv",
    ]
    done = subprocess.run(command, capture_output=True, check=False, env=env)  # noqa: S603 - our own command
    assert done.returncode == 1
    assert b"caf?: not valid Unicode" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("kind", FORMATS)
def test_half_a_surrogate_is_a_mark_in_every_format(kind: Format) -> None:
    written = io.BytesIO()
    page = {**PAGE, "url": "/\ud800\udfff/"}
    # What writes to any file but standard output.
    with io.TextIOWrapper(written, "utf-8", errors="zenovay_async.cli") as file:
        writer = make_writer(kind, HeatmapPages, file, per_website=True, name="heatmaps.pages")
        writer.add("x", {"pages": [page]})
        writer.close()
        file.flush()
        assert "/\ufffd\ufffd/" in written.getvalue().decode()


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_stream_of_any_kind_may_stand_in_for_a_standard_one(
    stream: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, stream, written)
    assert main([*PAGES, "..", "--sandbox", "1"]) == 1
    assert "expected an ID" in (written.getvalue() + capsys.readouterr().err)


STRANGE = st.lists(
    st.sampled_from([*EVIL, "[", "]", "/", "red", "bold", "\x1b[31m", "\u202e", ",", '"', "=", "a"])
).map("".join)


@given(STRANGE, STRANGE, STRANGE, st.sampled_from(["table", "csv"]))
def test_no_text_of_any_field_or_name_controls_a_terminal(name: str, text: str, domain: str, kind: Format) -> None:
    days = [{"date": "2026-05-01", "total_visitors": 1, "unique_visitors": 1, "page_views": 1, "extra": {name: text}}]
    results = (
        (AnalyticsOverview, {"website": {"domain": domain}, "daily_stats": days}),
        (QueryAnswer, {"results": {"columns": [name, "b"], "rows": [[text, {name: text}]]}}),
        (VisitorPage, {"visitors": [{"landing_page": text, "referrer": name, "visited_at": text}]}),
    )
    with pytest.MonkeyPatch.context() as patched:
        # A terminal without styles of our own.
        patched.setenv("TERM", "dumb")
        for result_type, result in results:
            file = Terminal()
            view = View((f"extra.{name}",)) if result_type is AnalyticsOverview else View()
            writer = make_writer(kind, result_type, file, per_website=True, name="any", view=view)
            for website_id in ("a", text):
                writer.add(website_id, result)
            writer.close()
            assert set(file.getvalue()) & set(map(chr, range(32))) <= {"\n"}
            assert is_printable(file.getvalue().replace("\n", ""))


@given(STRANGE, st.lists(STRANGE, min_size=1))
def test_names_and_values_in_csv_come_back_as_they_were_and_safe_ones_with_an_apostrophe(
    name: str, texts: list[str]
) -> None:
    for safe in (False, True):
        file = io.StringIO()
        writer = make_writer("csv", AnalyticsOverview, file, per_website=True, name="any", csv_safe=safe)
        writer.add("x", {"daily_stats": [{"date": "2026-05-01", "extra": {name: text}} for text in texts]})
        writer.close()
        titles, *rows = csv.reader(io.StringIO(file.getvalue(), newline=""))
        assert titles[-1] == f"extra.{name}"
        assert [row[-1].removeprefix("'") if safe else row[-1] for row in rows] == [
            text.removeprefix("'") if safe else text for text in texts
        ]
        assert not safe or not any(row[-1].lstrip().startswith(("=", "+", "-", "@")) for row in rows)


def test_markup_of_rich_is_text_as_any_other(capsys: pytest.CaptureFixture[str], canned: aioresponses) -> None:
    url = "[red]/[/red] :smile: [link=https://evil.example]x[/link]"
    page = {**PAGE, "url": url}
    canned.get(api_url("heatmaps/x/pages"), payload={"success": True, "data": {"pages": [page]}})
    assert main([*PAGES, "x"]) == 0
    assert url in capsys.readouterr().out
