"""What is sent to the API of a trace, and that an instrumented aiohttp adds nothing to it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from helpers import unique_key
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from otel_helpers import Exported, attributes_of, context_of
from raw_server import RawServer

from zenovay_async import Zenovay
from zenovay_async.sandbox import Fault, Sandbox
from zenovay_async.telemetry import spans
from zenovay_async.testing import no_waits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from aiohttp import web
    from opentelemetry.sdk.trace import ReadableSpan


@pytest.fixture
def exported() -> Exported:
    return Exported()


@pytest.fixture
def _instrumented(exported: Exported) -> Iterator[None]:
    """Instrument aiohttp, as ``opentelemetry-instrument`` does."""
    instrumentor: Any = AioHttpClientInstrumentor()
    instrumentor.instrument(tracer_provider=exported.tracer_provider, meter_provider=exported.meter_provider)
    yield
    instrumentor.uninstrument()


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    async with RawServer() as running:
        yield running


def trace_context(span: ReadableSpan) -> str:
    """The ``traceparent`` of a span, without its flags."""
    context = context_of(span)
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-"


async def call(server: RawServer, **options: Any) -> None:
    async with Zenovay(unique_key(), base_url=server.url, rate_limit=None, **options) as zenovay:
        await zenovay.heatmaps.pages("x")


@pytest.mark.usefixtures("_instrumented")
@pytest.mark.parametrize("own_session", [True, False], ids=["session of the client", "session given"])
async def test_an_instrumented_aiohttp_neither_doubles_a_request_nor_sends_its_trace(
    server: RawServer,
    exported: Exported,
    own_session: bool,  # noqa: FBT001 - a table's column
) -> None:
    telemetry = exported.telemetry()
    if own_session:
        await call(server, telemetry=telemetry)
    else:
        async with aiohttp.ClientSession() as session:
            await call(server, telemetry=telemetry, session=session)
    assert [span.name for span in exported.spans] == ["GET heatmaps/{website_id}/pages", "zenovay.heatmaps.pages"]
    assert server.header("traceparent") == server.header("tracestate") == server.header("baggage") == []
    assert "http.client.duration" not in exported.metrics()


@pytest.mark.usefixtures("_instrumented")
async def test_an_opentelemetry_that_lacks_a_private_name_is_no_failure(
    server: RawServer, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("opentelemetry.context._SUPPRESS_HTTP_INSTRUMENTATION_KEY")
    # What imports it does so anew, and is put back afterwards.
    monkeypatch.delattr("zenovay_async.telemetry.spans")
    monkeypatch.delitem(sys.modules, spans.__name__)
    await call(server, telemetry=exported.telemetry())
    assert [span.name for span in exported.spans] == ["GET heatmaps/{website_id}/pages", "zenovay.heatmaps.pages"]
    assert server.header("traceparent") == []


@pytest.mark.usefixtures("_instrumented")
async def test_what_is_not_sampled_is_no_span_of_an_instrumented_aiohttp_either(server: RawServer) -> None:
    exported = Exported(ALWAYS_OFF)
    await call(server, telemetry=exported.telemetry())
    assert exported.spans == []
    assert server.header("traceparent") == []


@pytest.mark.usefixtures("_instrumented")
async def test_without_telemetry_an_instrumented_aiohttp_sends_its_trace_to_the_api(
    server: RawServer, exported: Exported
) -> None:
    """As the documentation says."""
    await call(server)
    (span,) = exported.spans
    assert span.name == "GET"
    assert "heatmaps/x/pages" in span.to_json()
    assert server.header("traceparent")[0].startswith(trace_context(span))


async def test_propagate_sends_the_trace_of_each_request(exported: Exported) -> None:
    headers: list[str] = []

    async def record(request: web.Request) -> None:
        headers.append(request.headers["traceparent"])

    async with Sandbox(websites=1) as sandbox:
        sandbox.fault(Fault.bad_gateway(), times=1)
        sandbox.fault(Fault("recorded", record))
        telemetry = exported.telemetry(propagate=True)
        with no_waits():
            async with Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=None, telemetry=telemetry) as zenovay:
                await zenovay.heatmaps.pages(sandbox.website_ids[0])
    first, second = exported.attempts
    assert attributes_of(first)["http.response.status_code"] == 502
    assert headers[-1] == f"{trace_context(second)}0{int(context_of(second).trace_flags):x}"


@pytest.mark.usefixtures("_instrumented")
async def test_propagate_sends_one_trace_although_aiohttp_is_instrumented(
    server: RawServer, exported: Exported
) -> None:
    await call(server, telemetry=exported.telemetry(propagate=True))
    (attempt,) = exported.attempts
    (header,) = server.header("traceparent")
    assert header.startswith(trace_context(attempt))


async def test_propagate_sends_that_a_trace_is_not_sampled(server: RawServer) -> None:
    await call(server, telemetry=Exported(ALWAYS_OFF).telemetry(propagate=True))
    (header,) = server.header("traceparent")
    assert int(header[-2:], 16) & 1 == 0


async def test_the_key_stays_the_clients_whatever_is_propagated(
    server: RawServer, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    def inject(carrier: dict[str, str]) -> None:
        carrier.update({"X-API-Key": "other", "x-trace": "1"})

    monkeypatch.setattr("zenovay_async.telemetry.spans.inject", inject)
    await call(server, telemetry=exported.telemetry(propagate=True))
    assert "other" not in server.header("x-api-key")
    assert len(server.header("x-api-key")) == 1
    assert server.header("x-trace") == ["1"]
