"""A client owns what it made, works in one event loop after another, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import weakref
from typing import Any

import pytest

from zenovay_async import ClientClosedError, Event, RateLimited, RateLimitError, RateLimitUpdated, Zenovay
from zenovay_async.sandbox import Fault, Sandbox


async def test_a_call_after_the_block_fails(sandbox: Sandbox) -> None:
    """A call after the end of the block says so."""
    async with Zenovay(sandbox.api_key, base_url=sandbox.url) as zenovay:
        pass
    with pytest.raises(ClientClosedError, match="inside its 'async with' block"):
        await zenovay.heatmaps.pages(sandbox.website_ids[0])
    await zenovay.close()


async def test_a_listener_does_not_keep_its_client_alive(sandbox: Sandbox) -> None:
    """A listener that refers to its client does not keep it alive, nor does the budget that others share."""

    options: dict[str, Any] = {"base_url": sandbox.url, "rate_limit_window": 0.05}

    class Watch:
        def __init__(self, heard: list[Event]) -> None:
            self.zenovay = Zenovay(sandbox.api_key, on_event=self.note, **options)
            self.heard = heard

        def note(self, event: Event) -> None:
            self.heard.append(event)

    heard: list[Event] = []
    watch = Watch(heard)
    await watch.zenovay.heatmaps.pages(sandbox.website_ids[0])
    assert [type(event) for event in heard].count(RateLimitUpdated) == 1
    await watch.zenovay.close()
    heard_until_closed = len(heard)
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
    assert len(heard) == heard_until_closed


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
        "pass",
        CLOSED_EARLY,
    ],
    ids=["block", "closed by hand", "left to the loop", "dropped", "never used", "closed with a call in flight"],
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
