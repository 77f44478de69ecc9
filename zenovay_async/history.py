"""What a call went through: its attempts, and what it waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

WaitReason: TypeAlias = Literal["rate_limit", "connection", "outage", "backoff", "cache"]
"""What a call waits for: a permit of the rate limit, a free connection, a server that is away, time to pass before a
retry, or the cache: its store, and another process that requests the response."""


class Wait(msgspec.Struct, frozen=True, gc=False):
    """A wait of a call.

    Attributes:
        reason: What it waited for.
        seconds: How long.
    """

    reason: WaitReason
    seconds: float


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of a call: a request that was sent, or a connection that could not be made.

    Attributes:
        number: Which attempt of the call, counted from 1.
        started: When it began, in seconds since the call did.
        seconds: How long it took.
        waits: What the call had waited for before it, in this order; waits of less than a millisecond are omitted.
        status: HTTP status; ``None`` if no response came.
        error: Name of the error's class, such as ``"APITimeoutError"``; ``None`` if it succeeded.
        message: What the error says; ``""`` if it succeeded.
        request_id: The server's ID of the request, ``x-request-id``; ``None`` if it sent none.
    """

    number: int
    started: float
    seconds: float
    waits: tuple[Wait, ...] = ()
    status: int | None = None
    error: str | None = None
    message: str = ""
    request_id: str | None = None

    def __str__(self) -> str:
        return f"attempt {self.number}: {self._outcome}"

    @property
    def _outcome(self) -> str:
        took = duration(self.seconds)
        if self.error == "APITimeoutError":
            return f"timeout after {took}"
        if self.error == "CancelledError":
            return f"canceled after {took}"
        if self.error is None or self.error in _STATED_BY_STATUS:
            return f"{self.status} in {took}"
        if self.status is not None:
            return f"{self.status} in {took} ({self.error})"
        return f"{self.error} in {took} ({self.message})"


# Errors of which the status says enough.
_STATED_BY_STATUS = frozenset(
    {
        *("APIStatusError", "AuthenticationError", "BadRequestError", "NotFoundError", "PermissionDeniedError"),
        *("RateLimitError", "ServerError"),
    }
)

_WORDS: dict[WaitReason, str] = {
    "rate_limit": "queued {} for the rate limit",
    "connection": "waited {} for a connection",
    "outage": "waited {} for the server",
    "backoff": "waited {}",
    "cache": "waited {} for the cache",
}


def explain(attempts: Iterable[Attempt], waits: Iterable[Wait] = (), end: str = "") -> str:
    """Put in words what a call went through.

    Args:
        attempts: Its attempts.
        waits: What it waited for after them.
        end: How it ended, if that was not an attempt.

    Returns:
        One line, such as ``0.0 s queued 12.3 s for the rate limit; attempt 1: 502 in 0.4 s; waited 0.8 s; attempt 2:
        200 in 0.1 s``.
    """
    parts = [*_parts(attempts, waits), *([end] if end else ())]
    return f"0.0 s {'; '.join(parts) or 'no request was sent'}"


def duration(seconds: float) -> str:
    """Seconds as people read them."""
    return f"{seconds:.1f} s" if seconds >= _TENTH else f"{seconds * 1000:.0f} ms"


_TENTH = 0.0995


def _parts(attempts: Iterable[Attempt], waits: Iterable[Wait]) -> Iterator[str]:
    number, message = 0, ""
    for attempt in attempts:
        if attempt.number > number + 1:
            yield f"attempts {number + 1} to {attempt.number - 1} omitted"
        yield from _in_words(attempt.waits)
        # What several say alike is said once.
        yield str(attempt).removesuffix(f" ({message})" if message == attempt.message else "")
        number, message = attempt.number, attempt.message
    yield from _in_words(waits)


def _in_words(waits: Iterable[Wait]) -> Iterator[str]:
    for wait in waits:
        yield _WORDS[wait.reason].format(duration(wait.seconds))
