"""``--all-websites``: the websites of the key, listed by one request, with their domains."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Protocol

import pytest
from aiohttp import web
from cli_helpers import IDS, PAGES, contents, main_at

from zenovay_async.cli import main
from zenovay_async.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from pathlib import Path


class Run(Protocol):
    async def __call__(self, sandbox: Sandbox, *arguments: object, key: str | None = None) -> int: ...


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Run:
    async def run(sandbox: Sandbox, *arguments: object, key: str | None = None) -> int:
        return await main_at(sandbox, monkeypatch, *arguments, key=key)

    return run


@pytest.mark.parametrize("kind", ["ndjson", "json", "csv"])
async def test_all_websites_are_listed_once_and_requested(
    kind: str, at: Run, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--all-websites", "--format", kind, "--limit", 1, "--progress", "none"]
    assert await at(sandbox, *given, key=sandbox.api_key) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert all(website_id in printed.out for website_id in IDS)
    assert [request.path for request in sandbox.requests].count("/websites") == 1
    assert sandbox.count() == 1 + len(IDS)


async def test_the_table_shows_the_domains_that_the_list_had(
    at: Run, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await at(sandbox, "--all-websites", key=sandbox.api_key) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    assert title.split()[0] == "domain"
    assert title.endswith("website id")
    assert sorted(line.split()[-1] for line in lines) == sorted(IDS)
    assert all(line.split()[0].endswith(".example") for line in lines)


async def test_a_key_for_one_website_reaches_that_one(
    at: Run, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    key = sandbox.add_key("one", website_id=IDS[1])
    assert await at(sandbox, "--all-websites", "--format", "ndjson", key=key) == 0
    assert json.loads(capsys.readouterr().out)["website_id"] == IDS[1]


def test_a_sandbox_has_its_websites_listed_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, "--sandbox", "2", "--all-websites"]) == 0
    assert capsys.readouterr().out.startswith("domain")


@pytest.mark.parametrize(("kind", "output"), [("json", "[]\n"), ("ndjson", "")])
async def test_no_websites_are_no_failure(
    kind: str, output: str, at: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "out"
    async with Sandbox(websites=0) as sandbox:
        given = ["--all-websites", "--format", kind, "-o", file, "--progress", "none"]
        assert await at(sandbox, *given, key=sandbox.api_key) == 0
    assert capsys.readouterr().err == "No websites: the key reaches none\n"
    assert file.read_text() == output
    assert set(contents(tmp_path)) == {"out"}


async def test_a_list_that_has_a_part_of_the_websites_is_a_warning(
    at: Run, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    async def respond(_: web.Request) -> web.Response:
        return web.json_response({"success": True, "data": {"websites": [{"id": IDS[0]}], "total": 1200}})

    sandbox.fault(Fault("part", respond), path="/websites", times=1)
    assert await at(sandbox, "--all-websites", "--progress", "none", key=sandbox.api_key) == 0
    assert "Only 1 of 1,200 websites are in the list that the server sent\n" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["x"], ["--ids-from", "-"], ["x", "--ids-from", "-"]])
def test_all_websites_and_ids_are_two_ways_of_saying_which(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*PAGES, "--all-websites", *arguments, "-o", str(tmp_path / "out")]) == 2
    assert "neither IDs nor --ids-from" in capsys.readouterr().err
    assert not contents(tmp_path)


def test_without_ids_the_command_says_what_names_websites(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(PAGES) == 2
    assert "pass IDs, --ids-from FILE or --all-websites" in capsys.readouterr().err


async def test_a_rejected_key_ends_the_run_as_usual(
    at: Run, sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "out"
    assert await at(sandbox, "--all-websites", "--format", "ndjson", "-o", file, key="zv_wrong_and_secret") == 3
    stopped, nothing, why = capsys.readouterr().err.splitlines()
    assert stopped == "stopped: 0 done, 0 failed"
    assert nothing == f"nothing was written to {file}"
    assert why.startswith("zenovay-async: Invalid API key (GET websites, HTTP 401")
    assert not contents(tmp_path)


async def test_the_list_has_to_come_within_the_timeout(
    at: Run, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox.fault(Fault.latency(60), path="/websites")
    assert await at(sandbox, "--all-websites", "--timeout", 0.1, key=sandbox.api_key) == 4
    assert "(GET websites" in capsys.readouterr().err


async def test_the_list_is_not_counted_as_a_request_of_the_run(
    at: Run, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--all-websites", "--max-requests", len(IDS), "--format", "ndjson"]
    assert await at(sandbox, *given, key=sandbox.api_key) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(IDS)


async def test_a_run_that_goes_on_lists_anew_and_requests_only_what_lacks(
    at: Run, sandbox: Sandbox, tmp_path: Path
) -> None:
    file = tmp_path / "out"
    given = ["--all-websites", "--format", "ndjson", "-o", file]
    assert await at(sandbox, *given, "--max-requests", 1, key=sandbox.api_key) == 4
    assert await at(sandbox, *given, "--resume", key=sandbox.api_key) == 0
    assert sorted(json.loads(line)["website_id"] for line in file.read_text().splitlines()) == sorted(IDS)
    assert [request.path for request in sandbox.requests].count("/websites") == 2
    assert sandbox.count() == 2 + len(IDS)


async def test_what_was_kept_is_named_if_the_list_does_not_come(
    at: Run, sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "out"
    given = ["--all-websites", "--format", "ndjson", "-o", file]
    assert await at(sandbox, *given, "--max-requests", 1, key=sandbox.api_key) == 4
    sandbox.fault(Fault.status(403, "No", "API_PAID_PLAN_REQUIRED"), times=1)
    capsys.readouterr()
    assert await at(sandbox, *given, "--resume", key=sandbox.api_key) == 3
    assert f"kept 1 in {file}.journal; go on with --resume\n" in capsys.readouterr().err
    assert await at(sandbox, *given, "--resume", key=sandbox.api_key) == 0
    assert len(file.read_text().splitlines()) == len(IDS)
