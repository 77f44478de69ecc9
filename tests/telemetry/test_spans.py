"""Each call is a span, with a span for each request below it."""

from __future__ import annotations

import asyncio
import gc
import logging
from contextlib import suppress
from contextvars import Context
from functools import partial
from socket import socket
from typing import TYPE_CHECKING, Any

import pytest
from helpers import URL, Held, now, unique_key, until
from opentelemetry import context, trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode
from otel_helpers import Exported, attributes_of, context_of, is_below, waits_of

from zenovay_async import (
    APIConnectionError,
    AttemptEnded,
    AttemptStarted,
    Cache,
    CallEnded,
    CallStarted,
    NotFoundError,
    RateLimit,
    RateLimitError,
    ServerError,
    Zenovay,
)
from zenovay_async._cache.options import parts_of
from zenovay_async._protocol.auth import Auth, Secret
from zenovay_async._session.observing import Observation, ObservingCaller
from zenovay_async.resources.usage import USAGE
from zenovay_async.sandbox import Fault, Sandbox
from zenovay_async.telemetry import OpenTelemetry
from zenovay_async.testing import no_waits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aioresponses import aioresponses


@pytest.fixture
def exported() -> Exported:
    return Exported()


@pytest.fixture
def telemetry(exported: Exported) -> OpenTelemetry:
    return exported.telemetry()


@pytest.fixture
async def zenovay(sandbox: Sandbox, telemetry: OpenTelemetry) -> AsyncIterator[Zenovay]:
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=None, telemetry=telemetry) as client:
        yield client


def left_in(telemetry: OpenTelemetry) -> int:
    """How many calls and attempts are kept."""
    return len(telemetry._spans._calls) + len(telemetry._spans._attempts)


async def test_a_call_with_two_failures_and_a_queue_is_one_span_with_three_requests_and_its_waits() -> None:
    exported = Exported()
    with no_waits():
        async with (
            Sandbox(websites=2) as sandbox,
            Zenovay(
                sandbox.api_key,
                base_url=sandbox.url,
                rate_limit=1,
                rate_limit_window=10,
                timeout=120,
                telemetry=exported.telemetry(),
            ) as zenovay,
        ):
            await zenovay.heatmaps.pages(sandbox.website_ids[0])
            sandbox.fault(Fault.bad_gateway(), times=2)
            response = await zenovay.with_raw_response(zenovay.heatmaps.pages)(sandbox.website_ids[1], limit=5)
            url = f"{sandbox.url}/heatmaps/{sandbox.website_ids[1]}/pages?limit=5"
            port = int(sandbox.url.split(":")[2].split("/")[0])
    _, call = exported.calls
    attempts = exported.attempts[1:]
    assert call.name == "zenovay.heatmaps.pages"
    assert [span.name for span in attempts] == ["GET heatmaps/{website_id}/pages"] * 3
    assert all(is_below(span, call) for span in attempts)
    requests = [attributes_of(span) for span in attempts]
    assert [request.pop("zenovay.request_id") for request in requests] == [
        attempt.request_id for attempt in response.history
    ]
    same: dict[str, Any] = {
        "http.request.method": "GET",
        "url.full": url,
        "url.template": "heatmaps/{website_id}/pages",
        "server.address": "127.0.0.1",
        "server.port": port,
    }
    failed = {"http.response.status_code": 502, "error.type": "502"}
    assert requests == [
        {**same, **failed},
        {**same, **failed, "http.request.resend_count": 1},
        {**same, "http.response.status_code": 200, "http.request.resend_count": 2},
    ]
    assert [span.status.status_code for span in attempts] == [StatusCode.ERROR, StatusCode.ERROR, StatusCode.UNSET]
    assert call.status.status_code is StatusCode.UNSET

    waits = [(wait.reason, round(wait.seconds, 3)) for attempt in response.history for wait in attempt.waits]
    assert waits_of(call) == waits
    # Each has the time at which it ended.
    reasons = [reason for reason, _ in waits]
    backoff = reasons.index("backoff")
    assert reasons[backoff + 1] == "rate_limit"
    between = call.events[backoff + 1].timestamp - call.events[backoff].timestamp
    assert between == pytest.approx(waits[backoff + 1][1] * 1e9, rel=0.01)
    of_call = attributes_of(call)
    for reason in set(reasons):
        assert of_call.pop(f"zenovay.wait.{reason}") == pytest.approx(
            sum(seconds for name, seconds in waits if name == reason), abs=0.01
        )
    assert of_call == {"zenovay.operation": "heatmaps.pages", "zenovay.cost": 1, "zenovay.attempts": 3}
    words = response.explain().split("; ")
    assert [word for word in words if word.startswith("attempt")] == [
        f"attempt {number}: {request['http.response.status_code']} in {_seconds(span)}"
        for number, (request, span) in enumerate(zip(requests, response.history, strict=True), start=1)
    ]
    assert len(words) == len(waits) + len(requests)


def _seconds(attempt: Any) -> str:
    return str(attempt).rpartition(" in ")[2]


async def test_a_call_that_fails_says_so_as_its_error_explains(
    zenovay: Zenovay, sandbox: Sandbox, exported: Exported
) -> None:
    sandbox.fault(Fault.status(500))
    with no_waits(), pytest.raises(ServerError) as raised:
        await zenovay.heatmaps.pages(sandbox.website_ids[0])
    (call,) = exported.calls
    assert call.status.status_code is StatusCode.ERROR
    assert call.status.description == "ServerError: 500"
    assert attributes_of(call)["error.type"] == "ServerError"
    assert (
        attributes_of(call)["zenovay.attempts"] == len(raised.value.history) == raised.value.explain().count("500 in")
    )
    assert [attributes_of(span)["error.type"] for span in exported.attempts] == ["500"] * raised.value.attempts
    # The status says it.
    assert {span.status.description for span in exported.attempts} == {None}


async def test_a_call_that_makes_no_connection_has_its_waits_for_the_server(exported: Exported) -> None:
    telemetry = exported.telemetry()
    with no_waits(), socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with Zenovay(unique_key(), base_url=url, rate_limit=None, telemetry=telemetry, timeout=5) as zenovay:
            with pytest.raises(APIConnectionError) as raised:
                await zenovay.heatmaps.pages("x")
    (call,) = exported.calls
    waits = [wait for attempt in raised.value.history for wait in attempt.waits]
    assert waits_of(call) == [(wait.reason, round(wait.seconds, 3)) for wait in waits]
    assert attributes_of(call)["zenovay.wait.outage"] > 1
    assert call.status.description == "APIConnectionError"
    assert {attributes_of(span)["error.type"] for span in exported.attempts} == {"APIConnectionError"}
    assert {span.status.description for span in exported.attempts} == {"APIConnectionError"}


@pytest.mark.looptime
async def test_a_wait_in_vain_is_in_the_span_although_no_request_follows() -> None:
    exported = Exported()
    limiter = Waiting(5, RateLimitError("too many"))
    async with Zenovay(unique_key(), rate_limit=limiter, telemetry=exported.telemetry()) as zenovay:
        with pytest.raises(RateLimitError) as raised:
            await zenovay.heatmaps.pages("x")
    assert raised.value.explain() == "0.0 s queued 5.0 s for the rate limit"
    (call,) = exported.spans
    assert waits_of(call) == [("rate_limit", 5.0)]
    assert attributes_of(call)["zenovay.wait.rate_limit"] == 5.0
    assert attributes_of(call)["zenovay.attempts"] == 0
    assert exported.metrics()["zenovay.client.wait.duration"] == [({"zenovay.wait.reason": "rate_limit"}, (1, 5.0))]


async def test_a_span_has_no_text_of_the_server(zenovay: Zenovay, sandbox: Sandbox, exported: Exported) -> None:
    sandbox.fault(Fault.status(404, message="No such website: shop.example"))
    with pytest.raises(NotFoundError, match=r"shop\.example"):
        await zenovay.heatmaps.pages(sandbox.website_ids[0])
    assert len(exported.spans) == 2
    assert "shop.example" not in exported.text_of_spans()


async def test_a_response_that_cannot_be_decoded_is_an_error_of_the_request(
    zenovay: Zenovay, sandbox: Sandbox, exported: Exported
) -> None:
    sandbox.fault(Fault.garbage_json())
    with pytest.raises(Exception, match="JSON"):
        await zenovay.heatmaps.pages(sandbox.website_ids[0])
    (attempt,) = exported.attempts
    assert attributes_of(attempt)["http.response.status_code"] == 200
    assert attributes_of(attempt)["error.type"] == attempt.status.description == "ResponseDecodeError"


async def test_a_call_is_a_child_of_the_span_that_its_caller_is_in(
    zenovay: Zenovay, sandbox: Sandbox, exported: Exported
) -> None:
    tracer = exported.tracer_provider.get_tracer("application")
    with tracer.start_as_current_span("page") as page:
        await asyncio.gather(*(zenovay.heatmaps.pages(website_id) for website_id in sandbox.website_ids))
        assert trace.get_current_span() is page
    assert {span.parent.span_id for span in exported.calls if span.name != "page" and span.parent} == {
        page.get_span_context().span_id
    }
    assert len({context_of(span).trace_id for span in exported.spans}) == 1


async def test_the_current_span_is_that_of_the_request_while_it_is_sent(
    zenovay: Zenovay, sandbox: Sandbox, exported: Exported
) -> None:
    """So that logs and metrics of the moment belong to it."""
    current: list[tuple[str, int]] = []
    seen = zenovay.with_options(
        on_event=lambda event: current.append(
            (type(event).__name__, trace.get_current_span().get_span_context().span_id)
        )
    )
    # Listeners come before telemetry: they see what was the current one.
    await seen.with_options(coalesce=False).heatmaps.pages(sandbox.website_ids[0])
    (attempt,), (call,) = exported.attempts, exported.calls
    assert current == [
        ("CallStarted", 0),
        ("AttemptStarted", context_of(call).span_id),
        ("AttemptEnded", context_of(attempt).span_id),
        ("CallEnded", context_of(call).span_id),
    ]
    assert not trace.get_current_span().get_span_context().is_valid


async def test_a_canceled_call_is_no_error(zenovay: Zenovay, sandbox: Sandbox, exported: Exported) -> None:
    held = Held()
    sandbox.fault(held.fault)
    task = asyncio.create_task(zenovay.heatmaps.pages(sandbox.website_ids[0]))
    await until(lambda: held.arrived > 0)
    task.cancel()
    await asyncio.wait([task])
    held.released.set()
    assert len(exported.spans) == 2
    for span in exported.spans:
        assert span.status.status_code is StatusCode.UNSET
        assert attributes_of(span)["zenovay.outcome"] == "canceled"
        assert "error.type" not in attributes_of(span)


async def test_calls_that_share_a_request_have_one_span_of_it(
    zenovay: Zenovay, sandbox: Sandbox, exported: Exported
) -> None:
    await asyncio.gather(*(zenovay.heatmaps.pages(sandbox.website_ids[0]) for _ in range(3)))
    assert len(exported.attempts) == 1
    assert sorted(attributes_of(span).get("zenovay.cache", "") for span in exported.calls) == ["", "joined", "joined"]


async def test_a_request_outlives_the_call_that_began_it_for_those_who_joined(
    zenovay: Zenovay, sandbox: Sandbox, exported: Exported, telemetry: OpenTelemetry
) -> None:
    held = Held()
    sandbox.fault(held.fault)
    first = asyncio.create_task(zenovay.heatmaps.pages(sandbox.website_ids[0]))
    await until(lambda: held.arrived > 0)
    second = asyncio.create_task(zenovay.heatmaps.pages(sandbox.website_ids[0]))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    held.released.set()
    await second
    (attempt,) = exported.attempts
    canceled, joined = exported.calls
    assert attributes_of(canceled)["zenovay.outcome"] == "canceled"
    assert attributes_of(joined)["zenovay.cache"] == "joined"
    assert is_below(attempt, canceled)
    assert left_in(telemetry) == 0


@pytest.mark.looptime
async def test_a_response_that_was_kept_has_no_request_and_its_refresh_is_a_trace_of_its_own(
    canned: aioresponses, exported: Exported
) -> None:
    cache = Cache(ttl=60, stale=600, jitter=0)
    parts_of(cache).clock = now
    canned.get(URL, payload=_PAGES, repeat=True)
    tracer = exported.tracer_provider.get_tracer("application")
    async with Zenovay(unique_key(), rate_limit=None, telemetry=exported.telemetry(), cache=cache) as zenovay:
        with tracer.start_as_current_span("page") as page:
            await zenovay.heatmaps.pages("x")
            await zenovay.heatmaps.pages("x")
            assert len(exported.attempts) == 1
            await asyncio.sleep(61)
            await zenovay.heatmaps.pages("x")
            await until(lambda: len(exported.calls) == 4)
    miss, hit, stale, refresh = exported.calls[:4]
    assert [attributes_of(span)["zenovay.cache"] for span in (miss, hit, stale)] == ["miss", "hit", "stale"]
    requested, refreshed = exported.attempts
    assert is_below(requested, miss)
    assert is_below(refreshed, refresh)
    assert {context_of(span).trace_id for span in (miss, hit, stale)} == {page.get_span_context().trace_id}
    assert refresh.parent is None
    assert context_of(refresh).trace_id != page.get_span_context().trace_id


@pytest.mark.looptime
async def test_what_a_call_waited_for_before_it_was_canceled_is_in_its_span(canned: aioresponses) -> None:
    exported = Exported()
    telemetry = exported.telemetry()
    async with Zenovay(unique_key(), rate_limit=1, timeout=120, telemetry=telemetry) as zenovay:
        canned.get(URL, payload=_PAGES, repeat=True)
        await zenovay.heatmaps.pages("x")
        task = asyncio.create_task(zenovay.heatmaps.pages("x"))
        await asyncio.sleep(5)
        task.cancel()
        await asyncio.wait([task])
    canceled = exported.calls[-1]
    assert attributes_of(canceled)["zenovay.outcome"] == "canceled"
    assert attributes_of(canceled)["zenovay.attempts"] == 0
    assert attributes_of(canceled)["zenovay.wait.rate_limit"] == pytest.approx(5)
    assert waits_of(canceled) == [("rate_limit", 5.0)]
    assert left_in(telemetry) == 0


async def test_what_is_not_sampled_has_no_span_at_all(sandbox: Sandbox) -> None:
    exported = Exported(ALWAYS_OFF)
    telemetry = exported.telemetry()
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=None, telemetry=telemetry) as zenovay:
        await zenovay.heatmaps.pages(sandbox.website_ids[0])
    assert exported.spans == []
    assert exported.metrics()["zenovay.client.call.duration"]
    assert left_in(telemetry) == 0


async def test_nothing_is_kept_of_calls_that_ended(
    zenovay: Zenovay, sandbox: Sandbox, telemetry: OpenTelemetry, exported: Exported
) -> None:
    sandbox.fault(Fault.status(500), times=30)

    async def call(number: int) -> None:
        with suppress(Exception):
            async with asyncio.timeout(0.001 if number % 3 == 0 else 30):
                await zenovay.heatmaps.pages(sandbox.website_ids[number % 3], limit=number % 5 + 1)

    with no_waits():
        await asyncio.gather(*(call(number) for number in range(60)))
    assert len(exported.calls) == 60
    assert left_in(telemetry) == 0


def test_a_call_whose_loop_was_closed_ends_with_it_and_nothing_is_logged(
    telemetry: OpenTelemetry, exported: Exported, caplog: pytest.LogCaptureFixture
) -> None:
    held: list[Any] = []

    async def begin() -> None:
        call = ObservingCaller(Hanging(), partial(Observation, telemetry.on_event, Auth(Secret(unique_key())))).send(
            USAGE.call()
        )
        held.append(call)
        call.send(None)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    loop.close()
    assert left_in(telemetry) == 1
    # The garbage collector ends it, in another context.
    held.clear()
    gc.collect()
    assert left_in(telemetry) == 0
    assert [attributes_of(span)["zenovay.outcome"] for span in exported.calls] == ["canceled"]
    assert caplog.records == []


def test_a_request_that_ends_in_another_context_is_ended(
    telemetry: OpenTelemetry, exported: Exported, caplog: pytest.LogCaptureFixture
) -> None:
    names: dict[str, Any] = {"call_id": 0, "operation": "o", "method": "GET", "template": "t"}
    ended: dict[str, Any] = {"outcome": "canceled", "seconds": 1.0, "status": None, "error": None, "request_id": None}
    one, other = Context(), Context()
    one.run(telemetry.on_event, CallStarted(**names, call="GET t", cost=1, background=False, refresh=False))
    started = AttemptStarted(
        **names, number=1, previous=None, waits=(), url="http://h/t", server_address="h", server_port=80
    )
    one.run(telemetry.on_event, started)
    other.run(
        telemetry.on_event,
        AttemptEnded(
            **names,
            **ended,
            number=1,
            server_address="h",
            server_port=1,
            rate_limit_remaining=None,
            quota_remaining=None,
        ),
    )
    end = CallEnded(**names, **ended, call="GET t", cost=1, cache=None, history=(), waits=())
    # A copy of the context, as a task has, may be where it ends.
    one.copy().run(telemetry.on_event, end)
    other.run(telemetry.on_event, end)
    assert [span.name for span in exported.spans] == ["GET t", "zenovay.o"]
    assert other.run(context.get_current) == {}
    assert left_in(telemetry) == 0
    assert caplog.records == []


async def test_a_tracer_that_fails_does_not_concern_the_call(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(trace.TracerProvider):
        def get_tracer(self, *_: Any, **__: Any) -> Any:
            return None

    telemetry = OpenTelemetry(Broken())
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, telemetry=telemetry) as zenovay:
        await zenovay.heatmaps.pages(sandbox.website_ids[0])
    assert {record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR} >= {
        "on_event failed on CallStarted"
    }
    assert left_in(telemetry) == 0


class Hanging:
    """A caller whose calls never end."""

    async def send(self, call: Any, timeout: Any = None) -> Any:  # noqa: ARG002 - the protocol's
        await asyncio.get_running_loop().create_future()


class Waiting:
    """A limiter whose permits never come.

    Args:
        seconds: How long it lets callers wait.
        error: What they get then.
    """

    def __init__(self, seconds: float, error: Exception) -> None:
        self.seconds = seconds
        self.error = error

    def acquire_nowait(self, *, cost: int = 1, background: bool = False) -> None:  # noqa: ARG002 - the protocol's
        return None

    async def acquire(self, *, cost: int = 1, max_wait: float | None = None, background: bool = False) -> Any:  # noqa: ARG002 - the protocol's
        await asyncio.sleep(self.seconds)
        raise self.error

    def fail_waiters(self, make_error: Any) -> None:
        pass

    def snapshot(self) -> RateLimit:
        return RateLimit(limit=1, remaining=1, window=1.0, reset_after=0.0, learned=True)

    def forecast(self, n: int, *, background: bool = False) -> float:
        del background
        return float(n)

    async def aclose(self) -> None:
        pass


_PAGES = {"success": True, "data": {"pages": []}, "timestamp": "2026-02-07T12:00:00.000Z"}
