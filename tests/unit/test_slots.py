"""No slot is lost, however callers wait, get one and go away; the first that waits is the first that gets one."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from zenovay_async._session.slots import Slots


async def test_callers_get_slots_in_the_order_in_which_they_came() -> None:
    slots, order = Slots(1), list[int]()

    async def call(number: int) -> None:
        await slots.acquire()
        order.append(number)
        slots.release()

    await slots.acquire()
    calls = [asyncio.create_task(call(number)) for number in range(5)]
    await asyncio.sleep(0)
    slots.release()
    # Those who wait have it.
    assert not slots.acquire_nowait()
    await asyncio.gather(*calls)
    assert order == [0, 1, 2, 3, 4]
    assert slots.available == 1


async def test_two_slots_released_at_once_to_one_caller_leave_one_available() -> None:
    slots = Slots(2)
    assert slots.acquire_nowait()
    assert slots.acquire_nowait()
    waiting = asyncio.create_task(slots.acquire())
    await asyncio.sleep(0)
    slots.release()
    slots.release()
    assert slots.available == 1
    await waiting
    assert slots.available == 1


@pytest.mark.parametrize("others", [0, 1])
async def test_a_caller_canceled_as_it_gets_a_slot_passes_it_on(others: int) -> None:
    slots = Slots(1)
    await slots.acquire()
    canceled = asyncio.create_task(slots.acquire())
    waiting = [asyncio.create_task(slots.acquire()) for _ in range(others)]
    await asyncio.sleep(0)
    slots.release()
    canceled.cancel()
    await asyncio.wait([canceled])
    await asyncio.gather(*waiting)
    assert canceled.cancelled()
    assert slots.available == 1 - others


def test_a_slot_released_after_the_event_loop_is_closed_is_available() -> None:
    """As by a call that the loop left behind, when it is collected."""
    slots = Slots(0)
    loop = asyncio.new_event_loop()
    waiting: Any = loop.create_task(slots.acquire())
    # What is left of the task at the end is no news here.
    waiting._log_destroy_pending = False
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    slots.release()
    assert slots.available == 1
    assert not waiting.done()
    waiting.get_coro().close()
    assert slots.available == 1


@pytest.mark.parametrize("seed", range(50))
async def test_all_slots_are_available_in_the_end(seed: int) -> None:
    """Callers come, hold a slot for some turns of the loop, and are canceled anywhere."""
    rng, total = random.Random(seed), 3
    slots, held = Slots(total), 0

    async def call(turns: int) -> None:
        nonlocal held
        await slots.acquire()
        held += 1
        assert held <= total
        try:
            for _ in range(turns):
                await asyncio.sleep(0)
        finally:
            held -= 1
            slots.release()

    calls: list[asyncio.Task[None]] = []
    for _ in range(200):
        calls.append(asyncio.create_task(call(rng.randrange(4))))
        if rng.random() < 0.5:
            rng.choice(calls).cancel()
        if rng.random() < 0.7:
            await asyncio.sleep(0)
    await asyncio.wait(calls)
    assert slots.available == total
