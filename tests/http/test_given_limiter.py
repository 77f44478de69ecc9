"""A client paces itself by a custom limiter, even one that is late. Time is virtual here."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from helpers import URL, make_client, requests_sent

from zenovay_async import (
    APITimeoutError,
    AttemptEnded,
    Cache,
    ConfigurationError,
    QuotaExceededError,
    RateLimit,
    RateLimitError,
    ServerError,
    Zenovay,
    ZenovayError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from aioresponses import aioresponses

    from zenovay_async import Event, Outcome, Permit

pytestmark = pytest.mark.looptime


class LateLimiter:
    """A custom limiter that does not keep to ``max_wait``.

    Args:
        waits: Seconds that each permit takes to acquire, or the error that it ends with.

    Attributes:
        outcomes: How each permit was returned: ``refunded``, or the kind of its outcome.
        closed: Whether it was closed.
    """

    def __init__(self, *waits: float | Exception) -> None:
        self.waits = iter(waits)
        self.outcomes: list[str] = []
        self.closed = False

    def acquire_nowait(self, *, cost: int = 1, background: bool = False) -> Permit | None:  # noqa: ARG002 - the protocol's
        return None

    async def acquire(self, *, cost: int = 1, max_wait: float | None = None, background: bool = False) -> Permit:  # noqa: ARG002 - the protocol's
        wait = next(self.waits)
        if isinstance(wait, Exception):
            raise wait
        await asyncio.sleep(wait)
        return LatePermit(self.outcomes)

    def fail_waiters(self, make_error: Callable[[], ZenovayError]) -> None:
        pass

    def snapshot(self) -> RateLimit:
        return RateLimit(limit=1, remaining=1, window=1.0, reset_after=0.0, learned=True)

    def forecast(self, n: int, *, background: bool = False) -> float:
        del background
        return float(n)

    async def aclose(self) -> None:
        self.closed = True


class LatePermit:
    """A permit of a :class:`LateLimiter`."""

    def __init__(self, outcomes: list[str]) -> None:
        self.outcomes = outcomes

    def settle(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome.kind)

    def refund(self) -> None:
        self.outcomes.append("refunded")


@pytest.mark.parametrize(
    ("waits", "cls", "outcomes"),
    [((6,), APITimeoutError, ["refunded"]), ((0, 6), ServerError, ["failed", "refunded"])],
)
async def test_a_wait_that_took_too_long_sends_no_request(
    canned: aioresponses, waits: tuple[float, ...], cls: type[ZenovayError], outcomes: list[str]
) -> None:
    """A wait that took too long sends no request; the error is that of the attempt before, if there was one."""
    canned.get(URL, status=500, repeat=True)
    limiter = LateLimiter(*waits)
    async with make_client(rate_limit=limiter, timeout=5) as zenovay:
        with pytest.raises(ZenovayError) as caught:
            await zenovay.heatmaps.pages("x")
    assert type(caught.value) is cls
    assert caught.value.attempts == requests_sent(canned) == len(outcomes) - 1
    assert limiter.outcomes == outcomes


async def test_a_limiter_that_rejects_a_retry_without_a_deadline(canned: aioresponses) -> None:
    """A call without a deadline ends with the error of the attempt before."""
    canned.get(URL, status=500, repeat=True)
    limiter = LateLimiter(0, RateLimitError("The others were first", retry_after=7.0))
    async with make_client(rate_limit=limiter, timeout=None) as zenovay:
        with pytest.raises(ServerError, match=r"a retry in 7\.0 s does not fit the deadline") as caught:
            await zenovay.heatmaps.pages("x")
    assert (caught.value.attempts, caught.value.retry_after) == (1, 7.0)
    assert caught.value.args == (caught.value.message,)
    assert limiter.outcomes == ["failed"]


async def test_a_custom_limiter_is_not_closed(canned: aioresponses) -> None:
    """The caller closes it, as a session of its own."""
    canned.get(URL, payload={"success": True, "data": {"pages": []}})
    limiter = LateLimiter(0)
    async with make_client(rate_limit=limiter) as zenovay:
        await zenovay.heatmaps.pages("x")
    assert limiter.outcomes == ["succeeded"]
    assert not limiter.closed


class BrokenPermit:
    """A permit of a :class:`BrokenLimiter`."""

    def __init__(self, limiter: BrokenLimiter) -> None:
        self.limiter = limiter

    def settle(self, outcome: Outcome) -> None:
        self.limiter.outcomes.append(outcome.kind)
        self.limiter.may_raise("settle")

    def refund(self) -> None:
        self.limiter.outcomes.append("refunded")


class BrokenLimiter(LateLimiter):
    """A limiter with a bug, which raises in the method of this name."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def may_raise(self, where: str) -> None:
        if where == self.where:
            raise LookupError("a slip in the caller's own limiter")

    def acquire_nowait(self, *, cost: int = 1, background: bool = False) -> Permit | None:  # noqa: ARG002 - the protocol's
        self.may_raise("acquire_nowait")
        return BrokenPermit(self)

    def fail_waiters(self, make_error: Callable[[], ZenovayError]) -> None:  # noqa: ARG002 - the protocol's
        self.may_raise("fail_waiters")

    def snapshot(self) -> RateLimit:
        self.may_raise("snapshot")
        return super().snapshot()


async def test_a_limiter_that_raises_costs_no_connection(canned: aioresponses) -> None:
    limiter = BrokenLimiter("acquire_nowait")
    async with make_client(rate_limit=limiter, max_connections=1) as zenovay:
        for _ in range(3):
            with pytest.raises(LookupError):
                await zenovay.heatmaps.pages("x", timeout=1)
        limiter.where = ""
        canned.get(URL, payload={"success": True, "data": {"pages": []}})
        await zenovay.heatmaps.pages("x", timeout=1)


async def test_the_permit_of_a_limiter_that_cannot_fail_its_waiters_is_settled(
    canned: aioresponses, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = BrokenLimiter("fail_waiters")
    exhausted = {"success": False, "error": {"message": "m", "code": "MONTHLY_LIMIT_EXCEEDED"}}
    canned.get(URL, status=429, payload=exhausted)
    async with make_client(rate_limit=limiter) as zenovay:
        with pytest.raises(QuotaExceededError):
            await zenovay.heatmaps.pages("x")
    assert limiter.outcomes == ["quota_exhausted"]
    assert "a slip in the caller's own limiter" in caplog.text


async def test_a_limiter_that_cannot_say_what_is_left_costs_no_response_that_somebody_listens_to(
    canned: aioresponses, caplog: pytest.LogCaptureFixture
) -> None:
    canned.get(URL, payload={"success": True, "data": {"pages": []}})
    events: list[Event] = []
    async with make_client(rate_limit=BrokenLimiter("snapshot"), on_event=events.append) as zenovay:
        await zenovay.heatmaps.pages("x")
    (ended,) = (event for event in events if isinstance(event, AttemptEnded))
    assert (ended.status, ended.rate_limit_remaining) == (200, None)
    assert "a slip in the caller's own limiter" in caplog.text


async def test_a_permit_that_raises_costs_no_response(canned: aioresponses, caplog: pytest.LogCaptureFixture) -> None:
    limiter = BrokenLimiter("settle")
    canned.get(URL, payload={"success": True, "data": {"pages": []}})
    async with make_client(rate_limit=limiter) as zenovay:
        assert (await zenovay.heatmaps.pages("x")).pages == ()
    assert "a slip in the caller's own limiter" in caplog.text


def test_the_class_of_a_limiter_is_rejected() -> None:
    """A limiter is passed as an object; its class, passed by mistake, is a configuration error."""
    given: Any = LateLimiter
    with pytest.raises(ConfigurationError, match="rate_limit=<class"):
        Zenovay("zv_x", rate_limit=given)


async def test_a_refresh_that_a_limiter_fails_is_made_anew_after_a_while(canned: aioresponses) -> None:
    """The stale response stays; the error is no caller's."""
    canned.get(URL, payload={"success": True, "data": {"pages": []}}, repeat=True)
    limiter = LateLimiter(0, *(RuntimeError("broken") for _ in range(9)))
    async with make_client(rate_limit=limiter, cache=Cache(ttl=1e-6)) as zenovay:
        for _ in range(9):
            await zenovay.heatmaps.pages("x")
            await asyncio.sleep(0.001)
        assert len(list(limiter.waits)) == 8
        assert (zenovay.cache.stats.refreshes, zenovay.cache.stats.errors) == (1, 1)
