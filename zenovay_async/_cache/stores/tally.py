"""What a folder of responses has: counted as it changes, so that nobody has to look at all of it each time."""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

# What is left of the bounds when responses are removed, so that it is not done for each one.
_KEPT = 0.9

_COUNTS = struct.Struct("<qqdd")


class Tally(NamedTuple):
    """How many responses there are, and when somebody looked.

    Attributes:
        entries: Responses.
        size: Bytes of their files.
        swept_at: When the folder was last looked at.
        claimed_until: Until when a process looks at it, unless it ends before.
    """

    entries: int
    size: int
    swept_at: float
    claimed_until: float

    @classmethod
    def decode(cls, encoded: bytes | None) -> Tally:
        """What was counted; if that is not known, it is long since somebody looked."""
        if encoded is None or len(encoded) != _COUNTS.size:
            return cls(0, 0, float("-inf"), 0.0)
        return cls(*_COUNTS.unpack(encoded))

    def encode(self) -> bytes:
        """As bytes, for a file."""
        return _COUNTS.pack(*self)

    def add(self, entries: int, size: int) -> Tally:
        """With so many more."""
        return self._replace(entries=self.entries + entries, size=self.size + size)


class SeenFile(NamedTuple):
    """A file as it was seen, which may have changed since."""

    path: str
    found: os.stat_result

    def is_same(self, found: os.stat_result) -> bool:
        """Whether it is the file that is there now; the number of a file is used again soon, its time is not."""
        return os.path.samestat(found, self.found) and found.st_mtime_ns == self.found.st_mtime_ns


def select_kept(files: list[SeenFile], max_entries: int, max_bytes: int, now: float) -> int:
    """Sort responses, those that expire last first, and return how many of them are kept.

    Args:
        files: The responses, whose times of modification are those at which they expire.
        max_entries: Responses at most.
        max_bytes: Bytes at most.
        now: The time of day.
    """
    files.sort(key=lambda file: file.found.st_mtime, reverse=True)
    size, kept = 0, 0
    is_full = len(files) > max_entries or sum(file.found.st_size for file in files) > max_bytes
    share = _KEPT if is_full else 1.0
    for file in files:
        size += file.found.st_size
        is_too_much = kept + 1 > share * max_entries or size > share * max_bytes
        if file.found.st_mtime <= now or (kept and is_too_much):
            break
        kept += 1
    return kept
