"""Responses: :class:`RawResponse` before parsing, :class:`Response` with the result and its metadata."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from zenovay_async._protocol.headers import rate_limit_headers, usage_headers
from zenovay_async._protocol.json_text import loads_or_none
from zenovay_async._protocol.text import one_line
from zenovay_async.history import Attempt, Wait, duration, explain

if TYPE_CHECKING:
    from zenovay_async.rate_limits import RateLimitHeaders, UsageHeaders

T = TypeVar("T")

OK_STATUSES = range(200, 300)
"""HTTP statuses of responses that are no errors, unless their body says so."""


class RawResponse(msgspec.Struct, frozen=True, gc=False):
    """A response before parsing.

    Attributes:
        status: HTTP status.
        headers: Headers, looked up regardless of case.
        body: The whole body.
        sent_at: When the request left, in the time of the event loop; ``None`` if that is not known.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    sent_at: float | None = None

    def __repr__(self) -> str:
        # Tracebacks may print it, and a server may have echoed the key.
        return f"RawResponse({self.status}, {len(self.body)} bytes)"


class Response(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A successful response: the result and its metadata; see ``Zenovay.with_raw_response``.

    Attributes:
        data: The result, as the method alone returns it.
        status: HTTP status.
        headers: Headers of the response, looked up regardless of case.
        body: The body as it came; ``json()`` parses it, with fields that this version does not know.
        timestamp: When the server made the response; ``None`` if it did not say.
        attempts: Number of attempts: requests sent, and connections that failed; 0 for a response from the cache.
        waits: Seconds waited before each attempt after the first.
        from_cache: Whether it was kept from an earlier call, of this process or another one.
        age: Seconds since it came; 0.0 unless it is from the cache.
    """

    data: T
    status: int
    headers: Mapping[str, str]
    body: bytes
    timestamp: datetime | None
    attempts: int
    waits: tuple[float, ...]
    from_cache: bool = False
    age: float = 0.0
    # Attempts that failed; number, waits, start and duration of the last one. A history is made of it on demand, as
    # nearly every call does without. Without a last one, its number is 0: the response came from another process.
    _trail: tuple[tuple[Attempt, ...], int, tuple[Wait, ...], float, float] | None = None

    def __repr__(self) -> str:
        # Logs and tracebacks may print it, and a server may have echoed the key, also as the request's ID.
        return f"Response({self.status}, {type(self.data).__name__}, {len(self.body)} bytes)"

    def __reduce__(self) -> tuple[Any, ...]:
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        # The view of aiohttp's headers neither pickles nor copies; a copy of it is no view.
        make_copy = getattr(self.headers, "copy", None)
        if make_copy is not None:
            values["headers"] = make_copy()
        return (_rebuild, (type(self), values))

    @property
    def request_id(self) -> str | None:
        """The server's ID of this request, ``x-request-id``, for its support; ``None`` if it sent none."""
        request_id = self.headers.get("x-request-id")
        return None if request_id is None else one_line(request_id)

    @property
    def rate_limit(self) -> RateLimitHeaders:
        """The rate limit, as this response stated it."""
        return rate_limit_headers(self.headers, self.timestamp.timestamp() if self.timestamp else None)

    @property
    def usage(self) -> UsageHeaders:
        """The monthly quota, as this response stated it."""
        return usage_headers(self.headers)

    @property
    def history(self) -> tuple[Attempt, ...]:
        """The attempts, with their times and causes, and what the call waited for before each.

        Empty for a response from the cache; of more than 100, those in the middle are omitted.
        """
        if self._trail is None:
            return ()
        failed, number, waits, started, seconds = self._trail
        if not number:
            return failed
        last = Attempt(
            number=number,
            started=started,
            seconds=seconds,
            waits=waits,
            status=self.status,
            request_id=self.request_id,
        )
        return (*failed, last)

    @property
    def last_waits(self) -> tuple[Wait, ...]:
        """What the call waited for after the last attempt: for a response that another process requested."""
        return () if self._trail is None or self._trail[1] else self._trail[2]

    @property
    def seconds(self) -> float:
        """How long the call took, from its beginning to the last byte; 0.0 for a response that was there.

        A call that joined an equal one counts from the beginning of that one.
        """
        if self._trail is None:
            return 0.0
        *_, started, seconds = self._trail
        return started + seconds

    def explain(self) -> str:
        """What the call went through, in words.

        Returns:
            One line, such as ``0.0 s queued 12.3 s for the rate limit; attempt 1: 200 in 0.1 s``.
        """
        end = f"from the cache, {duration(self.age)} old" if self.from_cache else ""
        return explain(self.history, self.last_waits, end)

    def json(self) -> Any:
        """The whole body as plain Python values, envelope included; ``None`` if it is not JSON."""
        return loads_or_none(self.body)


def _rebuild(cls: type[Response[Any]], values: dict[str, Any]) -> Response[Any]:
    return cls(**values)
