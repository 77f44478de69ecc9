"""Runs the command line in processes that are forks of this one, as to import it takes most of the time of a short run.

``cli_process.py`` is its client. For each process it sends four files over the socket whose number is the argument:
another socket, and what are to be standard input, output and error. The other socket has a line of JSON: ``arguments``,
``environment``, ``folder``, ``new_session``, and ``file_size`` (bytes that a file may have, or null). The response is
two lines: the ID of the process, and what ``os.waitpid`` says of its end.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import socket
import sys
from importlib import import_module
from typing import Any

from zenovay_async.cli import main
from zenovay_async.cli.app import make_app


def serve(channel: socket.socket) -> int:
    while True:
        _, files, _, _ = socket.recv_fds(channel, 1, 4)
        if not files:
            return 0
        if not os.fork():
            channel.close()
            return watch(*files)
        for file in files:
            os.close(file)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def watch(control: int, *streams: int) -> int:
    """Start a process, and say how it ends; another one does so, as several may run at once."""
    with socket.socket(fileno=control) as connection:
        with connection.makefile("r", encoding="utf-8") as lines:
            job = json.loads(lines.readline())
        process = os.fork()
        if not process:
            connection.close()
            return run(job, streams)
        for stream in streams:
            os.close(stream)
        connection.sendall(f"{process}\n".encode())
        connection.sendall(f"{os.waitpid(process, 0)[1]}\n".encode())
    return 0


def run(job: dict[str, Any], streams: tuple[int, ...]) -> int:
    os.environ.clear()
    os.environ.update(job["environment"])
    os.chdir(job["folder"])
    if job["new_session"]:
        os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    # As a new process has them.
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - open to the end
    sys.stdout = open(1, "w", buffering=1 if os.isatty(1) else -1, encoding="utf-8", closefd=False)  # noqa: SIM115 - same
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115 - same
    if job["file_size"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_size"], job["file_size"]))
    return main(job["arguments"])


if __name__ == "__main__":
    make_app()
    # What a run imports later.
    import_module("zenovay_async.cli.run")
    import_module("zenovay_async._batch.journal_file")
    import_module("zenovay_async.sandbox.server")
    gc.freeze()
    sys.exit(serve(socket.socket(fileno=int(sys.argv[1]))))
