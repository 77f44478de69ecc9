"""A value in a private file, which processes change one at a time. What differs between systems is at the end.

A file has a head and two slots. A value is written to the slot that is not in use, and then the head, which says where
it is: a write that breaks off leaves the value as it was. What the head says is believed if the checksum is right and
the machine was not booted since, as the clock counts from there.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import struct
import sys
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zenovay_async.rate_limits import StoreChange

# Seconds for which a lock is tried at once.
_SPIN = 50e-6

# Format and version, boot, offset, length and checksum of the value; then a checksum of these.
_HEAD = struct.Struct("<8s8sIII")
_CHECK = struct.Struct("<I")
FORMAT = b"zenovay\x01"
"""How a file begins, with the version of its form."""
_SLOT = 1 << 18
_SLOTS = (4096, 4096 + _SLOT)

MODE = 0o600
"""Mode of a private file."""
REFUSED = "belongs to another user, is open to others, or is no plain file; remove it, and the store is made anew"
"""Why a file or a folder is not used."""
# Seconds by which two looks at the time of boot may differ, where the system does not name a boot.
_SAME_BOOT = 60.0

if sys.platform == "win32":
    import msvcrt

    # A byte that nobody reads.
    _LOCKED = 1 << 30

    def lock(fd: int) -> None:
        os.lseek(fd, _LOCKED, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError from error

    # There is no lock that several may have.
    lock_shared = lock

    def unlock(fd: int) -> None:
        os.lseek(fd, _LOCKED, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

    def read(fd: int, size: int, offset: int) -> bytes:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, size)

    def write(fd: int, data: bytes, offset: int) -> int:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.write(fd, data)

    def is_private(_found: os.stat_result) -> bool:
        return True

    FLAGS = os.O_BINARY | os.O_NOINHERIT
    USER = re.sub(r"\W", "_", os.environ.get("USERNAME", ""))
else:
    import fcntl

    def lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def lock_shared(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def unlock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)

    read, write = os.pread, os.pwrite

    def is_private(found: os.stat_result) -> bool:
        return found.st_uid == os.geteuid() and not found.st_mode & 0o077

    # A pipe is refused rather than waited for.
    FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    USER = str(os.geteuid())


class PrivateFile:
    """One value: a file that is open while it is used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def update(self, change: StoreChange) -> tuple[str, ...] | None:
        """Change the value; returns whom to ring, or ``None`` if another process has locked it."""
        if not self._acquire():
            return None
        try:
            value, free = self._load()
            write = change(value, time.monotonic())
            if write is None:
                return ()
            self._save(write.value, free)
            return write.ring
        finally:
            unlock(self._fd)

    def read(self) -> bytes | None:
        """The value now, without the lock and without making the file; ``None`` if there is none.

        Raises:
            BlockingIOError: It cannot be read without the lock, as it changes now.
            OSError: The file cannot be used.
        """
        if self._fd >= 0 and not os.fstat(self._fd).st_nlink:
            self.close()
        if self._fd < 0:
            try:
                self._fd = open_private(self._path, os.O_RDWR)
            except FileNotFoundError:
                return None
        value, _ = self._load()
        if value is not None:
            return value
        if not self._acquire():
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(self._path))
        try:
            return self._load()[0]
        finally:
            unlock(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()

    def _acquire(self) -> bool:
        while True:
            if self._fd < 0:
                self._fd = open_private(self._path)
            if not self._spin():
                return False
            if os.fstat(self._fd).st_nlink:
                return True
            # Deleted meanwhile.
            self.close()

    def _spin(self) -> bool:
        until = 0.0
        while True:
            try:
                lock(self._fd)
            except BlockingIOError:
                now = time.perf_counter()
                until = until or now + _SPIN
                if now > until:
                    return False
            else:
                return True

    def _load(self) -> tuple[bytes | None, int]:
        """The value, ``None`` for one that cannot be used, and the offset of the slot that is free."""
        raw = read(self._fd, _HEAD.size + _CHECK.size, 0)
        if len(raw) < _HEAD.size + _CHECK.size or _CHECK.unpack_from(raw, _HEAD.size)[0] != zlib.crc32(raw[:-4]):
            return None, _SLOTS[0]
        form, booted, offset, length, check = _HEAD.unpack_from(raw)
        if form != FORMAT or offset not in _SLOTS or length > _SLOT:
            return None, _SLOTS[0]
        free = _SLOTS[1] if offset == _SLOTS[0] else _SLOTS[0]
        value = read(self._fd, length, offset)
        is_whole = len(value) == length and zlib.crc32(value) == check
        return (value if is_whole and is_this_boot(booted) else None), free

    def _save(self, value: bytes, offset: int) -> None:
        head = _HEAD.pack(FORMAT, boot(), offset, len(value), zlib.crc32(value))
        if len(value) > _SLOT:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(self._path))
        for data, at in ((value, offset), (head + _CHECK.pack(zlib.crc32(head)), 0)):
            if write(self._fd, data, at) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))


def open_private(path: Path | str, flags: int = os.O_RDWR | os.O_CREAT) -> int:
    """Open a file of this user alone.

    Raises:
        OSError: It cannot be opened.
        PermissionError: It belongs to another user, is open to others, or is no plain file.
    """
    try:
        fd = os.open(path, flags | FLAGS, MODE)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise PermissionError(f"{path} {REFUSED}") from None
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or not is_private(found):
        os.close(fd)
        raise PermissionError(f"{path} {REFUSED}")
    if sys.platform != "win32" and stat.S_IMODE(found.st_mode) != MODE:
        # By the umask of this process, which made it.
        os.fchmod(fd, MODE)
    return fd


def _read_boot() -> bytes | None:
    """What names this boot; ``None`` where the system does not say."""
    try:
        return hashlib.sha256(Path("/proc/sys/kernel/random/boot_id").read_bytes()).digest()[:8]
    except OSError:
        return None


_BOOT = _read_boot()


def boot() -> bytes:
    """What this boot is called in a file."""
    return _BOOT or struct.pack("<d", time.time() - time.monotonic())


def is_this_boot(name: bytes) -> bool:
    """Whether a file was written since the machine was booted, as the clock counts from there."""
    if _BOOT is not None:
        return name == _BOOT
    booted: float = struct.unpack("<d", name)[0]
    return abs(time.time() - time.monotonic() - booted) < _SAME_BOOT
