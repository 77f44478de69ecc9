"""A span for each call, and one below it for each request."""

from __future__ import annotations

from collections import defaultdict
from time import time_ns
from typing import TYPE_CHECKING, NamedTuple

from opentelemetry.context import (
    _SUPPRESS_HTTP_INSTRUMENTATION_KEY,  # pyright: ignore[reportPrivateUsage] - it has no other name
    _SUPPRESS_INSTRUMENTATION_KEY,  # pyright: ignore[reportPrivateUsage] - it has no other name
    Context,
    attach,
    get_current,
)
from opentelemetry.propagate import inject
from opentelemetry.trace import SpanKind, StatusCode, get_tracer, set_span_in_context

from zenovay_async._version import __version__
from zenovay_async.telemetry.attributes import (
    ATTEMPTS,
    BACKGROUND,
    CACHE,
    COST,
    ERROR_TYPE,
    METHOD,
    OPERATION,
    OUTCOME,
    REQUEST_ID,
    RESEND_COUNT,
    SCOPE,
    SERVER_ADDRESS,
    SERVER_PORT,
    STATUS,
    URL_FULL,
    URL_TEMPLATE,
    WAIT,
    WAIT_REASON,
    WAIT_SECONDS,
    error_type_of,
    error_type_of_call,
)

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TracerProvider
    from opentelemetry.util.types import AttributeValue

    from zenovay_async.events import AttemptEnded, AttemptStarted, CallEnded, CallStarted
    from zenovay_async.history import Wait

_NANOSECONDS = 1_000_000_000
# With these in the context, an instrumented HTTP client neither makes a span nor sends one. That of aiohttp obeys the
# first one since version 0.60b0 of its instrumentation.
_SUPPRESS = {_SUPPRESS_HTTP_INSTRUMENTATION_KEY: True, _SUPPRESS_INSTRUMENTATION_KEY: True}


class _Current(NamedTuple):
    """A span that is the current one.

    Attributes:
        span: The span; ``None`` if nobody records it.
        context: The context in which it is.
        before: The context that was the current one.
    """

    span: Span | None
    context: Context
    before: Context

    def leave(self) -> None:
        """Let it be the current one no longer.

        A call that is never resumed, as its loop was closed, ends in another context, where there is nothing to leave.
        A token would be refused there, and OpenTelemetry would log that.
        """
        if get_current() is self.context:
            attach(self.before)


class Spans:
    """The spans of clients.

    Args:
        provider: Makes them; ``None`` for the global one.
    """

    def __init__(self, provider: TracerProvider | None) -> None:
        self._tracer = get_tracer(SCOPE, __version__, provider)
        # Those in progress, by the number of the call. An attempt may outlive its call, for those who joined it.
        self._calls: dict[int, _Current] = {}
        self._attempts: dict[int, _Current] = {}

    def start_call(self, event: CallStarted) -> None:
        """Start the span of a call, as the current one."""
        attributes: dict[str, AttributeValue] = {OPERATION: event.operation, COST: event.cost}
        if event.background:
            attributes[BACKGROUND] = True
        before = get_current()
        span = self._tracer.start_span(f"zenovay.{event.operation}", before, SpanKind.INTERNAL, attributes)
        is_recording = span.is_recording()
        # One that is not recorded is the current one all the same, so that what is below it is not recorded either.
        context = set_span_in_context(span, before) if span.get_span_context().is_valid else before
        self._calls[event.call_id] = _Current(span if is_recording else None, context, before)
        attach(context)

    def start_attempt(self, event: AttemptStarted) -> None:
        """Start the span of a request, as the current one; the HTTP client's own instrumentation makes none."""
        call = self._calls.get(event.call_id)
        before = get_current()
        context, span = Context({**before, **_SUPPRESS}), None
        if call is None or call.span is not None:
            if call is not None and call.span is not None and event.waits:
                _add_waits(call.span, event.waits)
            span = self._tracer.start_span(
                f"{event.method} {event.template}", before, SpanKind.CLIENT, _attributes_of(event)
            )
            context = set_span_in_context(span, context)
        self._attempts[event.call_id] = _Current(span, context, before)
        attach(context)

    def end_attempt(self, event: AttemptEnded) -> None:
        """End the span of a request."""
        attempt = self._attempts.pop(event.call_id, None)
        if attempt is None:
            return
        attempt.leave()
        span = attempt.span
        if span is None:
            return
        if span.is_recording():
            attributes: dict[str, AttributeValue] = {}
            if event.status is not None:
                attributes[STATUS] = event.status
            if event.request_id is not None:
                attributes[REQUEST_ID] = event.request_id
            error_type = error_type_of(event)
            if error_type is not None:
                attributes[ERROR_TYPE] = error_type
                # What the status says is not said again. The error's message may have a website ID.
                span.set_status(StatusCode.ERROR, None if error_type == str(event.status) else error_type)
            elif event.outcome == "canceled":
                attributes[OUTCOME] = event.outcome
            span.set_attributes(attributes)
        span.end()

    def end_call(self, event: CallEnded) -> None:
        """End the span of a call."""
        call = self._calls.pop(event.call_id, None)
        if call is None:
            return
        call.leave()
        span = call.span
        if span is None:
            return
        if event.waits and event.cache != "joined":
            _add_waits(span, event.waits)
        attributes: dict[str, AttributeValue] = {ATTEMPTS: event.attempts}
        if event.cache is not None:
            attributes[CACHE] = event.cache
        for reason, seconds in _waited(event).items():
            attributes[f"{WAIT}.{reason}"] = seconds
        error_type = error_type_of_call(event)
        if error_type is not None:
            attributes[ERROR_TYPE] = error_type
            span.set_status(StatusCode.ERROR, error_type if event.status is None else f"{error_type}: {event.status}")
        elif event.outcome == "canceled":
            attributes[OUTCOME] = event.outcome
        span.set_attributes(attributes)
        span.end()


def trace_headers() -> dict[str, str]:
    """Headers with the current trace context, by the global propagator."""
    headers: dict[str, str] = {}
    inject(headers)
    return headers


def _attributes_of(event: AttemptStarted) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        METHOD: event.method,
        URL_FULL: event.url,
        URL_TEMPLATE: event.template,
        SERVER_ADDRESS: event.server_address,
        SERVER_PORT: event.server_port,
    }
    if event.number > 1:
        attributes[RESEND_COUNT] = event.number - 1
    return attributes


def _add_waits(span: Span, waits: tuple[Wait, ...]) -> None:
    """Add waits that ended now, one after the other, each with the time at which it ended."""
    time = time_ns() - int(sum(wait.seconds for wait in waits) * _NANOSECONDS)
    for wait in waits:
        time += int(wait.seconds * _NANOSECONDS)
        span.add_event(WAIT, {WAIT_REASON: wait.reason, WAIT_SECONDS: wait.seconds}, time)


def _waited(event: CallEnded) -> dict[str, float]:
    """Seconds that a call waited, by reason."""
    seconds: dict[str, float] = defaultdict(float)
    for attempt in event.history:
        for wait in attempt.waits:
            seconds[wait.reason] += wait.seconds
    for wait in event.waits:
        seconds[wait.reason] += wait.seconds
    return seconds
