"""No permit is lost: not by a closed client, a canceled caller, a listener that raises, or an odd class."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import pytest
from helpers import Held, until

from zenovay_async import APITimeoutError, ClientClosedError, Zenovay, ZenovayError
from zenovay_async._limits.window import WindowLimiter
from zenovay_async.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from zenovay_async.events import Event


def remaining(zenovay: Zenovay) -> int:
    """Permits that could be acquired now without waiting."""
    assert zenovay.rate_limit is not None
    return zenovay.rate_limit.remaining


@pytest.mark.parametrize("given", [False, True], ids=["own session", "the caller's session"])
async def test_calls_on_a_closed_client_take_no_permit(sandbox: Sandbox, given: bool) -> None:  # noqa: FBT001 - a table's column
    session = aiohttp.ClientSession() if given else None
    limiter = WindowLimiter()
    zenovay = Zenovay(sandbox.api_key, base_url=sandbox.url, session=session, rate_limit=limiter)
    async with zenovay:
        await zenovay.heatmaps.pages(sandbox.website_ids[0])
        before = remaining(zenovay)
        assert before > 100
        if session is not None:
            await session.close()
            with pytest.raises(ClientClosedError, match="session was closed"):
                await zenovay.heatmaps.pages(sandbox.website_ids[0])
    for _ in range(10):
        with pytest.raises(ClientClosedError):
            await zenovay.heatmaps.pages(sandbox.website_ids[0])
    assert remaining(zenovay) == before
    assert limiter.statistics().in_flight == 0
    assert zenovay._budget.statistics().in_flight == 0


async def test_callers_canceled_while_they_wait_for_a_slot_take_no_permit(sandbox: Sandbox) -> None:
    """Nor does a caller whose timeout ends while it waits for one."""
    site, limiter = sandbox.website_ids[0], WindowLimiter()
    async with Zenovay(
        sandbox.api_key, base_url=sandbox.url, max_connections=1, rate_limit=limiter, coalesce=False
    ) as zenovay:
        await zenovay.heatmaps.pages(site)
        held = Held()
        sandbox.fault(held.fault)
        first = asyncio.create_task(zenovay.heatmaps.pages(site))
        await until(lambda: held.arrived > 0)
        before = remaining(zenovay)
        waiting = [asyncio.create_task(zenovay.heatmaps.pages(site)) for _ in range(10)]
        await until(lambda: limiter.statistics().in_flight == 11)
        assert remaining(zenovay) == before - 10
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert remaining(zenovay) == before
        with pytest.raises(APITimeoutError, match="Timed out waiting for a connection: all 1"):
            await zenovay.heatmaps.pages(site, timeout=0.02)
        assert remaining(zenovay) == before
        held.released.set()
        await first
        await zenovay.heatmaps.pages(site)
    assert sandbox.count() == 3
    assert limiter.statistics().in_flight == 0


async def test_callers_that_wait_for_a_slot_when_the_client_closes_take_no_permit(sandbox: Sandbox) -> None:
    site, limiter = sandbox.website_ids[0], WindowLimiter()
    async with Zenovay(
        sandbox.api_key, base_url=sandbox.url, max_connections=1, rate_limit=limiter, coalesce=False
    ) as zenovay:
        await zenovay.heatmaps.pages(site)
        held = Held()
        sandbox.fault(held.fault)
        before = remaining(zenovay)
        calls = [asyncio.create_task(zenovay.heatmaps.pages(site)) for _ in range(5)]
        await until(lambda: held.arrived > 0)
        await until(lambda: limiter.statistics().in_flight == 5)
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(error, ZenovayError) for error in ended)
    assert [type(error) for error in ended].count(ClientClosedError) >= 4
    # One request was in flight, which the server may have counted.
    assert remaining(zenovay) == before - 1
    assert limiter.statistics().in_flight == 0


@pytest.mark.parametrize("given", [False, True], ids=["own limiter", "the caller's limiter"])
async def test_a_listener_that_raises_loses_no_call_and_no_permit(
    sandbox: Sandbox,
    caplog: pytest.LogCaptureFixture,
    given: bool,  # noqa: FBT001 - a table's column
) -> None:
    """A listener that raises is logged, and neither a call nor a permit is lost."""
    emitted: list[Event] = []

    def listener(event: Event) -> None:
        emitted.append(event)
        raise LookupError("a slip in the caller's own function")

    site = sandbox.website_ids[0]
    key = sandbox.add_key("small", monthly_limit=12)
    limiter = WindowLimiter(window=1.0, on_event=listener)
    options: dict[str, Any] = {"rate_limit": limiter} if given else {"rate_limit_window": 1.0}
    async with Zenovay(key, base_url=sandbox.url, on_event=listener, coalesce=False, **options) as zenovay:
        sandbox.fault(Fault.rate_limited("0.05"), times=1)
        sandbox.fault(Fault.status(503), times=1)
        assert (await zenovay.heatmaps.pages(site)).pages
        ended = await asyncio.gather(*(zenovay.heatmaps.pages(site) for _ in range(20)), return_exceptions=True)
    assert not any(isinstance(error, LookupError) for error in ended)
    assert {type(event).__name__ for event in emitted} >= {
        "RateLimited",
        "RetryScheduled",
        "RateLimitUpdated",
        "QuotaThresholdReached",
        "QuotaExhausted",
    }
    assert caplog.text.count("on_event failed on ") == len(emitted)
    assert "a slip in the caller's own function" in caplog.text
    assert limiter.statistics().in_flight == 0
    assert zenovay._budget.statistics().in_flight == 0


async def test_a_result_type_that_raises_costs_no_permit(sandbox: Sandbox) -> None:

    class Picky(msgspec.Struct):
        pages: list[Any]

        def __post_init__(self) -> None:
            raise LookupError("a slip in the caller's own class")

    site, limiter = sandbox.website_ids[0], WindowLimiter()
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=limiter) as zenovay:
        with pytest.raises(LookupError):
            await zenovay.request("GET", f"heatmaps/{site}/pages", result_type=Picky)
    assert limiter.statistics().in_flight == 0
    assert zenovay._budget.statistics().in_flight == 0
