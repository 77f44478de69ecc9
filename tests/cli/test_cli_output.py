"""Where results go: a file that is replaced as a whole, a FIFO, a device, a pipe."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import stat
import subprocess
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING, Any

import pytest
from cli_helpers import COMMAND, IDS, PAGES, is_summary, results_in, run_at
from cli_process import Process

from zenovay_async.cli import main

if TYPE_CHECKING:
    from zenovay_async.sandbox import Sandbox


def test_a_file_is_written_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "out.json"
    assert main([*PAGES, "--sandbox", "3", "--format", "json", "-o", str(file)]) == 0
    assert len(json.loads(file.read_text())) == 3
    assert capsys.readouterr().out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_a_new_file_has_the_usual_mode_and_a_replaced_one_keeps_its_own(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    old.touch()
    old.chmod(0o604)
    before = os.umask(0o027)
    try:
        for file in (new, old):
            assert main([*PAGES, "--sandbox", "1", "-o", str(file)]) == 0
            assert file.read_text()
    finally:
        os.umask(before)
    assert [stat.S_IMODE(file.stat().st_mode) for file in (new, old)] == [0o640, 0o604]


def test_a_link_stays_a_link_to_the_written_file(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    file, link = tmp_path / "there" / "out", tmp_path / "link"
    link.symlink_to(file)
    for _ in range(2):
        assert main([*PAGES, "--sandbox", "1", "-o", str(link)]) == 0
        assert link.is_symlink()
        assert file.read_text()
        file.write_text("")


def test_a_fifo_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with Process(*PAGES, "--sandbox", "3", "--format", "json", "-o", str(fifo)) as process:
        assert len(json.loads(fifo.read_text())) == 3
        assert process.wait() == 0
    assert fifo.is_fifo()


def test_a_file_that_cannot_be_written_is_named_as_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path, reason in (
        (tmp_path / "missing" / "out", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (Path("/"), "Is a directory"),
        (Path(), "Is a directory"),
    ):
        assert main([*PAGES, "--sandbox", "1", "-o", str(path)]) == 2
        assert capsys.readouterr().err == f"zenovay-async: --output {path}: {reason}\n"


def test_a_name_that_no_file_can_have_is_invalid_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / ("n" * 300)
    assert main([*PAGES, "--sandbox", "1", "-o", str(path)]) == 2
    assert capsys.readouterr().err == f"zenovay-async: --output {path}: File name too long\n"
    # The longest that a file can have, and none beside it with an ending.
    path = tmp_path / ("n" * 250)
    assert main([*PAGES, "--sandbox", "1", "-o", str(path)]) == 2
    assert capsys.readouterr().err == f"zenovay-async: --output {path}: {path}.partial: File name too long\n"
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert main([*PAGES, "--sandbox", "1", "-o", "out"]) == 2
    assert capsys.readouterr().err == "zenovay-async: --output out: No such file or directory\n"


def test_an_empty_name_is_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, "--sandbox", "1", "-o", ""]) == 2
    assert "--output '': expected a file" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["table", "json", "ndjson", "csv"])
def test_a_full_disk_is_exit_code_1_and_a_sentence(kind: str) -> None:
    with Path("/dev/full").open("w") as full:
        for output, name in (([], "standard output"), (["-o", "/dev/full"], "--output /dev/full")):
            with Process(*PAGES, "--sandbox", "3", "--format", kind, *output, stdout=full) as process:
                _, errors = process.communicate()
                assert process.wait() == 1
            assert errors.decode().splitlines()[-1] == f"zenovay-async: {name}: No space left on device"


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EPERM, errno.EACCES, errno.EXDEV, errno.ETXTBSY, errno.EROFS])
def test_a_file_that_cannot_be_replaced_is_written_in_place(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def replace(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "replace", replace)
    file = tmp_path / "out.json"
    file.write_text("of yesterday" * 1000)
    file.chmod(0o640)
    assert main([*PAGES, "--sandbox", "3", "--format", "json", "-o", str(file)]) == 0
    assert len(json.loads(file.read_text())) == 3
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
    assert is_summary(capsys.readouterr().err, 3)


def test_results_that_cannot_be_put_where_they_should_are_kept_and_found(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(Path, "replace", fail)
    monkeypatch.setattr("shutil.copyfile", fail)
    file = tmp_path / "out.json"
    file.write_text("of yesterday")
    assert main([*PAGES, "--sandbox", "3", "--format", "json", "-o", str(file)]) == 1
    kept = file.with_name("out.json.partial")
    assert len(json.loads(kept.read_text())) == 3
    assert file.read_text() == "of yesterday"
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"zenovay-async: --output {file}: Device or resource busy; the results are in {kept}"
    )
    assert main([*PAGES, "--sandbox", "3", "-o", str(file)]) == 2
    assert f"{kept} is of a run that ended early: go on with --resume" in capsys.readouterr().err


def mounted(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a shell line in a mount namespace of its own; the words are its arguments."""
    return subprocess.run(["unshare", "-rm", "sh", "-c", *words], capture_output=True, text=True, check=False)  # noqa: S603, S607 - our own


HAS_MOUNTS = shutil.which("unshare") is not None and mounted("true").returncode == 0


@pytest.mark.skipif(not HAS_MOUNTS, reason="only Linux has mount namespaces, and some containers forbid them")
def test_a_mounted_file_is_written_in_place_or_else_the_results_are_kept(tmp_path: Path) -> None:
    source, file = tmp_path / "source", tmp_path / "out"
    for mode, code in (("rw", 0), ("ro", 1)):
        source.write_text("of yesterday")
        file.touch()
        line = 'mount --bind "$0" "$1" && mount -o "remount,bind,$2" "$1" && shift 2 && exec "$@"'
        command = [*COMMAND, "--sandbox", "3", "--format", "json", "-o", str(file)]
        done = mounted(line, str(source), str(file), mode, *command)
        assert done.returncode == code
        kept = file.with_name("out.partial")
        found = source if code == 0 else kept
        assert len(json.loads(found.read_text())) == 3
        summary, *errors = done.stderr.splitlines()
        assert is_summary(summary, 3)
        assert errors == (
            [] if code == 0 else [f"zenovay-async: --output {file}: Device or resource busy; the results are in {kept}"]
        )


def test_a_file_in_a_directory_that_cannot_be_written_is_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own, file, spare = Path.open, tmp_path / "fixed" / "out", tmp_path / "spare"
    file.parent.mkdir()
    spare.mkdir()
    file.touch()

    def open_elsewhere(path: Path, *args: Any, **options: Any) -> Any:
        # Root may write everywhere.
        if path.parent == file.parent and not path.exists():
            raise PermissionError(errno.EACCES, "Permission denied")
        return own(path, *args, **options)

    def replace(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", open_elsewhere)
    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr("tempfile.tempdir", str(spare))
    monkeypatch.setattr("zenovay_async.cli.run.can_write_beside", lambda _: False)
    assert main([*PAGES, "--sandbox", "3", "--format", "json", "-o", str(file)]) == 0
    assert len(json.loads(file.read_text())) == 3
    assert [*spare.iterdir()] == []
    assert main([*PAGES, "--sandbox", "3", "-o", str(file.with_name("new"))]) == 2
    assert "Permission denied" in capsys.readouterr().err


def test_a_dash_is_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, "--sandbox", "3", "--format", "json", "-o", "-"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 3
    assert main([*PAGES, "--sandbox", "3", "-o", "--format", "json"]) == 2
    assert "--output '--format': expected a file, or - for standard output" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("closed", "output", "code"),
    [
        (">&-", False, 2),
        ("2>&-", False, 1),
        (">&- 2>&-", False, 2),
        (">&- 2>&- <&-", True, 1),
        ("2>/dev/full", False, 1),
        ("2>/dev/full", True, 1),
    ],
)
async def test_a_standard_stream_that_is_closed_or_full_loses_no_result(
    closed: str,
    output: bool,  # noqa: FBT001 - from a table
    code: int,
    sandbox: Sandbox,
    tmp_path: Path,
) -> None:
    file = tmp_path / "out"
    words = [*COMMAND, *IDS, "nobody", "--format", "ndjson", *(["-o", str(file)] if output else [])]
    env = {**os.environ, "ZENOVAY_API_KEY": sandbox.api_key, "ZENOVAY_BASE_URL": sandbox.url}
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", f'exec "$@" {closed}', "sh", *words), stdout=PIPE, stderr=PIPE, env=env
    )
    out, errors = await process.communicate()
    assert process.returncode == code
    if code == 2:
        assert sandbox.count() == 0
        assert errors in {b"", b"zenovay-async: standard output is closed; write to a file with --output FILE\n"}
    else:
        assert len(results_in((file.read_bytes() if output else out).decode())) == 3


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["usage", "--sandbox", "1"]])
def test_a_reader_that_is_gone_or_a_full_disk_gives_no_traceback(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full, Process(*arguments, stdout=full) as process:
        _, errors = process.communicate()
        assert (process.wait(), errors) == (1, b"zenovay-async: standard output: No space left on device\n")
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb") as closed, Process(*arguments, stdout=closed) as process:  # noqa: PTH123 - a pipe
        _, errors = process.communicate()
        assert (process.wait(), errors) == (0, b"")


async def test_a_run_that_stops_keeps_the_old_file_and_says_so(sandbox: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_text("of yesterday")
    key = sandbox.add_key("small", monthly_limit=2)
    done = await run_at(sandbox, *IDS, "--concurrency", "1", "-o", str(file), key=key)
    assert done.returncode == 4
    kept = f"kept 2 of 3 in {file}.partial; go on with --resume"
    assert done.stderr.splitlines()[1:3] == ["stopped: 2 of 3 done, 0 failed", kept]
    assert file.with_name("out.partial").read_text()
    assert file.read_text() == "of yesterday"


def test_a_reader_that_has_seen_enough_ends_the_run_quietly() -> None:
    with Process(*PAGES, "--sandbox", "500", "--format", "ndjson") as process:
        process.stdout.readline()
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == (b"", 0)
