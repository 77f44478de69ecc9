"""Metrics of calls and requests, which say nothing of one website and nothing of the key."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from helpers import URL, unique_key
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import NoOpTracerProvider
from otel_helpers import Exported

from zenovay_async import Cache, Zenovay, ZenovayError
from zenovay_async.sandbox import Fault, Sandbox
from zenovay_async.telemetry import OpenTelemetry
from zenovay_async.testing import no_waits

if TYPE_CHECKING:
    from aioresponses import aioresponses

_REQUESTS = "http.client.request.duration"
_CALLS = "zenovay.client.call.duration"


def counts(points: list[tuple[dict[str, Any], Any]], *names: str) -> dict[Any, int]:
    """How much was recorded, by the values of some attributes."""
    found: dict[Any, int] = {}
    for attributes, value in points:
        key = tuple(attributes.get(name) for name in names)
        found[key] = found.get(key, 0) + (value[0] if isinstance(value, tuple) else value)
    return found


async def test_requests_calls_retries_and_waits_are_measured(sandbox: Sandbox) -> None:
    exported = Exported()
    with no_waits():
        async with Zenovay(
            sandbox.api_key, base_url=sandbox.url, rate_limit=None, telemetry=exported.telemetry()
        ) as zenovay:
            sandbox.fault(Fault.status(500), times=2)
            await zenovay.heatmaps.pages(sandbox.website_ids[0])
            with suppress(ZenovayError):
                await zenovay.heatmaps.pages("00000000-0000-4000-8000-000000000000")
    metrics = exported.metrics()
    assert counts(metrics[_REQUESTS], "http.response.status_code", "error.type") == {
        (200, None): 1,
        (500, "500"): 2,
        (404, "404"): 1,
    }
    assert {frozenset(attributes) - {"error.type"} for attributes, _ in metrics[_REQUESTS]} == {
        frozenset(
            {
                "http.request.method",
                "http.response.status_code",
                "server.address",
                "server.port",
                "url.template",
            }
        )
    }
    assert counts(metrics[_CALLS], "zenovay.operation", "zenovay.outcome", "error.type") == {
        ("heatmaps.pages", "succeeded", None): 1,
        ("heatmaps.pages", "failed", "NotFoundError"): 1,
    }
    assert metrics["zenovay.client.retries"] == [({"error.type": "500"}, 2)]
    # A machine that is busy may have waits of other kinds.
    assert counts(metrics["zenovay.client.wait.duration"], "zenovay.wait.reason")[("backoff",)] == 2


async def test_what_is_left_of_the_limits_is_measured(sandbox: Sandbox) -> None:
    exported = Exported()
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=30, telemetry=exported.telemetry()) as zenovay:
        await zenovay.heatmaps.pages(sandbox.website_ids[0])
        rate_limit, quota = zenovay.rate_limit, zenovay.quota
    metrics = exported.metrics()
    assert rate_limit is not None
    assert metrics["zenovay.client.rate_limit.remaining"] == [({}, rate_limit.remaining)]
    assert metrics["zenovay.client.quota.remaining"] == [({}, quota.remaining)]


async def test_what_is_not_known_of_the_limits_is_not_measured(canned: aioresponses) -> None:
    exported = Exported()
    canned.get(URL, payload={"success": True, "data": {"pages": []}, "timestamp": "2026-02-07T12:00:00.000Z"})
    async with Zenovay(unique_key(), rate_limit=None, telemetry=exported.telemetry()) as zenovay:
        await zenovay.heatmaps.pages("x")
    assert not [name for name in exported.metrics() if "remaining" in name]


async def test_the_results_of_a_cache_are_counted(sandbox: Sandbox) -> None:
    exported = Exported()
    async with Zenovay(
        sandbox.api_key, base_url=sandbox.url, telemetry=exported.telemetry(), cache=Cache(ttl=60)
    ) as zenovay:
        await asyncio.gather(*(zenovay.heatmaps.pages(sandbox.website_ids[0]) for _ in range(3)))
        await zenovay.heatmaps.pages(sandbox.website_ids[0])
    metrics = exported.metrics()
    assert counts(metrics["zenovay.client.cache"], "zenovay.cache") == {("miss",): 1, ("joined",): 2, ("hit",): 1}
    assert counts(metrics[_CALLS], "zenovay.cache") == {("miss",): 1, ("joined",): 2, ("hit",): 1}


async def test_waits_of_calls_that_joined_are_measured_once(sandbox: Sandbox) -> None:
    exported = Exported()
    with no_waits():
        async with Zenovay(
            sandbox.api_key, base_url=sandbox.url, rate_limit=None, telemetry=exported.telemetry()
        ) as zenovay:
            sandbox.fault(Fault.status(500))
            calls = (zenovay.heatmaps.pages(sandbox.website_ids[0]) for _ in range(3))
            await asyncio.gather(*calls, return_exceptions=True)
    metrics = exported.metrics()
    (requests,) = counts(metrics[_REQUESTS]).values()
    assert counts(metrics["zenovay.client.retries"]) == {(): requests - 1}
    assert counts(metrics["zenovay.client.wait.duration"], "zenovay.wait.reason")[("backoff",)] == requests - 1


async def test_durations_have_the_buckets_of_the_conventions(sandbox: Sandbox) -> None:
    exported = Exported()
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, telemetry=exported.telemetry()) as zenovay:
        await zenovay.usage()
    assert '"explicit_bounds":[0.005,0.01,0.025,0.05,0.075,0.1,0.25,0.5,0.75,1,2.5,5,7.5,10]' in "".join(
        exported.text_of_metrics().split()
    )


async def test_nothing_of_a_run_has_the_key_and_no_name_or_metric_a_website_id() -> None:
    exported = Exported()
    with no_waits():
        async with (
            Sandbox(websites=20) as sandbox,
            Zenovay(
                sandbox.api_key,
                base_url=sandbox.url,
                rate_limit=None,
                telemetry=exported.telemetry(propagate=True),
                cache=Cache(ttl=60, negative_ttl=5),
                max_attempts=2,
            ) as zenovay,
        ):
            ids, key = sandbox.website_ids, sandbox.api_key
            sandbox.fault(Fault.status(404, message=f"No website {ids[0]} for {key}"), times=2)
            sandbox.fault(Fault.status(500, message=f"{ids[1]} {key}", code=ids[1]), times=3)
            sandbox.fault(Fault.garbage_json(), times=2)

            async def fetch(website_id: str) -> Any:
                await zenovay.request("GET", f"websites/{website_id}", params={"site": website_id})
                with suppress(ZenovayError):
                    await zenovay.request("POST", f"websites/{website_id}", json={"site": website_id})
                await zenovay.analytics.overview(website_id)
                await zenovay.errors.groups(website_id)
                return await zenovay.heatmaps.pages(website_id)

            async with zenovay.batch(ids, fetch) as results:
                failures = sum([1 async for result in results if result.error is not None])
            bearer = zenovay.with_options(auth="bearer", cache=None)
            await asyncio.gather(*(bearer.heatmaps.pages(website_id) for website_id in ids))
            task = asyncio.create_task(bearer.heatmaps.pages(ids[2], limit=3))
            await asyncio.sleep(0)
            task.cancel()
            with suppress(ZenovayError):
                await zenovay.with_options(api_key=f"{key}x").heatmaps.pages(ids[0])
    assert failures
    metrics, spans = exported.text_of_metrics(), exported.text_of_spans()
    names = [text for span in exported.spans for text in (span.name, span.status.description or "")]
    names += [event.name for span in exported.spans for event in span.events]
    assert len(exported.spans) > 100
    assert key not in metrics + spans
    assert key.removeprefix("zv_")[:12] not in metrics + spans
    for website_id in ids:
        assert website_id not in metrics
        assert not [name for name in names if website_id in name]
    assert {name for name in names if name.startswith(("zenovay.request", "GET {", "POST {"))} == {
        "zenovay.request",
        "GET {path}",
        "POST {path}",
    }


async def test_several_clients_may_share_telemetry_or_have_their_own_of_one_provider(sandbox: Sandbox) -> None:
    exported = Exported()
    shared = exported.telemetry()
    for telemetry in (shared, shared, exported.telemetry()):
        async with Zenovay(sandbox.api_key, base_url=sandbox.url, telemetry=telemetry) as zenovay:
            await zenovay.heatmaps.pages(sandbox.website_ids[0])
    metrics = exported.metrics()
    assert counts(metrics[_CALLS]) == {(): 3}
    assert len(metrics["zenovay.client.quota.remaining"]) == 1


async def test_traces_and_metrics_can_be_had_alone(sandbox: Sandbox) -> None:
    exported = Exported()
    traces = OpenTelemetry(exported.tracer_provider, NoOpMeterProvider())
    metrics = OpenTelemetry(NoOpTracerProvider(), exported.meter_provider)
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, telemetry=traces) as zenovay:
        await zenovay.heatmaps.pages(sandbox.website_ids[0])
        assert exported.metrics() == {}
        assert len(exported.spans) == 2
        await zenovay.with_options(telemetry=metrics).heatmaps.pages(sandbox.website_ids[0])
        assert exported.metrics()
        assert len(exported.spans) == 2
        await zenovay.with_options(telemetry=None).heatmaps.pages(sandbox.website_ids[0])
    assert counts(exported.metrics()[_CALLS]) == {(): 1}
