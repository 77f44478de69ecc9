"""One timer serves the deadlines of any number of blocks, each as ``asyncio.timeout_at`` would. Time is virtual."""

from __future__ import annotations

import asyncio
import math
import random
from typing import TYPE_CHECKING, Any

import pytest
from helpers import hold_up, now
from hypothesis import given, settings
from hypothesis import strategies as st
from looptime import new_event_loop

from zenovay_async._session.deadlines import Deadline, DeadlineTimer

if TYPE_CHECKING:
    from collections.abc import Awaitable

pytestmark = pytest.mark.looptime


def cancelling() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


@pytest.fixture
async def timer() -> DeadlineTimer:
    return DeadlineTimer(asyncio.get_running_loop())


async def test_a_block_that_takes_too_long_is_a_timeout_error_at_its_deadline(timer: DeadlineTimer) -> None:
    with pytest.raises(TimeoutError) as caught, Deadline(timer, now() + 3):
        await asyncio.sleep(10)
    assert now() == pytest.approx(3)
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert cancelling() == 0
    assert not timer.pending
    await asyncio.sleep(10)


async def test_a_deadline_in_the_past_ends_the_block_at_its_first_wait(timer: DeadlineTimer) -> None:
    with pytest.raises(TimeoutError), Deadline(timer, now() - 1):
        await asyncio.sleep(10)
    assert now() == 0


async def test_each_of_many_blocks_ends_at_its_own_deadline_in_any_order(timer: DeadlineTimer) -> None:
    async def block(seconds: int) -> None:
        with pytest.raises(TimeoutError), Deadline(timer, seconds):
            await asyncio.sleep(10_000)
        assert now() == pytest.approx(seconds)

    times = [*range(1, 200), 50, 50, 1]
    random.Random(3).shuffle(times)
    await asyncio.gather(*(block(seconds) for seconds in times))
    assert not timer.pending


async def test_blocks_that_end_in_time_leave_the_deadlines_of_others(timer: DeadlineTimer) -> None:
    async def block(seconds: float, work: float) -> float:
        try:
            with Deadline(timer, now() + seconds):
                await asyncio.sleep(work)
        except TimeoutError:
            pass
        return now()

    ended = await asyncio.gather(block(5, 1), block(7, 100), block(6, 2), block(3, 100))
    assert ended == pytest.approx([1, 7, 2, 3])


@pytest.fixture
def scheduled(timer: DeadlineTimer, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times for which the timer is scheduled."""
    times: list[float] = []
    schedule = timer.schedule

    def record(when: float) -> None:
        times.append(when)
        schedule(when)

    monkeypatch.setattr(timer, "schedule", record)
    return times


async def test_many_blocks_in_a_row_schedule_one_timer(timer: DeadlineTimer, scheduled: list[float]) -> None:
    for _ in range(100):
        with Deadline(timer, now() + 15):
            await asyncio.sleep(0.1)
    assert scheduled == [15]


async def test_a_block_without_a_deadline_schedules_no_timer(timer: DeadlineTimer, scheduled: list[float]) -> None:
    with Deadline(timer, math.inf):
        with pytest.raises(TimeoutError), Deadline(timer, now() + 1):
            await asyncio.sleep(10)
        # No timer at infinity either, which not every event loop can set.
        await asyncio.sleep(1000)
        with pytest.raises(TimeoutError), Deadline(timer, now() + 1):
            await asyncio.sleep(10)
    assert scheduled == [1, 1002]


@pytest.mark.parametrize("first", ["timer", "cancel"])
async def test_a_cancellation_from_outside_stays_one(timer: DeadlineTimer, first: str) -> None:
    """Also where the timer fires in the same step of the loop, before or after it."""

    async def block() -> None:
        with Deadline(timer, 5):
            await asyncio.sleep(10)

    task = asyncio.create_task(block())
    asyncio.get_running_loop().call_at(4.9 if first == "cancel" else 5.1, task.cancel)
    await asyncio.sleep(1)
    hold_up(5)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert not timer.pending


async def test_a_result_in_the_same_step_as_the_deadline_leaves_nothing_behind(timer: DeadlineTimer) -> None:
    loop = asyncio.get_running_loop()
    result: asyncio.Future[None] = loop.create_future()
    loop.call_at(4.9, result.set_result, None)
    loop.call_at(1, hold_up, 5)
    with pytest.raises(TimeoutError), Deadline(timer, 5):
        await result
    assert result.result() is None
    assert cancelling() == 0
    await asyncio.sleep(1)


@pytest.mark.parametrize(
    ("outer", "inner", "who"), [(9, 4, "inner"), (4, 9, "outer"), (4, 4, "outer"), (math.inf, 4, "inner")]
)
async def test_of_nested_blocks_the_one_whose_deadline_passed_raises(
    timer: DeadlineTimer, outer: float, inner: float, who: str
) -> None:
    late: list[str] = []
    try:
        with Deadline(timer, outer):
            try:
                with Deadline(timer, inner):
                    await asyncio.sleep(100)
            except TimeoutError:
                late.append("inner")
    except TimeoutError:
        late.append("outer")
    assert late == [who]
    assert now() == pytest.approx(4)
    assert cancelling() == 0
    assert not timer.pending
    await asyncio.sleep(10)


async def test_a_timeout_of_the_caller_around_it_is_obeyed(timer: DeadlineTimer) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            with Deadline(timer, 5):
                await asyncio.sleep(10)
    assert now() == pytest.approx(2)
    assert not timer.pending
    await asyncio.sleep(10)


@pytest.mark.parametrize("end", ["success", "error", "cancel"])
async def test_a_block_leaves_nothing_behind_however_it_ends(timer: DeadlineTimer, end: str) -> None:
    counts: list[int] = []

    async def block() -> None:
        try:
            with Deadline(timer, 5):
                assert len(timer.pending) == 1
                await asyncio.sleep(1)
                if end == "error":
                    raise LookupError
        finally:
            counts.append(cancelling())

    task = asyncio.create_task(block())
    await asyncio.sleep(0.5)
    if end == "cancel":
        task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() == (end == "cancel")
    assert counts == [int(end == "cancel")]
    assert not timer.pending
    await asyncio.sleep(10)


async def test_a_block_that_raises_another_error_when_cancelled_raises_that(timer: DeadlineTimer) -> None:
    with pytest.raises(LookupError), Deadline(timer, 5):
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            raise LookupError from None
    assert cancelling() == 0


async def test_a_deadline_works_while_a_cancelled_task_cleans_up(timer: DeadlineTimer) -> None:
    late: list[float] = []

    async def block() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            try:
                with Deadline(timer, now() + 1):
                    await asyncio.sleep(10)
            except TimeoutError:
                late.append(now())
            assert cancelling() == 1

    task = asyncio.create_task(block())
    asyncio.get_running_loop().call_at(2, task.cancel)
    await asyncio.wait([task])
    assert task.cancelled()
    assert late == [3]


async def test_outside_of_a_task_a_deadline_is_rejected(timer: DeadlineTimer) -> None:
    rejected: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def callback() -> None:
        try:
            with Deadline(timer, 5):
                pass
        except RuntimeError as error:
            rejected.set_result(error)

    asyncio.get_running_loop().call_soon(callback)
    assert "needs a task" in str(await rejected)
    assert not timer.pending


# Whole seconds for starts, and different fractions for deadlines, work and cancellations: the order of two timers at
# the same time is not specified.
_DEADLINES = st.one_of(st.just(math.inf), st.integers(0, 6).map(lambda whole: whole + 0.25))
_CASES = st.lists(
    st.tuples(
        st.integers(0, 5),
        _DEADLINES,
        st.one_of(st.none(), _DEADLINES),
        st.integers(0, 6).map(lambda whole: whole + 0.5),
        st.one_of(st.none(), st.integers(0, 6).map(lambda whole: whole + 0.125)),
        st.sampled_from(["returns", "raises", "swallows"]),
    ),
    min_size=1,
    max_size=12,
)


async def _record(body: Awaitable[Any]) -> tuple[Any, float, int]:
    """How it ended, when, and how many cancellations its task has left by then."""
    try:
        ended = await body
    except (TimeoutError, LookupError, asyncio.CancelledError) as error:
        ended = type(error).__name__
    return ended, round(now(), 4), cancelling()


async def _outcomes(cases: list[Any], run_until: Any) -> list[Any]:
    async def case(start: float, outer: float, inner: float | None, work: float, how: str) -> Any:
        await asyncio.sleep(start)

        async def body() -> str:
            try:
                await asyncio.sleep(work)
            except asyncio.CancelledError:
                if how != "swallows":
                    raise
            if how == "raises":
                raise LookupError
            return "done"

        async def nested() -> Any:
            return await body() if inner is None else await _record(run_until(now() + inner, body))

        return await _record(run_until(now() + outer, nested))

    tasks: list[asyncio.Task[Any]] = []
    for start, outer, inner, work, cancel, how in cases:
        task = asyncio.create_task(case(start, outer, inner, work, how))
        tasks.append(task)
        if cancel is not None:
            asyncio.get_running_loop().call_later(start + cancel, task.cancel)
    return await asyncio.gather(*tasks, return_exceptions=True)


@given(_CASES)
@settings(max_examples=150)
def test_blocks_end_as_they_do_under_asyncio_timeout_at(cases: list[Any]) -> None:
    """Any number of blocks, nested or not: the same results, times and cancellations."""

    async def theirs(when: float, body: Any) -> Any:
        async with asyncio.timeout_at(None if math.isinf(when) else when):
            return await body()

    async def compare(*, own: bool) -> list[Any]:
        timer = DeadlineTimer(asyncio.get_running_loop())

        async def ours(when: float, body: Any) -> Any:
            with Deadline(timer, when):
                return await body()

        ended = await _outcomes(cases, ours if own else theirs)
        assert not timer.pending
        return [repr(each) for each in ended]

    found: list[list[Any]] = []
    for own in (True, False):
        loop = new_event_loop()
        try:
            found.append(loop.run_until_complete(compare(own=own)))
        finally:
            loop.close()
    assert found[0] == found[1]
