"""``python -m zenovay_async.sandbox``."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from zenovay_async.sandbox.__main__ import main


def test_it_runs_from_a_shell() -> None:
    command = [sys.executable, "-u", "-m", "zenovay_async.sandbox", "--port", "0", "--fault", "500:0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own
        assert process.stdout is not None
        assert process.stdout.readline().startswith("export ZENOVAY_BASE_URL=http://127.0.0.1:")
        assert process.stdout.readline().startswith("export ZENOVAY_API_KEY=zv_")
        while "Ctrl-C" not in process.stdout.readline():
            pass
        process.send_signal(2)
        _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize(
    "arguments",
    ["--fault reset:x", "--fault reset:2", "--fault nothing", "--websites -1", "--port 70000", "--rate-limit 0"],
)
def test_an_invalid_argument_is_reported_in_one_line(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1


def test_a_port_in_use_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["--port", str(taken.getsockname()[1])]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "address already in use" in printed.err
    assert len(printed.err.splitlines()) == 1
