"""Closing a client ends its calls at once, wherever they wait, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from helpers import until
from raw_server import RawServer

from zenovay_async import ClientClosedError, QuotaExceededError, Zenovay, ZenovayError
from zenovay_async._limits.window import WindowLimiter
from zenovay_async.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


async def failures(tasks: list[asyncio.Task[Any]]) -> set[type[BaseException]]:
    """The errors of tasks, which have to end soon."""
    done = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    return {type(error) for error in done}


def in_flight(_: Sandbox, zenovay: Zenovay) -> bool:
    return zenovay._budget.statistics().in_flight >= 1


def responded(sandbox: Sandbox, _: Zenovay) -> bool:
    return sandbox.count() >= 1


def queued(_: Sandbox, zenovay: Zenovay) -> bool:
    limiter = zenovay._budget._shared.limiter
    return isinstance(limiter, WindowLimiter) and limiter.statistics().direct_waiting >= 3


WAITS: list[Any] = [
    pytest.param({"rate_limit": 1, "rate_limit_window": 600}, None, queued, id="for the rate limit"),
    pytest.param({"max_connections": 1, "rate_limit": None}, Fault.latency(60), in_flight, id="for a slot"),
    pytest.param({"rate_limit": None}, Fault.latency(60), in_flight, id="in flight"),
    pytest.param({"rate_limit": None}, Fault.rate_limited("50"), responded, id="in backoff"),
    pytest.param({"rate_limit": None, "max_attempts": 50}, Fault.reset(), responded, id="after broken connections"),
]


@pytest.mark.parametrize("given", [False, True], ids=["own session", "given session"])
@pytest.mark.parametrize(("options", "fault", "waits"), WAITS)
async def test_calls_that_wait_fail_at_once(
    options: dict[str, Any],
    fault: Fault | None,
    waits: Callable[[Sandbox, Zenovay], bool],
    given: bool,  # noqa: FBT001 - a table's column
) -> None:
    """Calls that wait when their client is closed fail at once, those of siblings too; permits are refunded."""
    async with Sandbox(websites=1) as sandbox, aiohttp.ClientSession() as session:
        if fault is not None:
            sandbox.fault(fault)
        zenovay = Zenovay(
            sandbox.api_key,
            base_url=sandbox.url,
            session=session if given else None,
            timeout=None,
            coalesce=False,
            **options,
        )
        sibling = zenovay.with_options(attempt_timeout=60)
        site = sandbox.website_ids[0]
        clients = [zenovay, sibling] * 3
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(client.heatmaps.pages(site)) for client in clients]
        await until(lambda: waits(sandbox, zenovay))
        await asyncio.sleep(0.02)
        await zenovay.close()
        assert await failures([task for task in tasks if not task.done() or task.exception()]) == {ClientClosedError}
        assert zenovay._budget.statistics().in_flight == 0
        # And it opens again.
        sandbox.clear_faults()
        if not options.get("rate_limit"):
            async with zenovay:
                assert (await sibling.heatmaps.pages(site)).pages
        assert session.closed is False


async def test_calls_that_wait_for_a_server_that_is_away_fail_at_once(unused_tcp_port: int) -> None:
    zenovay = Zenovay("zv_away", base_url=f"http://127.0.0.1:{unused_tcp_port}", timeout=None)
    tasks: list[asyncio.Task[Any]] = [asyncio.create_task(zenovay.usage()) for _ in range(4)]
    await until(lambda: not zenovay._budget._shared.outage_gate.is_clear)
    await asyncio.sleep(0.01)
    await zenovay.close()
    assert await failures(tasks) == {ClientClosedError}
    assert zenovay._budget.statistics().in_flight == 0


async def test_a_call_that_was_in_flight_says_so() -> None:
    """The error says that a request was in flight; the server is not taken to be failing."""
    async with Sandbox(websites=1, latency=30) as sandbox:
        zenovay = Zenovay(sandbox.api_key, base_url=sandbox.url)
        task = asyncio.create_task(zenovay.usage())
        await until(lambda: in_flight(sandbox, zenovay))
        await zenovay.close()
        with pytest.raises(ClientClosedError, match="closed during the call") as caught:
            await task
        assert (caught.value.sent, caught.value.operation, caught.value.attempts) == (True, "usage", 1)
        assert not zenovay._budget._shared.outage_gate.outage.failures


async def test_a_batch_ends_when_its_client_is_closed() -> None:
    async with Sandbox(websites=1, latency=0.01) as sandbox:
        zenovay = Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=None)
        done = 0
        with pytest.raises(ClientClosedError):
            async with zenovay.batch(range(10**9), lambda _: zenovay.usage()) as results:
                async for _ in results:
                    done += 1
                    if done == 5:
                        await zenovay.close()


async def wait_for_items(zenovay: Zenovay, taken: asyncio.Queue[str]) -> list[str]:
    """A batch over a source that has nothing to say."""

    async def items() -> AsyncIterator[str]:
        while True:
            yield await taken.get()

    async with zenovay.batch(items(), lambda _: zenovay.usage()) as results:
        return [result.item async for result in results]


@pytest.mark.parametrize("how", ["close", "end of the block", "close of a client without a block"])
async def test_a_batch_that_waits_for_a_quiet_source_ends_when_its_client_is_closed(how: str, sandbox: Sandbox) -> None:
    """It does not wait for the next item, which stays in the caller's queue."""
    zenovay = Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=None)
    queue: asyncio.Queue[str] = asyncio.Queue()

    async def begin() -> asyncio.Task[list[str]]:
        task = asyncio.create_task(wait_for_items(zenovay.with_options(timeout=20), queue))
        await asyncio.sleep(0.01)
        return task

    if how == "close of a client without a block":
        task = await begin()
        await zenovay.close()
    else:
        async with zenovay:
            task = await begin()
            if how == "close":
                await zenovay.close()
    with pytest.raises(ClientClosedError, match="closed during the batch"):
        await asyncio.wait_for(task, 5)
    queue.put_nowait("a")
    await asyncio.sleep(0)
    assert queue.qsize() == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_batch_whose_calls_each_enter_the_client_goes_on(sandbox: Sandbox) -> None:
    """The end of the last of these blocks closes the client, and the next opens it again."""
    zenovay = Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=None)

    async def items() -> AsyncIterator[int]:
        for item in range(5):
            yield item
            await asyncio.sleep(0.01)

    async def fetch(_: int) -> None:
        async with zenovay:
            await zenovay.usage()

    async with zenovay.batch(items(), fetch, concurrency=2) as results:
        assert [result.error async for result in results] == [None] * 5


async def test_closing_a_sibling_ends_no_call(sandbox: Sandbox) -> None:
    sandbox.fault(Fault.latency(0.1))
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=None, coalesce=False) as zenovay:
        sibling = zenovay.with_options(timeout=20)
        tasks = [asyncio.create_task(client.usage()) for client in (zenovay, sibling)]
        await until(lambda: zenovay._budget.statistics().in_flight == 2)
        await sibling.close()
        assert await asyncio.gather(*tasks)


async def test_a_cancellation_beside_the_close_stays_one() -> None:
    async with Sandbox(websites=1, latency=30) as sandbox:
        zenovay = Zenovay(sandbox.api_key, base_url=sandbox.url)
        task = asyncio.create_task(zenovay.usage())
        await until(lambda: in_flight(sandbox, zenovay))
        task.cancel()
        await zenovay.close()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_closed_client_says_so_even_if_the_quota_is_exhausted(sandbox: Sandbox) -> None:
    sandbox.fault(Fault.monthly_limit())
    zenovay = Zenovay(sandbox.api_key, base_url=sandbox.url)
    for _ in range(2):
        with pytest.raises(QuotaExceededError):
            await zenovay.heatmaps.pages("x")
    await zenovay.close()
    with pytest.raises(ClientClosedError):
        await zenovay.heatmaps.pages("x")


async def test_the_last_of_several_blocks_closes_the_client(sandbox: Sandbox) -> None:
    """Tasks may enter one client: the end of the last block closes it, and a call after it fails."""
    zenovay = Zenovay(sandbox.api_key, base_url=sandbox.url)

    async def visit(seconds: float) -> None:
        async with zenovay:
            await asyncio.sleep(seconds)
            await zenovay.usage()

    await asyncio.gather(*(visit(number / 100) for number in range(4)))
    with pytest.raises(ClientClosedError):
        await zenovay.usage()
    async with zenovay:
        async with zenovay.with_options(timeout=20):
            pass
        await zenovay.usage()
        await zenovay.close()
        with pytest.raises(ClientClosedError):
            await zenovay.usage()
    async with zenovay:
        await zenovay.usage()


async def test_a_client_that_was_closed_in_another_block_opens_again_with_the_next(sandbox: Sandbox) -> None:
    zenovay = Zenovay(sandbox.api_key, base_url=sandbox.url)
    async with zenovay:
        await zenovay.close()
        async with zenovay:
            await zenovay.usage()
        # This block has not ended yet.
        await zenovay.usage()
    with pytest.raises(ZenovayError):
        await zenovay.usage()


async def test_closing_closes_the_connections() -> None:
    async with RawServer() as server, Zenovay("zv_raw", base_url=server.url, rate_limit=None) as zenovay:
        await zenovay.heatmaps.pages("x")
        await zenovay.close()
        async with zenovay:
            await zenovay.heatmaps.pages("x")
        assert server.connections == 2
