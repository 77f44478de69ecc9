"""What responses state of the monthly quota is known, and calls beyond it are rejected."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from zenovay_async import Outcome, Quota, QuotaExceededError, UsageHeaders
from zenovay_async._limits.quota import PROBE_INTERVAL, QuotaGuard
from zenovay_async._protocol.headers import usage_headers
from zenovay_async.events import Event, QuotaExhausted, QuotaThresholdReached

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
    assert guard.snapshot() == Quota(used=8, limit=10, resets_at=JULY, total=13)


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
    assert guard.snapshot() == Quota(used=1, limit=1000, resets_at=AUGUST)


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
    assert caught.value.message == (
        "quota_reserve=100: 102 requests of the monthly quota remain, 2 of them in flight; no request was sent"
    )
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


def reached(used: int, percent: int, limit: int = 1000) -> QuotaThresholdReached:
    return QuotaThresholdReached(used=used, limit=limit, percent=percent)


def test_a_low_quota_is_an_event_and_a_log_line_at_each_threshold_once_a_month(
    caplog: pytest.LogCaptureFixture,
) -> None:
    events: list[Event] = []
    clock = Clock()
    guard = QuotaGuard(on_event=events.append, clock=clock)
    for used in (799, 800, 801, 949, 950, 951):
        guard.update(usage(used))
    for text in ("960", "970"):
        guard.update(usage_headers({"X-Usage-Monthly": text}))
    assert events == [reached(800, 80), reached(950, 95)]
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "80 % of the monthly quota used: 800 of 1000 requests"),
        ("WARNING", "95 % of the monthly quota used: 950 of 1000 requests"),
    ]
    clock.now = JULY
    for used in (1, 799, 805, 990):
        guard.update(usage(used, reset=AUGUST))
    assert events[2:] == [reached(805, 80), reached(990, 95)]


def test_a_quota_that_is_lower_than_both_thresholds_at_once_is_one_event() -> None:
    events: list[Event] = []
    guard = QuotaGuard(on_event=events.append, clock=Clock())
    guard.update(usage(999))
    guard.update(usage(1000))
    assert events == [reached(999, 95)]


def test_a_quota_beyond_any_float_has_thresholds() -> None:
    events: list[Event] = []
    limit = 10**400
    guard = QuotaGuard(on_event=events.append, clock=Clock())
    for used in (limit // 2, limit * 8 // 10, limit - 1):
        guard.update(usage(used, limit))
    assert events == [reached(limit * 8 // 10, 80, limit), reached(limit - 1, 95, limit)]


def test_a_larger_quota_has_thresholds_of_its_own() -> None:
    events: list[Event] = []
    guard = QuotaGuard(on_event=events.append, clock=Clock())
    for used, limit in ((960, 1000), (961, 1010), (962, 10_000), (8000, 10_000), (9500, 10_000)):
        guard.update(usage(used, limit))
    assert events == [reached(960, 95), reached(8000, 80, 10_000), reached(9500, 95, 10_000)]


SUCCEEDED = Outcome(kind="succeeded")
EXHAUSTED = Outcome(kind="quota_exhausted")


def exhausted_guard(clock: Clock) -> QuotaGuard:
    guard = QuotaGuard(clock=clock)
    guard.update(usage(1000))
    guard.mark_exhausted(None)
    return guard


def is_rejected(guard: QuotaGuard) -> bool:
    try:
        guard.check(1, reserve=0)
    except QuotaExceededError:
        return True
    return False


def test_one_call_every_five_minutes_probes_an_exhausted_quota() -> None:
    clock = Clock()
    guard = exhausted_guard(clock)
    for _ in range(3):
        clock.now += timedelta(minutes=4, seconds=59)
        assert is_rejected(guard)
        clock.now += timedelta(seconds=1)
        assert not is_rejected(guard)
        trial = guard.begin_trial(states_usage=False)
        assert is_rejected(guard)
        guard.mark_exhausted(None)
        guard.end_trial(trial, EXHAUSTED)
        assert is_rejected(guard)


def test_a_probe_that_succeeds_ends_the_exhaustion() -> None:
    clock = Clock()
    guard = exhausted_guard(clock)
    clock.now += PROBE_INTERVAL
    guard.check(1, reserve=0)
    guard.end_trial(guard.begin_trial(states_usage=False), SUCCEEDED)
    assert not guard.is_exhausted
    assert not is_rejected(guard)


@pytest.mark.parametrize(
    ("outcome", "next_probes"),
    [
        (Outcome(kind="unsent"), True),
        (Outcome(kind="unreachable"), True),
        (Outcome(kind="no_response"), True),
        (Outcome(kind="rate_limited", status=429), True),
        (Outcome(kind="failed", status=502), True),
        (Outcome(kind="failed", status=404), False),
        (EXHAUSTED, False),
    ],
)
def test_a_probe_that_showed_nothing_is_repeated_by_the_next_call(outcome: Outcome, next_probes: bool) -> None:  # noqa: FBT001 - a table's column
    clock = Clock()
    guard = exhausted_guard(clock)
    clock.now += PROBE_INTERVAL
    guard.check(1, reserve=0)
    guard.end_trial(guard.begin_trial(states_usage=False), outcome)
    assert guard.is_exhausted
    assert is_rejected(guard) is not next_probes


def test_a_clock_that_is_set_back_does_not_put_off_the_probe() -> None:
    clock = Clock()
    guard = exhausted_guard(clock)
    clock.now -= timedelta(days=2)
    assert not is_rejected(guard)


@pytest.mark.parametrize(
    ("stated", "is_over"),
    [
        (usage(1000, 1000), False),
        (usage(1000, 10_000), True),
        (usage(0, 10_000), True),
        (usage(200, 1000), True),
        (usage(1000, 1000, JULY + timedelta(days=5)), True),
        (UsageHeaders(1000, None, None, None), False),
        (UsageHeaders(None, None, None, None), False),
        (UsageHeaders(5, None, None, None), True),
    ],
    ids=["same", "upgraded", "upgraded and restarted", "granted", "next month", "same count", "nothing", "count alone"],
)
def test_a_call_that_asks_for_the_quota_ends_the_exhaustion_if_there_is_a_quota(
    stated: UsageHeaders,
    is_over: bool,  # noqa: FBT001 - a table's column
) -> None:
    guard = exhausted_guard(Clock())
    trial = guard.begin_trial(states_usage=True)
    guard.update(stated)
    guard.end_trial(trial, Outcome(kind="succeeded", usage=stated))
    assert guard.is_exhausted is not is_over
    if is_over:
        assert guard.snapshot().used == stated.monthly


def test_a_late_response_to_an_earlier_request_does_not_end_the_exhaustion() -> None:
    guard = QuotaGuard(clock=Clock())
    guard.mark_exhausted(None)
    for used in (997, 998, 999):
        guard.update(usage(used))
    assert is_rejected(guard)


def test_a_response_that_states_a_larger_quota_ends_the_exhaustion() -> None:
    guard = exhausted_guard(Clock())
    guard.update(usage(1001, 10_000))
    assert not is_rejected(guard)
    assert guard.snapshot().remaining == 8999


def test_a_quota_that_stays_exhausted_is_one_event() -> None:
    events: list[Event] = []
    clock = Clock()
    guard = QuotaGuard(on_event=events.append, clock=clock)
    for _ in range(3):
        guard.mark_exhausted(3600.0)
        clock.now += PROBE_INTERVAL
        guard.check(1, reserve=0)
        guard.end_trial(guard.begin_trial(states_usage=False), EXHAUSTED)
    assert events == [QuotaExhausted(resets_at=NOW + timedelta(hours=1))]
