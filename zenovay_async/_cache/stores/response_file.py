"""A response in a private file, which is written once and whole.

A file has a head, which says until when it counts, and the value. It is written to a temporary file, and then renamed,
so that whoever opens it reads all of it. It counts if the checksum is right and the machine was not booted since, as
the clock counts from there. Its time of modification is that at which it expires, so that a look at a folder shows
which files do.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import struct
import time
import zlib
from pathlib import Path
from typing import NamedTuple

from zenovay_async._limits.stores.private_file import boot, is_this_boot, open_private

# Checksum of what follows: format and version, boot, when it expires; then the value.
_CHECK = struct.Struct("<I")
_HEAD = struct.Struct("<8s8sd")
_START = _CHECK.size + _HEAD.size
_FORMAT = b"zcache\x00\x01"

SUFFIX = ".response-1"
"""How the name of a file ends, with the version of its form: others have files of their own."""
TEMPORARY = ".tmp"
"""How the name of a file ends that is being written."""


class Read(NamedTuple):
    """What was read: the value, ``None`` for one that does not count, and the file that it was read from."""

    value: bytes | None
    file: os.stat_result


def read(path: str) -> Read | None:
    """Read a file; ``None`` if there is none.

    Raises:
        OSError: It cannot be read, or belongs to another user or is open to others.
    """
    try:
        fd = open_private(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        found = os.fstat(fd)
        raw = os.read(fd, found.st_size)
    finally:
        os.close(fd)
    return Read(_decode(raw), found)


def write_temporary(folder: Path, value: bytes, seconds: float) -> str:
    """Write a value that counts for so many seconds to a temporary file; returns its path.

    Raises:
        OSError: It cannot be written.
    """
    head = _HEAD.pack(_FORMAT, boot(), time.monotonic() + seconds)
    path, fd = make_temporary(folder)
    try:
        try:
            data = _CHECK.pack(zlib.crc32(value, zlib.crc32(head))) + head + value
            if os.write(fd, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        finally:
            os.close(fd)
        now = time.time()
        os.utime(path, (now, now + seconds))
    except BaseException:
        remove(path)
        raise
    return path


def make_temporary(folder: Path) -> tuple[str, int]:
    """Make a temporary file, to be renamed; returns its path, and its descriptor.

    Raises:
        OSError: It cannot be made.
    """
    path = f"{folder}/{secrets.token_hex(8)}{TEMPORARY}"
    return path, open_private(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)


def size_of(value: bytes) -> int:
    """Bytes of the file of a value."""
    return _START + len(value)


def remove(path: str) -> None:
    """Remove a file, if it is there and that is possible."""
    with contextlib.suppress(OSError):
        Path(path).unlink()


def stat_file(path: str) -> os.stat_result | None:
    """What a path leads to now; ``None`` for nothing."""
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _decode(raw: bytes) -> bytes | None:
    if len(raw) < _START or _CHECK.unpack_from(raw)[0] != zlib.crc32(memoryview(raw)[_CHECK.size :]):
        return None
    form, booted, expires_at = _HEAD.unpack_from(raw, _CHECK.size)
    if form != _FORMAT or not is_this_boot(booted) or expires_at <= time.monotonic():
        return None
    return raw[_START:]
