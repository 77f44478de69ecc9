"""CachingCaller: responses that are kept, in front of the requests; a Caller around a Session and its Coalescer.

A response that is **fresh** ends the call. One that is **stale** ends it as well, and is refreshed in the background.
Whatever else is requested goes through the coalescer, so that what many need at once is requested and kept once; who
joins a request keeps the response too, if the one who leads it has another cache.

An invalidation counts against a response by when its request began. A call that joins a request takes its own
beginning for that: after an invalidation no call joins a request from before.
"""

from __future__ import annotations

import logging
import math
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from zenovay_async._protocol.log_fields import call_fields
from zenovay_async._protocol.parameters import NOT_GIVEN, Timeout, check_timeout
from zenovay_async._session.background import SCOPE
from zenovay_async._session.kept_responses import CONCLUSIVE, MIN_PAUSE, NOT_FOUND
from zenovay_async.exceptions import ClientClosedError, ZenovayError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable

    from zenovay_async._cache.entry import CachedResponse
    from zenovay_async._cache.invalidation import Scope
    from zenovay_async._cache.memory import Account, Key, Record
    from zenovay_async._cache.options import CacheParts
    from zenovay_async._cache.shared import Lease
    from zenovay_async._limits.budget import Budget
    from zenovay_async._protocol.call import Call
    from zenovay_async._protocol.response import Response
    from zenovay_async._session.coalescing import Coalescer
    from zenovay_async._session.kept_responses import KeptResponses
    from zenovay_async._session.session import Session
    from zenovay_async._session.state import CallState
    from zenovay_async._session.transport import Transport

T = TypeVar("T")

_logger = logging.getLogger("zenovay_async.cache")

# Seconds that a call which waited for another one's response has left for its own request, at least.
MIN_TIMEOUT = 0.001


class CachingCaller:
    """Returns responses that are kept, and keeps the others.

    Args:
        parts: Those of the cache that keeps them.
        kept: Makes responses of what is kept, and keeps others.
        account: Whose they are.
        max_age: Seconds that a response may be old; ``None`` for no bound.
        session: Carries out calls that are not kept.
        coalescer: Carries out the others.
        transport: Says whether the client is closed.
        budget: Says whether the monthly quota is exhausted.
    """

    def __init__(
        self,
        parts: CacheParts,
        kept: KeptResponses,
        account: Account,
        *,
        max_age: float | None,
        session: Session,
        coalescer: Coalescer,
        transport: Transport,
        budget: Budget,
    ) -> None:
        self._clock, self._counters, self._memory = parts.clock, parts.counters, parts.memory
        self._kept = kept
        self._account = account
        self._max_age = math.inf if max_age is None else max_age
        self._session = session
        self._coalescer = coalescer
        self._transport = transport
        self._budget = budget

    async def send(self, call: Call[T], timeout: Timeout = NOT_GIVEN) -> Response[T]:
        """Return a response that is kept, or carry out a call.

        Args:
            call: The call.
            timeout: Seconds for the whole call; ``None`` for no deadline; omitted, the client's own.

        Raises:
            ZenovayError: The call failed, or its 404 is kept.
        """
        endpoint = call.endpoint
        if not call.is_cacheable:
            return await self._session.send(call, timeout)
        if timeout is not NOT_GIVEN:
            check_timeout("timeout", timeout)
        self._transport.check_open()
        key = (self._account, endpoint.operation, call.path, call.query)
        if endpoint.usage_of is not None and self._budget.is_quota_exhausted:
            # The response says whether there is a quota again.
            return await self._request(call, timeout, key)
        record = self._memory.find(key)
        if record is not None:
            response = self._use(record, call, key)
            if response is not None:
                return response
        return await self._request(call, timeout, key)

    def is_fresh(self, call: Call[Any]) -> bool:
        """Whether this process has a fresh response to a call, so that it needs no request."""
        record = self._memory.find(self._key_of(call)) if self._may_use(call) else None
        if record is None:
            return False
        now, entry = self._clock(), record.entry
        return now < entry.fresh_until and now - entry.stored_at < self._max_age

    def invalidate(self, scope: Scope) -> Awaitable[None] | None:
        """Invalidate the responses of this account within a scope, in this process at once.

        Returns:
            To be awaited by whoever needs to know that all processes see it; ``None`` if there are no others.

        Raises:
            ClientClosedError: There are others, and no event loop is running.
        """
        self._memory.invalidate(self._account, scope, self._clock())
        return None

    async def aclose(self) -> None:
        """Close what this client has of the cache: in memory, nothing."""

    def _may_use(self, call: Call[Any]) -> bool:
        """Whether a response that is kept may be returned for a call."""
        return call.is_cacheable and (call.endpoint.usage_of is None or not self._budget.is_quota_exhausted)

    def _key_of(self, call: Call[Any]) -> Key:
        return self._account, call.endpoint.operation, call.path, call.query

    def _use(self, record: Record, call: Call[T], key: Key) -> Response[T] | None:
        """Make a response of a record, and begin to refresh it if it is stale; ``None`` if it cannot be used.

        Raises:
            NotFoundError: It is a 404.
        """
        now, entry = self._clock(), record.entry
        age = now - entry.stored_at
        if age >= self._max_age or now >= entry.expires_at:
            return None
        is_fresh = now < entry.fresh_until
        if entry.status == NOT_FOUND:
            self._counters.hits += 1
            self._session.note_cache("hit")
            self._log(call, entry, age, is_fresh=is_fresh)
            raise self._kept.error_of(record, call)
        if record.is_cut and not is_fresh:
            # Nothing in this program lives long enough to refresh it, such as a client for each web request.
            return None
        response = self._kept.respond(record, call, age)
        if response is None:
            return None
        if is_fresh:
            self._counters.hits += 1
            self._session.note_cache("hit")
        else:
            self._counters.stale += 1
            self._session.note_cache("stale")
            if now >= record.refresh_at:
                task = self._coalescer.refresh(call, partial(self._refresh, key))
                if task is not None:
                    task.add_done_callback(partial(self._on_refreshed, record))
        scope = SCOPE.get()
        if scope is not None and not scope.ended:
            scope.record_success(call)
        if _logger.isEnabledFor(logging.DEBUG):
            self._log(call, entry, age, is_fresh=is_fresh)
        return response

    def _on_refreshed(self, record: Record, _: asyncio.Task[None]) -> None:
        # One that failed has its pause, and one that succeeded another record.
        record.is_cut = self._clock() >= record.refresh_at

    def _use_instead(self, error: ZenovayError, call: Call[T], key: Key) -> Response[T] | None:
        """The stale response of a call that waited since its refreshes are cut, and failed; ``None`` if none holds."""
        record = self._memory.find(key)
        if record is None or isinstance(error, (*CONCLUSIVE, ClientClosedError)):
            return None
        record.is_cut, record.refresh_at = False, max(record.refresh_at, self._clock() + MIN_PAUSE)
        return self._use(record, call, key)

    def _log(self, call: Call[Any], entry: CachedResponse, age: float, *, is_fresh: bool) -> None:
        kind = "fresh" if is_fresh else "stale"
        fields = call_fields(call, status=entry.status, age=age)
        _logger.debug("%s: HTTP %d from the cache, %s, %.1f s old", call, entry.status, kind, age, extra=fields)

    async def _request(
        self, call: Call[T], timeout: Timeout, key: Key, begun: CallState[T] | None = None
    ) -> Response[T]:
        """Request a response, or join who does, and keep it."""
        self._counters.misses += 1
        self._session.note_cache("miss")
        since, leads = self._clock(), False
        record = self._memory.find(key)
        # The first of several callers who fail ends that.
        is_cut = record is not None and record.is_cut

        def carry_out(state: CallState[Any]) -> Awaitable[Response[Any]]:
            nonlocal leads
            leads = True
            return self._fetch(key, state)

        while True:
            try:
                response = await self._coalescer.send(call, timeout, carry_out)
            except ZenovayError as error:
                if isinstance(error, CONCLUSIVE) and not (leads or self._is_kept_since(key, since)):
                    self._kept.record_failure(key, error, since, None)
                stale = self._use_instead(error, call, key) if is_cut else None
                if stale is None:
                    raise
                return stale
            if leads:
                return response
            if not response.from_cache:
                if not self._is_kept_since(key, since):
                    # It began before, but no invalidation has come since then: a call after one does not join it.
                    self._kept.keep(key, response, since)
                return response
            # Who led had it from another process, and may accept an older one.
            if begun is None or response.age < max(self._max_age, self._clock() - since):
                return response
            timeout = None if begun.deadline is None else max(MIN_TIMEOUT, begun.remaining())

    def _is_kept_since(self, key: Key, since: float) -> bool:
        """Whether a response that came since then is kept, as by a caller with the same cache who led."""
        record = self._memory.find(key)
        return record is not None and record.entry.stored_at >= since

    async def _fetch(self, key: Key, state: CallState[Any], lease: Lease | None = None) -> Response[Any]:
        """Request a response, and keep it."""
        began_at = self._clock()
        try:
            response = await self._session.run(state)
            self._kept.keep(key, response, began_at, lease)
        except ZenovayError as error:
            self._kept.record_failure(key, error, began_at, lease)
            raise
        except Exception:
            # Of the caller's own code, such as a limiter.
            self._kept.put_off_refresh(key, MIN_PAUSE)
            raise
        finally:
            if lease is not None:
                # Without effect if it ended with what is kept.
                lease.release_soon()
        return response

    async def _refresh(self, key: Key, state: CallState[Any]) -> Response[Any]:
        """Request a response in the background, in place of a stale one."""
        return await self._fetch_anew(key, state)

    async def _fetch_anew(self, key: Key, state: CallState[Any], lease: Lease | None = None) -> Response[Any]:
        self._counters.refreshes += 1
        try:
            return await self._fetch(key, state, lease)
        except Exception as error:
            if not isinstance(error, (*CONCLUSIVE, ClientClosedError)):
                self._counters.errors += 1
            raise
