# ruff: noqa: PLC0415 - a process must load only what it measures
"""The ways to listen to a client that are compared, as ``contenders`` has those to make a call."""

from __future__ import annotations

from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .contenders import CONTENDERS, KEY, Contender

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from contextlib import AbstractAsyncContextManager

    from zenovay_async import Event

    from .contenders import Fetch


def _client(url: str, **options: Any) -> AbstractAsyncContextManager[Fetch]:
    @asynccontextmanager
    async def opened() -> AsyncGenerator[Fetch]:
        from zenovay_async import Zenovay

        async with Zenovay(KEY, base_url=url, **options) as zenovay:

            async def fetch(site: str, limit: int) -> Any:
                return (await zenovay.heatmaps.pages(site, limit=limit)).pages

            yield fetch

    return opened()


def listener(url: str) -> AbstractAsyncContextManager[Fetch]:
    """A listener that does nothing, for which each event is made."""

    def ignore(_: Event) -> None:
        pass

    return _client(url, on_event=ignore)


def without_sdk(url: str) -> AbstractAsyncContextManager[Fetch]:
    """OpenTelemetry in a program that sets no provider."""
    from zenovay_async.telemetry import OpenTelemetry

    return _client(url, telemetry=OpenTelemetry())


@asynccontextmanager
async def with_sdk(url: str) -> AsyncGenerator[Fetch]:
    """OpenTelemetry with its SDK: spans exported in batches, as programs do it, and metrics."""
    from zenovay_async.telemetry import OpenTelemetry

    trace, metrics = import_module("opentelemetry.sdk.trace"), import_module("opentelemetry.sdk.metrics")
    export = import_module("opentelemetry.sdk.trace.export")
    exporter = import_module("opentelemetry.sdk.trace.export.in_memory_span_exporter").InMemorySpanExporter()
    reader = import_module("opentelemetry.sdk.metrics.export").InMemoryMetricReader()
    spans, meters = trace.TracerProvider(), metrics.MeterProvider([reader])
    spans.add_span_processor(export.BatchSpanProcessor(exporter))
    async with _client(url, telemetry=OpenTelemetry(spans, meters)) as fetch:
        yield fetch
    spans.shutdown()
    meters.shutdown()


UNOBSERVED = "unobserved"
OBSERVED: dict[str, Contender] = {
    UNOBSERVED: Contender("no listener", CONTENDERS["sdk"].open),
    "listener": Contender("a listener that does nothing", listener),
    "otel": Contender("`OpenTelemetry()` without an SDK", without_sdk, ("opentelemetry.trace",)),
    "otel-sdk": Contender("with the SDK, traces and metrics", with_sdk, ("opentelemetry.sdk",)),
}
