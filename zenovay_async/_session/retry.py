"""What is retried, when, and how often. The only module that imports tenacity.

Three rules come first. A call that cannot succeed is not retried. A wait that cannot fit the deadline is not begun.
Retries are a bounded share of the traffic, so that callers do not overload a failing server.
"""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Any, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from zenovay_async._protocol.log_fields import attempt_fields
from zenovay_async._session.state import MIN_ATTEMPT
from zenovay_async.events import RetryScheduled, emit
from zenovay_async.exceptions import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    RateLimitError,
    ResponseDecodeError,
    ServerError,
    ZenovayError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from zenovay_async._limits.budget import Budget
    from zenovay_async._protocol.call import Call
    from zenovay_async._session.state import CallState
    from zenovay_async.events import OnEvent

T = TypeVar("T")

# 500 is what the API documents; 502 to 504 come from a proxy in front of it; 520 to 524 are the same from
# Cloudflare (its support page "Cloudflare 5xx errors"), behind whose edge the API is documented to be. 408 is what some
# proxies send before they close an idle connection, and may cross a request (RFC 9110, section 15.5.9).
TRANSIENT = frozenset({408, 500, 502, 503, 504, 520, 521, 522, 523, 524})

# With these, a proxy says that it cannot reach the server, rather than that a request failed.
NO_SERVER = frozenset({502, 503, 521, 522, 523})
# Attempts of a call that do not count then. With more, a website that alone gets these would hold back all the others.
MOST_DISCOUNTED = 8

# Seconds. Full jitter: every wait is drawn evenly from zero up to a bound that doubles, so that callers that failed
# together do not retry together (AWS Architecture Blog, "Exponential Backoff And Jitter").
BACKOFF_FIRST = 0.5
BACKOFF_LONGEST = 8.0

_SERVER_ERROR = 500

_logger = logging.getLogger("zenovay_async.retry")


def is_retryable(error: ZenovayError, call: Call[Any]) -> bool:
    """Whether a retry of this call may succeed and does no harm."""
    idempotent = call.endpoint.idempotent
    if isinstance(error, RateLimitError):
        # Rejected before it ran, unless a proxy says so in place of a server that may have run it.
        return idempotent or error.status is None or error.status < _SERVER_ERROR
    if isinstance(error, APIConnectionError):
        return not error.final and (idempotent or not error.sent)
    if isinstance(error, ResponseDecodeError):
        return error.truncated and idempotent
    return isinstance(error, APIStatusError) and error.status in TRANSIENT and idempotent


class RetryPolicy:
    """Retries a call that failed, until it succeeds, cannot succeed, or has no attempt or no time left.

    Args:
        max_attempts: Requests that a call may send, the first included; attempts that make no connection do not count.
        budget: Bounds retries to a share of the traffic; if it is paced, callers wait for a permit after a 429.
        on_event: Called before each retry.
        sleep: Waits for the backoff.
    """

    def __init__(
        self,
        max_attempts: int,
        budget: Budget,
        on_event: OnEvent | None,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._sleep = sleep
        self._max_attempts = max_attempts
        self._budget = budget
        self._on_event = on_event
        self._backoff = wait_random_exponential(multiplier=BACKOFF_FIRST, max=BACKOFF_LONGEST)
        self._jitter = wait_random_exponential(multiplier=BACKOFF_FIRST, max=BACKOFF_FIRST)

    @property
    def is_single(self) -> bool:
        """Whether calls make one attempt only."""
        return self._max_attempts == 1

    def applies(self, error: ZenovayError, state: CallState[Any]) -> bool:
        """Whether to retry after the first failure; an error before the first attempt is final."""
        if not state.attempts or state.gave_up or not is_retryable(error, state.call):
            return False
        return not self.is_single or (state.background and state.no_connection)

    async def resume(self, state: CallState[Any], attempt: Callable[[], Awaitable[T]]) -> T:
        """Make further attempts after the first failed.

        Args:
            state: The call; its last error is that of the first attempt.
            attempt: Makes one attempt.

        Returns:
            The result of the attempt that succeeds.

        Raises:
            ZenovayError: The last attempt failed, or a wait does not fit the deadline.
        """
        pending = state.last_error

        async def replay_then_attempt() -> T:
            # tenacity counts from the first attempt, so its failure is replayed.
            nonlocal pending
            if pending is not None:
                try:
                    raise pending
                finally:
                    # Or its traceback would refer to a frame that refers to it.
                    pending = None
            return await attempt()

        retrying = AsyncRetrying(
            sleep=lambda seconds: self._back_off(seconds, state),
            stop=lambda retry: self._stop(retry, state),
            wait=lambda retry: self._wait(retry, state),
            retry=retry_if_exception(
                lambda error: (
                    isinstance(error, ZenovayError)
                    and state.excess_wait is None
                    and not state.gave_up
                    and is_retryable(error, state.call)
                )
            ),
            before_sleep=lambda retry: self._before_sleep(retry, state),
            reraise=True,
        )
        try:
            result: T = await retrying(replay_then_attempt)
        finally:
            # tenacity keeps functions here that refer to it, and so to the client, until the next garbage collection.
            retrying.iter_state.reset()
        state.last_error = None
        return result

    async def _back_off(self, seconds: float, state: CallState[Any]) -> None:
        with state.waiting("backoff"):
            await self._sleep(seconds)

    def _wait(self, retry: RetryCallState, state: CallState[Any]) -> float:
        """The wait before the next attempt: what the server asked for, else exponential backoff with full jitter.

        There is none where the wait is for the permit of the next attempt, nor after a dead connection.
        """
        error = _error_of(retry)
        budget, is_rate_limited = self._budget, isinstance(error, RateLimitError)
        if state.no_connection or state.resends or (is_rate_limited and budget.is_paced):
            return 0.0
        if not is_rate_limited and self._is_held(state):
            return 0.0
        if error is not None and error.retry_after is not None:
            wait = error.retry_after
            if is_rate_limited:
                wait = budget.trusted_wait(wait)
            # The server names the same time to every caller; jitter spreads them.
            return wait + self._jitter(retry)
        counted = copy.copy(retry)
        counted.attempt_number = state.requests
        return self._backoff(counted)

    def _stop(self, retry: RetryCallState, state: CallState[Any]) -> bool:
        error = _error_of(retry)
        if error is None:
            return True
        if state.no_connection:
            return False  # the budget knows how long to wait for the server
        if state.background and state.discounted < MOST_DISCOUNTED and _is_no_server(error) and self._is_held(state):
            state.discounted += 1
            state.discount_attempt()
            return False
        if state.requests >= self._max_attempts:
            return True
        remaining = state.remaining()
        needed = max(MIN_ATTEMPT, self._budget.round_trip.fastest)
        if retry.upcoming_sleep > remaining - needed:
            # With no time left, even an attempt without a wait would not fit.
            if remaining > needed:
                state.excess_wait = retry.upcoming_sleep
            elif remaining > MIN_ATTEMPT:
                state.too_late(needed)
            return True
        return not state.resends and not self._budget.spend_retry(error, background=state.background)

    def _is_held(self, state: CallState[Any]) -> bool:
        """Whether the call has to wait until the server is back."""
        return self._budget.is_held_back(background=state.background)

    def _before_sleep(self, retry: RetryCallState, state: CallState[Any]) -> None:
        error, call, wait = _error_of(retry), state.call, retry.upcoming_sleep
        if error is None:
            return
        # A listener may keep the event, and the frames that tenacity added would keep the client.
        error.__traceback__ = None
        if wait:
            state.report_wait(wait)
        # Without a backoff, the permit of the next attempt says when it is made: at once, or when the server is back.
        when = f"in {wait:.2f} s" if wait else "follows"
        failed = retry.attempt_number
        fields = attempt_fields(call, state.history[-1], event_type=RetryScheduled.__name__, wait=wait)
        _logger.info("%s: %s; attempt %d %s", call, error.message, failed + 1, when, extra=fields)
        emit(
            self._on_event,
            RetryScheduled(operation=call.operation, call=str(call), attempt=failed, wait=wait, error=error),
        )


def _is_no_server(error: ZenovayError) -> bool:
    """Whether the server is not there behind what took the connection, or breaks it; a slow one is there."""
    if isinstance(error, APIConnectionError):
        return not isinstance(error, APITimeoutError)
    return isinstance(error, ServerError) and error.status in NO_SERVER


def _error_of(retry: RetryCallState) -> ZenovayError | None:
    error = retry.outcome.exception() if retry.outcome else None
    return error if isinstance(error, ZenovayError) else None
