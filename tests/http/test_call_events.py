"""What listeners learn of each call, and what a call says of itself afterwards. Time is virtual here."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from helpers import URL, make_client, now, unique_key

from zenovay_async import (
    APITimeoutError,
    AttemptEnded,
    AttemptStarted,
    Cache,
    CallEnded,
    CallEvent,
    CallStarted,
    ClientClosedError,
    ConfigurationError,
    Event,
    NotFoundError,
    RateLimitError,
    RetryScheduled,
    ServerError,
    Wait,
    Zenovay,
    ZenovayError,
)
from zenovay_async._cache.options import parts_of
from zenovay_async._protocol.base_url import DEFAULT_BASE_URL
from zenovay_async._session.connection_pool import ConnectionPool
from zenovay_async.history import Attempt, explain
from zenovay_async.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from aioresponses import aioresponses

pytestmark = pytest.mark.looptime
GOOD: dict[str, Any] = {"success": True, "data": {"pages": []}}


class Heard(list[Event]):
    """A listener that keeps the events of calls."""

    def __call__(self, event: Event) -> None:
        if isinstance(event, CallEvent):
            self.append(event)

    @property
    def kinds(self) -> list[type[Event]]:
        return [type(event) for event in self]

    def only(self, *kinds: type[Any]) -> list[Any]:
        return [event for event in self if isinstance(event, kinds)]


def timed() -> Cache:
    """A cache that ages with the loop's clock, without jitter."""
    cache = Cache(ttl=60, stale=600)
    parts_of(cache).clock = now
    return cache


def slow(monkeypatch: pytest.MonkeyPatch, *seconds: float) -> None:
    """Let each request take so long."""
    send, times = ConnectionPool.send, iter(seconds)

    async def wait_first(*args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(next(times))
        return await send(*args, **kwargs)

    monkeypatch.setattr(ConnectionPool, "send", wait_first)


async def canceled_after(seconds: float, call: Awaitable[object]) -> None:
    """Cancel a call after so long."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await call


async def test_a_call_that_succeeds_has_four_events(canned: aioresponses) -> None:
    canned.get(f"{URL}?limit=3", payload=GOOD, headers={"x-request-id": "one", "X-RateLimit-Remaining": "7"})
    heard = Heard()
    async with make_client(on_event=heard) as zenovay:
        await zenovay.heatmaps.pages("x", limit=3)
    assert heard.kinds == [CallStarted, AttemptStarted, AttemptEnded, CallEnded]
    assert len({event.call_id for event in heard.only(CallEvent)}) == 1
    assert {(event.operation, event.method, event.template) for event in heard.only(CallEvent)} == {
        ("heatmaps.pages", "GET", "heatmaps/{website_id}/pages")
    }
    started, attempt, ended, done = heard
    assert isinstance(started, CallStarted)
    assert (started.call, started.cost, started.background, started.refresh) == (
        "GET heatmaps/x/pages",
        1,
        False,
        False,
    )
    assert isinstance(attempt, AttemptStarted)
    assert attempt.url == f"{URL}?limit=3"
    assert (attempt.number, attempt.waits, attempt.server_address, attempt.server_port) == (
        *(1, (), "api.zenovay.com", 443),
    )
    assert isinstance(ended, AttemptEnded)
    assert (ended.outcome, ended.status, ended.error, ended.request_id) == ("succeeded", 200, None, "one")
    assert isinstance(done, CallEnded)
    assert (done.outcome, done.status, done.error, done.cache, done.cost) == ("succeeded", 200, None, None, 1)
    assert [attempt.number for attempt in done.history] == [1]


async def test_a_call_with_a_queue_and_two_failures_says_so_in_words(
    canned: aioresponses, monkeypatch: pytest.MonkeyPatch
) -> None:
    canned.get(URL, status=502)
    canned.get(URL, status=503, headers={"Retry-After": "2", "x-request-id": "b"}, payload={"code": "INTERNAL"})
    canned.get(URL, payload=GOOD)
    heard = Heard()
    slow(monkeypatch, 0.4, 0.2, 0.1)
    async with make_client(on_event=heard, rate_limit=1, timeout=None) as zenovay:
        canned.get(f"{DEFAULT_BASE_URL}/websites", payload={"success": True, "data": {"websites": []}})
        monkeypatch.setattr("zenovay_async._session.retry.wait_random_exponential", lambda **_: lambda _: 0.8)
        response = await zenovay.with_raw_response(zenovay.heatmaps.pages)("x")
    assert response.explain().startswith("0.0 s attempt 1: 502 in 0.4 s; ")
    assert [attempt.status for attempt in response.history] == [502, 503, 200]
    assert [attempt.request_id for attempt in response.history] == [None, "b", None]
    assert [attempt.error for attempt in response.history] == ["ServerError", "ServerError", None]
    (done,) = heard.only(CallEnded)
    assert done.history == response.history
    assert done.explain() == response.explain()
    assert response.seconds == pytest.approx(done.seconds)
    assert [event.number for event in heard.only(AttemptEnded)] == [1, 2, 3]
    assert {wait.reason for event in heard.only(AttemptStarted) for wait in event.waits} == {"backoff", "rate_limit"}
    assert sum(wait.seconds for attempt in response.history for wait in attempt.waits) == pytest.approx(
        response.seconds - 0.7, abs=0.01
    )
    last = response.history[-1]
    assert last.started + last.seconds == pytest.approx(response.seconds)


async def test_an_error_says_in_words_what_the_call_went_through(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.fault(Fault.status(502), times=1)
    sandbox.fault(Fault.latency(100))
    slow(monkeypatch, 0.4, 0)
    monkeypatch.setattr("zenovay_async._session.retry.wait_random_exponential", lambda **_: lambda _: 0.8)
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, attempt_timeout=15, max_attempts=2) as zenovay:
        with pytest.raises(APITimeoutError) as caught:
            await zenovay.usage()
    error = caught.value
    assert error.explain() == "0.0 s attempt 1: 502 in 0.4 s; waited 0.8 s; attempt 2: timeout after 15.0 s"
    assert [attempt.error for attempt in error.history] == ["ServerError", "APITimeoutError"]
    assert error.history[0].request_id is not None
    assert error.__notes__ == [error.explain()]
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):  # noqa: S301 - our own
        assert twin.history == error.history
        assert twin.explain() == error.explain()
        twin.add_note("of one")
    assert len(error.__notes__) == 1


async def test_a_wait_for_the_rate_limit_is_part_of_the_history(canned: aioresponses) -> None:
    canned.get(URL, payload=GOOD, repeat=True)
    async with make_client(rate_limit=1, timeout=None, coalesce=False) as zenovay:
        fetch = zenovay.with_raw_response(zenovay.heatmaps.pages)
        first, second = await asyncio.gather(fetch("x"), fetch("x"))
    assert first.explain().startswith("0.0 s attempt 1: 200 in ")
    (wait,) = second.history[0].waits
    assert wait.reason == "rate_limit"
    assert 50 < wait.seconds < 70
    assert second.explain().startswith(f"0.0 s queued {wait.seconds:.1f} s for the rate limit; attempt 1: 200 in ")


async def test_a_wait_for_a_connection_is_part_of_the_history(
    canned: aioresponses, monkeypatch: pytest.MonkeyPatch
) -> None:
    canned.get(URL, payload=GOOD, repeat=True)
    slow(monkeypatch, 2, 1)
    async with make_client(max_connections=1, coalesce=False) as zenovay:
        fetch = zenovay.with_raw_response(zenovay.heatmaps.pages)
        second = (await asyncio.gather(fetch("x"), fetch("x")))[1]
    assert second.explain() == "0.0 s waited 2.0 s for a connection; attempt 1: 200 in 1.0 s"


async def test_a_wait_that_does_not_fit_is_explained_without_an_attempt(canned: aioresponses) -> None:
    canned.get(URL, payload=GOOD, repeat=True)
    heard = Heard()
    async with make_client(rate_limit=1, timeout=5, coalesce=False, on_event=heard) as zenovay:
        await zenovay.heatmaps.pages("x")
        heard.clear()
        with pytest.raises(RateLimitError) as caught:
            await zenovay.heatmaps.pages("x")
    assert caught.value.explain() == "0.0 s no request was sent"
    assert caught.value.history == ()
    assert heard.kinds == [CallStarted, CallEnded]
    assert heard.only(CallEnded)[0].error is caught.value


async def test_a_canceled_call_ends_as_canceled(canned: aioresponses, monkeypatch: pytest.MonkeyPatch) -> None:
    canned.get(URL, payload=GOOD, repeat=True)
    slow(monkeypatch, 10)
    heard = Heard()
    async with make_client(on_event=heard) as zenovay:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(zenovay.heatmaps.pages("x"), 3)
    assert heard.kinds == [CallStarted, AttemptStarted, AttemptEnded, CallEnded]
    assert [event.outcome for event in heard.only(AttemptEnded, CallEnded)] == ["canceled", "canceled"]
    (done,) = heard.only(CallEnded)
    assert done.error is None
    assert done.explain() == "0.0 s attempt 1: canceled after 3.0 s"


async def test_a_call_that_is_canceled_while_it_waits_says_what_for(
    canned: aioresponses, monkeypatch: pytest.MonkeyPatch
) -> None:
    canned.get(f"{DEFAULT_BASE_URL}/usage", status=500)
    canned.get(URL, payload=GOOD, repeat=True)
    slow(monkeypatch, 1, 30, 0)
    monkeypatch.setattr("zenovay_async._session.retry.wait_random_exponential", lambda **_: lambda _: 15.0)
    heard = Heard()
    async with make_client(on_event=heard, timeout=None, max_connections=1, coalesce=False) as zenovay:
        await canceled_after(7, zenovay.usage())
        ahead = asyncio.create_task(zenovay.heatmaps.pages("x"))
        await asyncio.sleep(0)
        await canceled_after(5, zenovay.heatmaps.pages("x"))
        await ahead
    async with make_client(on_event=heard, timeout=None, rate_limit=1) as zenovay:
        await zenovay.heatmaps.pages("x")
        await canceled_after(20, zenovay.heatmaps.pages("x"))
    assert [done.explain() for done in heard.only(CallEnded) if done.outcome == "canceled"] == [
        "0.0 s attempt 1: 500 in 1.0 s; waited 6.0 s",
        "0.0 s waited 5.0 s for a connection",
        "0.0 s queued 20.0 s for the rate limit",
    ]


async def test_a_call_that_fails_while_it_waits_for_a_retry_says_so(
    canned: aioresponses, monkeypatch: pytest.MonkeyPatch
) -> None:
    canned.get(URL, status=503, headers={"Retry-After": "15"})
    slow(monkeypatch, 1)
    zenovay = make_client(timeout=None)
    call = asyncio.create_task(zenovay.heatmaps.pages("x"))
    await asyncio.sleep(5)
    await zenovay.close()
    with pytest.raises(ClientClosedError) as caught:
        await call
    assert caught.value.explain() == "0.0 s attempt 1: 503 in 1.0 s; waited 4.0 s"


@pytest.mark.parametrize("leaves", ["first", "second"])
async def test_one_of_several_callers_that_is_canceled_says_what_it_waited_for(
    canned: aioresponses, monkeypatch: pytest.MonkeyPatch, leaves: str
) -> None:
    canned.get(URL, payload=GOOD, repeat=True)
    slow(monkeypatch, 10, 10)
    heard = Heard()
    async with make_client(on_event=heard, timeout=None, rate_limit=1) as zenovay:
        for canceled_at in (3, 5):
            first = asyncio.create_task(zenovay.heatmaps.pages("x"))
            await asyncio.sleep(1)
            second = asyncio.create_task(zenovay.heatmaps.pages("x"))
            leaver, other = (first, second) if leaves == "first" else (second, first)
            await asyncio.sleep(canceled_at - 1)
            leaver.cancel()
            await other
    assert [done.explain() for done in heard.only(CallEnded) if done.outcome == "canceled"] == [
        "0.0 s attempt 1: canceled after 3.0 s",
        "0.0 s queued 5.0 s for the rate limit",
    ]


async def test_a_caller_whose_time_ends_in_the_queue_of_another_says_so(canned: aioresponses) -> None:
    canned.get(URL, payload=GOOD, repeat=True)
    async with make_client(timeout=None, rate_limit=1) as zenovay:
        await zenovay.heatmaps.pages("x")
        ahead = asyncio.create_task(zenovay.heatmaps.pages("x"))
        await asyncio.sleep(3)
        with pytest.raises(RateLimitError) as caught:
            await zenovay.with_options(timeout=10).heatmaps.pages("x")
        await ahead
    assert caught.value.explain() == "0.0 s queued 3.0 s for the rate limit"


async def test_a_client_without_listener_is_no_part_of_the_call_in_whose_context_it_is_used(
    canned: aioresponses,
) -> None:
    canned.get(URL, payload=GOOD, repeat=True)
    quiet, calls = make_client(cache=timed()), list[asyncio.Task[Any]]()
    heard = Heard()

    def call_another(event: Event) -> None:
        if isinstance(event, AttemptStarted):
            calls.append(asyncio.create_task(quiet.heatmaps.pages("x")))

    async with quiet, make_client(on_event=[heard, call_another]) as zenovay:
        await zenovay.heatmaps.pages("x")
        await asyncio.gather(*calls)
        await zenovay.heatmaps.pages("x")
        await asyncio.gather(*calls)
    assert [done.cache for done in heard.only(CallEnded)] == [None, None]


async def test_events_say_where_a_response_came_from(canned: aioresponses, monkeypatch: pytest.MonkeyPatch) -> None:
    canned.get(URL, payload=GOOD, repeat=True)
    slow(monkeypatch, *(1,) * 10)
    heard = Heard()
    async with make_client(on_event=heard, cache=timed()) as zenovay:
        fetch = zenovay.with_raw_response(zenovay.heatmaps.pages)
        await asyncio.gather(fetch("x"), fetch("x"))
        kept = await fetch("x")
        await asyncio.sleep(100)
        await fetch("x")
        await asyncio.sleep(10)
    own = [event.call_id for event in heard.only(CallStarted) if not event.refresh]
    assert [event.cache for event in heard.only(CallEnded) if event.call_id in own] == [
        "miss",
        "joined",
        "hit",
        "stale",
    ]
    assert [done.explain() for done in heard.only(CallEnded) if done.call_id in own] == [
        *("0.0 s attempt 1: 200 in 1.0 s",) * 2,
        *("0.0 s from the cache",) * 2,
    ]
    assert kept.explain() == "0.0 s from the cache, 0 ms old"
    assert kept.history == ()
    assert kept.seconds == 0.0
    (refresh,) = (event for event in heard.only(CallStarted) if event.refresh)
    assert refresh.background
    assert [type(event) for event in heard.only(CallEvent) if event.call_id == refresh.call_id] == [
        *(CallStarted, AttemptStarted, AttemptEnded, CallEnded),
    ]
    assert len(heard.only(AttemptStarted)) == 2


async def test_a_call_that_fails_and_does_with_a_stale_response_says_both(
    canned: aioresponses, monkeypatch: pytest.MonkeyPatch
) -> None:
    canned.get(URL, payload=GOOD)
    canned.get(URL, status=500, repeat=True)
    heard, cache = Heard(), timed()
    slow(monkeypatch, *(1,) * 5)
    key = unique_key()
    for _ in range(3):
        # Closed at once, as a client for each web request, so that nothing refreshes what is stale.
        async with Zenovay(key, rate_limit=None, cache=cache, on_event=heard, max_attempts=1) as zenovay:
            await asyncio.gather(*(zenovay.heatmaps.pages("x") for _ in "ab"))
        await asyncio.sleep(100)
    assert [done.explain() for done in heard.only(CallEnded)][-2:] == [
        "0.0 s attempt 1: 500 in 1.0 s; from the cache",
    ] * 2


async def test_a_call_that_joins_one_that_is_retried_has_all_attempts(
    canned: aioresponses, monkeypatch: pytest.MonkeyPatch
) -> None:
    canned.get(URL, status=500)
    canned.get(URL, payload=GOOD)
    heard = Heard()
    slow(monkeypatch, 1, 1)
    async with make_client(on_event=heard) as zenovay:
        await asyncio.gather(zenovay.heatmaps.pages("x"), zenovay.heatmaps.pages("x"))
    first, second = heard.only(CallEnded)
    assert [attempt.status for attempt in first.history] == [500, 200]
    assert second.history == first.history


async def test_a_404_that_is_kept_has_nothing_of_the_call_that_got_it(canned: aioresponses) -> None:
    canned.get(URL, status=500)
    canned.get(URL, status=404)
    heard = Heard()
    async with make_client(on_event=heard, cache=Cache(ttl=60, negative_ttl=60)) as zenovay:
        with pytest.raises(NotFoundError) as first:
            await zenovay.heatmaps.pages("x")
        with pytest.raises(NotFoundError) as kept:
            await zenovay.heatmaps.pages("x")
    assert len(first.value.history) == first.value.attempts == 2
    assert (kept.value.history, kept.value.attempts, kept.value.waits) == ((), 0, ())
    assert not hasattr(kept.value, "__notes__")
    assert [(event.cache, event.attempts) for event in heard.only(CallEnded)] == [("miss", 2), ("hit", 0)]


async def test_a_call_that_joined_one_of_a_client_that_closes_sends_a_request_of_its_own(sandbox: Sandbox) -> None:
    heard = Heard()
    sandbox.fault(Fault.latency(5))
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, on_event=heard) as stays:
        leader = Zenovay(sandbox.api_key, base_url=sandbox.url)
        led = asyncio.create_task(leader.usage())
        await asyncio.sleep(1)
        joins = asyncio.create_task(stays.usage())
        await asyncio.sleep(1)
        await leader.close()
        await joins
        with pytest.raises(ClientClosedError):
            await led
    (ended,) = heard.only(CallEnded)
    assert (ended.cache, ended.attempts, ended.outcome) == (None, 1, "succeeded")
    assert len(heard.only(AttemptStarted)) == 1


async def test_a_call_that_joins_another_has_its_history(canned: aioresponses, monkeypatch: pytest.MonkeyPatch) -> None:
    canned.get(URL, status=500, repeat=True)
    slow(monkeypatch, 1, 1)
    async with make_client(max_attempts=1) as zenovay:
        calls = asyncio.gather(zenovay.heatmaps.pages("x"), zenovay.heatmaps.pages("x"), return_exceptions=True)
        errors = [error for error in await calls if isinstance(error, ServerError)]
    assert [error.explain() for error in errors] == ["0.0 s attempt 1: 500 in 1.0 s"] * 2


async def test_the_time_of_one_of_several_callers_is_explained(sandbox: Sandbox) -> None:
    sandbox.fault(Fault.latency(10))
    async with Zenovay(sandbox.api_key, base_url=sandbox.url) as zenovay:
        long = asyncio.create_task(zenovay.usage())
        await asyncio.sleep(1)
        with pytest.raises(APITimeoutError) as caught:
            await zenovay.with_options(timeout=3).usage()
        await long
    assert caught.value.explain() == "0.0 s attempt 1: timeout after 4.0 s"


async def test_several_listeners_hear_the_same_and_none_harms_another(
    canned: aioresponses, caplog: pytest.LogCaptureFixture
) -> None:
    canned.get(URL, payload=GOOD, repeat=True)
    first, last = Heard(), Heard()

    def fail(event: Event) -> None:
        raise KeyError(type(event).__name__)

    async with make_client(on_event=(listener for listener in (first, fail, last))) as zenovay:
        with caplog.at_level(logging.ERROR):
            await zenovay.with_options(timeout=3).heatmaps.pages("x")
    assert first.kinds == last.kinds == [CallStarted, AttemptStarted, AttemptEnded, CallEnded]
    assert caplog.text.count("on_event failed on ") == 4


async def test_an_interrupt_of_a_listener_keeps_no_connection(canned: aioresponses) -> None:
    canned.get(URL, payload=GOOD, repeat=True)
    interrupts = iter([KeyboardInterrupt])

    def interrupt(event: Event) -> None:
        if isinstance(event, AttemptStarted):
            for kind in interrupts:
                raise kind

    async with make_client(on_event=interrupt, max_connections=1, coalesce=False, timeout=5) as zenovay:
        # In this task, as an interrupt of another one ends the loop.
        with pytest.raises(KeyboardInterrupt):
            await zenovay.heatmaps.pages("x")
        await zenovay.heatmaps.pages("x")


async def test_a_listener_of_several_clients_hears_events_of_the_key_once(canned: aioresponses) -> None:
    canned.get(URL, status=429, headers={"Retry-After": "1"})
    canned.get(URL, payload=GOOD)
    events: list[Event] = []
    others: list[Event] = []
    async with make_client(on_event=[events.append, others.append], rate_limit=30) as zenovay:
        sibling = zenovay.with_options(on_event=events.append)
        await zenovay.heatmaps.pages("x")
        del sibling
    assert [type(event).__name__ for event in events].count("RateLimited") == 1
    assert [type(event).__name__ for event in others].count("RateLimited") == 1


class Tracer:
    """A telemetry that keeps what it hears, and adds headers."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.heard = Heard()
        self.on_event = self.heard
        self._headers = headers

    def headers(self) -> Mapping[str, str]:
        if not self._headers:
            raise KeyError("headers")
        return self._headers


async def test_a_telemetry_adds_headers_but_never_replaces_those_of_the_client(canned: aioresponses) -> None:
    canned.get(URL, payload=GOOD, repeat=True)
    tracer = Tracer({"traceparent": "00-1-2-01", "x-api-key": "another"})
    async with make_client(telemetry=tracer) as zenovay:
        await zenovay.heatmaps.pages("x")
        await zenovay.with_options(telemetry=None).heatmaps.pages("x")
        key = zenovay._auth.key
    ((_, requests),) = canned.requests.items()
    traced, untraced = (dict(request.kwargs["headers"]) for request in requests)
    assert traced == {**untraced, "traceparent": "00-1-2-01"}
    assert traced["X-API-Key"] == key
    assert tracer.heard.kinds == [CallStarted, AttemptStarted, AttemptEnded, CallEnded]


async def test_a_telemetry_that_fails_costs_no_call(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, telemetry=Tracer({})) as zenovay:
        await zenovay.usage()
    assert "telemetry failed to return headers" in caplog.text


@pytest.mark.parametrize("headers", [{"a": "b\r\nc: d"}, {"a b": "c"}, {"a": 5}])
async def test_headers_of_a_telemetry_that_are_none_cost_no_call(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture, headers: Any
) -> None:
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, telemetry=Tracer(headers)) as zenovay:
        await zenovay.usage()
    assert "telemetry failed to return headers" in caplog.text


async def test_attempts_of_a_call_that_waits_for_hours_are_kept_in_part(
    canned: aioresponses, monkeypatch: pytest.MonkeyPatch
) -> None:
    canned.get(URL, status=502, repeat=True)
    monkeypatch.setattr("zenovay_async._session.trail._MAX_HISTORY", 4)
    async with make_client(max_attempts=9, timeout=None) as zenovay:
        with pytest.raises(ZenovayError) as caught:
            await zenovay.heatmaps.pages("x")
    assert caught.value.attempts == 9
    assert [attempt.number for attempt in caught.value.history] == [1, 2, 8, 9]
    assert "; attempts 3 to 7 omitted; waited " in caught.value.explain()


async def test_a_retry_is_scheduled_between_the_events_of_two_attempts(canned: aioresponses) -> None:
    canned.get(URL, status=500)
    canned.get(URL, payload=GOOD)
    events: list[Event] = []
    async with make_client(on_event=events.append) as zenovay:
        await zenovay.heatmaps.pages("x")
    assert [type(event) for event in events] == [
        *(CallStarted, AttemptStarted, AttemptEnded, RetryScheduled, AttemptStarted, AttemptEnded, CallEnded),
    ]


async def test_a_custom_request_has_no_path_of_its_own_in_its_template(canned: aioresponses) -> None:
    canned.get(f"{DEFAULT_BASE_URL}/funnels/secret-website/steps", payload={"success": True, "data": {}})
    heard = Heard()
    async with make_client(on_event=heard) as zenovay:
        await zenovay.request("GET", "funnels/secret-website/steps")
    assert {event.template for event in heard.only(CallEvent)} == {"{path}"}


async def test_a_call_that_sends_nothing_is_heard_as_well(sandbox: Sandbox) -> None:
    heard = Heard()
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, on_event=heard) as zenovay:
        with pytest.raises(ConfigurationError):
            await zenovay.heatmaps.pages(sandbox.api_key)
    assert [event.outcome for event in heard.only(CallEnded)] == ["failed"]
    assert {event.call for event in heard.only(CallStarted, CallEnded)} == {"GET heatmaps/<secret>/pages"}
    assert sandbox.api_key not in repr(list(heard))


async def test_waits_and_attempts_are_put_in_words() -> None:
    waits = (Wait("outage", 5.0), Wait("rate_limit", 12.34), Wait("connection", 0.02))
    attempts = [
        Attempt(number=1, started=17.4, seconds=0.0004, waits=waits, error="APIConnectionError", message="refused"),
        Attempt(number=2, started=17.4, seconds=0.0005, error="APIConnectionError", message="refused"),
        Attempt(
            number=3, started=18.0, seconds=1.0, waits=(Wait("backoff", 0.6),), status=200, error="ResponseDecodeError"
        ),
        Attempt(number=4, started=19.0, seconds=0.2, status=200),
    ]
    assert explain(attempts, [Wait("outage", 300)]) == (
        "0.0 s waited 5.0 s for the server; queued 12.3 s for the rate limit; waited 20 ms for a connection; "
        "attempt 1: APIConnectionError in 0 ms (refused); attempt 2: APIConnectionError in 0 ms; waited 0.6 s; "
        "attempt 3: 200 in 1.0 s (ResponseDecodeError); attempt 4: 200 in 0.2 s; waited 300.0 s for the server"
    )


async def test_a_key_that_the_server_echoes_as_the_id_of_a_request_is_in_no_event(
    canned: aioresponses, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard()
    slow(monkeypatch, 1)
    async with make_client(on_event=heard) as zenovay:
        key = zenovay._auth.key
        canned.get(URL, headers={"x-request-id": str(key)}, payload=GOOD)
        await asyncio.gather(zenovay.heatmaps.pages("x"), zenovay.heatmaps.pages("x"))
    assert [event.cache for event in heard.only(CallEnded)] == [None, "joined"]
    assert {event.request_id for event in heard.only(AttemptEnded, CallEnded)} == {"<secret>"}
    assert not [event for event in heard if key in repr(event)]
