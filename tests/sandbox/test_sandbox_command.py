"""``python -m zenovay_async.sandbox``."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

import pytest
from cli_helpers import controls_in

from zenovay_async.cli import main as cli_main
from zenovay_async.sandbox import __main__ as command
from zenovay_async.sandbox.__main__ import main

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


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
    [
        "--fault reset:x",
        "--fault reset:2",
        "--fault nothing",
        "--websites -1",
        "--websites 1000001",
        "--port 70000",
        "--rate-limit 0",
    ],
)
def test_an_invalid_argument_is_reported_in_one_line(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1


@pytest.mark.parametrize(
    "argument", ["--fault={}", "--{}", "{}", "--plan={}", "--port={}", "--host={}", "--api-key={}"]
)
def test_an_argument_that_is_wrong_shows_no_controls(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: object = main([argument.format("\x1b[2J\u202e\udc9b\r\n")])
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert controls_in(capsys.readouterr().err) == set()


@pytest.mark.parametrize(
    ("host", "destination", "others"),
    [
        ("127.0.0.1", r"http://127\.0\.0\.1:", None),
        ("0.0.0.0", r"http://127\.0\.0\.1:", r"http://(?!0\.0\.0\.0|127\.)[\w.-]+:"),  # noqa: S104 - what is tested
        ("::", r"http://\[::1\]:", r"http://(?!\[::1?\])[\w.:\[\]-]+:"),
    ],
)
def test_the_address_that_it_prints_is_a_destination(host: str, destination: str, others: str | None) -> None:
    if ":" in host and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    command = [sys.executable, "-u", "-m", "zenovay_async.sandbox", "--port", "0", "--host", host]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:  # noqa: S603 - our own
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        while lines[-1] and "Ctrl-C" not in lines[-1]:
            lines.append(process.stdout.readline())
        process.send_signal(2)
    if lines == [""] and ":" in host:
        pytest.skip("no IPv6 here")
    assert re.match(f"export ZENOVAY_BASE_URL={destination}", lines[0])
    noted = [line for line in lines if line.startswith("# from other machines ")]
    assert [re.match(f"# from other machines {others}", line) is not None for line in noted] == [True] * bool(others)
    assert any("--allow-http" in line for line in lines) == bool(others)


def test_a_port_in_use_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["--port", str(taken.getsockname()[1])]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "address already in use" in printed.err
    assert len(printed.err.splitlines()) == 1


def test_a_command_with_a_sandbox_of_too_many_websites_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli_main(["usage", "--sandbox", "1000001"]) == 2
    assert "1000000" in capsys.readouterr().err


class Printed:
    """What the command prints, and what to do once it serves."""

    def __init__(self, on_ready: Callable[[], object]) -> None:
        self._on_ready = on_ready

    def __call__(self, line: str, **_: object) -> None:
        if "Ctrl-C" in line:
            self._on_ready()


def wakes_the_loop() -> bool:
    """Whether a signal is written to a descriptor that the event loop waits for."""
    descriptor = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(descriptor)
    return descriptor != -1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_whatever_it_waits_for(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[bool] = []

    def end() -> None:
        woken.append(wakes_the_loop())
        signal.raise_signal(number)

    before = signal.getsignal(number)
    monkeypatch.setattr(command, "print", Printed(end), raising=False)
    assert main(["--port", "0"]) == 0
    assert woken == [True]
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_changes_nothing(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """As from a terminal and from a runner of several processes."""
    run, ignored = asyncio.run, []

    def run_and_look(main: Coroutine[object, object, None]) -> None:
        run(main)
        ignored.append(signal.getsignal(number) is signal.SIG_IGN)

    before = signal.getsignal(number)
    monkeypatch.setattr(asyncio, "run", run_and_look)
    monkeypatch.setattr(command, "print", Printed(partial(signal.raise_signal, number)), raising=False)
    assert main(["--port", "0"]) == 0
    assert ignored == [True]
    assert signal.getsignal(number) == before


def test_where_a_loop_takes_no_signals_ctrl_c_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def add_signal_handler(*_: object) -> None:
        raise NotImplementedError  # as the loops of Windows do

    monkeypatch.setattr(asyncio.SelectorEventLoop, "add_signal_handler", add_signal_handler)
    monkeypatch.setattr(command, "print", Printed(partial(signal.raise_signal, signal.SIGINT)), raising=False)
    assert main(["--port", "0"]) == 0


def test_a_signal_that_is_ignored_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As SIGINT is for a sandbox in the background of a script."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)

    def end() -> None:
        signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(command, "print", Printed(end), raising=False)
    try:
        assert main(["--port", "0"]) == 0
    finally:
        signal.signal(signal.SIGINT, before)
