"""A lease in a private file, which its holder keeps locked and renews.

The lock ends with the process, however it ends. A process that is frozen keeps it, but renews nothing. A lease is
written whole before it gets its name, and only those who have locked the store change what has the name.
"""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

from zenovay_async._cache.stores.response_file import make_temporary, remove, stat_file
from zenovay_async._limits.stores.private_file import lock, lock_shared, open_private, read, write

SUFFIX = ".lease"
"""How the name of a file ends."""
RENEWAL = 2.0
"""Seconds between renewals."""
FROZEN = 10.0
"""Seconds since the last renewal after which the holder counts as frozen."""

# Format and version, whether it is in the background, when it was renewed.
_CONTENT = struct.Struct("<8s?d")
_FORMAT = b"zlease\x00\x01"


class LeaseFile:
    """A lease of this process; made, changed and released by whoever has locked the store.

    Args:
        folder: Where temporary files are.
        path: Its path; a lease that is there ends.
        background: Whether the request belongs to a batch or a refresh.

    Raises:
        OSError: It cannot be made.
    """

    def __init__(self, folder: Path, path: str, *, background: bool) -> None:
        self._path = path
        self._background = background
        self._fd = -1
        temporary, self._fd = make_temporary(folder)
        try:
            lock(self._fd)
            self._write()
            Path(temporary).replace(path)
        except BaseException:
            remove(temporary)
            self.close()
            raise

    def is_current(self) -> bool:
        """Whether nobody has taken it."""
        found = stat_file(self._path)
        return found is not None and os.path.samestat(found, os.fstat(self._fd))

    def set_background(self, *, background: bool) -> None:
        """Say what the request belongs to."""
        self._background = background
        self._write()

    def renew(self) -> bool:
        """Say that this process is not frozen; returns ``False`` if somebody took the lease meanwhile."""
        try:
            if self.is_current():
                self._write()
                return True
        except OSError:
            # So it ends for the others as well, if it is there.
            pass
        self.close()
        return False

    def release(self) -> None:
        """End it, and nobody else's."""
        if self._fd >= 0 and self.is_current():
            remove(self._path)
        self.close()

    def close(self) -> None:
        """End it; in a forked process, leave it to the parent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self) -> None:
        write(self._fd, _CONTENT.pack(_FORMAT, self._background, time.monotonic()), 0)

    def __del__(self) -> None:
        self.close()


def find_holder(path: str) -> str | None:
    """Who has the lease: ``"direct"``, ``"background"``, or ``None`` for nobody, or a process that is frozen.

    Raises:
        OSError: It cannot be read, or belongs to another user or is open to others.
    """
    try:
        fd = open_private(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        content = read(fd, _CONTENT.size, 0)
        try:
            # Beside others who look; whoever makes a lease locks it before it has its name.
            lock_shared(fd)
        except BlockingIOError:
            pass
        else:
            return None
    finally:
        os.close(fd)
    if len(content) < _CONTENT.size:
        return None
    form, background, renewed_at = _CONTENT.unpack(content)
    if form != _FORMAT or time.monotonic() - renewed_at > FROZEN:
        return None
    return "background" if background else "direct"
