"""What a cache has done and has."""

from __future__ import annotations

import msgspec


class Counters(msgspec.Struct):
    """What happened so far; counted as it happens.

    Attributes:
        hits: Calls that got a fresh response without a request.
        stale: Calls that got a stale one without waiting.
        misses: Calls that had to wait for a request, their own or one that they joined.
        joined: Calls that joined an equal one in flight.
        refreshes: Requests in the background for a response that was stale.
        errors: Refreshes that failed, so that the stale response stays, and failures of the store.
    """

    hits: int = 0
    stale: int = 0
    misses: int = 0
    joined: int = 0
    refreshes: int = 0
    errors: int = 0


class CacheStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a cache has done since it was made, and what it has in this process; see ``zenovay.cache.stats``.

    Attributes:
        hits: Calls that got a fresh response without a request.
        stale: Calls that got a stale one without waiting.
        misses: Calls that had to wait for a request, their own or one that they joined.
        joined: Calls that joined an equal one in flight.
        refreshes: Requests in the background for a response that was stale.
        errors: Refreshes that failed, so that the stale response stays, and failures of the store.
        entries: Responses kept in this process.
        bytes: Bytes of their bodies.
    """

    hits: int
    stale: int
    misses: int
    joined: int
    refreshes: int
    errors: int
    entries: int
    bytes: int
