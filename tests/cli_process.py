"""Starts the command line in a process of its own, in a few milliseconds."""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from helpers import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@cache
def _channel() -> socket.socket:
    """The worker that starts the processes of this one."""
    own, its = socket.socketpair()
    with its:
        worker = subprocess.Popen(  # noqa: S603 - our own
            [sys.executable, str(ROOT / "tests" / "cli_worker.py"), str(its.fileno())],
            stdin=DEVNULL,
            stdout=DEVNULL,
            pass_fds=[its.fileno()],
            start_new_session=True,
        )

    def end() -> None:
        own.close()
        worker.wait()

    atexit.register(end)
    return own


class Process:
    """The command line in a process of its own, with standard output and error in pipes unless others are given.

    Args:
        arguments: The arguments.
        env: Its environment; omitted, that of this process.
        stdin: ``PIPE``, ``DEVNULL`` or a file.
        stdout: Likewise.
        stderr: Likewise.
        folder: The folder it is in; omitted, that of this process.
        new_session: Whether it is in a session of its own, as on another terminal.
        file_size: How many bytes a file may have.

    Attributes:
        pid: The ID of the process.
        returncode: Its exit code, negative for a signal, once it was waited for.
        stdin: The end of a pipe to it; nothing comes of what is written where there is none.
        stdout: The end of a pipe from it; empty where there is none.
        stderr: Likewise.
    """

    def __init__(
        self,
        *arguments: str | bytes,
        env: Mapping[str, str] | None = None,
        stdin: Any = DEVNULL,
        stdout: Any = PIPE,
        stderr: Any = PIPE,
        folder: Path | None = None,
        new_session: bool = False,
        file_size: int | None = None,
    ) -> None:
        self.returncode: int | None = None
        job = {
            "arguments": [os.fsdecode(argument) for argument in arguments],
            "environment": dict(os.environ if env is None else env),
            "folder": os.fspath(folder or os.getcwd()),  # noqa: PTH109 - which may be gone
            "new_session": new_session,
            "file_size": file_size,
        }
        self._control, its = socket.socketpair()
        with contextlib.ExitStack() as given:
            given.enter_context(its)
            self.stdin, its_stdin = _pipe(stdin, given, write=True)
            self.stdout, its_stdout = _pipe(stdout, given)
            self.stderr, its_stderr = _pipe(stderr, given)
            socket.send_fds(_channel(), [b"\0"], [its.fileno(), its_stdin, its_stdout, its_stderr])
        self._control.sendall(json.dumps(job).encode() + b"\n")
        self._lines = self._control.makefile("rb")
        self.pid = int(self._lines.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the process, if it has not ended."""
        self.kill()
        self.wait()
        for file in (self.stdin, self.stdout, self.stderr, self._lines, self._control):
            # What a pipe could not take is nothing to a process that has ended.
            with contextlib.suppress(BrokenPipeError):
                file.close()

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End the process at once."""
        self.send_signal(signal.SIGKILL)

    def wait(self) -> int:
        """Wait for the end of the process; returns its exit code."""
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(int(self._lines.readline()))
        return self.returncode

    def communicate(self, given: bytes = b"") -> tuple[bytes, bytes]:
        """Write to standard input and wait for the end; returns standard output and error."""
        with ThreadPoolExecutor(2) as readers:
            out, errors = (readers.submit(file.read) for file in (self.stdout, self.stderr))
            with contextlib.suppress(BrokenPipeError), self.stdin:
                self.stdin.write(given)
            self.wait()
            return out.result(), errors.result()


def _pipe(given: Any, files: contextlib.ExitStack, *, write: bool = False) -> tuple[BinaryIO, int]:
    """The end of this process and the file of the other one."""
    if given is PIPE:
        read, its = os.pipe()
        own = read
        if write:
            own, its = its, read
        files.callback(os.close, its)
        return os.fdopen(own, "wb" if write else "rb"), its
    if given is DEVNULL:
        return io.BytesIO(), files.enter_context(open(os.devnull, "r+b", buffering=0)).fileno()  # noqa: PTH123 - no path
    return io.BytesIO(), given if isinstance(given, int) else given.fileno()
