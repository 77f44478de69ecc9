"""``--keys-from``: a batch for each key, which a bad key of another cannot stop; and no key is ever shown."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from aiohttp import web
from cli_helpers import IDS, PAGES, contents, main_at
from cli_process import Process
from helpers import until

from zenovay_async.cli import main
from zenovay_async.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from pathlib import Path

WRONG = "zv_wrong_and_secret"
OTHER = "sk-0123456789secret"
"""A key that does not look like one of Zenovay's."""


class Run(Protocol):
    async def __call__(self, sandbox: Sandbox, *arguments: object, key: str = "") -> int: ...


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Run:
    async def run(sandbox: Sandbox, *arguments: object, key: str = "") -> int:
        return await main_at(sandbox, monkeypatch, *arguments, key=key)

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file of keys."""
    return tmp_path / "keys"


def write(file: Path, **keys: str) -> None:
    write_text(file, "".join(f"{name},{key}\n" for name, key in keys.items()))


def write_text(file: Path, text: str, encoding: str = "utf-8", mode: int = 0o600) -> None:
    file.write_bytes(text.encode(encoding))
    file.chmod(mode)


def named(text: str) -> list[tuple[str, str]]:
    """The keys and websites of NDJSON."""
    return sorted((found["key_name"], found["website_id"]) for found in map(json.loads, text.splitlines()))


def each(*names: str) -> list[tuple[str, str]]:
    """All websites with each of these keys."""
    return [(name, website_id) for name in names for website_id in sorted(IDS)]


async def test_each_key_requests_its_own_websites_and_the_results_carry_its_name(
    at: Run, sandbox: Sandbox, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(file, acme=sandbox.api_key, globex=sandbox.add_key("globex", website_id=IDS[0]))
    given = ["--keys-from", file, "--all-websites", "--format", "ndjson", "--progress", "none"]
    assert await at(sandbox, *given) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert named(printed.out) == sorted([*each("acme"), ("globex", IDS[0])])
    assert all(list(json.loads(line))[:2] == ["key_name", "website_id"] for line in printed.out.splitlines())
    assert sandbox.count() == 2 + len(IDS) + 1


@pytest.mark.parametrize("kind", ["table", "csv"])
async def test_columns_begin_with_the_name(
    kind: str, at: Run, sandbox: Sandbox, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(file, acme=sandbox.api_key, globex=sandbox.add_key("globex", website_id=IDS[0]))
    assert await at(sandbox, "--keys-from", file, "--all-websites", "--format", kind, "--limit", 1) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    assert title.replace(" ", "_").startswith("key_name")
    if kind == "table":
        assert title.split()[2] == "domain"
    assert Counter(line.replace(",", " ").split()[0] for line in lines) == {"acme": len(IDS), "globex": 1}


async def test_a_database_has_the_rows_of_each_key(at: Run, sandbox: Sandbox, file: Path, tmp_path: Path) -> None:
    database = tmp_path / "out.db"
    write(file, acme=sandbox.api_key, globex=sandbox.add_key("globex"))
    given = ["--keys-from", file, "--all-websites", "--limit", 1, "--format", "sqlite", "-o", database]
    for _ in range(2):
        assert await at(sandbox, *given) == 0
    with contextlib.closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("select key_name, website_id from heatmaps_pages").fetchall()
    assert sorted(rows) == each("acme", "globex")


async def test_given_ids_are_requested_with_every_key(
    at: Run, sandbox: Sandbox, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(file, acme=sandbox.api_key, globex=sandbox.add_key("globex"))
    (tmp_path / "ids").write_text(IDS[1])
    os.mkfifo(tmp_path / "pipe")
    writing = asyncio.create_task(asyncio.to_thread((tmp_path / "pipe").write_text, f"{IDS[2]}\n{IDS[2]}\n"))
    for ids in ([IDS[0]], ["--ids-from", tmp_path / "ids"], ["--ids-from", tmp_path / "pipe"]):
        assert await at(sandbox, "--keys-from", file, *ids, "--format", "ndjson") == 0
    await writing
    assert named(capsys.readouterr().out) == [
        (name, website_id) for name in ("acme", "globex") for website_id in sorted(IDS)
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
async def test_a_file_has_comments_blank_lines_and_spaces(
    encoding: str, at: Run, sandbox: Sandbox, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"# the customers\r\n\r\n  Ä & Söhne , {sandbox.api_key}  # since May\r\n"
    write_text(file, text, encoding)
    assert await at(sandbox, "--keys-from", file, IDS[0], "--format", "ndjson") == 0
    assert named(capsys.readouterr().out) == [("Ä & Söhne", IDS[0])]


async def test_the_key_of_the_environment_is_not_used(at: Run, sandbox: Sandbox, file: Path) -> None:
    write(file, acme=sandbox.api_key)
    assert await at(sandbox, "--keys-from", file, IDS[0], "--format", "ndjson", key=WRONG) == 0
    assert sandbox.count() == 1


@pytest.mark.parametrize(
    ("lines", "number", "reason"),
    [
        (["acme"], 1, "no comma; expected NAME,KEY"),
        ([OTHER], 1, "no comma; expected NAME,KEY"),
        ([f"# {OTHER}", "", f",{OTHER}"], 3, "no name; expected NAME,KEY"),
        (["acme, # none"], 1, "no key; expected NAME,KEY"),
        ([f"{WRONG},acme"], 1, "the name looks like a key; expected NAME,KEY"),
        ([f"{OTHER},acme"], 1, "fewer than 8 characters, which is no API key; expected NAME,KEY"),
        (["name,key"], 1, "fewer than 8 characters, which is no API key; expected NAME,KEY"),
        ([f"a,{OTHER}", f'b,"{WRONG}"'], 2, "the key is more than an API key, or has a character that none has, such"),
        ([f"a,{OTHER}", "b,zv_your_api_key"], 2, "the key is a placeholder, not an API key."),
        ([f"a,{OTHER}", f"a,{WRONG}"], 2, "it has the name of line 1; expected each once"),
        ([f"a,{OTHER}", "", f"b,{OTHER}"], 3, "it has the key of line 1; expected each once"),
    ],
)
def test_a_line_that_is_no_key_is_named_by_its_number_and_not_shown(
    lines: list[str], number: int, reason: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text("\n".join(lines))
    assert main([*PAGES, "--keys-from", str(file), "--all-websites"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"zenovay-async: --keys-from {file}, line {number}: {reason}")
    assert "secret" not in printed
    assert OTHER[:5] not in printed


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "expected --all-websites, for the websites of each key"),
        (["--sandbox", "2", "--all-websites"], "a sandbox has a key of its own"),
        (["--all-websites", "x"], "neither IDs nor --ids-from"),
        (["--ids-from", "-", "--keys-from", "-"], "expected one of them from standard input"),
        (["--all-websites", "--keys-from", "missing"], "--keys-from missing: No such file or directory"),
        (["--all-websites", "--keys-from", os.devnull], f"--keys-from {os.devnull}: no keys"),
        (["--all-websites", "--keys-from", "."], "--keys-from .: Is a directory"),
    ],
)
def test_options_that_do_not_go_together_are_invalid_usage(
    arguments: list[str], reason: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(file, acme=WRONG)
    given = [] if "--keys-from" in arguments else ["--keys-from", str(file)]
    assert main([*PAGES, *given, *arguments]) == 2
    assert reason in capsys.readouterr().err


def test_bytes_that_are_no_text_are_no_keys(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_bytes(f"acme,{WRONG}".encode("utf-16-le"))
    assert main([*PAGES, "--keys-from", str(file), "--all-websites"]) == 2
    assert capsys.readouterr().err.startswith(f"zenovay-async: --keys-from {file}: zero bytes")


async def test_a_file_that_everybody_may_read_is_warned_of_once(
    at: Run, sandbox: Sandbox, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_text(file, f"acme,{sandbox.api_key}\nglobex,{sandbox.add_key('globex')}\n", mode=0o644)
    assert await at(sandbox, "--keys-from", file, IDS[0], "--format", "ndjson", "--progress", "none") == 0
    warning = f"--keys-from {file}: every user of this machine may read it; chmod 600 protects it\n"
    assert capsys.readouterr().err.startswith(warning)


@pytest.mark.parametrize("ids", [["--all-websites"], IDS])
async def test_a_rejected_key_ends_its_own_batch_alone(
    ids: list[str], at: Run, sandbox: Sandbox, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(file, acme=WRONG, globex=sandbox.api_key, free=sandbox.add_key("free", plan="free"))
    assert await at(sandbox, "--keys-from", file, *ids, "--format", "ndjson") == 1
    printed = capsys.readouterr()
    assert named(printed.out) == each("globex")
    *why, stopped = printed.err.splitlines()
    assert sorted(line.partition(" (")[0] for line in why) == [
        "acme: Invalid API key",
        "free: The Zenovay API requires a paid plan. Upgrade to Pro or higher to use API keys.",
    ]
    of = "" if ids == ["--all-websites"] else f" of {3 * len(IDS)}"
    assert stopped == f"2 of 3 keys failed: {len(IDS)}{of} done, 0 failed"


@pytest.mark.parametrize(("limit", "code"), [(None, 3), (0, 4)])
async def test_keys_that_all_fail_alike_have_the_exit_code_of_each(
    limit: int | None, code: int, at: Run, sandbox: Sandbox, file: Path
) -> None:
    if limit is None:
        write(file, acme=WRONG, globex=OTHER)
    else:
        write(file, **{name: sandbox.add_key(name, monthly_limit=limit) for name in ("acme", "globex")})
    assert await at(sandbox, "--keys-from", file, "--all-websites") == code


async def test_keys_that_fail_differently_are_exit_code_1(at: Run, sandbox: Sandbox, file: Path) -> None:
    write(file, acme=WRONG, globex=sandbox.add_key("globex", monthly_limit=1))
    assert await at(sandbox, "--keys-from", file, "--all-websites") == 1


async def test_a_failed_website_is_named_with_its_key(
    at: Run, sandbox: Sandbox, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(file, acme=sandbox.api_key, globex=sandbox.add_key("globex", website_id=IDS[0]))
    given = ["--keys-from", file, IDS[1], "--format", "ndjson", "--failures", tmp_path / "failures"]
    assert await at(sandbox, *given) == 1
    printed = capsys.readouterr()
    assert f"globex: {IDS[1]}: Access denied to this website" in printed.err
    failure: dict[str, Any] = next(found for found in map(json.loads, printed.out.splitlines()) if "error" in found)
    assert list(failure)[:3] == ["key_name", "website_id", "error"]
    assert (failure["key_name"], failure["website_id"]) == ("globex", IDS[1])
    assert json.loads((tmp_path / "failures").read_text()) == failure


async def test_the_report_has_what_was_done_for_each_key(at: Run, sandbox: Sandbox, file: Path, tmp_path: Path) -> None:
    write(file, acme=sandbox.api_key, globex=sandbox.add_key("globex", website_id=IDS[0]), initech=WRONG)
    report = tmp_path / "report"
    assert await at(sandbox, "--keys-from", file, "--all-websites", "--format", "ndjson", "--report", report) == 1
    reported = json.loads(report.read_text())
    assert reported["exit_code"] == 1
    done = {name: (found["done"], found["requests"]) for name, found in reported["keys"].items()}
    assert done == {"acme": (len(IDS), len(IDS)), "globex": (1, 1), "initech": (0, 0)}
    assert all(found["ended"] for found in reported["keys"].values())
    errors = {name: found["error"] for name, found in reported["keys"].items()}
    assert errors == {"acme": None, "globex": None, "initech": "AuthenticationError"}
    assert reported["keys"]["initech"]["message"].startswith("Invalid API key")
    assert (reported["error"], reported["message"]) == (None, None)


async def test_lines_for_programs_have_the_name_of_the_key(
    at: Run, sandbox: Sandbox, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(file, acme=sandbox.api_key, globex=WRONG)
    given = ["--keys-from", file, "--all-websites", "--format", "ndjson", "--log-format", "json"]
    assert await at(sandbox, *given) == 1
    line = json.loads(capsys.readouterr().err.splitlines()[0])
    assert (line["key_name"], line["error"], line["status"]) == ("globex", "AuthenticationError", 401)
    assert line["message"].startswith("globex: Invalid API key")


@pytest.mark.parametrize("option", ["--report", "--failures", "--output"])
def test_the_file_of_keys_is_not_overwritten(option: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(file, acme=WRONG)
    assert main([*PAGES, "--keys-from", str(file), "--all-websites", option, str(file)]) == 2
    assert "this is the file of --keys-from" in capsys.readouterr().err
    assert file.read_text() == f"acme,{WRONG}\n"


async def test_a_run_goes_on_for_the_key_that_ended_and_repeats_nothing(
    at: Run, sandbox: Sandbox, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    given = ["--keys-from", file, "--all-websites", "--format", "ndjson", "-o", output]
    write(file, acme=sandbox.api_key, small=sandbox.add_key("small", monthly_limit=2))
    assert await at(sandbox, *given) == 1
    kept = len(IDS) + 1
    assert capsys.readouterr().err.splitlines()[-2:] == [
        f"1 of 2 keys failed: {kept} of {2 * len(IDS)} done, 0 failed",
        f"kept {kept} of {2 * len(IDS)} in {output}.partial; go on with --resume",
    ]
    assert not output.exists()
    assert len(named((tmp_path / "out.partial").read_text())) == kept
    write(file, acme=sandbox.api_key, small=sandbox.add_key("larger"))
    sent = sandbox.count()
    assert await at(sandbox, *given, "--resume") == 0
    assert named(output.read_text()) == each("acme", "small")
    assert sandbox.count() - sent == 2 + len(IDS) - 1
    assert set(contents(tmp_path)) == {"keys", "out"}


async def test_what_came_is_kept_if_the_websites_of_one_key_could_not_be_listed(
    at: Run, sandbox: Sandbox, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--keys-from", file, "--all-websites", "--format", "ndjson", "-o", tmp_path / "out"]
    write(file, acme=sandbox.api_key, globex=WRONG)
    assert await at(sandbox, *given) == 1
    last = f"kept {len(IDS)} in {tmp_path}/out.partial; go on with --resume"
    assert capsys.readouterr().err.splitlines()[-1] == last
    assert named((tmp_path / "out.partial").read_text()) == each("acme")


async def test_a_run_with_one_key_does_not_go_on_as_one_with_several(
    at: Run, sandbox: Sandbox, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--all-websites", "--format", "ndjson", "-o", tmp_path / "out"]
    assert await at(sandbox, *given, "--max-requests", 1, key=sandbox.api_key) == 4
    write(file, acme=sandbox.api_key)
    assert await at(sandbox, *given, "--keys-from", file, "--resume") == 2
    assert "for each key" in capsys.readouterr().err


async def test_a_bound_holds_for_each_key(
    at: Run, sandbox: Sandbox, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(file, acme=sandbox.api_key, globex=sandbox.add_key("globex"))
    assert await at(sandbox, "--keys-from", file, *IDS, "--max-requests", 1, "--format", "ndjson") == 4
    assert Counter(name for name, _ in named(capsys.readouterr().out)) == {"acme": 1, "globex": 1}


async def test_the_server_is_one_whatever_the_number_of_keys(
    file: Path, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENOVAY_BASE_URL", f"http://127.0.0.1:{unused_tcp_port}")
    write(file, acme=WRONG, globex=OTHER)
    arguments = [*PAGES, "--keys-from", str(file), "x", "--max-outage", "0.1"]
    assert await asyncio.to_thread(main, arguments) == 4
    printed = capsys.readouterr().err
    assert printed.count("Server unreachable: ") == 1
    assert "waiting up to 0.1 s\n" in printed
    assert "acme: No connection could be made" in printed
    assert "globex: No connection could be made" in printed


async def test_no_key_of_the_file_is_shown_or_kept(
    at: Run, sandbox: Sandbox, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    write(file, acme=sandbox.add_key("acme", api_key=OTHER), globex=sandbox.api_key)
    sandbox.fault(Fault.status(404, f"Not found for {sandbox.api_key}", "NOT_FOUND"), path=IDS[0])
    ids = [OTHER, f"site={OTHER}", sandbox.api_key, *IDS]
    given = ["--keys-from", file, *ids, "--format", "ndjson", "-o", output]
    assert await at(sandbox, *given) == 1
    written = b"".join(content for name, content in contents(tmp_path).items() if name != file.name)
    assert b"<secret>" in written
    shown = capsys.readouterr().err
    assert "<secret>: contains an API key; expected an ID" in shown
    for key in (OTHER, sandbox.api_key):
        assert key[:8] not in shown
        assert key[-8:] not in shown
        assert key[-8:].encode() not in written
    assert await at(sandbox, *given[:-2], "-o", f"/nowhere/{OTHER}") == 2
    assert "<secret>" in (shown := capsys.readouterr().err)
    assert OTHER[:8] not in shown


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
async def test_a_signal_ends_the_batches_of_all_keys_and_keeps_what_came(
    number: int, code: int, sandbox: Sandbox, file: Path, tmp_path: Path
) -> None:
    write(file, acme=sandbox.api_key, globex=sandbox.add_key("globex"))
    sandbox.fault(Fault.latency(60), path=IDS[1])
    partial_file = tmp_path / "out.partial"
    command = [*PAGES, "--keys-from", str(file), "--all-websites", "--format", "ndjson", "-o", str(tmp_path / "out")]
    env = {**os.environ, "ZENOVAY_BASE_URL": sandbox.url}
    with Process(*command, env=env) as process:
        await until(lambda: partial_file.exists() and partial_file.read_text().count("\n") == 4)
        process.send_signal(number)
        _, shown = await asyncio.to_thread(process.communicate)
        assert process.returncode == code
    assert shown.decode().splitlines() == [
        "interrupted: 4 of 6 done, 0 failed",
        f"kept 4 of 6 in {partial_file}; go on with --resume",
    ]


async def test_what_the_api_announces_is_said_once_whatever_the_number_of_keys(
    sandbox: Sandbox, file: Path, at: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """And so is each schema drift, as both are the same for all."""

    async def respond(_: web.Request) -> web.Response:
        return web.json_response({"success": True, "data": {"pages": [{"url": "/", "total_interactions": "5"}]}})

    sandbox.fault(Fault("drift", respond, {"Deprecation": "true"}), path="/heatmaps")
    write(file, acme=sandbox.api_key, globex=sandbox.add_key("globex"), initech=sandbox.add_key("initech"))
    assert await at(sandbox, "--keys-from", file, *IDS, "--format", "ndjson") == 0
    errors = capsys.readouterr().err
    assert errors.count("this endpoint is deprecated") == 1
    assert errors.count("does not match the documented schema") == 1
