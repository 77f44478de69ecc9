"""``--resume`` and ``--restart``: what they go on from, what they refuse, what they leave alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cli_helpers import contents
from kill_helpers import CONCURRENCY, Ended, Night, make_sandbox

from zenovay_async import Journal
from zenovay_async.cli import main
from zenovay_async.sandbox import Fault

if TYPE_CHECKING:
    from zenovay_async.sandbox import Sandbox


class Runs:
    """Runs of the command line in this process, in a folder of their own.

    Attributes:
        file: What most of them write.
    """

    def __init__(self, sandbox: Sandbox, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.file = folder / "out"
        self._ids = list(sandbox.website_ids)
        self._sandbox = sandbox
        self._capsys = capsys
        self._seen = 0

    async def __call__(
        self, *arguments: str, ids: list[str] | None = None, output: str = "out", kind: str = "ndjson"
    ) -> Ended:
        given = ["--format", kind, "--progress", "none", "--concurrency", "1", "-o", output, *arguments]
        code = await asyncio.to_thread(main, ["heatmaps", "pages", *(self._ids if ids is None else ids), *given])
        return Ended(code, self._capsys.readouterr().err)

    async def stop_after(self, requests: int, *arguments: str, **options: Any) -> Ended:
        """A run that ends early."""
        ended = await self(*arguments, "--max-requests", str(requests), **options)
        assert ended.code == 4
        assert f"kept {requests} of " in ended.stderr
        return ended

    def requested(self) -> list[str]:
        """IDs that were requested since the last time."""
        requests = self._sandbox.requests[self._seen :]
        self._seen += len(requests)
        return [request.path.split("/")[2] for request in requests]

    def websites(self, output: str = "out") -> list[str]:
        """IDs in a file of results, in order."""
        lines = (self.file.parent / output).read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["website_id"] for line in lines]

    def files(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.file.parent.rglob("*") if path.is_file()}


@pytest.fixture
def runs(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Runs:
    monkeypatch.setenv("ZENOVAY_API_KEY", sandbox.api_key)
    monkeypatch.setenv("ZENOVAY_BASE_URL", sandbox.url)
    monkeypatch.chdir(tmp_path)
    return Runs(sandbox, tmp_path, capsys)


async def test_what_was_kept_is_not_requested_again(runs: Runs, sandbox: Sandbox) -> None:
    await runs.stop_after(2)
    assert runs.requested() == sandbox.website_ids[:2]
    assert await runs("--resume") == Ended(0, "")
    assert runs.requested() == sandbox.website_ids[2:]
    assert sorted(runs.websites()) == sorted(sandbox.website_ids)
    assert list(runs.files()) == [str(runs.file)]


@pytest.mark.parametrize("left", [None, 0, 7, -7])
async def test_the_partial_file_is_made_again_from_the_journal(left: int | None, runs: Runs, sandbox: Sandbox) -> None:
    await runs.stop_after(2)
    partial = runs.file.with_name("out.partial")
    if left is None:
        partial.unlink()
    else:
        # As a kill in the middle of a line leaves it.
        partial.write_bytes(partial.read_bytes()[:left])
    assert await runs("--resume") == Ended(0, "")
    assert sorted(runs.websites()) == sorted(sandbox.website_ids)
    assert len(runs.requested()) == 3


@pytest.mark.parametrize("option", [[], ["--resume"]])
async def test_a_partial_file_without_a_journal_is_left_alone(option: list[str], runs: Runs) -> None:
    partial = runs.file.with_name("out.partial")
    partial.write_text("of something else")
    files = {str(partial): b"of something else"}
    for _ in range(2):
        ended = await runs(*option)
        assert ended.code == 2
        assert "--restart" in ended.stderr
        assert runs.files() == files
        # Nor without what was in it.
        partial.with_name("out.journal").touch()
        files[f"{runs.file}.journal"] = b""
    assert not runs.requested()


async def test_without_resume_what_was_kept_is_not_overwritten(runs: Runs) -> None:
    await runs.stop_after(2)
    before, _ = runs.files(), runs.requested()
    ended = await runs()
    assert ended.code == 2
    assert ended.stderr == (
        "zenovay-async: out.partial is of a run that ended early: go on with --resume, or discard it and begin anew "
        "with --restart\n"
    )
    assert runs.files() == before
    assert not runs.requested()


async def test_restart_begins_anew(runs: Runs, sandbox: Sandbox) -> None:
    await runs.stop_after(2)
    assert await runs("--restart") == Ended(0, "")
    assert len(runs.requested()) == 5
    assert sorted(runs.websites()) == sorted(sandbox.website_ids)
    assert (await runs("--restart", "--resume")).code == 2


async def test_with_nothing_to_resume_a_run_begins_anew(runs: Runs) -> None:
    for _ in range(2):
        assert await runs("--resume") == Ended(0, "")
        assert len(runs.requested()) == 3


async def test_other_parameters_are_refused_and_named(runs: Runs) -> None:
    await runs.stop_after(2, "--limit", "5")
    before, _ = runs.files(), runs.requested()
    ended = await runs("--resume", "--limit", "6")
    assert ended.code == 2
    assert "limit=5" in ended.stderr
    assert "limit=6" in ended.stderr
    assert "--restart" in ended.stderr
    assert "describes" not in ended.stderr
    assert runs.files() == before
    assert not runs.requested()
    # The format is none of them: a result is kept as plain values.
    assert await runs("--resume", "--limit", "5", kind="csv") == Ended(0, "")
    assert len(runs.requested()) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["a=1"], ["a=2"]),
        (["a=1"], []),
        # Not the option of a command that lists in pages.
        (["take=3"], ["take=4"]),
        (["all=1"], []),
        (["a=1", "b=2"], ["a=1 b=2"]),
        (["a=1", "b=2"], ["a=1 --param b=2"]),
    ],
)
async def test_other_parameters_without_an_option_are_refused_as_well(
    first: list[str], second: list[str], runs: Runs
) -> None:
    await runs.stop_after(2, *(word for each in first for word in ("--param", each)))
    before, _ = runs.files(), runs.requested()
    ended = await runs("--resume", *(word for each in second for word in ("--param", each)))
    assert ended.code == 2
    assert f"of 'heatmaps.pages --param {first[0]}" in ended.stderr
    assert runs.files() == before
    assert not runs.requested()


async def test_parameters_are_the_same_in_any_order(runs: Runs) -> None:
    await runs.stop_after(2, "--param", "a=1", "--param", "b=2")
    runs.requested()
    assert await runs("--resume", "--param", "b=2", "--param", "a=1") == Ended(0, "")
    assert len(runs.requested()) == 1


async def test_a_server_is_the_same_however_it_is_written_and_its_password_is_kept_nowhere(
    runs: Runs, sandbox: Sandbox
) -> None:
    await runs.stop_after(2)
    before = runs.files()
    ended = await runs("--resume", "--base-url", "https://me:hush@api.example")
    assert ended.code == 2
    assert "hush" not in ended.stderr
    assert runs.files() == before
    ended = await runs("--resume", "--base-url", "https://api.example")
    assert ended.code == 2
    assert "from https://api.example" in ended.stderr
    assert await runs("--resume", "--base-url", f"{sandbox.url}/") == Ended(0, "")


async def test_a_run_that_does_not_begin_leaves_what_is_kept_as_it_was(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    await runs.stop_after(2)
    before = runs.files()
    for options in (["--failures", "."], ["--csv-safe"]):
        assert (await runs("--resume", *options)).code == 2
    with monkeypatch.context() as patch:
        patch.delenv("ZENOVAY_API_KEY")
        assert (await runs("--resume")).code == 2
        patch.setenv("ZENOVAY_API_KEY", "zv_of_nobody")
        assert (await runs("--resume", "--all-websites", ids=[])).code == 3
    assert runs.files() == before
    assert await runs("--resume") == Ended(0, "")


async def test_ids_may_come_and_go_between_two_runs(runs: Runs, sandbox: Sandbox) -> None:
    first, second, third = sandbox.website_ids
    await runs.stop_after(1, ids=[first, second])
    runs.requested()
    # What was paid for is not discarded because it was left out once.
    assert await runs("--resume", ids=[second, third]) == Ended(0, "1 result of other websites kept in out.journal\n")
    assert runs.requested() == [second, third]
    assert runs.websites() == [second, third]
    (runs.file.parent / "none").touch()
    ended = await runs("--resume", "--ids-from", "none", ids=[])
    assert ended == Ended(0, "3 results of other websites kept in out.journal\n")
    assert await runs("--resume") == Ended(0, "")
    assert not runs.requested()
    assert len(runs.websites()) == 3


async def test_what_is_kept_is_counted_where_it_is(runs: Runs, sandbox: Sandbox) -> None:
    first, second, third = sandbox.website_ids
    await runs.stop_after(2)
    ended = await runs("--resume", "--max-failures", "0", ids=["id", first])
    assert "kept 1 of 2 in out.partial; go on with --resume" in ended.stderr
    read, write = os.pipe()
    os.write(write, f"{second}\nid\n".encode())
    os.close(write)
    ended = await runs("--resume", "--max-failures", "0", "--ids-from", f"/dev/fd/{read}", ids=[])
    os.close(read)
    assert "kept 2 in out.journal; go on with --resume" in ended.stderr
    assert await runs("--resume") == Ended(0, "")
    assert runs.requested() == [first, second, third]


async def test_websites_that_failed_are_requested_again_and_no_others(runs: Runs, sandbox: Sandbox) -> None:
    first, second, third = sandbox.website_ids
    sandbox.fault(Fault.status(404), path=second)
    assert (await runs()).code == 1
    failed = [line for line in map(json.loads, runs.file.read_text().splitlines()) if "error" in line]
    assert [line["website_id"] for line in failed] == [second]
    assert runs.requested() == [first, second, third]
    assert (await runs("--resume")).code == 1
    assert runs.requested() == [second]
    sandbox.clear_faults()
    assert await runs("--resume") == Ended(0, "")
    assert runs.requested() == [second]
    assert sorted(runs.websites()) == sorted(sandbox.website_ids)
    assert "error" not in runs.file.read_text()
    assert list(runs.files()) == [str(runs.file)]


@pytest.mark.parametrize("output", ["there/out", "./there/../there/out", "there/the night of Zürich, 夜 #1?.ndjson"])
async def test_the_files_are_beside_the_results_wherever_these_are(output: str, runs: Runs) -> None:
    (runs.file.parent / "there").mkdir()
    ended = await runs.stop_after(2, output=output)
    assert f"kept 2 of 3 in {Path(output)}.partial; go on with --resume" in ended.stderr
    assert await runs("--resume", output=output) == Ended(0, "")
    assert len(runs.websites(output)) == 3
    assert len(runs.files()) == 1


async def test_a_link_stays_and_the_files_are_beside_what_it_names(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    runs.file.symlink_to("there/results")
    ended = await runs.stop_after(2)
    assert f"kept 2 of 3 in {tmp_path}/there/results.partial; go on with --resume" in ended.stderr
    assert {path.name for path in (tmp_path / "there").iterdir()} == {"results.partial", "results.journal"}
    assert await runs("--resume") == Ended(0, "")
    assert runs.file.is_symlink()
    assert len(runs.websites("there/results")) == 3


async def test_what_is_kept_has_the_mode_of_the_file_that_it_replaces(runs: Runs) -> None:
    partial = runs.file.with_name("out.partial")
    for mode, kept in ((0o600, 0o600), (0o440, 0o640)):
        runs.file.touch()
        runs.file.chmod(mode)
        await runs.stop_after(2)
        assert stat.S_IMODE(partial.stat().st_mode) == kept
        assert stat.S_IMODE(partial.with_suffix(".journal").stat().st_mode) == 0o600
        assert await runs("--resume") == Ended(0, "")
        assert stat.S_IMODE(runs.file.stat().st_mode) == mode


@pytest.mark.parametrize("kind", ["json", "table"])
async def test_a_disk_that_is_full_at_the_very_end_loses_nothing(kind: str, runs: Runs) -> None:
    partial = runs.file.with_name("out.partial")
    partial.symlink_to("/dev/full")
    ended = await runs(kind=kind)
    assert ended.code == 4
    assert "; go on with --resume\n" in ended.stderr
    partial.unlink()
    assert await runs("--resume", kind=kind) == Ended(0, "")
    assert len(runs.requested()) == 3


@pytest.mark.parametrize("option", ["--resume", "--restart"])
@pytest.mark.parametrize("output", ["fifo", "/dev/null", "-"])
async def test_a_stream_cannot_be_resumed(option: str, output: str, runs: Runs, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    ended = await runs(option, output=output)
    assert ended.code == 2
    assert f"{option}: needs -o FILE" in ended.stderr
    assert not runs.requested()


@pytest.mark.parametrize("option", ["--ids-from", "--keys-from"])
async def test_what_is_kept_is_not_overwritten_where_it_is_read_from(option: str, runs: Runs) -> None:
    await runs.stop_after(2)
    before, _ = runs.files(), runs.requested()
    runs.file.with_name("same").symlink_to("out.partial")
    for name in ("out.partial", "same"):
        ended = await runs("--resume", option, name, ids=[])
        assert ended.code == 2
        assert f"out.partial: this is the file of {option}; expected another one" in ended.stderr
    runs.file.with_name("same").unlink()
    assert runs.files() == before
    assert not runs.requested()


async def test_a_journal_of_something_else_is_left_alone(runs: Runs) -> None:
    with Journal(runs.file.with_name("out.journal"), describes="of another program") as journal:
        journal.record_success("x", None)
    before = runs.files()
    ended = await runs("--resume")
    assert ended.code == 2
    assert "is of another run, of 'of another program', and this one is of 'heatmaps.pages" in ended.stderr
    assert runs.files() == before
    assert not runs.requested()


async def test_of_two_runs_at_once_the_second_ends_and_disturbs_nothing(tmp_path: Path) -> None:
    seconds: list[Ended] = []
    async with make_sandbox(20) as sandbox:
        first, second = (Night(sandbox, tmp_path, "ndjson") for _ in range(2))

        async def run_second() -> None:
            for option in ("--resume", "--restart", "--timeout=30"):
                seconds.append(await second.run(option))

        sandbox.fault(Fault("at", _once(run_second)))
        assert (await first.run()).code == 0
        assert first.requests == 20
    assert [ended.code for ended in seconds] == [2, 2, 2]
    for ended in seconds:
        assert "results is in use by another run; wait for its end" in ended.stderr
    assert len(first.content()) == 20
    assert set(contents(tmp_path)) == {"ids", "results"}


def _once(act: Any) -> Any:
    ran = False

    async def respond(_: object) -> None:
        nonlocal ran
        if not ran:
            ran = True
            await act()

    return respond


async def test_a_run_that_is_killed_while_it_replays_loses_nothing(tmp_path: Path) -> None:
    async with make_sandbox(20) as sandbox:
        night = Night(sandbox, tmp_path, "ndjson")
        await night.interrupt("SIGKILL", 19)
        # Longer than a replay takes until it is killed.
        ids = [f"many-{number}" for number in range(5_000)]
        with contextlib.closing(sqlite3.connect(night.journal)) as journal, journal:
            journal.executemany(
                "INSERT INTO items (key, state, attempts, time, value) VALUES (?, 'done', 1, 0, ?)",
                [(website_id, b'{"pages": []}') for website_id in ids],
            )
        (tmp_path / "ids").write_text("\n".join([*ids, *sandbox.website_ids]))
        # So that its size is that of the replay.
        night.partial.write_bytes(b"")
        # It is killed before its end, however late the kill comes.
        sandbox.fault(Fault.latency(60))
        assert (await night.run("--resume", kill_at_size=1000)).code == -9
        assert await night.run("--resume") == Ended(0, "")
        assert len(night.content()) == 5_020
        assert night.requests <= 20 + 2 * CONCURRENCY
