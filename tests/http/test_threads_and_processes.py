"""What clients share belongs to the thread that uses them; a forked process starts clean."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from typing import Any

import pytest
from helpers import unique_key

from zenovay_async import ClientClosedError, Event, RateLimitUpdated, Zenovay
from zenovay_async.sandbox import Sandbox


async def test_a_client_made_in_another_thread_shares_the_limits_of_the_loop_that_uses_it() -> None:
    """Also its listener hears of them; as with clients that a framework makes in a thread of its own."""
    key, events = unique_key(), list[Event]()
    async with Sandbox(websites=1, api_key=key, rate_limit=10, rate_limit_window=60.0) as sandbox:
        site = sandbox.website_ids[0]
        options: dict[str, Any] = {"base_url": sandbox.url, "timeout": 1, "coalesce": False}
        made = [await asyncio.to_thread(Zenovay, key, on_event=events.append, **options) for _ in range(3)]
        clients = [*made, Zenovay(key, **options)]
        for number in range(8):
            await clients[number % 4].heatmaps.pages(site)
        assert {client.quota.used for client in clients} == {8}
        assert {client.rate_limit.remaining for client in clients if client.rate_limit} == {2}
        ended = await asyncio.gather(
            *(clients[number % 4].heatmaps.pages(site) for number in range(8)), return_exceptions=True
        )
        assert sum(not isinstance(each, BaseException) for each in ended) == 2
        assert sandbox.count() == 10
        assert [type(event) for event in events].count(RateLimitUpdated) == 1
        for client in clients:
            await client.close()


async def test_a_client_made_in_a_thread_that_is_unused_knows_what_the_key_has_left(sandbox: Sandbox) -> None:
    async with Zenovay(sandbox.api_key, base_url=sandbox.url) as zenovay:
        await zenovay.usage()
        made = await asyncio.to_thread(Zenovay, sandbox.api_key, base_url=sandbox.url)
        assert made.quota == zenovay.quota
        assert made.rate_limit == zenovay.rate_limit


async def test_a_key_keeps_what_it_has_spent_however_many_others_come_between() -> None:
    """Although no client of it is left meanwhile."""
    key = unique_key()
    async with Sandbox(websites=1, api_key=key, rate_limit=3) as sandbox:
        for _ in range(3):
            async with Zenovay(key, base_url=sandbox.url) as zenovay:
                await zenovay.heatmaps.pages(sandbox.website_ids[0])
            del zenovay
        for _ in range(1000):
            Zenovay(unique_key(), base_url=sandbox.url)
        gc.collect()
        again = Zenovay(key, base_url=sandbox.url)
        assert again.rate_limit is not None
        assert (again.rate_limit.limit, again.rate_limit.remaining) == (3, 0)


def test_a_call_without_an_event_loop_says_what_is_missing() -> None:
    """A call outside asyncio, such as under trio, is an error of the tree with advice."""
    zenovay = Zenovay("zv_no_loop")

    async def enter() -> None:
        async with zenovay:
            pytest.fail("entered")

    async def fetch() -> None:
        async with zenovay.batch(["a"], zenovay.heatmaps.pages):
            pytest.fail("entered")

    for use in (zenovay.usage, enter, fetch, zenovay.with_options(timeout=1).usage):
        coroutine: Any = use()
        with pytest.raises(ClientClosedError, match=r"No asyncio event loop is running: .* not with trio"):
            coroutine.send(None)
    with pytest.raises(StopIteration):
        zenovay.close().send(None)


FORK = """
import asyncio, os, sys, traceback
from zenovay_async import ClientClosedError, Zenovay
from zenovay_async.sandbox import Sandbox

def in_child(work):
    process = os.fork()
    if process:
        return process
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        os._exit(code)

async def main():
    async with Sandbox(websites=1, rate_limit=1000, rate_limit_window=600) as sandbox:
        site, key = sandbox.website_ids[0], sandbox.api_key
        limits = {"base_url": sandbox.url, "rate_limit": 5, "rate_limit_window": 600}
        async with Zenovay(key, coalesce=False, **limits) as zenovay:
            await zenovay.heatmaps.pages(site)
            waiting = [asyncio.create_task(zenovay.heatmaps.pages(site, timeout=None)) for _ in range(8)]
            await asyncio.sleep(0.1)

            async def call(client):
                await client.heatmaps.pages(site, timeout=20)
                print("left", client.rate_limit.remaining)

            def new():
                asyncio.run(call(Zenovay(key, coalesce=False, **limits)))

            def inherited():
                assert zenovay.rate_limit.remaining > 0
                asyncio.run(call(zenovay))
                asyncio.run(call(zenovay))

            async def call_after_block():
                async with zenovay:
                    await zenovay.heatmaps.pages(site, timeout=20)
                try:
                    await zenovay.heatmaps.pages(site, timeout=20)
                except ClientClosedError:
                    print("closed")

            def entered():
                asyncio.run(call_after_block())

            def jitter():
                limiter = zenovay._budget._shared.limiter
                print("jitter", limiter._rng.random())

            for work in (new, inherited, entered, jitter, jitter):
                _, status = await asyncio.to_thread(os.waitpid, in_child(work), 0)
                print("exit", os.waitstatus_to_exitcode(status))
            assert zenovay.rate_limit.remaining == 0
            assert zenovay._budget._shared.limiter.statistics().direct_waiting > 0
        done = await asyncio.gather(*waiting, return_exceptions=True)
        print({type(each).__name__ for each in done} - {"HeatmapPages"})

asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_forked_process_starts_clean() -> None:
    """With limits, jitter and blocks of its own, also of an inherited client, while callers of its parent wait."""
    run = subprocess.run(  # noqa: S603 - our own interpreter and script
        # Python warns of a fork beside threads, of which the parent has one. Nothing is buffered, as a forked process
        # would write what its parent has in its buffers, too.
        [sys.executable, "-u", "-W", "ignore::DeprecationWarning", "-c", FORK],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = run.stdout.splitlines()
    assert run.stderr == ""
    assert lines.count("exit 0") == 5, lines
    assert lines.count("closed") == 1
    assert [line for line in lines if line.startswith("left")] == ["left 4", "left 4", "left 3"]
    jitters = [line for line in lines if line.startswith("jitter")]
    assert len(set(jitters)) == 2
    assert lines[-1] == "{'ClientClosedError'}"
