"""Website IDs: from the command line, a file, standard input or a pipe, one by one as they come."""

from __future__ import annotations

import asyncio
import json
import os
import tracemalloc
from io import FileIO
from subprocess import DEVNULL, PIPE, CompletedProcess
from typing import TYPE_CHECKING, BinaryIO

import pytest
from cli_helpers import FREE, IDS, PAGES, PER_WEBSITE, is_summary, results_in, run, run_at
from cli_process import Process

from zenovay_async.cli import main
from zenovay_async.cli.ids import StreamedIds

if TYPE_CHECKING:
    from pathlib import Path

    from zenovay_async.sandbox import Sandbox


def test_one_bad_id_among_good_ones_is_reported_and_the_others_come(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, IDS[0], "nobody", "--sandbox", "3", "--format", "ndjson"]) == 1
    printed = capsys.readouterr()
    assert len(results_in(printed.out)) == 1
    assert "nobody: Website not found" in printed.err
    assert "1 failed" in printed.err


def test_an_invalid_id_fails_alone(capsys: pytest.CaptureFixture[str]) -> None:
    for command in PER_WEBSITE + FREE:
        kind = "csv" if command in PER_WEBSITE else "ndjson"
        assert main([*command.split(), "..", *IDS[:2], "", "--sandbox", "3", "--format", kind]) == 1
        printed = capsys.readouterr()
        expected = "expected an ID such as 'a1b2c3d4-e5f6-7890-abcd-ef1234567890'"
        reported = printed.err.splitlines()
        assert f"..: {expected}" in reported
        assert f"'': {expected}" in reported
        assert "2 failed" in printed.err
        assert all(website_id in printed.out for website_id in IDS[:2])


@pytest.mark.parametrize("kind", ["table", "json", "ndjson", "csv"])
async def test_an_option_that_is_invalid_for_all_ends_the_run_before_a_request(kind: str, sandbox: Sandbox) -> None:
    done = await run_at(sandbox, "..", *IDS, "--limit", "1000", "--concurrency", "1", "--format", kind)
    assert done.returncode == 2
    # What is no ID is known before the option is used.
    assert [json.loads(line)["website_id"] for line in done.stdout.splitlines()] == [".."] * (kind == "ndjson")
    assert "--limit 1000: expected a whole number from 1 to 100" in done.stderr
    assert "stopped" not in done.stderr
    assert sandbox.count() == 0


def test_ids_come_from_a_file_without_its_comments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ids"
    file.write_text(f"# mine\n{IDS[0]}\n\n  {IDS[1]}  # the shop\n")
    assert main([*PAGES, "--ids-from", str(file), "--sandbox", "3", "--format", "ndjson"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_ids_come_from_a_pipe() -> None:
    done = run("--ids-from", "-", "--sandbox", "3", "--format", "ndjson", stdin="\n".join(IDS))
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 3


def test_ids_on_the_command_line_come_with_those_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ids"
    file.write_text(IDS[2])
    command = [*PAGES, *IDS[:2], "--ids-from", str(file), "--sandbox", "3", "--format", "ndjson", "--concurrency", "1"]
    assert main(command) == 0
    assert [json.loads(line)["website_id"] for line in capsys.readouterr().out.splitlines()] == IDS


@pytest.mark.parametrize("through", ["a file", "standard input", "a pipe"])
def test_ids_in_any_bytes_give_no_traceback(through: str, tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf%s\r\ncaf\xe9\n%s\n%s" % (IDS[0].encode(), b"x" * 200_000, IDS[1].encode())
    file = tmp_path / "ids"
    file.write_bytes(content)
    source = str(file) if through == "a file" else "-"
    command = [*PAGES, "--sandbox", "3", "--format", "ndjson", "--ids-from", source]
    with file.open() as own, Process(*command, stdin=PIPE if through == "a pipe" else own) as process:
        out, errors = process.communicate(content)
        assert process.wait() == 1
    reported = errors.decode()
    assert {result["website_id"] for result in results_in(out.decode())} == set(IDS[:2])
    assert "caf\ufffd: not valid UTF-8" in reported
    assert "xxx...: more than 256 characters; expected an ID" in reported
    assert len(reported) < 500


@pytest.mark.parametrize(
    "line",
    [
        "id",
        "Website-ID",
        "websiteId",
        "null",
        "NaN",
        "zv_0123456789",
        "website_id",
        "id,domain",
        "a;b",
        '"quoted"',
        "a b",
        "a/b",
        "\x00",
        "a\x7f",
        "\x9b",
        "\u202eb",
    ],
)
async def test_what_is_no_id_is_reported_and_costs_no_request(line: str, sandbox: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "ids"
    file.write_text(f"{IDS[0]}\n{line}\n", encoding="utf-8")
    done = await run_at(sandbox, "--ids-from", str(file), "--format", "ndjson")
    assert done.returncode == 1
    assert len(results_in(done.stdout)) == 1
    assert len(done.stderr.splitlines()) == 2
    assert "expected" in done.stderr
    assert sandbox.count() == 1


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("through", ["a file", "a pipe"])
async def test_ids_come_in_any_unicode_encoding_that_says_which(
    through: str, encoding: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    file = tmp_path / "ids"
    file.write_bytes(f"{mark}{IDS[0]} # the shop\r\n\r\n{IDS[1]}\r\n".encode(encoding))
    done = await ids_through(through, file, sandbox)
    assert done.returncode == 0
    assert is_summary(done.stderr.decode(), 2)
    assert {json.loads(line)["website_id"] for line in done.stdout.splitlines()} == set(IDS[:2])


@pytest.mark.parametrize("through", ["a file", "a pipe"])
async def test_files_of_ids_that_were_joined_may_have_a_mark_each(
    through: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    file = tmp_path / "ids"
    file.write_bytes(b"".join(f"{website_id}\n".encode("utf-8-sig") for website_id in IDS))
    done = await ids_through(through, file, sandbox)
    assert done.returncode == 0
    assert is_summary(done.stderr.decode(), 3)
    assert len(done.stdout.splitlines()) == len(IDS)


async def test_a_line_that_does_not_end_takes_no_memory() -> None:
    read, write = os.pipe()
    with open(read, "rb", buffering=0) as file, open(write, "wb") as pipe:  # noqa: ASYNC230, PTH123 - a pipe
        ids = aiter(StreamedIds([], FileIO(file.fileno(), closefd=False)))
        tracemalloc.start()
        writing = asyncio.create_task(asyncio.to_thread(write_and_close, pipe, b"x" * 1000, 20_000))
        assert [len(website_id) > 256 async for website_id in ids] == [True, False]
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        await writing
    assert most < 5_000_000


def write_and_close(pipe: BinaryIO, chunk: bytes, times: int) -> None:
    with pipe:
        pipe.writelines([chunk] * times)
        pipe.write(b"\nlast\n")


@pytest.mark.parametrize("through", ["a file", "a pipe"])
async def test_ids_in_utf_16_that_does_not_say_so_are_refused_once(
    through: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    file = tmp_path / "ids"
    file.write_bytes("\r\n".join(IDS).encode("utf-16-le"))
    done = await ids_through(through, file, sandbox)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.count(b"\n") == 1
    assert b"UTF-16 without a byte order mark" in done.stderr
    assert sandbox.count() == 0


async def ids_through(through: str, file: Path, sandbox: Sandbox) -> CompletedProcess[bytes]:
    env = {**os.environ, "ZENOVAY_API_KEY": sandbox.api_key, "ZENOVAY_BASE_URL": sandbox.url}
    source, stdin = (str(file), DEVNULL) if through == "a file" else ("-", PIPE)
    command = [*PAGES, "--ids-from", source, "--format", "ndjson"]
    with Process(*command, stdin=stdin, env=env) as process:
        printed = await asyncio.to_thread(process.communicate, file.read_bytes())  # noqa: ASYNC240 - a few bytes
        return CompletedProcess(command, process.wait(), *printed)


@pytest.mark.parametrize("through", ["a file", "a pipe"])
async def test_the_websites_of_a_key_are_ids_as_they_are_listed(through: str, sandbox: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "ids"
    listing = ["websites", "list", "--sandbox", "3", "--format", "ndjson", "-o", str(file)]
    assert await asyncio.to_thread(main, listing) == 0
    done = await ids_through(through, file, sandbox)
    assert done.returncode == 0
    assert sorted(json.loads(line)["website_id"] for line in done.stdout.splitlines()) == sorted(IDS)


@pytest.mark.parametrize("line", ['{"id":"x"}', '{"id":5,"domain":"x"}', '{"website_id":null,"id":"x","domain":null}'])
async def test_an_id_of_something_else_than_a_website_is_none(line: str, sandbox: Sandbox) -> None:
    done = await run_at(sandbox, "--ids-from", "-", stdin=line)
    assert done.returncode == 1
    assert sandbox.count() == 0


async def test_an_id_that_a_pipe_repeats_is_requested_once_and_counted(sandbox: Sandbox) -> None:
    lines = "\n".join([IDS[0], IDS[1], *IDS * 3])
    done = await run_at(sandbox, IDS[2], "--ids-from", "-", "--format", "ndjson", stdin=lines)
    assert done.returncode == 0
    assert done.stderr.splitlines()[0] == "9 duplicate IDs skipped"
    assert len(done.stdout.splitlines()) == sandbox.count() == 3


def test_a_run_without_any_ids_is_soon_done() -> None:
    with Process(*PAGES, "--sandbox", "3", "--ids-from", "-") as process:
        out, errors = process.communicate()
        assert (process.wait(), out) == (0, b"")
    assert is_summary(errors.decode(), 0)


def test_results_come_while_the_ids_still_do(tmp_path: Path) -> None:
    fifo = tmp_path / "ids"
    os.mkfifo(fifo)
    with (
        Process(*PAGES, "--sandbox", "3", "--format", "ndjson", "--ids-from", str(fifo)) as process,
        fifo.open("w") as ids,
    ):
        assert process.stdout is not None
        for website_id in IDS:
            print(website_id, file=ids, flush=True)
            assert json.loads(process.stdout.readline())["website_id"] == website_id
        ids.close()
        assert process.wait() == 0


def test_a_file_of_ids_that_cannot_be_read_is_invalid_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        assert main([*PAGES, "x", "--ids-from", str(path), "--sandbox", "1"]) == 2
        assert f"--ids-from {path}: " in capsys.readouterr().err
