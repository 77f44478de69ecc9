"""What tests of the journal run in processes of their own: ``python journal_worker.py WHAT PATH``.

``WHAT`` is the name of a function below.
"""

from __future__ import annotations

import itertools
import os
import resource
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zenovay_async import ConfigurationError, Journal, JournalError

if TYPE_CHECKING:
    from collections.abc import Callable

LARGE = {"text": "x" * 4000}


def say(what: object) -> None:
    """Write a line at once."""
    os.write(1, f"{what}\n".encode())


def record(path: str) -> None:
    """Record items without end, and write the number of each once it is recorded; the block is entered often."""
    for start in itertools.count(0, 50):
        with Journal(path, result_type=Any) as journal:
            for number in range(start, start + 50):
                journal.record_success(f"item {number}", {"number": number, **LARGE})
                say(number)


def hold(path: str) -> None:
    """Have a journal open until the process is killed."""
    with Journal(path, result_type=Any) as journal:
        journal.record_success("item", 1)
        say("open")
        signal.pause()


def enter(path: str) -> None:
    """Say whether a journal can be opened."""
    try:
        with Journal(path, result_type=Any):
            say("open")
    except ConfigurationError as error:
        say(error.message)


def fill(path: str) -> None:
    """Record until there is no more room for the file, then with room again."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))

    fill_until_full(path, lambda: limit(300_000), lambda: limit(limits[0]))


def fill_disk(path: str) -> None:
    """The same on a disk that is full, made in a namespace of this process."""
    rest = Path(path).with_name("rest")
    rest.write_bytes(b"x" * 300_000)
    fill_until_full(path, lambda: None, rest.unlink)


def fill_until_full(path: str, limit: Callable[[], None], make_room: Callable[[], None]) -> None:
    number = 0
    with Journal(path, result_type=Any) as journal:
        limit()
        cause: BaseException | None = None
        try:
            for number in range(10_000):
                journal.record_success(f"item {number}", LARGE)
        except JournalError as error:
            cause = error.__cause__
            say(error.message)
        assert cause is not None
        assert number
        assert journal.done == number
        assert journal.find(f"item {number}") is None
        assert all(journal.find(f"item {n}") for n in range(number))
        make_room()
        journal.record_success(f"item {number}", LARGE)
        assert journal.done == number + 1
    with Journal(path, result_type=Any) as journal:
        assert journal.done == number + 1
        assert all(journal.find(f"item {n}") for n in range(number + 1))
    say("whole")


def grow(path: str) -> None:
    """Write by how many bytes the memory of this process grows while it records and finds many items."""
    with Journal(path, result_type=Any) as journal:
        before = 0
        for number in range(12_000):
            assert journal.find(f"item {number}") is None
            journal.record_success(f"item {number}", {"number": number})
            if number == 2_000:
                before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    say(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def fork(path: str) -> None:
    """Use a journal in a child of the process that has it open, which ends as a program does."""
    with Journal(path, result_type=Any) as journal:
        journal.record_success("before", 1)
        if not os.fork():
            try:
                journal.record_success("child", 1)
            except RuntimeError as error:
                say(error)
            sys.exit()
        os.wait()
        journal.record_success("after", 1)
        assert Path(f"{path}-wal").exists()
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
