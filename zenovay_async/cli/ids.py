"""Website IDs from the command line, a file or standard input."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import io
import os
import re
import select
import stat
import sys
import threading
from concurrent.futures import Future
from io import FileIO
from typing import TYPE_CHECKING, Any

import msgspec

from zenovay_async import ConfigurationError
from zenovay_async._protocol.parameters import quote_segment
from zenovay_async.cli.shown import redact_keys

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterable
    from pathlib import Path

_CHUNK = 65536
_LONGEST_MARK = 4
_MAX_LENGTH = 256
_TITLES = {"id", "ids", "uuid", "websiteid", "websiteids", "siteid", "siteids"}
# What jq, pandas and JavaScript write where there is none.
_NULLS = {"nan", "none", "null", "undefined"}
_BOM = "\ufeff"
_NOT_IN_IDS = re.compile(r"[\s,;\"'`/\\|<>\[\]{}]")
# Characters of a line of a pipe, such as a result of another command.
_LONGEST_JSON = 1 << 20


class _Line(msgspec.Struct):
    """A line in JSON: a failure, a result of a website, or a website of ``websites list``, which has a domain."""

    website_id: str | msgspec.UnsetType = msgspec.UNSET
    domain: Any = msgspec.UNSET
    id: Any = None

    def find(self) -> str:
        """The ID of the website; ``""`` if there is none."""
        if self.website_id is not msgspec.UNSET:
            return self.website_id.strip()
        is_website = self.domain is not msgspec.UNSET and isinstance(self.id, str)
        return self.id.strip() if is_website else ""


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


def is_file(file: FileIO) -> bool:
    """Whether it is a file, which has an end, and not a pipe or a terminal."""
    return stat.S_ISREG(os.fstat(file.fileno()).st_mode)


def read_ids(file: FileIO) -> list[str]:
    """The IDs of a file, one per line, without blank lines and comments; of a line in JSON, that of its website.

    Raises:
        ConfigurationError: It is no text.
    """
    content = file.readall()
    text = content.decode(encoding_of(content), "replace")
    return [website_id for line in re.split(r"\r\n|\r|\n", text) if (website_id := _id_in(line))]


class StreamedIds:
    """The given IDs, then those of a pipe or a terminal as they come, each once.

    Args:
        ids: The given IDs.
        file: The pipe.

    Attributes:
        duplicates: IDs left out so far, as they came before.
    """

    def __init__(self, ids: Iterable[str], file: FileIO) -> None:
        self.duplicates = 0
        self._ids = ids
        self._file = file

    async def __aiter__(self) -> AsyncGenerator[str]:
        """Yield the IDs.

        Raises:
            ConfigurationError: The pipe has no text.
        """
        seen: set[str] = set()
        for website_id in self._ids:
            seen.add(website_id)
            yield website_id
        async for line in _lines(self._file):
            website_id = _id_in(line)
            if website_id in seen:
                self.duplicates += 1
            elif website_id:
                seen.add(website_id)
                yield website_id


def validate_id(website_id: str) -> str:
    """Return the ID if it is valid.

    Raises:
        ValueError: It is invalid; no request is spent on it.
    """
    if _is_json(website_id):
        raise ValueError("expected an ID, or a JSON object with a website_id")
    if len(website_id) > _MAX_LENGTH:
        raise ValueError(f"more than {_MAX_LENGTH} characters; expected an ID")
    if "\ufffd" in website_id:
        raise ValueError("not valid UTF-8; expected an ID")
    try:
        quote_segment("website_id", website_id)
    except ConfigurationError as error:
        # The run continues after a ValueError: one of the IDs is invalid, not the command.
        raise ValueError(str(error).removeprefix(f"website_id={website_id!r}: ")) from error
    if redact_keys(website_id) != website_id:
        raise ValueError("contains an API key; expected an ID")
    word = website_id.casefold()
    if word in _NULLS or re.sub("[-_]", "", word) in _TITLES:
        raise ValueError("no value; expected an ID" if word in _NULLS else "the title of a column; expected an ID")
    if (found := _NOT_IN_IDS.search(website_id)) is not None:
        raise ValueError(f"{found[0]!r} is not part of an ID; expected one ID per line")
    return website_id


def is_valid_id(website_id: str) -> bool:
    """Whether a request would be spent on the ID."""
    try:
        validate_id(website_id)
    except ValueError:
        return False
    return True


def _id_in(line: str) -> str:
    # Files that were joined have a byte order mark each.
    text = line.removeprefix(_BOM).strip()
    if not _is_json(text):
        return text.partition("#")[0].strip()
    try:
        return msgspec.json.decode(text, type=_Line).find() or text
    except (msgspec.DecodeError, RecursionError):
        # No ID, which is a failure of its own.
        return text


def _is_json(line: str) -> bool:
    return line.removeprefix(_BOM).lstrip().startswith("{")


def encoding_of(start: bytes, given: str = "--ids-from") -> str:
    """The encoding that a text starts like.

    Args:
        start: Its first bytes.
        given: The option that named the file, for an error.

    Raises:
        ConfigurationError: It is no text.
    """
    if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        # What PowerShell 5 writes.
        return "utf-16"
    if 0 in start[:_LONGEST_MARK]:
        raise ConfigurationError(f"{given}: zero bytes, as in UTF-16 without a byte order mark; expected UTF-8")
    return "utf-8-sig"


async def _lines(file: FileIO) -> AsyncGenerator[str]:
    # A line alone, as it is typed, may be shorter than a mark.
    start = b""
    while len(start) < _LONGEST_MARK and not start.endswith(b"\n") and (chunk := await _read(file)):
        start += chunk
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding_of(start))("replace"), translate=True)
    rest, chunk = "", start
    while chunk:
        *lines, rest = (rest + decoder.decode(chunk)).split("\n")
        for line in lines:
            yield line
        # A line may never end. What is left of this one is still too long for an ID, or a comment.
        if not _is_json(rest):
            rest = rest[:_CHUNK]
        elif len(rest) > _LONGEST_JSON:
            # No JSON, whatever follows.
            rest = rest[:_LONGEST_JSON] + "\0"
        chunk = await _read(file)
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
