"""OpenTelemetry: what it is given, and which part of it an event concerns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zenovay_async.events import AttemptEnded, AttemptStarted, CallEnded, CallStarted
from zenovay_async.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from zenovay_async.events import Event

_NO_HEADERS: Mapping[str, str] = {}


class OpenTelemetry:
    """Traces and metrics of OpenTelemetry; needs the extra ``otel``.

    Each call is a span, with a span for each request below it. No metric and no name of a span has a website ID, and
    nothing has the key. Clients may share one.

    Args:
        tracer_provider: Makes the spans; ``None`` for the global one, which may be set later.
        meter_provider: Makes the metrics; ``None`` for the global one, which may be set later.
        propagate: Send the trace context, such as ``traceparent``, with each request, by the global propagator. It
            states nothing to the API, which is somebody else's.

    Raises:
        ConfigurationError: The extra is not installed, or an argument is invalid.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        propagate: bool = False,  # noqa: FBT001, FBT002 - as the other two, mostly given by name
    ) -> None:
        _check_provider("tracer_provider", tracer_provider, "get_tracer")
        _check_provider("meter_provider", meter_provider, "get_meter")
        if not isinstance(propagate, bool):
            raise ConfigurationError(f"propagate={propagate!r}: expected True or False")
        try:
            # Here, as importing OpenTelemetry takes 66 ms, and is an extra.
            from zenovay_async.telemetry.metrics import Metrics  # noqa: PLC0415
            from zenovay_async.telemetry.spans import Spans, trace_headers  # noqa: PLC0415
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "opentelemetry":
                raise
            raise ConfigurationError("OpenTelemetry() needs an extra: pip install 'zenovay-async[otel]'") from error
        self._spans = Spans(tracer_provider)
        self._metrics = Metrics(meter_provider)
        self._trace_headers = trace_headers if propagate else None

    def on_event(self, event: Event) -> None:
        """Record an event."""
        spans, metrics = self._spans, self._metrics
        # What is measured is recorded while its span is the current one, so that it can become its exemplar.
        if isinstance(event, AttemptStarted):
            metrics.start_attempt(event)
            spans.start_attempt(event)
        elif isinstance(event, AttemptEnded):
            metrics.end_attempt(event)
            spans.end_attempt(event)
        elif isinstance(event, CallStarted):
            spans.start_call(event)
        elif isinstance(event, CallEnded):
            metrics.end_call(event)
            spans.end_call(event)

    def headers(self) -> Mapping[str, str]:
        """Headers with the trace context of the request in progress; none unless ``propagate``."""
        return _NO_HEADERS if self._trace_headers is None else self._trace_headers()


def _check_provider(name: str, provider: object, method: str) -> None:
    if provider is not None and (isinstance(provider, type) or not callable(getattr(provider, method, None))):
        raise ConfigurationError(f"{name}={provider!r}: expected an object with {method}(), or None for the global one")
