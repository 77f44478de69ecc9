"""Runs the command line in a process of its own for each line of standard input, by a fork, which takes no time.

A line is a JSON object: ``arguments``, ``environment``, ``folder``, ``stderr`` (a file) and ``file_size`` (bytes that a
file may have, or null). The response is two lines: the ID of the process, and what ``os.waitpid`` says of its end.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import Any

from zenovay_async.cli import main
from zenovay_async.cli.app import make_app


def run(job: dict[str, Any]) -> int:
    os.environ.update(job["environment"])
    os.chdir(job["folder"])
    null = os.open(os.devnull, os.O_RDWR)
    stderr = os.open(job["stderr"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number, file in enumerate((null, null, stderr)):
        os.dup2(file, number)
    if job["file_size"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_size"], job["file_size"]))
    return main(job["arguments"])


def serve() -> int | None:
    for line in sys.stdin:
        process = os.fork()
        if not process:
            return run(json.loads(line))
        sys.stdout.write(f"{process}\n")
        sys.stdout.flush()
        sys.stdout.write(f"{os.waitpid(process, 0)[1]}\n")
        sys.stdout.flush()
    return None


if __name__ == "__main__":
    # So that what a run imports is there before the fork.
    make_app()
    sys.exit(serve())
