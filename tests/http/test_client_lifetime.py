"""A client owns what it made, works in one event loop after another, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import weakref
from typing import Any

import pytest

from zenovay_async import ClientClosedError, Event, RateLimited, RateLimitError, RateLimitUpdated, ServerError, Zenovay
from zenovay_async.sandbox import Fault, Sandbox


async def test_a_call_after_the_block_fails(sandbox: Sandbox) -> None:
    """A call after the end of the block fails with advice."""
    async with Zenovay(sandbox.api_key, base_url=sandbox.url) as zenovay:
        pass
    with pytest.raises(ClientClosedError, match="inside its 'async with' block"):
        await zenovay.heatmaps.pages(sandbox.website_ids[0])
    await zenovay.close()


async def test_a_listener_does_not_keep_its_client_alive(sandbox: Sandbox) -> None:
    """A listener that refers to its client does not keep it alive, nor does the budget that others share."""

    options: dict[str, Any] = {"base_url": sandbox.url, "rate_limit_window": 0.05}

    class Watch:
        def __init__(self, emitted: list[Event]) -> None:
            self.zenovay = Zenovay(sandbox.api_key, on_event=self.note, **options)
            self.emitted = emitted

        def note(self, event: Event) -> None:
            self.emitted.append(event)

    emitted: list[Event] = []
    watch = Watch(emitted)
    await watch.zenovay.heatmaps.pages(sandbox.website_ids[0])
    assert [type(event) for event in emitted].count(RateLimitUpdated) == 1
    await watch.zenovay.close()
    emitted_until_closed = len(emitted)
    gone = weakref.ref(watch), weakref.ref(watch.zenovay)
    del watch
    gc.collect()
    assert [reference() for reference in gone] == [None, None]

    # The budget lives on, and has no listener left but that of the next client.
    later: list[Event] = []
    sandbox.fault(Fault.rate_limited("0"), times=1)
    async with Zenovay(sandbox.api_key, on_event=later.append, max_attempts=1, **options) as zenovay:
        with pytest.raises(RateLimitError):
            await zenovay.heatmaps.pages(sandbox.website_ids[0])
        assert zenovay.quota.used == 1
    assert [type(event) for event in later].count(RateLimited) == 1
    assert len(emitted) == emitted_until_closed


@pytest.mark.parametrize("blocks", [True, False])
def test_one_client_works_in_one_event_loop_after_another(blocks: bool, unused_tcp_port: int) -> None:  # noqa: FBT001 - a table's column
    zenovay = Zenovay("zv_loops", base_url=f"http://127.0.0.1:{unused_tcp_port}/api/external/v1")

    async def main() -> int:
        async with Sandbox(websites=1, api_key="zv_loops", port=unused_tcp_port) as sandbox:
            if blocks:
                async with zenovay:
                    return len((await zenovay.heatmaps.pages(sandbox.website_ids[0], limit=5)).pages)
            return len((await zenovay.heatmaps.pages(sandbox.website_ids[0], limit=5)).pages)

    assert [asyncio.run(main()), asyncio.run(main())] == [5, 5]


async def test_two_event_loops_at_once_are_rejected_with_advice(zenovay: Zenovay, sandbox: Sandbox) -> None:
    await zenovay.heatmaps.pages(sandbox.website_ids[0])

    def elsewhere() -> None:
        asyncio.run(zenovay.heatmaps.pages(sandbox.website_ids[0]))

    with pytest.raises(ClientClosedError, match="one client for each loop"):
        await asyncio.to_thread(elsewhere)


# In its debug mode, which -X dev turns on, asyncio warns of slow steps; a busy machine makes any step slow.
SCRIPT = """
import asyncio, gc
from zenovay_async import Zenovay
from zenovay_async.sandbox import Sandbox

async def main():
    asyncio.get_running_loop().slow_callback_duration = 60
    async with Sandbox(websites=2) as sandbox:
        zenovay = Zenovay(sandbox.api_key, base_url=sandbox.url)
        {body}
        gc.collect()

asyncio.run(main())
print("done")
"""
CLOSED_EARLY = """
        task = asyncio.create_task(zenovay.heatmaps.pages('x'))
        await asyncio.sleep(0)
        await zenovay.close()
        await asyncio.gather(task, return_exceptions=True)
"""
CALL = "await zenovay.heatmaps.pages(sandbox.website_ids[0])"


@pytest.mark.parametrize(
    "body",
    [
        f"async with zenovay: {CALL}",
        f"{CALL}; await zenovay.close()",
        CALL,
        f"{CALL}; del zenovay; gc.collect(); await asyncio.sleep(0)",
        f"{CALL}; zenovay.itself = zenovay; del zenovay; gc.collect(); await asyncio.sleep(0)",
        "pass",
        CLOSED_EARLY,
    ],
    ids=[
        "block",
        "closed by hand",
        "left to the loop",
        "dropped",
        "in a cycle",
        "never used",
        "closed with a call in flight",
    ],
)
def test_no_end_of_a_client_warns_of_anything(body: str) -> None:
    run = subprocess.run(  # noqa: S603 - our own interpreter and script
        [sys.executable, "-W", "error", "-X", "dev", "-c", SCRIPT.format(body=body)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (run.stdout, run.stderr) == ("done\n", "")


async def test_a_call_on_a_closed_client_waits_for_nothing() -> None:
    """A call on a closed client fails at once, also where it would have to wait for the rate limit."""
    async with Sandbox(websites=1, rate_limit=1) as sandbox:
        async with Zenovay(sandbox.api_key, base_url=sandbox.url) as zenovay:
            await zenovay.usage()
        with pytest.raises(ClientClosedError):
            await zenovay.usage(timeout=1)
        with pytest.raises(ClientClosedError):
            await zenovay.with_options(max_attempts=1).usage(timeout=None)


@pytest.mark.parametrize("status", [200, 500])
async def test_a_client_is_freed_with_its_last_reference(sandbox: Sandbox, status: int) -> None:
    """A client is freed with its last reference, also after retries that succeed or fail."""
    # The collector would find cycles, which is what must not be needed.
    gc.collect()
    gc.disable()
    try:
        zenovay = Zenovay(sandbox.api_key, base_url=sandbox.url, max_attempts=2)
        sandbox.fault(Fault.status(500), times=1 if status == 200 else None)
        if status == 200:
            await zenovay.usage()
        else:
            with pytest.raises(ServerError):
                await zenovay.usage()
        gone = weakref.ref(zenovay)
        del zenovay
        assert gone() is None
    finally:
        gc.enable()
