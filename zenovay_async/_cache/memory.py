"""The responses that a process keeps in memory."""

from __future__ import annotations

import hashlib
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakSet

import msgspec

from zenovay_async._cache.entry import CachedResponse
from zenovay_async._protocol.decoding import Decoder
from zenovay_async.exceptions import ZenovayError

if TYPE_CHECKING:
    from zenovay_async._cache.invalidation import Scope

Account: TypeAlias = "tuple[bytes, str]"
"""A digest of a key, and the base URL."""

Key: TypeAlias = "tuple[Account, str, str, str]"
"""What a response is kept under: whose it is, the name of the operation, the path and the query of the call."""


def account_name(account: Account) -> str:
    """How the names of the responses of an account begin in a store."""
    digest, base_url = account
    return hashlib.sha256(digest + base_url.encode()).hexdigest()[:16]


# Invalidations that are remembered one by one.
_MAX_INVALIDATIONS = 1024


class Decoded(msgspec.Struct, frozen=True, gc=False):
    """What a body was decoded to.

    Attributes:
        decoder: By which decoder.
        is_strict: Whether nothing but the documented schema was accepted.
        data: The result.
        timestamp: When the server made the response.
    """

    decoder: Decoder[Any]
    is_strict: bool
    data: Any
    timestamp: datetime | None


class Record(msgspec.Struct, eq=False, gc=False):
    """A response in memory.

    Attributes:
        entry: What is kept of it.
        headers: Its headers, looked up regardless of case.
        decoded: The result, if all callers may share it.
        error: Of a 404, the error, without a traceback.
        refresh_at: When it may be refreshed next, once it is stale.
        is_cut: Whether its last refresh was canceled before its end, as with a client that was closed.
    """

    entry: CachedResponse
    headers: Mapping[str, str]
    decoded: Decoded | None = None
    error: ZenovayError | None = None
    refresh_at: float = 0.0
    is_cut: bool = False


class Memory:
    """Responses, least recently used first; clients in several threads may share it.

    Args:
        max_entries: Responses kept at most.
        max_bytes: Bytes of their bodies at most.

    Attributes:
        bytes: Bytes of the bodies that are kept.
    """

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._records: OrderedDict[Key, Record] = OrderedDict()
        self._invalidations: OrderedDict[tuple[Account, Scope], float] = OrderedDict()
        # What began up to then may have been invalidated: which it was is forgotten.
        self._forgotten_until = -math.inf
        self._last_invalidated = -math.inf
        self.bytes = 0
        _memories.add(self)

    def __len__(self) -> int:
        return len(self._records)

    def find(self, key: Key) -> Record | None:
        """Find a record, whatever its age; it is the most recently used one from now on."""
        with self._lock:
            record = self._records.get(key)
            if record is not None:
                self._records.move_to_end(key)
            return record

    def keep(self, key: Key, record: Record) -> bool:
        """Keep a record in place of another; one that was invalidated since its request began is not kept.

        Returns:
            Whether it is kept.
        """
        size, began_at = len(record.entry.body), record.entry.began_at
        with self._lock:
            if size > self._max_bytes or self._is_invalid(key, began_at):
                return False
            self._remove(key)
            self._records[key] = record
            self.bytes += size
            while len(self._records) > self._max_entries or self.bytes > self._max_bytes:
                self._remove(next(iter(self._records)))
        return True

    def drop(self, key: Key, began_at: float) -> None:
        """Drop the record of a request that began before."""
        with self._lock:
            record = self._records.get(key)
            if record is not None and record.entry.began_at <= began_at:
                self._remove(key)

    def invalidate(self, account: Account, scope: Scope, now: float) -> None:
        """Drop all records of an account within a scope, and those that come from requests that began before."""
        with self._lock:
            for key in list(self._records):
                if key[0] == account and scope.covers(*key[1:]):
                    self._remove(key)
            self._invalidations.pop((account, scope), None)
            # In order of time, whichever thread was first.
            self._last_invalidated = max(now, self._last_invalidated)
            self._invalidations[account, scope] = self._last_invalidated
            if len(self._invalidations) > _MAX_INVALIDATIONS:
                self._forgotten_until = self._invalidations.popitem(last=False)[1]

    def restart(self) -> None:
        """Go on in a forked process, where a thread that is gone may have held the lock."""
        self._lock = threading.Lock()
        self.bytes = sum(len(record.entry.body) for record in self._records.values())

    def _remove(self, key: Key) -> None:
        record = self._records.pop(key, None)
        if record is not None:
            self.bytes -= len(record.entry.body)

    def _is_invalid(self, key: Key, began_at: float) -> bool:
        if began_at <= self._forgotten_until:
            return True
        for (account, scope), at in reversed(self._invalidations.items()):
            if at < began_at:
                return False
            if account == key[0] and scope.covers(*key[1:]):
                return True
        return False


_memories: WeakSet[Memory] = WeakSet()


def _restart() -> None:
    for memory in list(_memories):
        memory.restart()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restart)
