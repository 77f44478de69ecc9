"""Website IDs from the command line, a file or standard input, one at a time."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import select
import stat
import sys
import threading
from concurrent.futures import Future
from io import FileIO
from typing import TYPE_CHECKING

from zenovay_async import ConfigurationError
from zenovay_async._protocol.parameters import quote_segment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterable
    from pathlib import Path

_CHUNK = 65536
_MAX_LENGTH = 256


@contextlib.contextmanager
def open_ids(path: Path | None) -> Generator[FileIO | None]:
    """Open the file of IDs, ``-`` for standard input; ``None`` for none.

    Raises:
        ConfigurationError: It cannot be read.
    """
    if path is None:
        yield None
        return
    if str(path) == "-" and sys.stdin is None:
        raise ConfigurationError("--ids-from -: this process has no standard input")
    try:
        # Unbuffered, as a buffer cannot be closed while a thread reads into it.
        file = FileIO(sys.stdin.fileno(), closefd=False) if str(path) == "-" else FileIO(path)
    except OSError as error:
        raise ConfigurationError(f"--ids-from {path}: {error.strerror}") from error
    with file:
        yield file


def count_ids(file: FileIO) -> int | None:
    """Count the IDs of a file; ``None`` for a pipe or a terminal, which can be read only once."""
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return None
    start = file.tell()
    with open(file.fileno(), encoding="utf-8-sig", errors="replace", closefd=False) as text:
        total = sum(1 for line in text if _id_in(line))
    file.seek(start)
    return total


async def website_ids(ids: Iterable[str], file: FileIO | None) -> AsyncIterator[str]:
    """Yield the given IDs, then those of the file, one per line, without blank lines and comments."""
    for website_id in ids:
        yield website_id
    if file is not None:
        async for line in _lines(file):
            if website_id := _id_in(line):
                yield website_id


def validate_id(website_id: str) -> str:
    """Return the ID if it is valid.

    Raises:
        ValueError: It is invalid; no request is spent on it.
    """
    if len(website_id) > _MAX_LENGTH:
        raise ValueError(f"{len(website_id):,} characters; expected an ID of {_MAX_LENGTH} at most")
    if "\ufffd" in website_id:
        raise ValueError("not valid UTF-8; expected an ID")
    try:
        quote_segment("website_id", website_id)
    except ConfigurationError as error:
        # The run continues after a ValueError: one of the IDs is invalid, not the command.
        raise ValueError(str(error).removeprefix(f"website_id={website_id!r}: ")) from error
    return website_id


def _id_in(line: str) -> str:
    return line.partition("#")[0].strip()


async def _lines(file: FileIO) -> AsyncIterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
    rest = ""
    while chunk := await _read(file):
        *lines, rest = (rest + decoder.decode(chunk)).split("\n")
        for line in lines:
            yield line
    yield rest + decoder.decode(b"", final=True)


async def _read(file: FileIO) -> bytes:
    """Read what is available; ``b""`` at the end.

    It reads in a thread, because a pipe or a terminal may block, and in a daemon thread, because the end of the program
    waits for the threads of ``asyncio.to_thread``.
    """
    future: Future[bytes] = Future()
    future.set_running_or_notify_cancel()

    def work() -> None:
        try:
            # A process that shares the pipe may have made it non-blocking; None is not its end.
            while (chunk := file.read(_CHUNK)) is None:
                select.select([file], [], [])
            future.set_result(chunk)
        except Exception as error:  # noqa: BLE001 - raised where it is awaited
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return await asyncio.wrap_future(future)
