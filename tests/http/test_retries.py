"""What may succeed is retried, under one deadline; what cannot is not. Time is virtual here."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import pytest
from aiohttp.client_reqrep import ConnectionKey
from helpers import URL, make_client, now, requests_sent

from zenovay_async import (
    APIConnectionError,
    APITimeoutError,
    ConfigurationError,
    QuotaExceededError,
    RateLimitError,
    ResponseDecodeError,
    ServerError,
    ZenovayError,
)
from zenovay_async._limits.retry_budget import RetryBudget
from zenovay_async._protocol.base_url import DEFAULT_BASE_URL
from zenovay_async._protocol.response import RawResponse
from zenovay_async._session.connection_pool import ConnectionPool
from zenovay_async.events import CallEvent, Event, RateLimited, RetryScheduled

if TYPE_CHECKING:
    from aioresponses import aioresponses

pytestmark = pytest.mark.looptime

GOOD: dict[str, Any] = {"success": True, "data": {"pages": []}}


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 520, 524])
async def test_a_transient_failure_is_retried(canned: aioresponses, status: int) -> None:
    canned.get(URL, status=status, body="<html>")
    canned.get(URL, payload=GOOD)
    async with make_client() as zenovay:
        response = await zenovay.with_raw_response(zenovay.heatmaps.pages)("x")
    assert response.attempts == 2
    assert len(response.waits) == 1


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 409, 422, 501, 505])
async def test_a_permanent_failure_is_not_retried(canned: aioresponses, status: int) -> None:
    """A response that will not change is not requested twice."""
    canned.get(URL, status=status, payload={}, repeat=True)
    async with make_client() as zenovay:
        with pytest.raises(ZenovayError) as caught:
            await zenovay.heatmaps.pages("x")
    assert (caught.value.attempts, requests_sent(canned)) == (1, 1)


async def test_an_exhausted_quota_is_not_retried(canned: aioresponses) -> None:
    canned.get(URL, status=429, payload={"error": {"message": "m", "code": "MONTHLY_LIMIT_EXCEEDED"}}, repeat=True)
    async with make_client() as zenovay:
        with pytest.raises(QuotaExceededError):
            await zenovay.heatmaps.pages("x")
    assert requests_sent(canned) == 1


@pytest.mark.parametrize(
    "failure",
    [aiohttp.ServerDisconnectedError(), aiohttp.ClientPayloadError("cut"), ConnectionResetError(), TimeoutError()],
)
async def test_a_broken_connection_is_retried(canned: aioresponses, failure: Exception) -> None:
    canned.get(URL, exception=failure)
    canned.get(URL, payload=GOOD)
    async with make_client() as zenovay:
        assert (await zenovay.heatmaps.pages("x")).pages == ()


async def test_a_truncated_body_is_retried(canned: aioresponses) -> None:
    """A body that stops in the middle is retried."""
    canned.get(URL, body='{"success": true, "data": {"pa')
    canned.get(URL, payload=GOOD)
    async with make_client() as zenovay:
        assert (await zenovay.heatmaps.pages("x")).pages == ()


async def test_nonsense_is_not_retried(canned: aioresponses) -> None:
    canned.get(URL, body="<html>", repeat=True)
    async with make_client() as zenovay:
        with pytest.raises(ResponseDecodeError):
            await zenovay.heatmaps.pages("x")
    assert requests_sent(canned) == 1


@pytest.mark.parametrize("max_attempts", [1, 2, 5])
async def test_attempts_are_as_many_as_allowed_and_counted(canned: aioresponses, max_attempts: int) -> None:
    canned.get(URL, status=500, payload={}, repeat=True)
    async with make_client(max_attempts=max_attempts) as zenovay:
        with pytest.raises(ServerError) as caught:
            await zenovay.heatmaps.pages("x")
    assert caught.value.attempts == requests_sent(canned) == max_attempts
    assert len(caught.value.waits) == max_attempts - 1


async def test_retry_after_is_kept_to(canned: aioresponses) -> None:
    """The call waits as long as the server asks, and up to half a second of jitter."""
    canned.get(URL, status=503, headers={"Retry-After": "4"})
    canned.get(URL, payload=GOOD)
    async with make_client() as zenovay:
        began = now()
        await zenovay.heatmaps.pages("x")
    assert 4 <= now() - began <= 4.6


async def test_a_wait_that_cannot_fit_is_not_begun(canned: aioresponses) -> None:
    """The error states the expected wait."""
    canned.get(URL, status=429, headers={"Retry-After": "5"}, repeat=True)
    async with make_client() as zenovay:
        began = now()
        with pytest.raises(RateLimitError, match=r"a retry in 5\.\d s does not fit timeout=1 ") as caught:
            await zenovay.heatmaps.pages("x", timeout=1)
    assert now() - began < 0.02
    assert caught.value.retry_after is not None
    assert 5 <= caught.value.retry_after <= 5.5
    assert caught.value.status == 429
    assert caught.value.attempts == 1


async def test_one_deadline_covers_all_attempts_and_waits(canned: aioresponses) -> None:
    canned.get(URL, status=500, payload={}, repeat=True)
    async with make_client(max_attempts=1000) as zenovay:
        began = now()
        with pytest.raises(ServerError):
            await zenovay.heatmaps.pages("x", timeout=20)
    assert now() - began <= 20


async def test_no_deadline_means_none(canned: aioresponses) -> None:
    canned.get(URL, status=503, headers={"Retry-After": "86400"})
    canned.get(URL, payload=GOOD)
    async with make_client(rate_limit_window=86_400) as zenovay:
        began = now()
        await zenovay.heatmaps.pages("x", timeout=None)
    assert now() - began >= 86_400


async def test_callers_that_fail_together_do_not_retry_together(canned: aioresponses) -> None:
    canned.get(URL, status=500, payload={}, repeat=True)
    async with make_client(coalesce=False, max_attempts=2) as zenovay:
        failed = await asyncio.gather(*(zenovay.heatmaps.pages("x") for _ in range(10)), return_exceptions=True)
    waits = {round(error.waits[0], 4) for error in failed if isinstance(error, ZenovayError)}
    assert len(waits) > 5


async def test_canceling_a_call_in_its_backoff_ends_it(canned: aioresponses) -> None:
    canned.get(URL, status=503, headers={"Retry-After": "20"}, repeat=True)
    async with make_client() as zenovay:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await zenovay.heatmaps.pages("x")
    assert requests_sent(canned) == 1


async def test_a_failing_server_is_not_stormed(canned: aioresponses) -> None:
    """200 calls with three retries each would be 800 requests."""
    canned.get(URL, status=500, payload={}, repeat=True)
    async with make_client() as zenovay:
        await asyncio.gather(*(zenovay.heatmaps.pages("x") for _ in range(200)), return_exceptions=True)
    assert requests_sent(canned) <= 200 + RetryBudget.CAPACITY


async def test_without_a_limiter_a_server_that_rate_limits_all_is_not_stormed(canned: aioresponses) -> None:
    canned.get(URL, status=429, payload={}, repeat=True)
    async with make_client() as zenovay:
        failed = await asyncio.gather(*(zenovay.heatmaps.pages("x") for _ in range(50)), return_exceptions=True)
    assert all(isinstance(error, RateLimitError) for error in failed)
    assert requests_sent(canned) <= 50 + RetryBudget.CAPACITY


async def test_without_a_limiter_each_call_is_retried_when_the_server_says(canned: aioresponses) -> None:
    """Without a limiter, every call may be retried at the time that the server names."""
    for _ in range(50):
        canned.get(URL, status=429, payload={}, headers={"Retry-After": "1"})
    canned.get(URL, payload=GOOD, repeat=True)
    async with make_client(coalesce=False) as zenovay:
        await asyncio.gather(*(zenovay.heatmaps.pages("x") for _ in range(50)))
    assert requests_sent(canned) == 100


async def test_with_a_limiter_a_429_costs_nothing_of_the_retry_budget(canned: aioresponses) -> None:
    for _ in range(3):
        canned.get(URL, status=429, headers={"Retry-After": "1"})
    canned.get(URL, payload=GOOD)
    async with make_client(rate_limit="auto") as zenovay:
        await zenovay.heatmaps.pages("x")
        assert zenovay._budget.statistics().retries_left == RetryBudget.CAPACITY


@pytest.mark.parametrize("status", [200, 429])
async def test_a_rate_limit_error_pauses_all_callers_whatever_its_status(canned: aioresponses, status: int) -> None:
    """A rate limit error pauses all callers of the key, under whatever status it comes."""
    error = {"message": "Rate limit exceeded. Try again in 42 seconds", "code": "RATE_LIMIT_EXCEEDED"}
    canned.get(URL, payload=GOOD)
    canned.get(URL, status=status, payload={"success": False, "error": error})
    canned.get(URL, payload=GOOD, repeat=True)
    events: list[Event] = []
    async with make_client(rate_limit="auto", timeout=100, on_event=events.append) as zenovay:
        await zenovay.heatmaps.pages("x")
        began = now()
        with pytest.raises(RateLimitError) as caught:
            await zenovay.with_options(max_attempts=1).heatmaps.pages("x")
        assert caught.value.retry_after == 42
        with pytest.raises(RateLimitError, match="no request was sent") as rejected:
            await zenovay.heatmaps.pages("x", timeout=5)
        assert now() == began
        assert rejected.value.retry_after is not None
        assert rejected.value.retry_after >= 42
        await asyncio.gather(*(zenovay.heatmaps.pages("x") for _ in range(3)))
    assert now() - began >= 42
    assert RateLimited(seconds=42.0, from_server=True) in events


async def test_a_call_that_is_not_idempotent_is_retried_only_if_it_never_ran(canned: aioresponses) -> None:
    """A question, which costs three requests, is retried only if it never ran."""
    url = f"{DEFAULT_BASE_URL}/query/x"
    never_ran: list[dict[str, Any]] = [
        {"status": 429},
        {"exception": aiohttp.ClientConnectorError(_connection_key(), OSError("connection refused"))},
    ]
    may_have_run: list[dict[str, Any]] = [
        {"status": 500},
        {"exception": aiohttp.ServerDisconnectedError()},
        {"exception": TimeoutError()},
        {"body": '{"data'},
    ]
    async with make_client() as zenovay:
        for failure in never_ran:
            canned.post(url, **failure)
            canned.post(url, payload={"success": True, "data": 1})
            assert await zenovay.request("POST", "query/x", json={"question": "?"}) == 1
        for failure in may_have_run:
            canned.post(url, **failure)
            with pytest.raises(ZenovayError) as caught:
                await zenovay.request("POST", "query/x", json={"question": "?"})
            assert caught.value.attempts == 1


def _connection_key() -> Any:
    return ConnectionKey("host", 443, is_ssl=True, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None)


async def test_a_retry_is_emitted_and_logged(canned: aioresponses, caplog: pytest.LogCaptureFixture) -> None:
    """A retry is emitted to the listener, with its operation, and logged."""
    caplog.set_level(logging.INFO, "zenovay_async")
    events: list[Event] = []
    canned.get(URL, status=500, payload={"error": "Broken", "code": "GENERIC_ERROR"})
    canned.get(URL, payload=GOOD)
    async with make_client(on_event=events.append) as zenovay:
        await zenovay.heatmaps.pages("x")
    (event,) = (event for event in events if isinstance(event, RetryScheduled))
    assert (event.operation, event.call) == ("heatmaps.pages", "GET heatmaps/x/pages")
    assert (event.attempt, event.error.message) == (1, "Broken")
    assert "GET heatmaps/x/pages: Broken; attempt 2 in" in caplog.text


async def test_a_retry_without_a_backoff_names_no_time(canned: aioresponses, caplog: pytest.LogCaptureFixture) -> None:
    """How long it waits for a permit, or for a server that is away, is not known yet."""
    caplog.set_level(logging.INFO, "zenovay_async")
    canned.get(URL, exception=aiohttp.ClientConnectorError(_connection_key(), OSError("connection refused")))
    canned.get(URL, payload=GOOD)
    async with make_client() as zenovay:
        await zenovay.heatmaps.pages("x")
    assert "; attempt 2 follows" in caplog.text
    assert " in 0.00 s" not in caplog.text


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"timeout": -1},
        {"attempt_timeout": 0},
        {"max_attempts": 0},
        {"max_connections": 0},
        {"timeout": "5"},
    ],
)
def test_options_that_allow_nothing_are_rejected(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        make_client(**options)


async def test_a_timeout_of_one_call_is_checked_too(canned: aioresponses) -> None:
    async with make_client() as zenovay:
        with pytest.raises(ConfigurationError, match="timeout=0"):
            await zenovay.heatmaps.pages("x", timeout=0)
    assert requests_sent(canned) == 0


async def test_a_certificate_that_is_not_trusted_is_final(canned: aioresponses) -> None:
    failure = aiohttp.ClientConnectorCertificateError(_connection_key(), ValueError("self-signed"))
    canned.get(URL, exception=failure, repeat=True)
    async with make_client() as zenovay:
        with pytest.raises(APIConnectionError, match="certificate is not trusted") as caught:
            await zenovay.heatmaps.pages("x")
    assert caught.value.attempts == 1


async def test_a_timeout_is_a_timeout_to_everyone(canned: aioresponses) -> None:
    canned.get(URL, exception=TimeoutError(), repeat=True)
    async with make_client(max_attempts=1) as zenovay:
        with pytest.raises(TimeoutError) as caught:
            await zenovay.heatmaps.pages("x")
    assert isinstance(caught.value, APITimeoutError)


async def test_a_rate_limit_of_a_proxy_does_not_repeat_what_may_have_run(
    canned: aioresponses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 503 with the code of a rate limit: a GET is retried, a question is not."""
    body = {"error": {"message": "m", "code": "RATE_LIMIT_EXCEEDED"}}
    monkeypatch.setattr(
        "zenovay_async._session.session.parse_response", _raise_once(RateLimitError("m", status=503), times=2)
    )
    canned.get(URL, payload=body, repeat=True)
    canned.post(f"{DEFAULT_BASE_URL}/query/x", payload=body, repeat=True)
    async with make_client() as zenovay:
        with pytest.raises(RateLimitError) as caught:
            await zenovay.request("POST", "query/x", json={"question": "?"})
        assert caught.value.attempts == 1
        with pytest.raises(LookupError):
            await zenovay.heatmaps.pages("x")
    assert requests_sent(canned) == 3


def _raise_once(error: ZenovayError, *, times: int) -> Any:
    """A function that raises an error a number of times, and then another."""
    left = itertools.count(times, -1)

    def raise_it(*_: Any, **__: Any) -> Any:
        raise error if next(left) > 0 else LookupError

    return raise_it


class DeadConnections:
    """Sends over connections that are dead, the first so many times.

    Attributes:
        attempts: Times of the attempts.
    """

    def __init__(self, dead: int, *, sent: bool) -> None:
        self.dead = dead
        self.sent = sent
        self.attempts: list[float] = []

    async def send(self, pool: ConnectionPool, *_: Any, **__: Any) -> RawResponse:
        self.attempts.append(now())
        pool.slots.release()
        if len(self.attempts) <= self.dead:
            error = APIConnectionError("The server closed the connection without a response")
            error.stale, error.sent = True, self.sent
            raise error
        return RawResponse(200, {"Content-Type": "application/json"}, msgspec.json.encode(GOOD))

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def send(pool: ConnectionPool, *args: Any, **options: Any) -> RawResponse:
            return await self.send(pool, *args, **options)

        monkeypatch.setattr(ConnectionPool, "send", send)


@pytest.mark.parametrize("sent", [False, True])
async def test_a_dead_connection_is_replaced_at_once_and_costs_no_retry(
    sent: bool,  # noqa: FBT001 - a table's column
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connections = DeadConnections(1, sent=sent)
    connections.install(monkeypatch)
    async with make_client() as zenovay:
        response = await zenovay.with_raw_response(zenovay.heatmaps.pages)("x")
        assert zenovay._budget.statistics().retries_left == RetryBudget.CAPACITY
    assert response.attempts == 2
    assert response.waits[0] < 0.001


async def test_a_second_dead_connection_in_a_row_takes_the_usual_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    connections = DeadConnections(3, sent=True)
    connections.install(monkeypatch)
    async with make_client() as zenovay:
        await zenovay.heatmaps.pages("x")
        assert zenovay._budget.statistics().retries_left < RetryBudget.CAPACITY - 1
    first, second, _, fourth = connections.attempts
    assert second == first
    assert fourth - second > 0.001


@pytest.mark.parametrize(("sent", "attempts"), [(True, 1), (False, 2)])
async def test_a_question_goes_again_only_if_a_dead_connection_did_not_take_all_of_it(
    sent: bool,  # noqa: FBT001 - a table's column
    attempts: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connections = DeadConnections(1, sent=sent)
    connections.install(monkeypatch)
    async with make_client() as zenovay:
        if sent:
            with pytest.raises(APIConnectionError):
                await zenovay.request("POST", "query/x", json={"question": "?"})
        else:
            await zenovay.request("POST", "query/x", json={"question": "?"})
    assert len(connections.attempts) == attempts


async def test_many_dead_connections_are_no_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    connections = DeadConnections(50, sent=True)
    connections.install(monkeypatch)
    events: list[Event] = []
    async with make_client(on_event=events.append) as zenovay:
        await asyncio.gather(*(zenovay.heatmaps.pages(str(number)) for number in range(50)))
    assert {type(event) for event in events if not isinstance(event, CallEvent)} == {RetryScheduled}


async def test_without_a_limiter_a_time_longer_than_a_window_is_not_believed_whole(
    canned: aioresponses, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as milliseconds in place of seconds: the call is retried after a window, and one warning says so."""
    for _ in range(2):
        canned.get(URL, status=429, headers={"Retry-After": "6000"})
    canned.get(URL, payload=GOOD)
    async with make_client() as zenovay:
        began = now()
        await zenovay.heatmaps.pages("x", timeout=None)
    assert 120 <= now() - began <= 122
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["Rate limited for 6000 s, longer than the window of 60 s; trying again in 60 s"]


async def test_a_host_that_is_not_found_is_one_clear_error_within_ten_seconds(canned: aioresponses) -> None:
    failure = aiohttp.ClientConnectorDNSError(_connection_key(), OSError("Name or service not known"))
    canned.get(URL, exception=failure, repeat=True)
    async with make_client() as zenovay:
        began = now()
        with pytest.raises(
            APIConnectionError, match=r"The host was not found: .*host:443.*; check base_url and the network"
        ) as caught:
            await zenovay.heatmaps.pages("x")
    assert now() - began < 10
    assert 1 < caught.value.attempts < 10


@pytest.mark.parametrize("rate_limit", ["auto", None])
async def test_a_batch_on_a_host_that_is_not_found_ends_after_five_minutes(
    canned: aioresponses, rate_limit: Any
) -> None:
    failure = aiohttp.ClientConnectorDNSError(_connection_key(), OSError("Name or service not known"))
    canned.get(URL, exception=failure, repeat=True)
    async with make_client(rate_limit=rate_limit) as zenovay:
        began = now()
        with pytest.raises(APIConnectionError, match="The host was not found") as caught:
            async with zenovay.batch(range(1000), lambda _: zenovay.heatmaps.pages("x")) as results:
                async for result in results:
                    pytest.fail(f"an item was taken: {result}")
    assert now() - began == pytest.approx(300, abs=1)
    assert caught.value.outage == pytest.approx(300, abs=1)
    assert requests_sent(canned) < 20 * 5 + 8


async def test_a_server_that_swallows_connections_costs_a_batch_no_item(canned: aioresponses) -> None:
    """However long each attempt takes to find out: the time of a call starts anew after it."""
    for _ in range(20):
        canned.get(URL, exception=aiohttp.ConnectionTimeoutError())
    canned.get(URL, payload=GOOD, repeat=True)
    async with make_client(timeout=5) as zenovay:
        calls = zenovay.batch(range(20), lambda _: zenovay.heatmaps.pages("x"))
        async with calls as results:
            assert [result.error async for result in results] == [None] * 20


async def test_a_batch_ends_at_a_certificate_that_is_not_trusted(canned: aioresponses) -> None:
    """As every further call would meet it."""
    failure = aiohttp.ClientConnectorCertificateError(_connection_key(), ValueError("self-signed"))
    canned.get(URL, exception=failure, repeat=True)
    async with make_client() as zenovay:
        with pytest.raises(APIConnectionError, match="certificate is not trusted"):
            async with zenovay.batch(range(1000), lambda _: zenovay.heatmaps.pages("x"), concurrency=1) as results:
                async for result in results:
                    pytest.fail(f"an item was taken: {result}")
    assert requests_sent(canned) == 1


@pytest.mark.parametrize("wait", [0.5, 0.97, 0.985, 0.99, 0.995, 0.999, 1.0, 1.1])
async def test_a_probe_due_just_before_the_deadline_is_no_endless_loop(canned: aioresponses, wait: float) -> None:
    failure = aiohttp.ClientConnectorError(_connection_key(), OSError("connection refused"))
    canned.get(URL, exception=failure, repeat=True)
    async with make_client(timeout=1) as zenovay:
        gate = zenovay._budget._shared.outage_gate
        gate.outage.first_wait = gate.outage.longest_wait = wait
        gate._rng = AlwaysLongest()
        began = now()
        with pytest.raises(APIConnectionError, match=r"; the server has been unreachable for ") as caught:
            await zenovay.heatmaps.pages("x")
    assert now() - began <= 1
    assert caught.value.attempts == requests_sent(canned) <= 3


class AlwaysLongest(random.Random):
    """Draws no jitter."""

    def random(self) -> float:
        return 1.0
