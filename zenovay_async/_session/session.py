"""One call, from description to response, read top-down: check, acquire, send, parse, settle.

The first attempt goes straight through; :class:`~zenovay_async._session.retry.RetryPolicy` is entered only after a
failure worth a retry, so that a call that succeeds, which is nearly every call, pays nothing for retries.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import quote

import msgspec

from zenovay_async._limits.outcome import is_sent, outcome_of
from zenovay_async._limits.patience import ServerUnavailable
from zenovay_async._protocol.auth import Secret
from zenovay_async._protocol.log_fields import attempt_fields
from zenovay_async._protocol.parameters import NOT_GIVEN, Timeout, check_timeout, require_bool, require_int
from zenovay_async._protocol.parsing import parse_response
from zenovay_async._protocol.response import OK_STATUSES, RawResponse, Response
from zenovay_async._protocol.text import one_line
from zenovay_async._session.connection_pool import as_headers, url_builder
from zenovay_async._session.observing import OBSERVATION
from zenovay_async._session.retry import RetryPolicy
from zenovay_async._session.state import CallState
from zenovay_async.events import OnEvent, Telemetry
from zenovay_async.exceptions import (
    APITimeoutError,
    ConfigurationError,
    QuotaExceededError,
    RateLimitError,
    ZenovayError,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from yarl import URL

    from zenovay_async._limits.budget import Budget, BudgetPermit
    from zenovay_async._protocol.auth import Auth
    from zenovay_async._protocol.call import Call
    from zenovay_async._session.connection_pool import ConnectionPool, Headers
    from zenovay_async._session.drift import DriftReporter
    from zenovay_async._session.observing import Observation
    from zenovay_async._session.transport import Transport
    from zenovay_async.events import CacheResult
    from zenovay_async.history import Attempt

T = TypeVar("T")

_logger = logging.getLogger("zenovay_async.http")

# RFC 9110, section 5.6.2.
_FIELD_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How calls are carried out, unless a call says otherwise.

    Attributes:
        timeout: Seconds for a whole call: its wait for a permit, each attempt, each backoff, the body; ``None`` for no
            bound.
        attempt_timeout: Seconds for one attempt, from connecting to the last byte; ``None`` for no bound.
        max_attempts: Requests that a call may send, the first included; attempts that make no connection do not count.
        on_event: Called with each event; see ``zenovay_async.events``.
        telemetry: What the headers of each request are asked for; its listener is part of ``on_event``.
        strict: Accept nothing but the documented schema, for tests.
    """

    timeout: float | None
    attempt_timeout: float | None
    max_attempts: int
    on_event: OnEvent | None
    telemetry: Telemetry | None = None
    strict: bool

    def __post_init__(self) -> None:
        check_timeout("timeout", self.timeout)
        check_timeout("attempt_timeout", self.attempt_timeout)
        require_int("max_attempts", self.max_attempts)
        require_bool("strict", self.strict)


class Session:
    """Carries out calls with one key.

    Args:
        transport: Sends the requests; may be shared.
        auth: The key and its header.
        base_url: Base URL of the API, without a final slash.
        budget: Rate limit, monthly quota and retries of the key; may be shared.
        options: Timeouts, attempts and listener of each call.
        drift: Reports schema drift; may be shared.
    """

    def __init__(
        self, transport: Transport, auth: Auth, base_url: str, budget: Budget, options: Options, drift: DriftReporter
    ) -> None:
        self._transport = transport
        self._auth = auth
        # Paths given to request() may have it as it is.
        self._key, self._quoted_key = auth.key, Secret(quote(auth.key, ""))
        self._url = url_builder(base_url)
        self._budget = budget
        self._options = options
        self._drift = drift
        self._is_observed = options.on_event is not None
        self._retry = RetryPolicy(options.max_attempts, budget, options.on_event, transport.sleep)
        name, secret = auth.header
        self._headers = as_headers({name: secret})
        self._headers_with_body = as_headers({name: secret, "Content-Type": "application/json"})

    def send(self, call: Call[T], timeout: Timeout = NOT_GIVEN) -> Coroutine[Any, Any, Response[T]]:
        """Carry out a call.

        Args:
            call: The call.
            timeout: Seconds for the whole call; ``None`` for no deadline; omitted, the client's own.

        Returns:
            The response, with the result of the call as its data.

        Raises:
            ZenovayError: The call failed; the error has the attempts and waits of the call.
        """
        # The coroutine itself, as another one around it would cost each call a little.
        return self.run(CallState(call, self._options.timeout if timeout is NOT_GIVEN else self.timeout_of(timeout)))

    def begin(self, call: Call[T], timeout: Timeout = NOT_GIVEN) -> CallState[T]:
        """Begin a call: its deadline counts from here.

        Args:
            call: The call.
            timeout: As for :meth:`send`.

        Raises:
            ConfigurationError: ``timeout`` is invalid.
        """
        return CallState(call, self._options.timeout if timeout is NOT_GIVEN else self.timeout_of(timeout))

    def timeout_of(self, timeout: Timeout) -> float | None:
        """Seconds for a whole call.

        Args:
            timeout: As for :meth:`send`.

        Raises:
            ConfigurationError: It is invalid.
        """
        if timeout is NOT_GIVEN:
            return self._options.timeout
        check_timeout("timeout", timeout)
        return timeout

    def check_open(self) -> None:
        """Check that the client was not closed.

        Raises:
            ClientClosedError: It was.
        """
        self._transport.check_open()

    def watch(self) -> asyncio.Future[None]:
        """A future that is done when the client is closed; kept by the caller alone."""
        return self._transport.watch()

    def note_cache(self, result: CacheResult) -> None:
        """Note for listeners what the cache has for the call in this context."""
        # Unless somebody listens, the context may have a call of another client.
        if self._is_observed and (observation := OBSERVATION.get()) is not None:
            observation.cache = result

    def note_begun(self, state: CallState[Any]) -> None:
        """Note for listeners that the call in this context has this state."""
        if self._is_observed and (observation := OBSERVATION.get()) is not None:
            observation.follow(state)

    def note_joined(self, state: CallState[Any]) -> None:
        """Note for listeners that the call in this context joins another one, with this state."""
        if self._is_observed and (observation := OBSERVATION.get()) is not None:
            observation.follow(state, joined=True)

    async def run(self, state: CallState[T]) -> Response[T]:
        """Carry out a call that was begun; once."""
        call = state.call
        if self._is_observed:
            self.note_begun(state)
        try:
            if self._key in call.path or self._quoted_key in call.path or self._quoted_key in call.query:
                raise ConfigurationError("The API key was passed as an argument of the call; URLs are logged")
            try:
                return await self._attempt(state)
            except ZenovayError as error:
                if not self._retry.applies(error, state):
                    raise
            return await self._retry.resume(state, lambda: self._attempt(state))
        except ZenovayError as error:
            final = state.final_error(error)
            self._auth.redact(final)
        try:
            raise final
        finally:
            # Or its traceback would refer to this frame, which refers to it.
            del final

    async def _attempt(self, state: CallState[T]) -> Response[T]:
        call, endpoint = state.call, state.call.endpoint
        url = self._url(call.path, call.query)
        raw: RawResponse | None = None
        try:
            self._budget.check(endpoint.cost, background=state.background, states_usage=endpoint.usage_of is not None)
            if state.scope is not None:
                state.reserved = state.scope.background.reserve(endpoint.cost, state.last_error)
            permit, pool = self._acquire_nowait(state) or await self._acquire(state)
            now, trip = state.loop.time(), self._budget.round_trip
            if state.deadline is not None and state.deadline - now < trip.fastest and trip.is_too_late(now):
                self._end_late(state, permit, pool)
            observation: Observation | None = None
            try:
                state.begin_attempt(now)
                headers = self._headers if call.body is None else self._headers_with_body
                if self._is_observed and (observation := OBSERVATION.get()) is not None:
                    headers = self._start_observed(observation, state, url, headers, pool)
                raw = await pool.send(
                    endpoint.method,
                    url,
                    headers,
                    call.body,
                    attempt_timeout=self._options.attempt_timeout,
                    bounds=state,
                )
                self._drift.report_deprecation(call, raw.headers, self._auth)
                date = time.time()
                find_drift = raw.status in OK_STATUSES and self._drift.is_due(endpoint.decoder, date)
                result = parse_response(call, raw, date, strict=self._options.strict, find_drift=find_drift)
            except BaseException as error:
                self._settle_failure(state, permit, raw, error)
                self._end_attempt(state, raw, error, observation)
                raise
            permit.settle(outcome_of(raw, None, result.usage))
            ended_at = state.loop.time()
            if observation is not None or _logger.isEnabledFor(logging.DEBUG):
                self._end_attempt(state, raw, None, observation)
            if ended_at - now < trip.fastest or ended_at >= trip.due:
                trip.record(ended_at - now, ended_at)
            if state.scope is not None:
                state.record_request(state.scope.background, "succeeded", has_response=True)
                state.scope.record_success(call)
        except BaseException as error:
            self._end_failed(state, error)
            raise
        if result.drifts:
            self._drift.report(call, result.drifts, self._auth)
        return Response(
            data=result.data,
            status=raw.status,
            headers=raw.headers,
            body=raw.body,
            timestamp=result.timestamp,
            attempts=state.attempts,
            waits=state.waits,
            _trail=(state.history, state.attempts, state.attempt_waits, now - state.started_at, ended_at - now),
        )

    def _start_observed(
        self, observation: Observation, state: CallState[T], url: URL, headers: Headers, pool: ConnectionPool
    ) -> Headers:
        """Emit that a request is about to be sent; returns its headers."""
        try:
            observation.start_attempt(state, url)
            return self._with_telemetry(headers)
        except BaseException:
            # An interrupt; without one, sending the request releases the slot.
            pool.slots.release()
            raise

    def _with_telemetry(self, headers: Headers) -> Headers:
        """Headers of a request, with those of the telemetry that are not the client's own."""
        telemetry = self._options.telemetry
        if telemetry is None:
            return headers
        try:
            given = telemetry.headers()
            if not given:
                return headers
            more = as_headers(_checked(given))
        except Exception:
            # As of a listener: it must not cost the call.
            _logger.exception("telemetry failed to return headers")
            return headers
        more.update(headers)
        return more

    def _end_attempt(
        self,
        state: CallState[T],
        raw: RawResponse | None,
        error: BaseException | None,
        observation: Observation | None,
    ) -> None:
        """Record, emit and log how an attempt ended."""
        status, request_id = None, None
        if raw is not None:
            status, request_id = raw.status, raw.headers.get("x-request-id")
            if request_id is not None:
                request_id = self._auth.redact_text(one_line(request_id))
        attempt = state.end_attempt(state.loop.time(), status, error, request_id)
        if _logger.isEnabledFor(logging.DEBUG):
            _log_attempt(state.call, attempt)
        if observation is not None:
            observation.end_attempt(attempt, error, self._budget)

    def _end_late(self, state: CallState[T], permit: BudgetPermit, pool: ConnectionPool) -> NoReturn:
        """Return what was acquired for a request that has no time to come back, and raise its error."""
        pool.slots.release()
        permit.refund()
        raise state.too_late(self._budget.round_trip.fastest)

    def _settle_failure(
        self, state: CallState[T], permit: BudgetPermit, raw: RawResponse | None, error: BaseException
    ) -> None:
        """Settle the permit of an attempt that failed."""
        if isinstance(error, ZenovayError):
            self._auth.redact(error)
        outcome = outcome_of(raw, error)
        path = state.record_attempt(error, no_connection=outcome.kind == "unreachable")
        permit.settle(outcome, path)
        if state.scope is not None and is_sent(outcome, error):
            state.record_request(state.scope.background, outcome.kind, has_response=raw is not None)
        if isinstance(error, QuotaExceededError) and error.retry_after is None:
            # Another response may have stated the reset.
            error.retry_after = self._budget.seconds_to_quota_reset()

    def _end_failed(self, state: CallState[T], error: BaseException) -> None:
        """Keep the error of an attempt, and release what was reserved for it, if it sent nothing."""
        if state.scope is not None:
            state.release(state.scope.background)
        if not isinstance(error, ZenovayError):
            return
        if isinstance(error, QuotaExceededError) and error.status is None:
            # A client that is closed says so in the first place.
            self._transport.check_open()
        state.record_failure(error)

    def _acquire_nowait(self, state: CallState[T]) -> tuple[BudgetPermit, ConnectionPool] | None:
        """Acquire a connection slot and a permit, if both are available now."""
        pool = self._transport.acquire_slot_nowait(state.loop)
        if pool is None:
            return None
        permit = None
        try:
            endpoint = state.call.endpoint
            permit = self._budget.acquire_nowait(
                endpoint.cost, background=state.background, states_usage=endpoint.usage_of is not None
            )
        finally:
            if permit is None:
                pool.slots.release()
        return None if permit is None else (permit, pool)

    async def _acquire(self, state: CallState[T]) -> tuple[BudgetPermit, ConnectionPool]:
        """Wait for a permit and a connection slot, within the deadline; that of a background call starts afterwards."""
        began = state.loop.time()
        state.no_connection = False
        with await self._transport.until_closed():
            while True:
                permit, extensions = await self._acquire_permit(state), state.extensions
                try:
                    await state.let_batch_stop()
                    state.check_deadline()
                    with state.waiting("connection"):
                        pool = await self._transport.acquire_slot(None if state.is_patient else state.deadline)
                except BaseException as error:
                    permit.refund()
                    if isinstance(error, APITimeoutError) and state.extensions > extensions:
                        continue
                    raise
                if not self._budget.holds_back(permit, background=state.background):
                    break
                # The server went away during the wait for the slot.
                pool.slots.release()
                permit.refund()
        if state.is_patient and state.deadline is not None:
            state.deadline += state.loop.time() - began
        if state.observer is not None:
            state.observer.on_permit(began)
        return permit, pool

    async def _acquire_permit(self, state: CallState[T]) -> BudgetPermit:
        """Wait for a permit; anew where a call that joined this one gave it more time, or made it direct."""
        outage = None
        while outage is None:
            extensions = state.extensions
            try:
                return await self._wait_for_permit(state)
            except RateLimitError as error:
                wait = error.retry_after or 0.0
                if state.extensions == extensions:
                    state.excess_wait = wait
                    raise
                state.report_wait(wait)
            except ServerUnavailable as unavailable:
                if state.extensions == extensions:
                    outage = unavailable
                else:
                    state.report_wait(unavailable.retry_after, unavailable.with_traceback(None))
            except asyncio.CancelledError:
                if not state.take_interrupt():
                    raise
        # Outside of the handler, so that the error keeps its own cause; the traceback would refer to this frame.
        final = state.give_up(outage.with_traceback(None))
        try:
            raise final
        finally:
            # Or this frame, to which the error's traceback refers, would keep both.
            del outage, final

    async def _wait_for_permit(self, state: CallState[T]) -> BudgetPermit:
        endpoint, budget = state.call.endpoint, self._budget
        if not state.background:
            state.expected_at = state.loop.time() + budget.expected_wait(endpoint.cost)
        state.is_acquiring = True
        if state.scope is not None:
            state.scope.background.tally.begin_wait(state.loop.time())
        if state.observer is not None:
            state.observer.on_acquire()
        try:
            with state.waiting("rate_limit"):
                return await budget.acquire(
                    endpoint.cost,
                    max_wait=state.max_wait(),
                    background=state.background,
                    states_usage=endpoint.usage_of is not None,
                    patience=state.patience(single=self._retry.is_single),
                    during_outage=partial(state.waiting, "outage"),
                )
        finally:
            state.is_acquiring = False
            if state.scope is not None:
                state.scope.background.tally.end_wait(state.loop.time())


def _checked(given: Mapping[str, str]) -> Mapping[str, str]:
    """Headers of a telemetry that a request can have.

    Raises:
        ValueError: One is none.
    """
    for name, value in given.items():
        if not _FIELD_NAME.fullmatch(name) or not value.isprintable():
            raise ValueError(f"expected the name and the value of an HTTP header, not {name!r}: {value!r}")
    return given


def _log_attempt(call: Call[Any], attempt: Attempt) -> None:
    outcome = attempt.error if attempt.status is None else f"HTTP {attempt.status}"
    _logger.debug(
        "%s: %s in %.3f s, attempt %d, request %s",
        call,
        outcome,
        attempt.seconds,
        attempt.number,
        attempt.request_id or "without ID",
        extra=attempt_fields(call, attempt),
    )
