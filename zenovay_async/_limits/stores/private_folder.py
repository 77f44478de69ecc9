"""The folder of the files of this user's processes, which nobody else may enter, and waiting for a lock in it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import stat
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from zenovay_async._limits.stores.private_file import REFUSED, USER, is_private

if TYPE_CHECKING:
    from collections.abc import Callable

# Seconds between the tries of a timer for a lock, and until the store counts as lost.
_PAUSE = (0.3e-3, 1.2e-3)
_PATIENCE = 0.5
# Tries that a busy event loop, which comes back late, has all the same.
_TRIES = 20


class PrivateFolder:
    """A folder for files of this user alone, made when it is first needed.

    Args:
        root: Folder in which it is; ``None`` for memory where the system has a folder for that, else a temporary one.
        parts: Folders in it, one in the other, if not the folder itself.
    """

    def __init__(self, root: Path | None, *parts: str) -> None:
        self._root = root
        self._parts = parts
        self._path: Path | None = None

    def open(self) -> Path:
        """Return its path; make it if there is none.

        Raises:
            OSError: It cannot be made.
            PermissionError: It belongs to another user, or is open to others.
        """
        if self._path is None:
            path = self._root or find_root()
            for part in (f"zenovay-async-{USER}", *self._parts):
                path /= part
                _make_private(path)
            self._path = path
        return self._path

    def forget(self) -> None:
        """Look at it anew when it is next needed, as it was deleted."""
        self._path = None


def find_root() -> Path:
    """Where the folder is: in memory if the system has a folder for that, as no file outlives a boot."""
    for root in ("/dev/shm", os.environ.get("XDG_RUNTIME_DIR", "")):  # noqa: S108 - the folder in it is private
        if root and Path(root).is_dir() and os.access(root, os.W_OK | os.X_OK):
            return Path(root)
    return Path(tempfile.gettempdir())


async def wait_for_lock(change_nowait: Callable[[], bool], folder: PrivateFolder) -> None:
    """Change a file; while another process has it locked, try again by a timer.

    Args:
        change_nowait: Changes it, and returns whether it was not locked.
        folder: Where it is.

    Raises:
        TimeoutError: Another process has had it locked for half a second.
        OSError: The file cannot be used.
    """
    until, tries = time.monotonic() + _PATIENCE, 1
    while not change_nowait():
        if time.monotonic() > until and tries > _TRIES:
            raise TimeoutError(f"another process has had a file in {folder.open()} locked for {_PATIENCE} s")
        tries += 1
        await asyncio.sleep(random.uniform(*_PAUSE))  # noqa: S311 - spreads the tries of several processes


def _make_private(path: Path) -> None:
    with contextlib.suppress(FileExistsError):
        path.mkdir(0o700)
        # The umask may have taken away what its user needs; so it would stay, for all processes.
        path.chmod(0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or not is_private(found):
        raise PermissionError(f"{path} {REFUSED}")
