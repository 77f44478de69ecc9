"""CachingCaller: responses that are kept, in front of the requests; a Caller around a Session and its Coalescer."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import logging
import math
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from zenovay_async._cache.entry import VERSION, CachedResponse, kept_headers
from zenovay_async._cache.memory import Decoded, Key, Record, account_name
from zenovay_async._cache.options import parts_of
from zenovay_async._protocol.failures import error_from_response
from zenovay_async._protocol.parameters import NOT_GIVEN, Timeout, check_timeout
from zenovay_async._protocol.parsing import parse_response
from zenovay_async._protocol.response import RawResponse, Response
from zenovay_async._session.background import SCOPE
from zenovay_async._session.connection_pool import headers_view
from zenovay_async.exceptions import (
    MAX_BODY_CHARS,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ClientClosedError,
    NotFoundError,
    PermissionDeniedError,
    ZenovayError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from zenovay_async._cache.memory import Account
    from zenovay_async._cache.options import Cache
    from zenovay_async._cache.shared import Lease, SharedTier
    from zenovay_async._cache.tiers import Members
    from zenovay_async._limits.budget import Budget
    from zenovay_async._protocol.auth import Auth
    from zenovay_async._protocol.call import Call
    from zenovay_async._session.coalescing import Coalescer
    from zenovay_async._session.session import Session
    from zenovay_async._session.state import CallState
    from zenovay_async._session.transport import Transport
    from zenovay_async.events import Listener

T = TypeVar("T")

Fetch: TypeAlias = "Callable[[Key, CallState[Any]], Awaitable[Response[Any]]]"
"""Requests a response and keeps it."""

_logger = logging.getLogger("zenovay_async")

_NOT_FOUND = 404
# Errors that the next request would meet as well: no response of before stays in their place.
_CONCLUSIVE = (BadRequestError, AuthenticationError, PermissionDeniedError, NotFoundError)
# Seconds from a refresh that failed to the next one, at least and at most.
_MIN_PAUSE, _MAX_PAUSE = 5.0, 60.0
# Share of a timeout. If the store took less of it, the timeout is as good as whole.
_NEGLIGIBLE = 0.05
_MIN_TIMEOUT = 0.001


class CachingCaller:
    """Returns responses that are kept, and keeps the others.

    Args:
        cache: Keeps them.
        account: Whose they are.
        max_age: Seconds that a response may be old; ``None`` for no bound.
        strict: Accept nothing but the documented schema.
        session: Carries out calls that are not kept.
        coalescer: Carries out the others.
        transport: Says whether the client is closed.
        auth: The key, which is not to be kept.
        budget: Says whether the monthly quota is exhausted.
        listener: Gets the events of the cache's store.
    """

    def __init__(
        self,
        cache: Cache,
        account: Account,
        *,
        max_age: float | None,
        strict: bool,
        session: Session,
        coalescer: Coalescer,
        transport: Transport,
        auth: Auth,
        budget: Budget,
        listener: Listener | None,
    ) -> None:
        parts = parts_of(cache)
        self._cache = cache
        self._clock, self._random = parts.clock, parts.random
        self._counters, self._memory, self._tiers = parts.counters, parts.memory, parts.tiers
        self._members: Members | None = None
        self._account, self._account_name = account, account_name(account)
        self._max_age = math.inf if max_age is None else max_age
        self._strict = strict
        self._session = session
        self._coalescer = coalescer
        self._transport = transport
        self._auth = auth
        self._budget = budget
        self._listener = listener

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
        if self._tiers is not None:
            return await self._send_shared(call, timeout, key)
        record = self._memory.find(key)
        if record is not None:
            response = self._use(record, call, key, self._refresh)
            if response is not None:
                return response
        return await self._request(call, timeout, key)

    def is_fresh(self, call: Call[Any]) -> bool:
        """Whether this process has a fresh response to a call, so that it needs no request."""
        if not call.is_cacheable or (call.endpoint.usage_of is not None and self._budget.is_quota_exhausted):
            return False
        record = self._memory.find((self._account, call.endpoint.operation, call.path, call.query))
        if record is None:
            return False
        now, entry = self._clock(), record.entry
        return now < entry.fresh_until and now - entry.stored_at < self._max_age

    async def aclose(self) -> None:
        """Close the cache's store, if no other client uses it in this thread."""
        members, self._members = self._members, None
        if members is not None and self._tiers is not None and members is self._tiers.here():
            await members.leave(self)

    # Responses that are kept.

    def _use(self, record: Record, call: Call[T], key: Key, refresh: Fetch) -> Response[T] | None:
        """Make a response of a record, and begin to refresh it if it is stale; ``None`` if it cannot be used.

        Raises:
            NotFoundError: It is a 404.
        """
        now, entry = self._clock(), record.entry
        age = now - entry.stored_at
        if age >= self._max_age or now >= entry.expires_at:
            return None
        is_fresh = now < entry.fresh_until
        if entry.status == _NOT_FOUND:
            self._counters.hits += 1
            self._log(call, entry, age, is_fresh=is_fresh)
            raise self._error_of(record, call)
        response = self._respond(record, call, age)
        if response is None:
            return None
        if is_fresh:
            self._counters.hits += 1
        else:
            self._counters.stale += 1
            if now >= record.refresh_at:
                self._coalescer.refresh(call, partial(refresh, key))
        scope = SCOPE.get()
        if scope is not None and not scope.ended:
            scope.record_success(call)
        if _logger.isEnabledFor(logging.DEBUG):
            self._log(call, entry, age, is_fresh=is_fresh)
        return response

    def _respond(self, record: Record, call: Call[T], age: float) -> Response[T] | None:
        """Make a response of a record; ``None`` if this client does not accept it."""
        decoded = record.decoded
        if decoded is None or decoded.decoder is not call.endpoint.decoder or decoded.is_strict < self._strict:
            decoded = self._decode(record, call)
            if decoded is None:
                return None
        entry = record.entry
        return Response(
            data=decoded.data,
            status=entry.status,
            headers=record.headers,
            body=entry.body,
            timestamp=decoded.timestamp,
            attempts=0,
            waits=(),
            from_cache=True,
            age=age,
        )

    def _decode(self, record: Record, call: Call[Any]) -> Decoded | None:
        entry, decoder = record.entry, call.endpoint.decoder
        try:
            parsed = parse_response(
                call, RawResponse(entry.status, record.headers, entry.body), time.time(), strict=self._strict
            )
        except ZenovayError:
            # Such as a response that another client kept, which is not strict. A request of this one's finds out.
            return None
        decoded = Decoded(decoder, self._strict, parsed.data, parsed.timestamp)
        if decoder.is_shareable:
            record.decoded = decoded
        return decoded

    def _error_of(self, record: Record, call: Call[Any]) -> ZenovayError:
        """The error of a 404, for one caller."""
        kept = record.error
        if kept is None:
            entry = record.entry
            raw = RawResponse(entry.status, record.headers, entry.body)
            kept = record.error = error_from_response(raw, time.time())
            self._auth.redact(kept)
            kept.operation, kept.call = call.operation, str(call)
        return copy.copy(kept)

    def _log(self, call: Call[Any], entry: CachedResponse, age: float, *, is_fresh: bool) -> None:
        kind = "fresh" if is_fresh else "stale"
        _logger.debug("%s: HTTP %d from the cache, %s, %.1f s old", call, entry.status, kind, age)

    # Responses to be requested.

    async def _request(
        self, call: Call[T], timeout: Timeout, key: Key, begun: CallState[T] | None = None
    ) -> Response[T]:
        """Request a response, or join who does, and keep it."""
        self._counters.misses += 1
        since, leads = self._clock(), False
        fetch: Fetch = self._fetch if self._tiers is None else self._fetch_shared

        def carry_out(state: CallState[Any]) -> Awaitable[Response[Any]]:
            nonlocal leads
            leads = True
            return fetch(key, state)

        while True:
            try:
                response = await self._coalescer.send(call, timeout, carry_out)
            except _CONCLUSIVE as error:
                if not (leads or self._is_kept_since(key, since)):
                    self._record_failure(key, error, since, None)
                raise
            if leads:
                return response
            if not response.from_cache:
                if not self._is_kept_since(key, since):
                    # It began before, but no invalidation has come since then: a call after one does not join it.
                    self._keep(key, call, response, since)
                return response
            # Who led had it from another process, and may accept an older one.
            if begun is None or response.age < max(self._max_age, self._clock() - since):
                return response
            timeout = None if begun.deadline is None else max(_MIN_TIMEOUT, begun.remaining())

    def _is_kept_since(self, key: Key, since: float) -> bool:
        """Whether a response that came since then is kept, as by a caller with the same cache who led."""
        record = self._memory.find(key)
        return record is not None and record.entry.stored_at >= since

    async def _fetch(self, key: Key, state: CallState[Any], lease: Lease | None = None) -> Response[Any]:
        began_at = self._clock()
        try:
            response = await self._session.run(state)
        except ZenovayError as error:
            self._record_failure(key, error, began_at, lease)
            raise
        except BaseException as error:
            if isinstance(error, Exception):
                # Of the caller's own code, such as a limiter.
                self._put_off_refresh(key, _MIN_PAUSE)
            if lease is not None:
                lease.release_soon()
            raise
        self._keep(key, state.call, response, began_at, lease)
        return response

    async def _refresh(self, key: Key, state: CallState[Any], lease: Lease | None = None) -> Response[Any]:
        self._counters.refreshes += 1
        try:
            return await self._fetch(key, state, lease)
        except Exception as error:
            if not isinstance(error, (*_CONCLUSIVE, ClientClosedError)):
                self._counters.errors += 1
            raise

    def _keep(
        self, key: Key, call: Call[Any], response: Response[Any], began_at: float, lease: Lease | None = None
    ) -> None:
        headers, cache, record = response.headers, self._cache, None
        if not self._auth.is_echoed(response.body, headers.values()):
            # What is for who asked is not kept. Without a store, the view of the others is all that is needed.
            has_cookies = "Set-Cookie" in headers or "Set-Cookie2" in headers
            pairs = kept_headers(headers) if has_cookies or self._tiers is not None else ()
            now = self._clock()
            fresh_until = now + cache.ttl * (1 - cache.jitter * self._random())
            entry = self._entry(
                response.status, pairs, response.body, began_at, now, fresh_until, now + cache.ttl + cache.stale
            )
            record = Record(entry, headers_view(pairs) if has_cookies else headers)
            decoder = call.endpoint.decoder
            if decoder.is_shareable:
                record.decoded = Decoded(decoder, self._strict, response.data, response.timestamp)
        self._store(key, record, began_at, lease)

    def _keep_error(self, key: Key, error: NotFoundError, began_at: float, lease: Lease | None = None) -> None:
        """Keep a 404, in place of what was kept before."""
        seconds, body, record = self._cache.negative_ttl, error.body or "", None
        # A body that was cut cannot be parsed by another process.
        if seconds and error.status == _NOT_FOUND and len(body) < MAX_BODY_CHARS:
            headers = (("x-request-id", error.request_id),) if error.request_id else ()
            content = body.encode(errors="replace")
            if not self._auth.is_echoed(content, (error.request_id or "",)):
                now = self._clock()
                until = now + seconds
                record = Record(
                    self._entry(_NOT_FOUND, headers, content, began_at, now, until, until), headers_view(headers)
                )
                kept = record.error = copy.copy(error)
                kept.attempts, kept.waits = 0, ()
        self._store(key, record, began_at, lease)

    def _store(self, key: Key, record: Record | None, began_at: float, lease: Lease | None) -> None:
        if record is not None and self._memory.keep(key, record):
            if lease is not None:
                lease.keep_soon(record.entry)
            return
        self._memory.drop(key, began_at)
        if lease is not None:
            lease.drop_soon()

    def _record_failure(self, key: Key, error: ZenovayError, began_at: float, lease: Lease | None) -> None:
        if isinstance(error, NotFoundError):
            self._keep_error(key, error, began_at, lease)
            return
        if isinstance(error, _CONCLUSIVE):
            self._store(key, None, began_at, lease)
            return
        if not isinstance(error, ClientClosedError):
            self._put_off_refresh(key, min(max(error.retry_after or 0.0, _MIN_PAUSE), _MAX_PAUSE))
        if lease is not None:
            lease.release_soon()

    def _put_off_refresh(self, key: Key, seconds: float) -> None:
        record = self._memory.find(key)
        if record is not None:
            record.refresh_at = self._clock() + seconds

    def _entry(
        self,
        status: int,
        headers: tuple[tuple[str, str], ...],
        body: bytes,
        began_at: float,
        now: float,
        fresh_until: float,
        expires_at: float,
    ) -> CachedResponse:
        # Not of a random generator, which two processes may have in one state after a fork.
        stamp = b"" if self._tiers is None else os.urandom(12)
        return CachedResponse(VERSION, stamp, status, headers, body, began_at, now, fresh_until, expires_at)

    # Responses of a store.

    async def _send_shared(self, call: Call[T], timeout: Timeout, key: Key) -> Response[T]:
        state, tier = self._session.begin(call, timeout), self._tier()
        whole = state.remaining()
        try:
            async with asyncio.timeout_at(state.deadline):
                entry = await tier.find(self._name_of(key), call)
        except TimeoutError:
            error = APITimeoutError("The deadline passed before the store of the cache responded")
            error.sent = False
            raise state.final_error(error) from None
        # What the store does not have is gone for all.
        record = self._remember(key, entry) if entry is not None else self._memory.find(key) if tier.is_lost else None
        if record is not None:
            response = self._use(record, call, key, self._refresh_shared)
            if response is not None:
                return response
        left = state.remaining()
        if whole - left > _NEGLIGIBLE * whole:
            timeout = max(_MIN_TIMEOUT, left)
        return await self._request(call, timeout, key, state)

    async def _fetch_shared(self, key: Key, state: CallState[Any]) -> Response[Any]:
        """Request a response, unless another process does; then wait for that one."""
        since, call = self._clock(), state.call

        def accept(entry: CachedResponse) -> bool:
            now = self._clock()
            return entry.stored_at >= since or (now < entry.fresh_until and now - entry.stored_at < self._max_age)

        found = await self._tier().acquire(self._name_of(key), call, state, accept)
        if not isinstance(found, CachedResponse):
            return await self._fetch(key, state, found)
        return self._respond_shared(key, call, found) or await self._fetch(key, state)

    async def _refresh_shared(self, key: Key, state: CallState[Any]) -> Response[Any]:
        """Refresh a response, unless another process does."""
        name, call, tier = self._name_of(key), state.call, self._tier()
        lease = await tier.try_acquire(name)
        if lease is None:
            record = self._memory.find(key)
            if record is None or not state.background:
                # A call needs it that cannot do with the stale one.
                return await self._fetch_shared(key, state)
            record.refresh_at = self._clock() + _MIN_PAUSE
            response = self._respond(record, call, self._clock() - record.entry.stored_at)
            return response or await self._fetch_shared(key, state)
        try:
            # Another process may have refreshed it just before.
            entry = await tier.find(name, call)
        except BaseException:
            lease.release_soon()
            raise
        if entry is not None and self._clock() < entry.fresh_until:
            lease.release_soon()
            response = self._respond_shared(key, call, entry)
            if response is not None:
                return response
        return await self._refresh(key, state, lease)

    def _respond_shared(self, key: Key, call: Call[Any], entry: CachedResponse) -> Response[Any] | None:
        """Make a response of one that another process kept; ``None`` if this client does not accept it.

        Raises:
            NotFoundError: It is a 404.
        """
        record = self._remember(key, entry)
        if record.entry.status == _NOT_FOUND:
            raise self._error_of(record, call)
        return self._respond(record, call, self._clock() - record.entry.stored_at)

    def _remember(self, key: Key, entry: CachedResponse) -> Record:
        """The record in memory of what the store has, or of a later response, which the store will have soon."""
        record = self._memory.find(key)
        if record is not None:
            known = record.entry
            if known.stamp == entry.stamp or known.stored_at > entry.stored_at:
                return record
        record = Record(entry, headers_view(entry.headers))
        self._memory.keep(key, record)
        return record

    def _name_of(self, key: Key) -> str:
        """Name of a response in a store; it says neither the key nor what is asked."""
        _, _, path, query = key
        return self._account_name + hashlib.sha256(f"{path}?{query}".encode()).hexdigest()[:48]

    def _tier(self) -> SharedTier:
        """The store of the cache, in this thread."""
        tiers = self._tiers
        if tiers is None:
            raise RuntimeError("The cache has no store")
        members = tiers.here()
        if members is not self._members:
            members.join(self, self._listener)
            self._members = members
        return members.tier
