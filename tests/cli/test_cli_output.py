"""Where results go: a file that is replaced as a whole, a FIFO, a device, a pipe."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_helpers import COMMAND, IDS, PAGES, run_at

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
    with subprocess.Popen([*COMMAND, "--sandbox", "3", "--format", "json", "-o", str(fifo)]) as process:  # noqa: S603 - our own command
        assert len(json.loads(fifo.read_text())) == 3
        assert process.wait(10) == 0
    assert fifo.is_fifo()


def test_a_file_that_cannot_be_written_is_named_as_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path, reason in ((tmp_path / "missing" / "out", "No such file or directory"), (tmp_path, "Is a directory")):
        assert main([*PAGES, "--sandbox", "1", "-o", str(path)]) == 2
        assert capsys.readouterr().err == f"zenovay-async: --output {path}: {reason}\n"


def test_an_empty_name_is_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PAGES, "--sandbox", "1", "-o", ""]) == 2
    assert "--output '': expected a file" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["table", "json", "ndjson", "csv"])
def test_a_full_disk_is_exit_code_1_and_a_sentence(kind: str) -> None:
    with Path("/dev/full").open("w") as full:
        for output, name in (([], "standard output"), (["-o", "/dev/full"], "--output /dev/full")):
            done = subprocess.run(  # noqa: S603 - our own command
                [*COMMAND, "--sandbox", "3", "--format", kind, *output],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
            assert (done.returncode, done.stderr) == (1, f"zenovay-async: {name}: No space left on device\n")


async def test_a_run_that_stops_keeps_the_old_file_and_says_so(sandbox: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_text("of yesterday")
    key = sandbox.add_key("small", monthly_limit=2)
    done = await run_at(sandbox, *IDS, "--concurrency", "1", "-o", str(file), key=key)
    assert done.returncode == 3
    assert done.stderr.splitlines()[1:3] == ["stopped: 2 of 3 done, 0 failed", f"nothing was written to {file}"]
    assert file.read_text() == "of yesterday"


def test_a_reader_that_has_seen_enough_ends_the_run_quietly() -> None:
    command = [*COMMAND, "--sandbox", "500", "--format", "ndjson"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:  # noqa: S603 - our own command
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
        process.wait(30)
    assert (process.returncode, errors) == (0, b"")
