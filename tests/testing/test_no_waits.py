"""Waits take no real time, and everything else is as it would be."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from helpers import until

from zenovay_async import APIConnectionError, ConfigurationError, RateLimitError, RetryScheduled, ServerError, Zenovay
from zenovay_async.sandbox import Fault, Sandbox
from zenovay_async.testing import no_waits
from zenovay_async.testing.clock import CLOCKS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from pathlib import Path

    from zenovay_async.testing import NoWaits

PATIENCE = 20
"""Seconds that a test may take on any machine; the waits that are skipped are longer."""


@asynccontextmanager
async def sandbox_on(where: str, **options: Any) -> AsyncGenerator[Sandbox]:
    """A sandbox on the loop of the test, or on a thread."""
    if where == "thread":
        with Sandbox(**options) as sandbox:
            yield sandbox
    else:
        async with Sandbox(**options) as sandbox:
            yield sandbox


@pytest.fixture
def waits() -> Iterator[NoWaits]:
    """A block around the test, which takes little real time."""
    began = time.monotonic()
    with no_waits() as block:
        yield block
    assert time.monotonic() - began < PATIENCE


@pytest.mark.parametrize("where", ["loop", "thread"])
async def test_429s_a_long_pause_and_a_minute_of_pacing_take_no_time(where: str, waits: NoWaits) -> None:
    """Three 429s with Retry-After: 30, then as many calls as need a minute; the sandbox goes by the same time."""
    async with sandbox_on(where, websites=1, rate_limit=30) as sandbox:
        sandbox.fault(Fault.rate_limited("30"), times=3)
        async with Zenovay(sandbox.api_key, base_url=sandbox.url, timeout=None) as zenovay:
            response = await zenovay.with_raw_response(zenovay.usage)()
            assert response.attempts == 4
            assert response.waits == pytest.approx((30, 30, 30), abs=5)
            before = waits.skipped
            for _ in range(60):
                await zenovay.usage()
            assert 50 < waits.skipped - before < 200
            assert zenovay.rate_limit is not None
            assert zenovay.rate_limit.limit == 30
        assert sandbox.count(status=429) == 3
        assert sandbox.count(status=200) == 61


async def test_errors_state_the_waits_that_there_would_have_been(waits: NoWaits, sandbox: Sandbox) -> None:
    sandbox.fault(Fault.rate_limited("7"))
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, timeout=100, max_attempts=3) as zenovay:
        with pytest.raises(RateLimitError) as caught:
            await zenovay.usage()
    assert caught.value.waits == pytest.approx((7, 7), abs=4)
    assert (caught.value.attempts, caught.value.retry_after) == (3, 7)
    assert waits.skipped == pytest.approx(sum(caught.value.waits), abs=4)


async def test_a_wait_beyond_the_deadline_fails_at_once(waits: NoWaits, sandbox: Sandbox) -> None:
    sandbox.fault(Fault.rate_limited("30"))
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, timeout=10) as zenovay:
        with pytest.raises(RateLimitError, match="does not fit timeout=10"):
            await zenovay.usage()
    assert waits.skipped < 1


async def test_backoff_is_skipped_and_said(waits: NoWaits, sandbox: Sandbox) -> None:
    events: list[RetryScheduled] = []
    sandbox.fault(Fault.status(500))
    async with Zenovay(
        sandbox.api_key,
        base_url=sandbox.url,
        on_event=lambda event: events.append(event) if isinstance(event, RetryScheduled) else None,
    ) as zenovay:
        with pytest.raises(ServerError) as caught:
            await zenovay.usage()
    assert len(events) == 3
    assert waits.skipped == pytest.approx(sum(event.wait for event in events), abs=1)
    assert len(caught.value.waits) == 3


async def test_timers_of_the_test_fire_in_their_order(waits: NoWaits, sandbox: Sandbox) -> None:
    fired: list[str] = []
    loop = asyncio.get_running_loop()
    sandbox.fault(Fault.rate_limited("30"), times=1)
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, timeout=60) as zenovay:
        for seconds in (50, 20, 10):
            loop.call_later(seconds, fired.append, str(seconds))
        began = loop.time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await zenovay.usage()
        assert loop.time() - began == pytest.approx(5, abs=4)
        assert fired == []
        await zenovay.usage()
    assert fired == ["10", "20"]
    assert waits.skipped == pytest.approx(30, abs=5)


async def test_a_request_in_flight_takes_its_time() -> None:
    """A slow response is no timeout, although another call waits for half a minute meanwhile."""
    async with Sandbox(websites=1) as sandbox, Zenovay(sandbox.api_key, base_url=sandbox.url, timeout=60) as zenovay:
        other = zenovay.with_options(rate_limit=None, attempt_timeout=10)
        sandbox.fault(Fault.rate_limited("30"), times=1)
        with no_waits() as waits:
            waiting = asyncio.create_task(zenovay.usage())
            await until(lambda: sandbox.count() > 0)
            sandbox.fault(Fault.latency(0.05), times=1)
            assert (await other.websites.list()).websites
            before = waits.skipped
            await waiting
    assert before < 1
    assert waits.skipped == pytest.approx(30, abs=5)


async def test_a_thread_that_the_loop_waits_for_takes_its_time(waits: NoWaits, sandbox: Sandbox) -> None:
    sandbox.fault(Fault.rate_limited("30"), times=1)
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, timeout=60) as zenovay:
        waiting = asyncio.create_task(zenovay.usage())
        await until(lambda: sandbox.count() > 0)
        async with asyncio.timeout(10):
            await asyncio.to_thread(time.sleep, 0.05)
        await waiting
    assert waits.skipped == pytest.approx(30, abs=5)


async def test_calls_that_join_another_one_wait_with_it(waits: NoWaits, sandbox: Sandbox) -> None:
    sandbox.fault(Fault.rate_limited("30"), times=1)
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, timeout=60) as zenovay:
        results = await asyncio.gather(*(zenovay.usage() for _ in range(5)))
        with pytest.raises(RateLimitError):
            sandbox.fault(Fault.rate_limited("30"), times=1)
            await asyncio.gather(zenovay.usage(), zenovay.usage(timeout=10))
    assert len(results) == 5
    assert sandbox.count() == 3
    assert waits.skipped < 40


async def test_a_sleep_without_a_call_is_none_of_its_business(waits: NoWaits) -> None:
    await asyncio.sleep(0.01)
    assert waits.skipped == 0


async def test_a_batch_is_paced_without_waiting(waits: NoWaits) -> None:
    async with Sandbox(websites=90, rate_limit=30) as sandbox:
        async with Zenovay(sandbox.api_key, base_url=sandbox.url) as zenovay:
            done = 0
            async with zenovay.batch(sandbox.website_ids, zenovay.heatmaps.pages) as results:
                async for result in results:
                    assert result.error is None
                    done += 1
        assert (done, sandbox.count(status=429)) == (90, 0)
    assert 100 < waits.skipped < 400


async def test_an_outage_is_waited_out(waits: NoWaits, unused_tcp_port: int) -> None:
    async with Zenovay("zv_away", base_url=f"http://127.0.0.1:{unused_tcp_port}", timeout=20) as zenovay:
        with pytest.raises(APIConnectionError, match="unreachable for"):
            await zenovay.usage()
        assert 5 < waits.skipped <= 21
        with pytest.raises(APIConnectionError) as caught:
            async with zenovay.batch(["a"], zenovay.heatmaps.pages, max_outage=300) as results:
                async for _ in results:
                    pass
        assert caught.value.outage is not None
    assert waits.skipped > 200


def test_loops_that_follow_one_another_share_one_time(waits: NoWaits) -> None:
    """What the limiter remembers of the loop before is not in the future of the next one."""
    with Sandbox(websites=1, rate_limit=10) as sandbox:
        zenovay = Zenovay(sandbox.api_key, base_url=sandbox.url, timeout=None)

        async def spend() -> float:
            began = asyncio.get_running_loop().time()
            for _ in range(25):
                await zenovay.usage()
            return asyncio.get_running_loop().time() - began

        taken = [asyncio.run(spend()) for _ in range(3)]
        assert sandbox.count(status=429) == 0
    assert sum(taken) == pytest.approx(waits.skipped, abs=5)
    assert all(100 < seconds < 250 for seconds in taken)


def test_several_threads_wait_for_nothing_at_once(waits: NoWaits) -> None:
    with Sandbox(websites=1) as sandbox:
        keys = [sandbox.add_key(f"thread {number}", rate_limit=10) for number in range(3)]
        done: list[int] = []

        async def spend(key: str) -> None:
            async with Zenovay(key, base_url=sandbox.url, timeout=None) as zenovay:
                for _ in range(25):
                    await zenovay.usage()
            done.append(25)

        threads = [threading.Thread(target=asyncio.run, args=[spend(key)]) for key in keys]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (done, sandbox.count(status=429)) == ([25, 25, 25], 0)
    assert waits.skipped > 300


async def test_time_does_not_go_back_after_the_block(sandbox: Sandbox) -> None:
    loop = asyncio.get_running_loop()
    sandbox.fault(Fault.rate_limited("30"), times=1)
    zenovay = Zenovay(sandbox.api_key, base_url=sandbox.url, timeout=60)
    with no_waits() as outer:
        with no_waits() as inner:
            await zenovay.usage()
        assert outer.skipped == inner.skipped
        sandbox.fault(Fault.rate_limited("30"), times=1)
        await zenovay.usage()
        during = loop.time()
    assert outer.skipped == pytest.approx(60, abs=4)
    assert inner.skipped == pytest.approx(30, abs=5)
    assert during <= loop.time()
    # And time passes as usual: this one sleeps.
    before, real = loop.time(), time.monotonic()
    await asyncio.sleep(0.02)
    assert time.monotonic() - real > 0.015
    assert loop.time() - before < PATIENCE
    await zenovay.usage()


def test_nothing_is_left_once_the_loops_are_closed() -> None:
    with no_waits(), Sandbox(websites=1) as sandbox:
        sandbox.fault(Fault.rate_limited("30"), times=1)
        zenovay = Zenovay(sandbox.api_key, base_url=sandbox.url, timeout=60)
        asyncio.run(zenovay.usage())
    with no_waits():
        pass

    async def now() -> float:
        return asyncio.get_running_loop().time()

    assert asyncio.run(now()) == pytest.approx(time.monotonic(), abs=10)
    assert asyncio.BaseEventLoop.time.__module__ == "asyncio.base_events"


async def test_a_block_that_is_left_in_another_thread_skips_nothing_more() -> None:
    """As between a look at the timers and the skip to the next one."""
    loop, before = asyncio.get_running_loop(), CLOCKS.skipped
    with Sandbox() as sandbox:
        began = sandbox._clock.now()
        CLOCKS._skip(loop, threading.get_ident(), 1000)
        assert CLOCKS.skipped == before
        assert sandbox._clock.now() - began < 1000


async def test_limits_are_forgotten_at_the_end(sandbox: Sandbox) -> None:
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=5) as zenovay:
        with no_waits():
            for _ in range(5):
                await zenovay.usage()
        # Or this one would wait for a minute.
        await zenovay.usage(timeout=5)


@pytest.mark.looptime
async def test_a_loop_with_a_virtual_clock_keeps_it(waits: NoWaits, sandbox: Sandbox) -> None:
    sandbox.fault(Fault.rate_limited("30"), times=1)
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, timeout=60) as zenovay:
        response = await zenovay.with_raw_response(zenovay.usage)()
    assert response.waits == pytest.approx((30,), abs=4)
    assert waits.skipped == 0


async def test_a_budget_that_processes_share_is_rejected(
    waits: NoWaits, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit_store="machine") as zenovay:
        with pytest.raises(ConfigurationError, match="rate_limit_store"):
            await zenovay.usage()
    assert (sandbox.count(), waits.skipped) == (0, 0)


def test_another_kind_of_event_loop_is_rejected(waits: NoWaits) -> None:
    """As that of uvloop, which has no selector."""
    loop: Any = SimpleNamespace()
    session: Any = SimpleNamespace(_budget=SimpleNamespace(_shared=SimpleNamespace(is_shared=False)))
    with pytest.raises(ConfigurationError, match=r"types\.SimpleNamespace; run this test on one of asyncio's own"):
        CLOCKS._attach(loop, session)
    assert waits.skipped == 0


async def test_a_loop_whose_time_was_replaced_is_rejected(
    waits: NoWaits, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by freezegun with real_asyncio=True; else each wait would be skipped over and over, for no loop's time."""
    monkeypatch.setattr(asyncio.get_running_loop(), "time", time.monotonic)
    async with Zenovay(sandbox.api_key, base_url=sandbox.url) as zenovay:
        with pytest.raises(ConfigurationError, match=r"whose time\(\) was replaced; freezegun"):
            await zenovay.usage()
    assert (sandbox.count(), waits.skipped) == (0, 0)
