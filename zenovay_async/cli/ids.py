"""Website ids from a file or from standard input, as they come."""

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
from typing import TYPE_CHECKING, TypeVar

from zenovay_async import ConfigurationError
from zenovay_async._protocol.parameters import quote_segment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterable
    from pathlib import Path

T = TypeVar("T")

_CHUNK = 65536
_LONGEST = 256


@contextlib.contextmanager
def opened(path: Path | None) -> Generator[FileIO | None]:
    """The file of ids, ``-`` for standard input; ``None`` where there is none.

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


def count(file: FileIO) -> int | None:
    """How many ids a file holds; ``None`` where only reading it to the end would tell, as with a pipe."""
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return None
    start = file.tell()
    with open(file.fileno(), encoding="utf-8-sig", errors="replace", closefd=False) as text:
        total = sum(1 for line in text if _id_in(line))
    file.seek(start)
    return total


async def website_ids(named: Iterable[str], file: FileIO | None) -> AsyncIterator[str]:
    """Those named, then those of the file, one a line; blank lines and comments are left out."""
    for website_id in named:
        yield website_id
    if file is not None:
        async for line in _lines(file):
            if website_id := _id_in(line):
                yield website_id


def checked(website_id: str) -> str:
    """The id, if it can be one.

    Raises:
        ValueError: It cannot, so that no request need be spent on it.
    """
    if len(website_id) > _LONGEST:
        raise ValueError(f"{len(website_id):,} characters are too many for an id")
    if "\ufffd" in website_id:
        raise ValueError("this is not UTF-8")
    try:
        quote_segment("website_id", website_id)
    except ConfigurationError as error:
        # Not the command is wrong but this one of its ids.
        raise ValueError(str(error)) from error
    return website_id


def _id_in(line: str) -> str:
    return line.partition("#")[0].strip()


async def _lines(file: FileIO) -> AsyncIterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
    rest = ""
    # A pipe or a terminal is slow to speak; the calls on their way must not wait for it.
    while chunk := await _aside(lambda: _read(file)):
        *whole, rest = (rest + decoder.decode(chunk)).split("\n")
        for line in whole:
            yield line
    yield rest + decoder.decode(b"", final=True)


def _read(file: FileIO) -> bytes:
    # Whoever shares this pipe or terminal may have made it non-blocking; nothing there is not its end.
    while (chunk := file.read(_CHUNK)) is None:
        select.select([file], [], [])
    return chunk


async def _aside(function: Callable[[], T]) -> T:
    """Call a function in a thread that the end of the program does not wait for, as it does for ``to_thread``'s."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()

    def work() -> None:
        try:
            future.set_result(function())
        except Exception as error:  # noqa: BLE001 - it goes to whoever waits
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return await asyncio.wrap_future(future)
