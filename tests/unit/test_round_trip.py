"""The fastest of the recent responses, and what has no time to come back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zenovay_async._limits.round_trip import RoundTrip


def is_too_late(trip: RoundTrip, seconds_left: float, now: float) -> bool:
    """As a call asks."""
    return seconds_left < trip.fastest and trip.is_too_late(now)


def record(trip: RoundTrip, seconds: float, now: float) -> None:
    """As a call does."""
    if seconds < trip.fastest or now >= trip.due:
        trip.record(seconds, now)


def test_before_the_first_response_nothing_is_too_late() -> None:
    assert not is_too_late(RoundTrip(), 0.0, 100.0)


def test_what_has_less_time_than_the_fastest_response_took_is_too_late() -> None:
    trip = RoundTrip()
    for seconds in (0.4, 0.2, 0.3):
        record(trip, seconds, 100.0)
    assert trip.fastest == 0.2
    assert is_too_late(trip, 0.19, 101.0)
    assert not is_too_late(trip, 0.2, 101.0)


def test_one_request_is_let_through_once_nothing_was_learned_for_seconds() -> None:
    trip = RoundTrip()
    record(trip, 0.2, 100.0)
    assert is_too_late(trip, 0.1, 104.9)
    assert [is_too_late(trip, 0.1, 105.0 + number / 10) for number in range(3)] == [False, True, True]
    assert not is_too_late(trip, 0.1, 110.0)


def test_slow_responses_of_others_do_not_reject_a_call_for_ever() -> None:
    """A call that would be faster than all that respond is tried every five seconds, and then known."""
    trip, sent = RoundTrip(), list[float]()
    for tenth in range(200):
        now = 100.0 + tenth / 10
        record(trip, 3.0, now)
        if not is_too_late(trip, 1.0, now):
            sent.append(now)
    assert sent == [105.0, 110.0, 115.0]
    record(trip, 0.2, 120.0)
    assert not is_too_late(trip, 1.0, 120.1)


def test_a_server_that_becomes_faster_or_slower_is_learned_again() -> None:
    trip = RoundTrip()
    record(trip, 0.2, 100.0)
    record(trip, 0.1, 101.0)
    assert trip.fastest == 0.1
    for second in range(102, 180):
        record(trip, 0.5, float(second))
    assert trip.fastest == 0.5
    assert is_too_late(trip, 0.4, 180.0)


def test_another_event_loop_may_have_another_time() -> None:
    trip = RoundTrip()
    record(trip, 0.2, 1000.0)
    assert not is_too_late(trip, 0.1, 3.0)


@given(st.lists(st.tuples(st.floats(0.001, 10), st.floats(0, 20)), min_size=1))
def test_the_fastest_is_one_of_the_last_minutes(
    responses: list[tuple[float, float]],
) -> None:
    trip, now = RoundTrip(), 1000.0
    seen: list[tuple[float, float]] = []
    for seconds, pause in responses:
        now += pause
        record(trip, seconds, now)
        seen.append((now, seconds))
        assert trip.fastest >= min(seconds for at, seconds in seen if at >= now - 90)
        assert trip.fastest <= seconds
