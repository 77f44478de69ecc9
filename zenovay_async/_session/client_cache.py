"""ClientCache: what users do with the cache of a client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zenovay_async._cache.invalidation import Scope
from zenovay_async._cache.stats import CacheStats, Counters
from zenovay_async._protocol.parameters import optional_str
from zenovay_async._session.flight import forget_flights
from zenovay_async.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator

    from zenovay_async._cache.memory import Memory
    from zenovay_async._limits.budget import Budget
    from zenovay_async._session.cache import CachingCaller


class _Done:
    """An awaitable of what is done already, which may as well not be awaited."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        yield from ()


class ClientCache:
    """The cache of a client, and its calls in flight: ``zenovay.cache``.

    It concerns the responses of the client's key. Without a ``cache=`` there are none that are kept, but equal calls in
    flight at one time are one request all the same.
    """

    def __init__(
        self, budget: Budget, counters: Counters, memory: Memory | None = None, caching: CachingCaller | None = None
    ) -> None:
        self._budget = budget
        self._counters = counters
        self._memory = memory
        self._caching = caching

    def __repr__(self) -> str:
        return f"<ClientCache: {self.stats!r}>"

    def clear(self) -> Awaitable[None]:
        """Invalidate all responses of the client's key; as :meth:`invalidate`."""
        return self._invalidate(Scope())

    def invalidate(self, website_id: str | None = None, operation: str | None = None) -> Awaitable[None]:
        """Invalidate the responses of a website, of an operation, or of an operation for a website.

        It takes effect in this process at once: responses that are kept are dropped, those in flight are returned to
        who waits for them and not kept, and no further call waits for them.

        Args:
            website_id: ID of the website; omitted, of all.
            operation: Name of the operation, such as ``heatmaps.pages``, or ``request`` for ``zenovay.request``;
                omitted, of all.

        Returns:
            An awaitable, for whoever needs to know that all processes that share the cache's store see it. It need not
            be awaited.

        Raises:
            ConfigurationError: Neither is given, or one is not a str or blank.
            ClientClosedError: The cache has a store, and no event loop is running.
        """
        if website_id is None and operation is None:
            raise ConfigurationError("invalidate(): expected a website_id, an operation or both; for all, use clear()")
        if callable(operation):
            raise ConfigurationError("operation: expected a name such as 'heatmaps.pages', not the method itself")
        return self._invalidate(Scope(optional_str("website_id", website_id), optional_str("operation", operation)))

    @property
    def stats(self) -> CacheStats:
        """What the cache has done since it was made, for all clients that have it, and what it has now."""
        counters, memory = self._counters, self._memory
        return CacheStats(
            hits=counters.hits,
            stale=counters.stale,
            misses=counters.misses,
            joined=counters.joined,
            refreshes=counters.refreshes,
            errors=counters.errors,
            entries=0 if memory is None else len(memory),
            bytes=0 if memory is None else memory.bytes,
        )

    def _invalidate(self, scope: Scope) -> Awaitable[None]:
        forget_flights(self._budget, scope)
        recorded = None if self._caching is None else self._caching.invalidate(scope)
        return _Done() if recorded is None else recorded
