"""The monthly quota is known, its reserve is left untouched, and no request is sent once it is exhausted."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from zenovay_async import Quota, QuotaExceededError, UsageHeaders, Zenovay
from zenovay_async._limits.quota import QuotaGuard
from zenovay_async._limits.window import WindowLimiter
from zenovay_async._protocol.headers import usage_headers
from zenovay_async.events import Event, QuotaExhausted, QuotaThresholdReached
from zenovay_async.sandbox import Fault

if TYPE_CHECKING:
    from zenovay_async.sandbox import Sandbox

NOW = datetime(2026, 6, 15, tzinfo=UTC)
JULY = datetime(2026, 7, 1, tzinfo=UTC)
AUGUST = datetime(2026, 8, 1, tzinfo=UTC)


def usage(used: int, limit: int = 1000, reset: datetime | None = JULY) -> UsageHeaders:
    return UsageHeaders(used, limit, reset, None)


class Clock:
    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def test_before_the_first_response_nothing_is_known() -> None:
    quota = QuotaGuard().snapshot()
    assert (quota.used, quota.limit, quota.remaining, quota.resets_at) == (None, None, None, None)


def test_every_response_updates_the_figures_that_it_states() -> None:
    """Omitted and invalid ones keep their values."""
    guard = QuotaGuard(clock=Clock())
    for headers in (
        {"X-Usage-Monthly": "5", "X-Usage-Limit": "10", "X-Usage-Reset": "2026-07-01T00:00:00.000Z"},
        {"X-Usage-Monthly": "7", "X-Usage-Limit": "10", "X-Usage-Reset": "2026-07-01T00:00:00.000Z"},
        {"X-Usage-Monthly": "nonsense", "X-Usage-Total": "12"},
        {},
        {"X-Usage-Monthly": "8", "X-Usage-Total": "13"},
    ):
        guard.update(usage_headers(headers))
    assert guard.snapshot() == Quota(8, 10, JULY, 13)


def test_a_response_may_state_the_total_alone() -> None:
    guard = QuotaGuard(clock=Clock())
    for total in ("12", "13"):
        guard.update(usage_headers({"X-Usage-Total": total}))
        assert guard.snapshot() == Quota(total=int(total))


def test_a_response_overtaken_by_a_newer_one_does_not_lower_the_count() -> None:
    guard = QuotaGuard(clock=Clock())
    guard.update(usage(500))
    guard.update(usage(498))
    assert guard.snapshot().remaining == 500


def test_a_later_reset_starts_a_new_count_and_late_responses_are_ignored() -> None:
    clock = Clock()
    guard = QuotaGuard(clock=clock)
    guard.update(usage(999))
    clock.now = JULY
    guard.update(usage(1, reset=AUGUST))
    guard.update(usage(1000))
    assert guard.snapshot() == Quota(1, 1000, AUGUST, None)


def test_without_a_stated_reset_the_quota_resets_on_the_first() -> None:
    clock = Clock()
    guard = QuotaGuard(clock=clock)
    guard.update(usage(990, reset=None))
    guard.update(usage(1, reset=None))
    assert guard.snapshot().used == 990
    clock.now = JULY
    guard.check(1, reserve=100)
    guard.update(usage(1, reset=None))
    assert guard.snapshot().used == 1


def test_background_calls_leave_the_reserve_and_direct_calls_may_use_it() -> None:
    clock = Clock()
    guard = QuotaGuard(clock=clock)
    guard.update(usage(898))
    for _ in range(2):
        guard.check(1, reserve=100)
        guard.in_flight += 1
    with pytest.raises(QuotaExceededError) as caught:
        guard.check(1, reserve=100)
    assert caught.value.message == "quota_reserve=100: only 102 requests remain this month; no request was sent"
    assert caught.value.retry_after == (JULY - NOW).total_seconds()
    guard.check(1, reserve=0)
    guard.in_flight -= 1
    guard.check(1, reserve=100)
    guard.in_flight += 1
    clock.now = JULY
    guard.check(1, reserve=100)


def test_an_exhausted_quota_is_available_again_when_the_server_said() -> None:
    events: list[Event] = []
    clock = Clock()
    guard = QuotaGuard(on_event=events.append, clock=clock)
    guard.mark_exhausted(3600.0)
    guard.mark_exhausted(3600.0)
    with pytest.raises(QuotaExceededError) as caught:
        guard.check(1, reserve=0)
    assert caught.value.message == "Monthly quota exhausted until 2026-06-15 01:00 UTC; no request was sent"
    assert (caught.value.code, caught.value.retry_after) == ("MONTHLY_LIMIT_EXCEEDED", 3600)
    clock.now = NOW + timedelta(hours=1)
    guard.check(1, reserve=0)
    assert events == [QuotaExhausted(resets_at=NOW + timedelta(hours=1))]


def test_a_reset_stated_by_responses_takes_precedence_over_retry_after() -> None:
    guard = QuotaGuard(clock=Clock())
    guard.update(usage(1000))
    guard.mark_exhausted(30.0)
    assert guard.exhausted_error().retry_after == (JULY - NOW).total_seconds()


def test_a_reset_in_another_zone_is_shown_in_utc() -> None:
    guard = QuotaGuard(clock=Clock())
    guard.update(usage(1000, reset=JULY.astimezone(timezone(timedelta(hours=5)))))
    guard.mark_exhausted(None)
    assert "until 2026-07-01 00:00 UTC" in guard.exhausted_error().message


@pytest.mark.parametrize("reset", [AUGUST, datetime(2099, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC), NOW])
def test_an_implausible_reset_is_ignored(reset: datetime) -> None:
    guard = QuotaGuard(clock=Clock())
    guard.update(usage(1000, reset=reset))
    guard.mark_exhausted(None)
    assert guard.exhausted_error().retry_after == (JULY - NOW).total_seconds()


@pytest.mark.parametrize(
    ("now", "ends"), [(NOW, JULY), (datetime(2026, 12, 31, 23, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))]
)
def test_a_quota_exhausted_without_a_time_is_so_until_the_first(now: datetime, ends: datetime) -> None:
    guard = QuotaGuard(clock=Clock(now))
    guard.mark_exhausted(None)
    assert guard.exhausted_error().retry_after == (ends - now).total_seconds()


def test_a_low_quota_is_one_event_until_it_resets() -> None:
    events: list[Event] = []
    clock = Clock()
    guard = QuotaGuard(on_event=events.append, clock=clock)
    for used in (899, 900, 901, 950):
        guard.update(usage(used))
    for text in ("960", "970"):
        guard.update(usage_headers({"X-Usage-Monthly": text}))
    assert events == [QuotaThresholdReached(used=900, limit=1000)]
    clock.now = JULY
    for used in (1, 899, 905):
        guard.update(usage(used, reset=AUGUST))
    assert events[1:] == [QuotaThresholdReached(used=905, limit=1000)]


async def test_a_batch_stops_at_the_reserve_and_a_direct_call_is_still_sent(sandbox: Sandbox) -> None:
    key = sandbox.add_key("small", monthly_limit=30)
    async with Zenovay(key, base_url=sandbox.url, quota_reserve=10) as zenovay:
        assert zenovay.quota.used is None
        done = 0
        with pytest.raises(QuotaExceededError, match="quota_reserve=10"):
            async with zenovay.batch([sandbox.website_ids[0]] * 100, zenovay.heatmaps.pages) as results:
                async for result in results:
                    done += result.error is None
        assert 0 < done <= 20
        assert zenovay.quota.remaining is not None
        assert zenovay.quota.remaining >= 10
        await zenovay.heatmaps.pages(sandbox.website_ids[0])
        estimate = zenovay.estimate(5)
        assert (estimate.requests, estimate.quota_share) == (5, 5 / zenovay.quota.remaining)


async def test_clients_of_one_key_share_its_limits_and_keep_their_reserves(sandbox: Sandbox) -> None:
    key = sandbox.add_key("small", monthly_limit=30)
    events: list[Event] = []
    async with Zenovay(key, base_url=sandbox.url, on_event=events.append) as zenovay:
        careful = zenovay.with_options(quota_reserve=29)
        site = sandbox.website_ids[0]
        await zenovay.heatmaps.pages(site)
        assert careful.quota == zenovay.quota == Quota(1, 30, zenovay.quota.resets_at, zenovay.quota.total)
        assert careful.rate_limit is not None
        assert careful.rate_limit.learned
        with pytest.raises(QuotaExceededError, match="quota_reserve=29"):
            async with careful.batch([site], careful.heatmaps.pages) as results:
                [result async for result in results]
        async with zenovay.batch([site], zenovay.heatmaps.pages) as results:
            assert [result.error async for result in results] == [None]
        for _ in range(25):
            await careful.heatmaps.pages(site)
    assert [type(event) for event in events].count(QuotaThresholdReached) == 1


async def test_waiting_callers_fail_at_once_when_the_quota_is_exhausted(sandbox: Sandbox) -> None:
    sandbox.fault(Fault.monthly_limit())
    async with Zenovay(sandbox.api_key, base_url=sandbox.url) as zenovay:
        calls = (zenovay.heatmaps.pages(sandbox.website_ids[0]) for _ in range(10))
        ended = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(error, QuotaExceededError) for error in ended)
    assert sandbox.count() == 1


async def test_a_limiter_shared_by_two_keys_serves_the_one_whose_quota_is_left(sandbox: Sandbox) -> None:
    limiter = WindowLimiter(window=1.0)
    exhausted = sandbox.add_key("exhausted", monthly_limit=5, monthly_used=5)
    options: dict[str, Any] = {"base_url": sandbox.url, "rate_limit": limiter}
    site = sandbox.website_ids[0]
    async with Zenovay(exhausted, **options) as one, Zenovay(sandbox.api_key, **options) as other:
        # The first is sent alone, and all others wait for its response.
        calls = [client.heatmaps.pages(site) for client in (one, other, other, one, other)]
        ended = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(each, QuotaExceededError) for each in ended] == [True, False, False, True, False]
    assert not any(isinstance(each, Exception) for each in (ended[1], ended[2], ended[4]))
    # A caller that waits with the exhausted key fails without a request.
    assert (sandbox.count(status=429), sandbox.count(status=200)) == (1, 3)
    assert limiter.statistics().in_flight == 0
