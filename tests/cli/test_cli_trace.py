"""``--trace``: a line on standard error for each call, with what it went through."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from cli_helpers import EVIL, IDS, PAGES, controls_in, main_at

from zenovay_async import APIConnectionError, Attempt, CallEnded
from zenovay_async.cli import main
from zenovay_async.cli.log_lines import LogLines
from zenovay_async.cli.trace import Tracer
from zenovay_async.sandbox import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from zenovay_async.sandbox import Sandbox

KEY = "zv_0123456789secret"


def traced(text: str) -> list[Any]:
    """The lines of calls, of a run whose lines are JSON."""
    return [line for line in map(json.loads, text.splitlines()) if line.get("event") == "CallEnded"]


def test_each_website_of_a_batch_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, *IDS, "nobody", "--sandbox", "3", "--trace", "--format", "ndjson"]) == 1
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if line.startswith("GET ")]
    pattern = r"GET heatmaps/(\S+)/pages (succeeded|failed with NotFoundError) in [\d.]+ m?s: 0\.0 s (.*)"
    found = [re.fullmatch(pattern, line) for line in lines]
    assert {(line[1], line[2]) for line in found if line} == {
        *((website_id, "succeeded") for website_id in IDS),
        ("nobody", "failed with NotFoundError"),
    }
    assert all(re.search(r"attempt 1: (200|404) in ", line[3]) for line in found if line)
    assert len(printed.out.splitlines()) == 4


async def test_a_call_with_a_retry_says_what_went_wrong_and_how_long_it_waited(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox.fault(Fault.status(502), times=1)
    assert await main_at(sandbox, monkeypatch, IDS[0], "--trace") == 0
    assert re.search(r": 0\.0 s attempt 1: 502 in .+; waited .+; attempt 2: 200 in ", capsys.readouterr().err)


async def test_a_command_without_ids_is_traced_as_well_and_each_of_its_pages(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", sandbox.api_key)
    monkeypatch.setenv("ZENOVAY_BASE_URL", sandbox.url)
    assert await asyncio.to_thread(main, ["usage", "--trace"]) == 0
    assert capsys.readouterr().err.startswith("GET usage succeeded in ")
    visitors = ["analytics", "visitors", IDS[0], "--take", "3", "--limit", "2", "--trace"]
    assert await asyncio.to_thread(main, visitors) == 0
    assert capsys.readouterr().err.count(f"GET analytics/{IDS[0]}/visitors succeeded in ") == 2


async def test_json_has_the_fields_of_a_call(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox.fault(Fault.status(502), times=1)
    assert await main_at(sandbox, monkeypatch, IDS[0], "nobody", "--trace", "--log-format", "json") == 1
    lines = {line["call"]: line for line in traced(capsys.readouterr().err)}
    good, bad = lines[f"GET heatmaps/{IDS[0]}/pages"], lines["GET heatmaps/nobody/pages"]
    assert (bad["outcome"], bad["error"], bad["status"]) == ("failed", "NotFoundError", 404)
    assert (good["operation"], good["outcome"], good["status"]) == ("heatmaps.pages", "succeeded", 200)
    assert {good["attempts"], bad["attempts"]} == {1, 2}
    assert good["seconds"] >= 0
    assert good["request_id"]
    assert good["explained"] in good["message"]
    assert "error" not in good


def test_a_call_for_which_no_connection_is_made_is_traced(
    unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", KEY)
    monkeypatch.setenv("ZENOVAY_BASE_URL", f"http://127.0.0.1:{unused_tcp_port}")
    assert main(["usage", "--timeout", "0.2", "--trace"]) == 1
    assert "GET usage failed with APIConnectionError in " in capsys.readouterr().err


async def test_the_lines_of_several_keys_have_their_names(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"acme,{sandbox.api_key}\nglobex,{sandbox.add_key('globex')}\n")
    keys.chmod(0o600)
    arguments = ["--keys-from", keys, IDS[0], "--trace"]
    assert await main_at(sandbox, monkeypatch, *arguments, "--log-format", "json", key=KEY) == 0
    assert {line["key_name"] for line in traced(capsys.readouterr().err)} == {"acme", "globex"}
    assert await main_at(sandbox, monkeypatch, *arguments, key=KEY) == 0
    assert f"globex: GET heatmaps/{IDS[0]}/pages succeeded in " in capsys.readouterr().err


def test_without_the_option_no_call_is_traced(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, IDS[0], "--sandbox", "3"]) == 0
    assert "attempt 1" not in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["text", "json"])
def test_neither_a_key_nor_controls_are_traced(
    kind: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", "sk-0123456789secret")
    text = f"{KEY} sk-0123456789secret {EVIL}"
    attempt = Attempt(number=1, started=0.0, seconds=0.1, error="APIConnectionError", message=text)
    Tracer(LogLines(kind)).on_event(
        CallEnded(
            call_id=1,
            operation="query",
            method="GET",
            template="x",
            call=f"GET {text}",
            outcome="failed",
            seconds=0.1,
            status=None,
            error=APIConnectionError(text),
            request_id=text,
            cost=1,
            cache=None,
            history=(attempt,),
            waits=(),
        )
    )
    printed = capsys.readouterr().err
    assert "secret>" in printed
    assert "0123456789" not in printed
    assert controls_in(printed) == set()
