"""MachineStore: values in files, for all processes of one user on one machine.

A value has a file of its own in a folder that only its user may enter. Whoever changes it locks the file for as long as
that takes, some 30 microseconds. Nobody waits for a lock in the event loop: after 50 microseconds, a timer tries again.
The lock is released with the process that holds it, however it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import socket
import time
import weakref
from typing import TYPE_CHECKING

from zenovay_async._limits.stores.private_file import PrivateFile, lock, open_private
from zenovay_async._limits.stores.private_folder import PrivateFolder, wait_for_lock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zenovay_async.rate_limits import StoreChange

_STATE, _RING = ".state", ".ring"
_RING_NAME = re.compile(r"[0-9a-f]{16}\.ring")
# Seconds after which the file of a key is not in use.
_UNUSED = 86_400.0


class MachineStore:
    """Keeps each value in a file; its clock is ``time.monotonic``, which all processes of a machine have in common.

    Args:
        root: Folder in which the private one is; ``None`` for memory where the system has a folder for that, else a
            temporary one.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._folder = PrivateFolder(root)
        self._files: dict[str, PrivateFile] = {}
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
            self._folder.forget()
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
        await wait_for_lock(lambda: self.update_nowait(name, change), self._folder)

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
        self._rings, self._files, self._sender = {}, {}, None
        self._folder.forget()
        self._pid = os.getpid()

    def _open_folder(self) -> Path:
        folder = self._folder.open()
        if not self._is_tidy:
            # Once, as a program may make a client, and so open the folder, for each request.
            self._is_tidy = True
            _remove_unused(folder)
        return folder

    def _open_file(self, name: str) -> PrivateFile:
        file = self._files.get(name)
        if file is None:
            file = self._files[name] = PrivateFile(self._open_folder() / (name + _STATE))
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
    fd = open_private(path)
    try:
        # Whoever waits for the lock sees that the file was deleted; whoever has it uses the file.
        lock(fd)
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
