"""A service whose monthly quota was exhausted goes on once the plan is upgraded, without a restart."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from aioresponses import CallbackResult
from helpers import make_client, unique_key, until

from zenovay_async import CallEvent, Event, QuotaExceededError, QuotaExhausted, Zenovay
from zenovay_async._limits.quota import PROBE_INTERVAL
from zenovay_async._protocol.base_url import DEFAULT_BASE_URL
from zenovay_async.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aioresponses import aioresponses

    from zenovay_async.sandbox import Sandbox

USAGE = f"{DEFAULT_BASE_URL}/usage"
OVER = {"success": False, "error": {"message": "Monthly limit exceeded", "code": "MONTHLY_LIMIT_EXCEEDED"}}


class Clock:
    """The time of the machine, ahead of it by what a test wants."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("zenovay_async._limits.quota._utc_now", clock)
    return clock


@pytest.fixture
def key(clock: Clock, sandbox: Sandbox) -> str:  # noqa: ARG001 - before the client is made
    return sandbox.add_key("exhausted", monthly_limit=5, monthly_used=5)


@pytest.fixture
async def zenovay(sandbox: Sandbox, key: str) -> AsyncIterator[Zenovay]:
    """A client that knows that its quota is exhausted."""
    async with Zenovay(key, base_url=sandbox.url, coalesce=False) as client:
        assert await is_rejected(client)
        assert await is_rejected(client)
        assert sandbox.count() == 1
        yield client


async def is_rejected(client: Zenovay) -> bool:
    try:
        await client.websites.list()
    except QuotaExceededError:
        return True
    return False


def upgrade(sandbox: Sandbox, key: str, limit: int = 1000) -> None:
    sandbox._state.keys[key].quota.limit = limit


async def test_usage_is_sent_and_a_larger_quota_ends_the_exhaustion(canned: aioresponses) -> None:
    """As in the report: the server states the usage alone, and refuses the first call."""
    usage = {"api_key": {"id": "k"}, "usage": {"monthly_requests": 10_000, "monthly_limit": 100_000}}
    canned.get(USAGE, status=429, payload=OVER)
    canned.get(USAGE, payload={"success": True, "data": usage}, repeat=True)
    key = unique_key()
    async with Zenovay(key) as zenovay:
        with pytest.raises(QuotaExceededError):
            await zenovay.usage()
    async with Zenovay(key, rate_limit=7) as other:
        with pytest.raises(QuotaExceededError, match="no request was sent"):
            await other.websites.list()
        assert (await other.usage()).usage.monthly_limit == 100_000
        canned.get(f"{DEFAULT_BASE_URL}/websites", payload={"success": True, "data": {"websites": []}})
        await other.websites.list()


async def test_usage_that_states_only_what_is_left_ends_the_exhaustion(canned: aioresponses) -> None:
    usage = {"monthly_requests": 10_000, "monthly_limit": None, "monthly_remaining": 5000}
    canned.get(USAGE, status=429, payload=OVER)
    canned.get(USAGE, payload={"success": True, "data": {"usage": usage}})
    canned.get(f"{DEFAULT_BASE_URL}/websites", payload={"success": True, "data": {"websites": []}})
    async with make_client() as zenovay:
        with pytest.raises(QuotaExceededError):
            await zenovay.usage()
        await zenovay.usage()
        await zenovay.websites.list()
        assert zenovay.quota.limit == 15_000


@pytest.mark.parametrize("limit", [0, -1])
async def test_a_limit_that_is_none_is_no_quota_that_runs_low(
    canned: aioresponses, caplog: pytest.LogCaptureFixture, limit: int
) -> None:
    canned.get(USAGE, payload={"success": True, "data": {"usage": {"monthly_requests": 10, "monthly_limit": limit}}})
    async with make_client(quota_reserve=5) as zenovay:
        await zenovay.usage()
        assert (zenovay.quota.used, zenovay.quota.limit, zenovay.quota.remaining) == (10, None, None)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("rate_limit", ["auto", 20, None])
async def test_any_client_of_the_key_may_ask_for_the_usage(
    sandbox: Sandbox, zenovay: Zenovay, key: str, rate_limit: Any
) -> None:
    upgrade(sandbox, key)
    async with Zenovay(key, base_url=sandbox.url, rate_limit=rate_limit, max_attempts=1) as other:
        assert await is_rejected(other)
        # Unlike the API, whose documentation does not say, the sandbox charges for it.
        await other.usage()
        assert not await is_rejected(other)
    assert not await is_rejected(zenovay.with_options(max_attempts=2))


async def test_a_refused_usage_call_is_an_error_and_changes_nothing(sandbox: Sandbox, zenovay: Zenovay) -> None:
    for sent in (2, 3):
        with pytest.raises(QuotaExceededError) as caught:
            await zenovay.usage()
        assert caught.value.status == 429
        assert await is_rejected(zenovay)
        assert sandbox.count() == sent


async def test_a_batch_that_is_held_to_the_reserve_may_ask_for_the_usage(sandbox: Sandbox) -> None:
    key = sandbox.add_key("small", monthly_limit=30)
    async with Zenovay(key, base_url=sandbox.url, quota_reserve=29) as zenovay:
        await zenovay.websites.list()
        async with zenovay.batch([1], lambda _: zenovay.usage()) as results:
            assert [result.error async for result in results] == [None]


async def test_one_call_every_five_minutes_is_a_probe_for_all_clients(
    sandbox: Sandbox, zenovay: Zenovay, key: str, clock: Clock
) -> None:
    async with Zenovay(key, base_url=sandbox.url, rate_limit=None) as other:
        for sent in (2, 3):
            clock.ahead += PROBE_INTERVAL
            clients = [zenovay, other, zenovay.with_options(timeout=5)] * 5
            assert all(await asyncio.gather(*map(is_rejected, clients)))
            assert sandbox.count() == sent
        upgrade(sandbox, key)
        assert await is_rejected(other)
        clock.ahead += PROBE_INTERVAL
        assert not await is_rejected(other)
        assert not await is_rejected(zenovay)


async def test_a_batch_waits_for_what_the_probe_shows(
    sandbox: Sandbox, zenovay: Zenovay, key: str, clock: Clock
) -> None:
    clock.ahead += PROBE_INTERVAL
    sites = [sandbox.website_ids[0]] * 20
    with pytest.raises(QuotaExceededError):
        async with zenovay.batch(sites, zenovay.heatmaps.pages) as results:
            [result async for result in results]
    assert sandbox.count() == 2
    upgrade(sandbox, key)
    clock.ahead += PROBE_INTERVAL
    sandbox.fault(Fault.latency(0.1), times=1)
    async with zenovay.batch(sites, zenovay.heatmaps.pages) as results:
        assert [result.error async for result in results] == [None] * 20


async def test_a_probe_that_is_canceled_leaves_the_next_one_to_another_call(
    sandbox: Sandbox, zenovay: Zenovay, key: str, clock: Clock
) -> None:
    upgrade(sandbox, key)
    clock.ahead += PROBE_INTERVAL
    sandbox.fault(Fault.latency(60), times=1)
    probe = asyncio.create_task(zenovay.websites.list())
    await until(lambda: sandbox.count() == 2 or zenovay._budget._shared.quota.is_probing)
    assert await is_rejected(zenovay)
    waiting = asyncio.create_task(_one_of_a_batch(zenovay))
    await asyncio.sleep(0)
    probe.cancel()
    assert await waiting is None
    assert not await is_rejected(zenovay)


async def _one_of_a_batch(zenovay: Zenovay) -> Exception | None:
    async with zenovay.batch([1], lambda _: zenovay.websites.list()) as results:
        (error,) = [result.error async for result in results]
    return error


async def test_usage_that_waits_when_the_quota_is_exhausted_waits_on(sandbox: Sandbox, clock: Clock) -> None:  # noqa: ARG001 - before the client is made
    key = sandbox.add_key("exhausted", monthly_limit=5, monthly_used=5)
    sandbox.fault(Fault.latency(0.1), times=1)
    async with Zenovay(key, base_url=sandbox.url) as zenovay:
        # The first is sent alone, and all others wait for its response.
        calls = [is_rejected(zenovay), zenovay.usage(), is_rejected(zenovay)]
        ended = await asyncio.gather(*calls, return_exceptions=True)
    assert ended[0] is ended[2] is True
    assert isinstance(ended[1], QuotaExceededError)
    assert ended[1].status == 429
    assert sandbox.count() == 2


async def test_the_first_error_knows_the_reset_that_an_earlier_response_stated(canned: aioresponses) -> None:
    reset = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    headers = {"X-Usage-Reset": reset.isoformat(), "X-Usage-Monthly": "9", "X-Usage-Limit": "10"}
    responses = iter(
        [
            CallbackResult(headers=headers, payload={"success": True, "data": {"websites": []}}),
            CallbackResult(status=429, payload=OVER),
        ]
    )
    canned.get(f"{DEFAULT_BASE_URL}/websites", callback=lambda *_, **__: next(responses), repeat=True)
    events: list[Event] = []
    async with make_client(on_event=events.append) as zenovay:
        await zenovay.websites.list()
        for _ in range(2):
            with pytest.raises(QuotaExceededError) as caught:
                await zenovay.websites.list()
            assert caught.value.retry_after == pytest.approx(3 * 86_400, abs=60)
    assert [event for event in events if not isinstance(event, CallEvent)][-1:] == [QuotaExhausted(resets_at=reset)]


async def test_without_a_stated_reset_the_first_error_runs_to_the_end_of_the_month(canned: aioresponses) -> None:
    canned.get(f"{DEFAULT_BASE_URL}/websites", status=429, payload=OVER)
    async with make_client() as zenovay:
        with pytest.raises(QuotaExceededError) as caught:
            await zenovay.websites.list()
    now = datetime.now(UTC)
    first = (now.replace(day=1, hour=0, minute=0, second=0, microsecond=0) + timedelta(days=32)).replace(day=1)
    assert caught.value.retry_after == pytest.approx((first - now).total_seconds(), abs=60)
