"""No caller depends on what a store does, or on whether its updates are canceled. Time is virtual."""

from __future__ import annotations

import asyncio
import math
import random
from typing import TYPE_CHECKING, Any

import pytest
from simulated_store import Place, SimulatedStore

from zenovay_async import SharedBudgetBack, SharedBudgetLost
from zenovay_async._limits.sharing.limiter import SharedLimiter
from zenovay_async._limits.stores.memory import MemoryStore
from zenovay_async.rate_limits import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from zenovay_async.events import Event
    from zenovay_async.rate_limits import Store, StoreChange

pytestmark = pytest.mark.looptime

SUCCEEDED = Outcome(kind="succeeded", limit=100, remaining=90)


class OddStore(MemoryStore):
    """A store of one's own, with one odd method."""

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop().time)

    def update_nowait(self, name: str, change: StoreChange) -> bool:
        del name, change
        return False

    async def update(self, name: str, change: StoreChange) -> None:
        super().update_nowait(name, change)


class CallsNoChange(OddStore):
    async def update(self, name: str, change: StoreChange) -> None:
        """Do nothing."""


class SaysThatItChanged(OddStore):
    def update_nowait(self, name: str, change: StoreChange) -> bool:
        del name, change
        return True


class HasNoAddress(OddStore):
    async def listen(self, name: str, on_ring: Callable[[], None]) -> Any:
        del name, on_ring


class HasNoClock(OddStore):
    async def update(self, name: str, change: StoreChange) -> None:
        del name
        change(None, math.nan)


class IsCanceled(OddStore):
    async def update(self, name: str, change: StoreChange) -> None:
        """End as with a task that was canceled elsewhere."""
        del name, change
        raise asyncio.CancelledError


class Hangs(OddStore):
    async def update(self, name: str, change: StoreChange) -> None:
        del name, change
        await asyncio.Event().wait()


class ExplainsAtLength(OddStore):
    async def update(self, name: str, change: StoreChange) -> None:
        del name, change
        raise OSError("no database\n  at: line 1\n")


def make_limiter(store: Store, events: list[Event]) -> SharedLimiter:
    return SharedLimiter(store, "key", limit=20, window=3.0, on_event=events.append, rng=random.Random(1))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (CallsNoChange, "it did not call the change that it was given"),
        (SaysThatItChanged, "it did not call the change that it was given"),
        (HasNoAddress, "its listen() returned NoneType, not str"),
        (HasNoClock, "its clock says nan"),
        (IsCanceled, "CancelledError"),
        (Hangs, "no response within 2 s"),
        (ExplainsAtLength, "no database at: line 1"),
    ],
)
async def test_a_store_that_breaks_its_contract_is_lost_and_says_why(kind: type[OddStore], reason: str) -> None:
    """No caller hangs, or is sent without a limit."""
    events: list[Event] = []
    limiter = make_limiter(kind(), events)
    for _ in range(4):
        permit = limiter.acquire_nowait() or await limiter.acquire(max_wait=10.0)
        permit.settle(SUCCEEDED)
    lost = [event for event in events if isinstance(event, SharedBudgetLost)]
    assert lost
    assert {event.reason for event in lost} == {reason}
    await limiter.aclose()


def cancel(*first: asyncio.Task[None]) -> None:
    """Cancel all other tasks, these first, as some programs do when they begin to shut down."""
    others = asyncio.all_tasks() - {asyncio.current_task(), *first}
    for task in [*first, *others]:
        task.cancel()


async def test_a_program_that_cancels_all_tasks_and_goes_on_gets_its_permits() -> None:
    """The updates of the store are among these tasks; a caller that cleans up waits for the next one."""
    limiter = make_limiter(SimulatedStore(Place(), 0.05), [])

    async def call() -> None:
        try:
            await limiter.acquire()
        finally:
            (await limiter.acquire(max_wait=5.0)).settle(SUCCEEDED)

    (await limiter.acquire()).settle(SUCCEEDED)
    calls = [asyncio.create_task(call()) for _ in range(3)]
    await asyncio.sleep(0.02)
    cancel(*calls)
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(each) for each in ended] == [asyncio.CancelledError] * 3
    (await limiter.acquire(max_wait=5.0)).settle(SUCCEEDED)
    await limiter.aclose()
    assert limiter.statistics().in_flight == 0


async def test_a_lost_store_comes_back_although_all_tasks_were_canceled() -> None:
    class Slow(SimulatedStore):
        async def listen(self, name: str, on_ring: Callable[[], None]) -> str:
            await asyncio.sleep(0.3)
            return await super().listen(name, on_ring)

    events: list[Event] = []
    place = Place()
    limiter = make_limiter(Slow(place, 0.05), events)
    place.is_down = True
    (await limiter.acquire()).settle(SUCCEEDED)
    for _ in range(20):
        await asyncio.sleep(0.1)
        cancel()
    place.is_down = False
    await asyncio.sleep(5)
    assert [type(event) for event in events] == [SharedBudgetLost, SharedBudgetBack]
    await limiter.aclose()


async def test_closing_ends_although_others_ring_without_end() -> None:
    class Rings(OddStore):
        async def listen(self, name: str, on_ring: Callable[[], None]) -> str:
            del name
            self.on_ring = on_ring
            return "here"

        async def update(self, name: str, change: StoreChange) -> None:
            await super().update(name, change)
            await asyncio.sleep(0.01)
            self.on_ring()

    limiter = make_limiter(Rings(), [])
    (await limiter.acquire()).settle(SUCCEEDED)
    async with asyncio.timeout(5):
        await limiter.aclose()
