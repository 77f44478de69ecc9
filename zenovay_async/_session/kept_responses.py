"""KeptResponses: what is kept of a response, and the response that is made of it."""

from __future__ import annotations

import copy
import os
import time
from typing import TYPE_CHECKING, Any, TypeVar

from zenovay_async._cache.entry import VERSION, CachedResponse, kept_headers
from zenovay_async._cache.memory import Decoded, Key, Record
from zenovay_async._cache.options import parts_of
from zenovay_async._protocol.failures import error_from_response
from zenovay_async._protocol.parsing import parse_response
from zenovay_async._protocol.response import RawResponse, Response
from zenovay_async._session.connection_pool import headers_view
from zenovay_async.exceptions import (
    MAX_BODY_CHARS,
    AuthenticationError,
    BadRequestError,
    ClientClosedError,
    NotFoundError,
    PermissionDeniedError,
    ZenovayError,
    forget_call,
)

if TYPE_CHECKING:
    from zenovay_async._cache.options import Cache
    from zenovay_async._cache.shared import Lease
    from zenovay_async._protocol.auth import Auth
    from zenovay_async._protocol.call import Call

T = TypeVar("T")

NOT_FOUND = 404
CONCLUSIVE = (BadRequestError, AuthenticationError, PermissionDeniedError, NotFoundError)
"""Errors that the next request would meet as well: no response of before stays in their place."""
# Seconds from a refresh that failed to the next one, at least and at most.
MIN_PAUSE, _MAX_PAUSE = 5.0, 60.0


class KeptResponses:
    """The responses of a cache, for a client.

    Args:
        cache: Keeps them.
        auth: The key, which is not to be kept.
        strict: Accept nothing but the documented schema.
    """

    def __init__(self, cache: Cache, auth: Auth, *, strict: bool) -> None:
        parts = parts_of(cache)
        self._cache = cache
        self._clock, self._random, self._memory = parts.clock, parts.random, parts.memory
        self._is_shared = parts.tiers is not None
        self._auth = auth
        self._strict = strict

    def respond(self, record: Record, call: Call[T], age: float) -> Response[T] | None:
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

    def error_of(self, record: Record, call: Call[Any]) -> ZenovayError:
        """The error of a 404, for one caller."""
        kept = record.error
        if kept is None:
            entry = record.entry
            raw = RawResponse(entry.status, record.headers, entry.body)
            kept = record.error = error_from_response(raw, time.time())
            self._auth.redact(kept)
            kept.operation, kept.call = call.operation, str(call)
        return copy.copy(kept)

    def keep(self, key: Key, response: Response[Any], began_at: float, lease: Lease | None = None) -> None:
        """Keep a response, in place of what was kept before.

        Args:
            key: Its key.
            response: The response.
            began_at: When its request began; an invalidation since then makes it invalid.
            lease: That of this process, which ends.
        """
        headers, cache, record = response.headers, self._cache, None
        if not self._auth.is_echoed(response.body, headers.values()):
            # What is for who asked is not kept. Without a store, the view of the others is all that is needed.
            has_cookies = "Set-Cookie" in headers or "Set-Cookie2" in headers
            pairs = kept_headers(headers) if has_cookies or self._is_shared else ()
            now = self._clock()
            fresh_until = now + cache.ttl * (1 - cache.jitter * self._random())
            entry = self._entry(
                response.status, pairs, response.body, began_at, now, fresh_until, now + cache.ttl + cache.stale
            )
            # Not the result, which takes more memory than the body: the first call that gets it decodes it.
            record = Record(entry, headers_view(pairs) if has_cookies else headers)
        self._store(key, record, began_at, lease)

    def keep_error(self, key: Key, error: NotFoundError, began_at: float, lease: Lease | None = None) -> None:
        """Keep a 404, in place of what was kept before."""
        seconds, body, record = self._cache.negative_ttl, error.body or "", None
        # A body that was cut cannot be parsed by another process.
        if seconds and error.status == NOT_FOUND and len(body) < MAX_BODY_CHARS:
            headers = (("x-request-id", error.request_id),) if error.request_id else ()
            content = body.encode(errors="replace")
            if not self._auth.is_echoed(content, (error.request_id or "",)):
                now = self._clock()
                until = now + seconds
                record = Record(
                    self._entry(NOT_FOUND, headers, content, began_at, now, until, until), headers_view(headers)
                )
                record.error = copy.copy(error)
                forget_call(record.error)
        self._store(key, record, began_at, lease)

    def record_failure(self, key: Key, error: ZenovayError, began_at: float, lease: Lease | None) -> None:
        """Keep a 404; drop what was kept before any other error that the next request would meet as well."""
        if isinstance(error, NotFoundError):
            self.keep_error(key, error, began_at, lease)
            return
        if isinstance(error, CONCLUSIVE):
            self._store(key, None, began_at, lease)
            return
        if not isinstance(error, ClientClosedError):
            self.put_off_refresh(key, min(max(error.retry_after or 0.0, MIN_PAUSE), _MAX_PAUSE))
        if lease is not None:
            lease.release_soon()

    def put_off_refresh(self, key: Key, seconds: float) -> None:
        """Refresh a stale response not before so many seconds."""
        record = self._memory.find(key)
        if record is not None:
            record.refresh_at = self._clock() + seconds

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

    def _store(self, key: Key, record: Record | None, began_at: float, lease: Lease | None) -> None:
        if record is not None and self._memory.keep(key, record):
            if lease is not None:
                lease.keep_soon(record.entry)
            return
        self._memory.drop(key, began_at)
        if lease is not None:
            lease.drop_soon()

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
        stamp = os.urandom(12) if self._is_shared else b""
        return CachedResponse(VERSION, stamp, status, headers, body, began_at, now, fresh_until, expires_at)
