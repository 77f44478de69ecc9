"""No request is sent that has no time to come back."""

from __future__ import annotations

import asyncio

import pytest

from zenovay_async import APITimeoutError, Event, RetryScheduled, ServerError, Zenovay
from zenovay_async.sandbox import Fault, Sandbox


async def test_a_call_with_less_time_than_the_fastest_response_took_sends_no_request() -> None:
    """The error names what is left and what is needed; a first call is always sent."""
    async with (
        Sandbox(websites=1, latency=0.2) as sandbox,
        Zenovay(sandbox.api_key, base_url=sandbox.url, max_attempts=1) as zenovay,
    ):
        await zenovay.usage()
        sent = sandbox.count()
        with pytest.raises(APITimeoutError, match=r"of timeout=0\.1 are left, and the fastest .* took 0\.2") as caught:
            await zenovay.usage(timeout=0.1)
        assert (caught.value.sent, caught.value.attempts) == (False, 0)
        assert sandbox.count() == sent
        assert zenovay._budget.statistics().in_flight == 0
        await zenovay.usage(timeout=20)


async def test_a_retry_without_time_to_come_back_is_not_made() -> None:
    """Nor is it announced: the call fails at once, with the error of the attempt before."""
    async with Sandbox(websites=1, latency=0.3) as sandbox:
        events: list[Event] = []
        async with Zenovay(sandbox.api_key, base_url=sandbox.url, on_event=events.append) as zenovay:
            await zenovay.usage()
            sandbox.fault(Fault.status(500))
            with pytest.raises(ServerError, match="are left, and the fastest recent response took") as caught:
                await zenovay.usage(timeout=0.5)
        assert caught.value.attempts == 1
        assert not [event for event in events if isinstance(event, RetryScheduled)]


async def test_a_timeout_says_how_much_of_it_passed_before_the_request() -> None:
    async with (
        Sandbox(websites=1, latency=30) as sandbox,
        Zenovay(
            sandbox.api_key, base_url=sandbox.url, max_connections=1, rate_limit=None, max_attempts=1, coalesce=False
        ) as zenovay,
    ):
        first = asyncio.create_task(zenovay.usage(timeout=0.3))
        await asyncio.sleep(0)
        second = asyncio.create_task(zenovay.usage(timeout=0.6))
        with pytest.raises(APITimeoutError, match=r"No complete response within timeout=0\.3 ?\("):
            await first
        with pytest.raises(
            APITimeoutError, match=r"within timeout=0\.6; 0\.\d+ s of it had passed before the request was sent"
        ):
            await second
