"""What bounds a run: ``--max-failures``, ``--max-requests``, ``--rate-limit``, ``--quota-reserve``."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from typing import TYPE_CHECKING

import pytest
from cli_helpers import IDS, PAGES, main_at, on_terminal, read_terminal

from zenovay_async.cli import main
from zenovay_async.cli.clients import _make_client
from zenovay_async.cli.options import PerWebsite
from zenovay_async.sandbox import Sandbox

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = [f"nobody-{number}" for number in range(3)]


@pytest.mark.parametrize(
    ("bound", "stopped"),
    [("0", "--max-failures 0"), ("1", "--max-failures 1"), ("5%", "--max-failures 5%"), ("33.5%", "33.5%")],
)
async def test_too_many_failures_stop_a_run_and_a_later_one_goes_on(
    bound: str,
    stopped: str,
    sandbox: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "out"
    given = [IDS[0], *NOBODY, *IDS[1:], "--format", "ndjson", "-o", str(file), "--concurrency", "1"]
    assert await main_at(sandbox, monkeypatch, *given, "--max-failures", bound) == 4
    *_, kept, why = capsys.readouterr().err.splitlines()
    assert kept == f"kept 1 of 6 in {file}.partial; go on with --resume"
    assert why.startswith("zenovay-async: Stopped after ")
    assert stopped in why
    before = sandbox.count(status=200)
    assert before == 1
    assert await main_at(sandbox, monkeypatch, *given, "--resume", "--max-failures", "50%") == 1
    assert sandbox.count(status=200) == 3
    assert len(file.read_text().splitlines()) == 6


async def test_as_many_failures_as_are_allowed_end_no_run(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await main_at(sandbox, monkeypatch, *NOBODY, *IDS, "--max-failures", "3") == 1
    assert await main_at(sandbox, monkeypatch, *NOBODY, *IDS, "--max-failures", "50%") == 1


@pytest.mark.parametrize("value", ["x", "-1", "1.5", "0%", "100%", "-5%", "nan%", "%", ""])
def test_a_bound_of_failures_that_makes_no_sense_is_invalid_usage(
    value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*PAGES, "--sandbox", "3", f"--max-failures={value}"]) == 2
    assert "--max-failures" in capsys.readouterr().err


async def test_a_run_takes_no_more_requests_than_it_may_and_a_later_one_goes_on(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "out"
    given = [*IDS, "--format", "json", "-o", str(file)]
    assert await main_at(sandbox, monkeypatch, *given, "--max-requests", "2") == 4
    assert sandbox.count() == 2
    *_, kept, why = capsys.readouterr().err.splitlines()
    assert kept == f"kept 2 of 3 in {file}.partial; go on with --resume"
    assert why.startswith("zenovay-async: Stopped after 2 requests (--max-requests 2); no further request was sent")
    assert len(json.loads(file.with_name("out.partial").read_text())) == 2
    assert await main_at(sandbox, monkeypatch, *given, "--resume", "--max-requests", "1") == 0
    assert sandbox.count() == 3
    assert len(json.loads(file.read_text())) == 3


async def test_requests_that_are_reserved_are_left_to_others(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = sandbox.add_key("small", monthly_limit=100, monthly_used=90)
    monkeypatch.setattr(sandbox, "api_key", key)
    file = tmp_path / "out"
    options = ["-o", str(file), "--concurrency", "1", "--quota-reserve", "8"]
    assert await main_at(sandbox, monkeypatch, *IDS, *options) == 4
    assert sandbox.count() == 2
    printed = capsys.readouterr().err
    assert f"kept 2 of 3 in {file}.partial; go on with --resume" in printed
    assert "zenovay-async: --quota-reserve 8: 8 requests of the monthly quota remain" in printed


@pytest.mark.parametrize(
    "option",
    ["--max-requests 0", "--max-requests x", "--quota-reserve -1", "--quota-reserve x", "--rate-limit 0"],
)
def test_another_bound_that_makes_no_sense_is_invalid_usage(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, "--sandbox", "3", *option.split()]) == 2
    assert option.split(maxsplit=1)[0] in capsys.readouterr().err


def test_bounds_of_the_key_are_those_of_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", "zv_x")
    client = _make_client(PerWebsite(rate_limit=30, quota_reserve=5), None, lambda _event: None)
    assert (client._limits.rate_limit, client._limits.quota_reserve) == (30, 5)


@pytest.mark.parametrize(
    ("options", "estimate"),
    [
        (["--rate-limit", "20"], b"200 requests, about (9|10) minutes at 20 a minute"),
        (["--rate-limit", "20", "--max-requests", "100"], b"100 requests, about [45] minutes at 20 a minute"),
    ],
)
async def test_the_estimate_of_a_run_has_its_bounds(options: list[str], estimate: bytes) -> None:
    async with Sandbox(websites=200, rate_limit=1000) as sandbox:
        env = {"ZENOVAY_API_KEY": sandbox.api_key, "ZENOVAY_BASE_URL": sandbox.url}

        def shown() -> bytes:
            with on_terminal(*sandbox.website_ids, *options, env=env) as (process, parent, _):
                seen = read_terminal(parent, until=b"a minute")
                process.send_signal(signal.SIGINT)
                read_terminal(parent, until=b"interrupted: ")
                process.wait()
            return seen

        assert re.search(estimate, await asyncio.to_thread(shown))
