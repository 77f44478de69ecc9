"""The options of a client that concern the cache."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from zenovay_async._cache.memory import Memory
from zenovay_async._cache.stats import Counters
from zenovay_async._cache.stores import check_cache_store, make_cache_store
from zenovay_async._cache.tiers import Tiers
from zenovay_async._protocol.auth import Secret
from zenovay_async._protocol.parameters import require_bool, require_int
from zenovay_async.exceptions import ConfigurationError

if TYPE_CHECKING:
    from zenovay_async.rate_limits import RedisClient

# About 30 years. A store counts milliseconds, as integers of 64 bits.
_MAX_SECONDS = 1e9
# Seconds. A response whose request began before an invalidation comes no later than that, but for the rarest batch.
_LONGEST_CALL = 3600.0


class CacheParts(msgspec.Struct, kw_only=True, eq=False):
    """What a cache is made of, for the clients that use it.

    Attributes:
        memory: What is kept in this process.
        counters: Counts what happens.
        tiers: What is kept for other processes; ``None`` if nothing is.
        clock: Seconds of this process.
        random: Random numbers from 0 to 1.
    """

    memory: Memory
    counters: Counters
    tiers: Tiers | None
    clock: Callable[[], float] = time.monotonic
    # Of the generator that a forked process seeds anew.
    random: Callable[[], float] = random.random


def parts_of(cache: Cache) -> CacheParts:
    """What a cache is made of."""
    return cache._parts  # noqa: SLF001 - private to users alone


class Cache:
    """Keeps responses, so that what was requested a moment ago costs no request; off unless a client is given one.

    A response is *fresh* for ``ttl`` seconds: it is returned at once. For ``stale`` seconds more it is *stale*: it is
    returned at once as well, while one request in the background refreshes it. A refresh that fails, as in an outage,
    leaves it as it is. Successful responses to GET are kept, each for its own key alone.

    One object may serve several clients, also in several threads: a program that makes a client for each request that
    it serves keeps one ``Cache`` for all of them.

    Args:
        ttl: Seconds for which a response is fresh, above 0.
        stale: Seconds after that for which it is stale, 0 or more.
        max_entries: Responses kept in memory, and as many in the files of a machine, 1 or more; beyond that, those that
            were used least recently go.
        max_bytes: Bytes of their bodies, 1 or more; a larger response is not kept.
        negative_ttl: Seconds for which a 404 is kept, and the call fails without a request; 0 for not at all.
        jitter: Share of ``ttl``, from 0 to 1, by which it is shortened at random, so that not all responses become
            stale at once.
        store: Where responses are kept for other processes: ``None`` for nowhere; ``"machine"`` for all processes of
            this user on this machine; the URL of a Redis (``redis://``, ``rediss://``, ``unix://``; extra ``redis``)
            for all machines; or a client of ``redis.asyncio``, which stays yours.

    Raises:
        ConfigurationError: An argument is invalid.

    Source: RFC 5861 (``stale-while-revalidate``, ``stale-if-error``).
    """

    def __init__(
        self,
        ttl: float = 60.0,
        stale: float = 600.0,
        *,
        max_entries: int = 1024,
        max_bytes: int = 64 * 1024 * 1024,
        negative_ttl: float = 0.0,
        jitter: float = 0.1,
        store: str | RedisClient | None = None,
    ) -> None:
        # From here on no variable holds the plain password, so that no traceback can show it.
        store = Secret(store) if isinstance(store, str) else store
        if not (_is_number(ttl) and 0 < ttl <= _MAX_SECONDS):
            raise ConfigurationError(f"ttl={ttl!r}: expected seconds above 0, at most {_MAX_SECONDS:g}")
        _check_seconds("stale", stale)
        _check_seconds("negative_ttl", negative_ttl)
        if not (_is_number(jitter) and 0 <= jitter <= 1):
            raise ConfigurationError(f"jitter={jitter!r}: expected a share of ttl from 0 to 1")
        require_int("max_entries", max_entries)
        require_int("max_bytes", max_bytes)
        check_cache_store(store, "store")
        self.ttl, self.stale = ttl, stale
        self.max_entries, self.max_bytes = max_entries, max_bytes
        self.negative_ttl, self.jitter = negative_ttl, jitter
        self._store = store
        counters, tiers = Counters(), None
        if store is not None:
            tiers = Tiers(
                lambda: make_cache_store(store, max_entries=max_entries, max_bytes=max_bytes),
                counters,
                keep_invalidations=max(ttl + stale, negative_ttl) + _LONGEST_CALL,
                clock=self._now,
            )
        self._parts = CacheParts(memory=Memory(max_entries, max_bytes), counters=counters, tiers=tiers)

    @property
    def store(self) -> str | RedisClient | None:
        """Where responses are kept besides memory, as given; a URL does not show itself, as it may have a password."""
        return self._store

    def __repr__(self) -> str:
        # A traceback with variables calls this even on a cache that rejected an argument.
        options = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        shown = [f"{name}={value!r}" for name, value in options.items()]
        store = getattr(self, "_store", None)
        shown.append(f"store={'None' if store is None else repr(str(store)) if store == 'machine' else '<secret>'}")
        return f"Cache({', '.join(shown)})"

    def _now(self) -> float:
        return self._parts.clock()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "cannot copy or pickle a Cache; pass it to several clients as it is, and make one in each process"
        )


class Reuse(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a client that concern responses which serve several calls.

    Attributes:
        cache: Keeps responses; ``None`` for no cache.
        coalesce: Whether equal calls in flight at one time are one request.
        max_age: Seconds that a response from the cache may be old; ``None`` for no bound.
    """

    cache: Cache | None = None
    coalesce: bool = True
    max_age: float | None = None

    def __post_init__(self) -> None:
        cache: Any = self.cache
        if cache is not None and not isinstance(cache, Cache):
            given = "the class itself" if cache is Cache else type(cache).__name__
            raise ConfigurationError(f"cache: expected a Cache such as Cache(ttl=60), or None for none, not {given}")
        require_bool("coalesce", self.coalesce)
        if self.max_age is not None:
            _check_seconds("max_age", self.max_age)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_seconds(name: str, seconds: float) -> None:
    if not (_is_number(seconds) and 0 <= seconds <= _MAX_SECONDS):
        raise ConfigurationError(f"{name}={seconds!r}: expected seconds from 0 to {_MAX_SECONDS:g}")
