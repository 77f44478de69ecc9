"""What a client exports by OpenTelemetry, kept in memory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from zenovay_async.telemetry import OpenTelemetry

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricsData
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.sampling import Sampler
    from opentelemetry.trace import SpanContext


class Exported:
    """Providers of OpenTelemetry, and what was exported through them.

    Args:
        sampler: Decides which spans are recorded; ``None`` for all.

    Attributes:
        tracer_provider: Makes spans.
        meter_provider: Makes metrics.
    """

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider(sampler, shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meter_provider = MeterProvider([self._reader], shutdown_on_exit=False)

    def telemetry(self, **options: Any) -> OpenTelemetry:
        """Telemetry that exports to here."""
        return OpenTelemetry(self.tracer_provider, self.meter_provider, **options)

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans that ended, in the order in which they did."""
        return list(self._exporter.get_finished_spans())

    @property
    def calls(self) -> list[ReadableSpan]:
        """Those of calls."""
        return [span for span in self.spans if span.kind is SpanKind.INTERNAL]

    @property
    def attempts(self) -> list[ReadableSpan]:
        """Those of requests."""
        return [span for span in self.spans if span.kind is SpanKind.CLIENT]

    def metrics(self) -> dict[str, list[tuple[dict[str, Any], Any]]]:
        """The attributes and the value of each point, by the name of the metric; count and sum of a histogram."""
        data: MetricsData | None = self._reader.get_metrics_data()
        return {
            metric.name: [(dict(point.attributes or {}), _value(point)) for point in metric.data.data_points]
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def text_of_metrics(self) -> str:
        """All of the metrics, as an exporter writes them."""
        data = self._reader.get_metrics_data()
        return "" if data is None else data.to_json()

    def text_of_spans(self) -> str:
        """All of the spans, as an exporter writes them."""
        return "\n".join(span.to_json() for span in self.spans)


def context_of(span: ReadableSpan) -> SpanContext:
    """The trace and the ID of a span."""
    context: SpanContext | None = span.get_span_context()
    assert context is not None
    return context


def is_below(span: ReadableSpan, other: ReadableSpan) -> bool:
    """Whether a span is a child of another one."""
    return span.parent is not None and span.parent.span_id == context_of(other).span_id


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    """The attributes of a span, as an exporter writes them."""
    attributes: dict[str, Any] = json.loads(span.to_json())["attributes"]
    return attributes


def waits_of(span: ReadableSpan) -> list[tuple[str, float]]:
    """The waits that the events of a span state."""
    return [
        (str(event.attributes["zenovay.wait.reason"]), round(float(str(event.attributes["zenovay.wait.seconds"])), 3))
        for event in span.events
        if event.attributes
    ]


def _value(point: Any) -> Any:
    return point.value if hasattr(point, "value") else (point.count, round(point.sum, 3))
