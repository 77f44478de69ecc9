"""What is tried again, when, and how often: the judgement and the waits, in tenacity's terms.

Three rules stand above all others. What cannot succeed is not repeated. A wait that cannot fit the deadline is not
begun. And retries have a bounded share of the traffic, so that a failing server is not stormed by its callers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tenacity import wait_random_exponential

from zenovay_async.exceptions import (
    APIConnectionError,
    APIStatusError,
    RateLimitError,
    ResponseDecodeError,
    ZenovayError,
)

if TYPE_CHECKING:
    from tenacity import RetryCallState

    from zenovay_async._protocol.call import Call

# 500 is what the API documents; 502 to 504 come from what stands in front of it; 520 to 524 are the same from
# Cloudflare (its support page "Cloudflare 5xx errors"), behind whose edge the API is documented to be.
TRANSIENT = frozenset({500, 502, 503, 504, 520, 521, 522, 523, 524})

# Full jitter: every wait is drawn evenly from zero up to a bound that doubles, so that callers who failed together
# do not come back together (AWS Architecture Blog, "Exponential Backoff And Jitter").
BACKOFF_FIRST = 0.5
BACKOFF_LONGEST = 8.0


def is_retryable(error: ZenovayError, call: Call[Any]) -> bool:
    """Whether the same call, sent again, may succeed and does no harm."""
    if isinstance(error, RateLimitError):
        return True  # refused before it ran
    if isinstance(error, APIConnectionError):
        return not error.final and (call.idempotent or not error.sent)
    if isinstance(error, ResponseDecodeError):
        return error.truncated and call.idempotent
    return isinstance(error, APIStatusError) and error.status in TRANSIENT and call.idempotent


class Backoff:
    """The wait before the next attempt: what the server asked for, else exponential with full jitter.

    A server's ``Retry-After`` gets a first backoff step on top, as everyone who was told "2" was told "2".

    Args:
        paced: Whether a rate limiter makes callers wait after a 429, so that no second wait is due here.
    """

    def __init__(self, *, paced: bool) -> None:
        self._paced = paced
        self._jitter = wait_random_exponential(multiplier=BACKOFF_FIRST, max=BACKOFF_LONGEST)
        self._step = wait_random_exponential(multiplier=BACKOFF_FIRST, max=BACKOFF_FIRST)

    def __call__(self, state: RetryCallState) -> float:
        """Seconds to wait, for tenacity."""
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, RateLimitError) and self._paced:
            return 0.0
        if isinstance(error, ZenovayError) and error.retry_after is not None:
            return error.retry_after + self._step(state)
        return self._jitter(state)


class RetryBudget:
    """Bounds retries to a share of the traffic: each spends a token, each success earns a part of one back.

    The scheme is gRPC's (proposal A6, "retry throttling"). Retries after a 429 do not count where a rate limiter paces
    them, or the server named their time. With the figures below, a client whose server fails altogether sends 20
    retries and from then on each call once; in steady state retries are at most a fifth of the calls that succeed.
    """

    CAPACITY = 20.0
    EARNED = 0.2

    def __init__(self) -> None:
        self.tokens = self.CAPACITY
        """Retries that may still be made."""

    def earn(self) -> None:
        """Give back a part of a token, for a call that succeeded."""
        self.tokens = min(self.CAPACITY, self.tokens + self.EARNED)

    def spend(self) -> bool:
        """Take a token for one retry; False where there is none."""
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True
