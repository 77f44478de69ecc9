"""MachineStore: values in files, for all processes of one user on one machine.

A value has a file of its own in a folder that only its user may enter. Whoever changes it locks the file for as long as
that takes, some 30 microseconds. Nobody waits for a lock in the event loop: after 50 microseconds, a timer tries again.
The lock is released with the process that holds it, however it ends.

A file has a head and two slots. A value is written to the slot that is not in use, and then the head, which says where
it is: a write that breaks off leaves the value as it was. What the head says is believed if the checksum is right and
the machine was not booted since, as the clock counts from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import random
import re
import secrets
import socket
import stat
import struct
import sys
import tempfile
import time
import weakref
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from zenovay_async.rate_limits import StoreChange

# Seconds: until a timer takes over, between its tries, and until the store counts as lost.
_SPIN = 50e-6
_PAUSE = (0.3e-3, 1.2e-3)
_PATIENCE = 0.5
# Tries that a busy event loop, which comes back late, has all the same.
_TRIES = 20

# Format and version, boot, offset, length and checksum of the value; then a checksum of these.
_HEAD = struct.Struct("<8s8sIII")
_CHECK = struct.Struct("<I")
_FORMAT = b"zenovay\x01"
_SLOT = 1 << 18
_SLOTS = (4096, 4096 + _SLOT)

_STATE, _RING = ".state", ".ring"
_MODE = 0o600
_RING_NAME = re.compile(r"[0-9a-f]{16}\.ring")
# Seconds after which the file of a key is not in use.
_UNUSED = 86_400.0
# Seconds by which two looks at the time of boot may differ, where the system does not name a boot.
_SAME_BOOT = 60.0
_REFUSED = "belongs to another user, is open to others, or is no plain file; remove it, and the store is made anew"

if sys.platform == "win32":
    import msvcrt

    # A byte that nobody reads.
    _LOCKED = 1 << 30

    def _lock(fd: int) -> None:
        os.lseek(fd, _LOCKED, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError from error

    def _unlock(fd: int) -> None:
        os.lseek(fd, _LOCKED, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

    def _read(fd: int, size: int, offset: int) -> bytes:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, size)

    def _write(fd: int, data: bytes, offset: int) -> int:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.write(fd, data)

    def _is_private(_found: os.stat_result) -> bool:
        return True

    _FLAGS = os.O_RDWR | os.O_CREAT | os.O_BINARY | os.O_NOINHERIT
    _USER = re.sub(r"\W", "_", os.environ.get("USERNAME", ""))
else:
    import fcntl

    def _lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)

    _read, _write = os.pread, os.pwrite

    def _is_private(found: os.stat_result) -> bool:
        return found.st_uid == os.geteuid() and not found.st_mode & 0o077

    _FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    _USER = str(os.geteuid())


class MachineStore:
    """Keeps each value in a file; its clock is ``time.monotonic``, which all processes of a machine have in common.

    Args:
        root: Folder in which the private one is; ``None`` for memory where the system has a folder for that, else a
            temporary one.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._root = root
        self._folder: Path | None = None
        self._files: dict[str, _File] = {}
        self._rings: dict[str, _Ring] = {}
        self._sender: socket.socket | None = None
        self._pid = os.getpid()
        self._is_tidy = False

    def __repr__(self) -> str:
        return "MachineStore()"

    def update_nowait(self, name: str, change: StoreChange) -> bool:
        """Change a value, unless another process has locked it; returns whether it was changed.

        Raises:
            OSError: The file cannot be used.
        """
        if self._pid != os.getpid():
            self._forget()
        try:
            ring = self._open_file(name).update(change)
        except FileNotFoundError:
            # The folder was deleted, as at the end of a user's last session.
            self._folder = None
            self._files.pop(name, None)
            ring = self._open_file(name).update(change)
        if ring is None:
            return False
        for address in ring:
            self._ring(address)
        return True

    async def update(self, name: str, change: StoreChange) -> None:
        """Change a value; while another process has locked it, try again by a timer.

        Raises:
            TimeoutError: Another process has had it locked for half a second.
            OSError: The file cannot be used.
        """
        until, tries = time.monotonic() + _PATIENCE, 1
        while not self.update_nowait(name, change):
            if time.monotonic() > until and tries > _TRIES:
                raise TimeoutError(f"another process has had a file in {self._folder} locked for {_PATIENCE} s")
            tries += 1
            await asyncio.sleep(random.uniform(*_PAUSE))  # noqa: S311 - spreads the tries of several processes

    async def listen(self, name: str, on_ring: Callable[[], None]) -> str:
        """Call a function whenever another process rings; returns the name of the socket, ``""`` if it has none.

        A second one for the same name replaces the first.

        Raises:
            OSError: The folder cannot be used.
        """
        if self._pid != os.getpid():
            self._forget()
        previous = self._rings.pop(name, None)
        if previous is not None:
            previous.close()
        path = self._open_folder() / f"{secrets.token_hex(8)}{_RING}"
        try:
            self._rings[name] = _Ring(path, on_ring)
        except (AttributeError, NotImplementedError, OSError):
            # No Unix sockets here, an event loop that waits for none, or a path that is too long for one.
            return ""
        return path.name

    async def aclose(self) -> None:
        """Close all files and sockets; a later update opens them again."""
        self._forget()

    def _forget(self) -> None:
        """Close what is open: a forked process shares descriptors, and with them locks, with its parent."""
        for ring in self._rings.values():
            ring.close()
        for file in self._files.values():
            file.close()
        if self._sender is not None:
            self._sender.close()
        self._rings, self._files, self._sender, self._folder = {}, {}, None, None
        self._pid = os.getpid()

    def _open_folder(self) -> Path:
        if self._folder is None:
            folder = (self._root or _find_root()) / f"zenovay-async-{_USER}"
            with contextlib.suppress(FileExistsError):
                folder.mkdir(0o700)
                # The umask may have taken away what its user needs; so it would stay, for all processes.
                folder.chmod(0o700)
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or not _is_private(found):
                raise PermissionError(f"{folder} {_REFUSED}")
            if not self._is_tidy:
                # Once, as a program may make a client, and so open the folder, for each request.
                self._is_tidy = True
                _remove_unused(folder)
            self._folder = folder
        return self._folder

    def _open_file(self, name: str) -> _File:
        file = self._files.get(name)
        if file is None:
            file = self._files[name] = _File(self._open_folder() / (name + _STATE))
        return file

    def _ring(self, address: str) -> None:
        if not _RING_NAME.fullmatch(address):
            return
        path = self._open_folder() / address
        if self._sender is None:
            self._sender = _make_socket()
        try:
            self._sender.sendto(b"", str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            # Its process was killed.
            with contextlib.suppress(OSError):
                path.unlink()
        except OSError:
            # Its queue is full, so that it wakes in any case.
            pass


class _File:
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
            _unlock(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()

    def _acquire(self) -> bool:
        while True:
            if self._fd < 0:
                self._fd = _open_private(self._path)
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
                _lock(self._fd)
            except BlockingIOError:
                now = time.perf_counter()
                until = until or now + _SPIN
                if now > until:
                    return False
            else:
                return True

    def _load(self) -> tuple[bytes | None, int]:
        """The value, ``None`` for one that cannot be used, and the offset of the slot that is free."""
        raw = _read(self._fd, _HEAD.size + _CHECK.size, 0)
        if len(raw) < _HEAD.size + _CHECK.size or _CHECK.unpack_from(raw, _HEAD.size)[0] != zlib.crc32(raw[:-4]):
            return None, _SLOTS[0]
        form, boot, offset, length, check = _HEAD.unpack_from(raw)
        if form != _FORMAT or offset not in _SLOTS or length > _SLOT:
            return None, _SLOTS[0]
        free = _SLOTS[1] if offset == _SLOTS[0] else _SLOTS[0]
        value = _read(self._fd, length, offset)
        is_whole = len(value) == length and zlib.crc32(value) == check
        return (value if is_whole and _is_this_boot(boot) else None), free

    def _save(self, value: bytes, offset: int) -> None:
        head = _HEAD.pack(_FORMAT, _boot(), offset, len(value), zlib.crc32(value))
        if len(value) > _SLOT:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(self._path))
        for data, at in ((value, offset), (head + _CHECK.pack(zlib.crc32(head)), 0)):
            if _write(self._fd, data, at) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))


class _Ring:
    """A socket that wakes the event loop with each datagram."""

    def __init__(self, path: Path, on_ring: Callable[[], None]) -> None:
        self._on_ring = on_ring
        self._loop = asyncio.get_running_loop()
        self._socket = _make_socket()
        # Also at the end of the process, unless it was killed.
        self._remove = weakref.finalize(self, _remove_socket, self._socket, path, os.getpid())
        try:
            self._socket.bind(str(path))
            self._loop.add_reader(self._socket, self._receive)
        except BaseException:
            self._remove()
            raise
        self._pid = os.getpid()

    def close(self) -> None:
        # A forked process shares the selector with its parent.
        if self._pid == os.getpid() and not self._loop.is_closed():
            self._loop.remove_reader(self._socket)
        self._remove()

    def _receive(self) -> None:
        # Several at once are one ring.
        with contextlib.suppress(OSError):
            while True:
                self._socket.recv(1)
        self._on_ring()


def _make_socket() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.settimeout(0)
    return made


def _remove_socket(listening: socket.socket, path: Path, pid: int) -> None:
    listening.close()
    if pid == os.getpid():
        with contextlib.suppress(OSError):
            path.unlink()


def _find_root() -> Path:
    """Where the folder is: in memory if the system has a folder for that, as no file outlives a boot."""
    for root in ("/dev/shm", os.environ.get("XDG_RUNTIME_DIR", "")):  # noqa: S108 - the folder in it is private
        if root and Path(root).is_dir() and os.access(root, os.W_OK | os.X_OK):
            return Path(root)
    return Path(tempfile.gettempdir())


def _open_private(path: Path) -> int:
    fd = os.open(path, _FLAGS, _MODE)
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or not _is_private(found):
        os.close(fd)
        raise PermissionError(f"{path} {_REFUSED}")
    if sys.platform != "win32" and stat.S_IMODE(found.st_mode) != _MODE:
        # By the umask of this process, which made it.
        os.fchmod(fd, _MODE)
    return fd


def _remove_unused(folder: Path) -> None:
    """Remove the files of keys that have not been used for a day, and the sockets of processes that were killed."""
    before = time.time() - _UNUSED
    for path in [*folder.glob(f"*{_STATE}"), *folder.glob(f"*{_RING}")]:
        # Another process may remove it at the same time.
        with contextlib.suppress(OSError):
            if path.lstat().st_mtime < before:
                if path.suffix == _STATE:
                    _remove_state(path, before)
                elif _RING_NAME.fullmatch(path.name):
                    _remove_dead(path)


def _remove_state(path: Path, before: float) -> None:
    fd = _open_private(path)
    try:
        # Whoever waits for the lock sees that the file was deleted; whoever has it uses the file.
        _lock(fd)
        if os.fstat(fd).st_mtime < before:
            path.unlink()
    finally:
        os.close(fd)


def _remove_dead(path: Path) -> None:
    with _make_socket() as sender:
        try:
            sender.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()


def _read_boot() -> bytes | None:
    """What names this boot; ``None`` where the system does not say."""
    try:
        return hashlib.sha256(Path("/proc/sys/kernel/random/boot_id").read_bytes()).digest()[:8]
    except OSError:
        return None


_BOOT = _read_boot()


def _boot() -> bytes:
    return _BOOT or struct.pack("<d", time.time() - time.monotonic())


def _is_this_boot(boot: bytes) -> bool:
    if _BOOT is not None:
        return boot == _BOOT
    booted: float = struct.unpack("<d", boot)[0]
    return abs(time.time() - time.monotonic() - booted) < _SAME_BOOT
