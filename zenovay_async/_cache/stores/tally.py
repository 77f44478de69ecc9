"""What a folder of responses has: counted as it changes, so that nobody has to look at all of it each time."""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

# What is left of the bounds when responses are removed, so that it is not done for each one.
_KEPT = 0.9

LARGEST_BOUND = (1 << 63) - 1
"""What fits into a file."""
# Entries, size, when it was swept, until when that is claimed; then each bound, and until when it counts.
_COUNTS = struct.Struct("<qqddqdqd")


class Bound(NamedTuple):
    """The largest bound of those processes whose responses are kept, so that none pushes out those of the others.

    Attributes:
        limit: The bound.
        until: When the last response expires that a process kept which has this bound.
    """

    limit: int
    until: float

    def widen(self, limit: int, until: float, now: float) -> Bound:
        """With the bound of a process that keeps a response until then."""
        if now >= self.until or limit > self.limit:
            return Bound(limit, until)
        return self if limit < self.limit else Bound(limit, max(until, self.until))


_NO_BOUND = Bound(0, float("-inf"))


class Tally(NamedTuple):
    """How many responses there are, and when somebody looked.

    Attributes:
        entries: Responses.
        size: Bytes of their files.
        swept_at: When the folder was last looked at.
        claimed_until: Until when a process looks at it, unless it ends before.
        max_entries: Responses at most.
        max_bytes: Bytes of their files at most.
    """

    entries: int
    size: int
    swept_at: float
    claimed_until: float
    max_entries: Bound = _NO_BOUND
    max_bytes: Bound = _NO_BOUND

    @classmethod
    def decode(cls, encoded: bytes | None) -> Tally:
        """What was counted; if that is not known, it is long since somebody looked."""
        if encoded is None or len(encoded) != _COUNTS.size:
            return cls(0, 0, float("-inf"), 0.0)
        entries, size, swept_at, claimed_until, *bounds = _COUNTS.unpack(encoded)
        return cls(entries, size, swept_at, claimed_until, Bound(*bounds[:2]), Bound(*bounds[2:]))

    def encode(self) -> bytes:
        """As bytes, for a file."""
        return _COUNTS.pack(*self[:4], *self.max_entries, *self.max_bytes)

    def add(self, entries: int, size: int) -> Tally:
        """With so many more."""
        return self._replace(entries=self.entries + entries, size=self.size + size)

    def widen(self, max_entries: int, max_bytes: int, until: float, now: float) -> Tally:
        """With the bounds of a process that keeps a response until then."""
        return self._replace(
            max_entries=self.max_entries.widen(max_entries, until, now),
            max_bytes=self.max_bytes.widen(max_bytes, until, now),
        )

    @property
    def is_full(self) -> bool:
        """Whether there is more than allowed."""
        return self.entries > self.max_entries.limit or self.size > self.max_bytes.limit


class SeenFile(NamedTuple):
    """A file as it was seen, which may have changed since."""

    path: str
    found: os.stat_result

    def is_same(self, found: os.stat_result) -> bool:
        """Whether it is the file that is there now; the number of a file is used again soon, its time is not."""
        return os.path.samestat(found, self.found) and found.st_mtime_ns == self.found.st_mtime_ns


def select_kept(files: list[SeenFile], max_entries: int, max_bytes: int, now: float) -> list[SeenFile]:
    """The responses that are kept: those that were used last.

    Args:
        files: The responses. Their times of modification are those at which they expire; those of access are when they
            were read or, where the system does not note that, written.
        max_entries: Responses at most.
        max_bytes: Bytes at most.
        now: The time of day.
    """
    files = [file for file in files if file.found.st_mtime > now]
    if len(files) <= max_entries and sum(file.found.st_size for file in files) <= max_bytes:
        return files
    files.sort(key=lambda file: file.found.st_atime, reverse=True)
    size = 0
    for number, file in enumerate(files):
        size += file.found.st_size
        if number and (number + 1 > _KEPT * max_entries or size > _KEPT * max_bytes):
            return files[:number]
    return files
