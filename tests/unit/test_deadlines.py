"""One timer bounds any number of blocks, each just as ``asyncio.timeout_at`` would. Time is virtual."""

from __future__ import annotations

import asyncio
import math
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from looptime import LoopTimeEventLoop, new_event_loop

from zenovay_async._session.deadlines import Deadline, DeadlineTimer

if TYPE_CHECKING:
    from collections.abc import Awaitable

pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


def cancelling() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


def hold_up(until: float) -> None:
    """Let time pass as if a callback kept the loop busy: all timers due by then come in one turn."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, LoopTimeEventLoop)
    loop.setup_looptime(start=until)


@pytest.fixture
async def alarms() -> DeadlineTimer:
    return DeadlineTimer(asyncio.get_running_loop())


async def test_a_block_that_takes_too_long_is_a_timeout_error_at_its_time(alarms: DeadlineTimer) -> None:
    with pytest.raises(TimeoutError) as caught, Deadline(alarms, now() + 3):
        await asyncio.sleep(10)
    assert now() == pytest.approx(3)
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert cancelling() == 0
    assert not alarms.set
    await asyncio.sleep(10)


async def test_a_time_that_is_over_already_ends_the_block_at_its_first_wait(alarms: DeadlineTimer) -> None:
    with pytest.raises(TimeoutError), Deadline(alarms, now() - 1):
        await asyncio.sleep(10)
    assert now() == 0


async def test_of_many_blocks_each_ends_at_its_own_time_in_whatever_order_they_are_set(alarms: DeadlineTimer) -> None:
    async def block(seconds: int) -> None:
        with pytest.raises(TimeoutError), Deadline(alarms, seconds):
            await asyncio.sleep(10_000)
        assert now() == pytest.approx(seconds)

    times = [*range(1, 200), 50, 50, 1]
    random.Random(3).shuffle(times)
    await asyncio.gather(*(block(seconds) for seconds in times))
    assert not alarms.set


async def test_blocks_that_end_in_time_leave_the_later_ones_their_alarm(alarms: DeadlineTimer) -> None:
    async def block(bound: float, work: float) -> float:
        try:
            with Deadline(alarms, now() + bound):
                await asyncio.sleep(work)
        except TimeoutError:
            pass
        return now()

    ended = await asyncio.gather(block(5, 1), block(7, 100), block(6, 2), block(3, 100))
    assert ended == pytest.approx([1, 7, 2, 3])


async def test_many_blocks_in_a_row_set_one_timer(alarms: DeadlineTimer, monkeypatch: pytest.MonkeyPatch) -> None:
    set_at: list[float] = []
    schedule = alarms.schedule

    def note(when: float) -> None:
        set_at.append(when)
        schedule(when)

    monkeypatch.setattr(alarms, "schedule", note)
    for _ in range(100):
        with Deadline(alarms, now() + 15):
            await asyncio.sleep(0.1)
    assert set_at == [15]


async def test_a_block_without_a_bound_sets_no_timer(alarms: DeadlineTimer) -> None:
    with Deadline(alarms, math.inf):
        with pytest.raises(TimeoutError), Deadline(alarms, now() + 1):
            await asyncio.sleep(10)
        # Not one at the end of all time either, which not every event loop can set.
        assert alarms._timer is None
        await asyncio.sleep(1000)
        with pytest.raises(TimeoutError), Deadline(alarms, now() + 1):
            await asyncio.sleep(10)


@pytest.mark.parametrize("first", ["alarm", "cancel"])
async def test_a_cancellation_from_outside_stays_one_even_if_the_alarm_rings_in_the_same_step(
    alarms: DeadlineTimer, first: str
) -> None:
    async def block() -> None:
        with Deadline(alarms, 5):
            await asyncio.sleep(10)

    task = asyncio.create_task(block())
    asyncio.get_running_loop().call_at(4.9 if first == "cancel" else 5.1, task.cancel)
    await asyncio.sleep(1)
    hold_up(6)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert not alarms.set


async def test_an_answer_in_the_same_step_as_the_alarm_leaves_nothing_behind(alarms: DeadlineTimer) -> None:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[None] = loop.create_future()
    loop.call_at(4.9, answer.set_result, None)
    loop.call_at(1, hold_up, 6)
    with pytest.raises(TimeoutError), Deadline(alarms, 5):
        await answer
    assert answer.result() is None
    assert cancelling() == 0
    await asyncio.sleep(1)


@pytest.mark.parametrize(
    ("outer", "inner", "who"), [(9, 4, "inner"), (4, 9, "outer"), (4, 4, "outer"), (math.inf, 4, "inner")]
)
async def test_of_two_blocks_in_each_other_the_one_that_is_late_says_so(
    alarms: DeadlineTimer, outer: float, inner: float, who: str
) -> None:
    late: list[str] = []
    try:
        with Deadline(alarms, outer):
            try:
                with Deadline(alarms, inner):
                    await asyncio.sleep(100)
            except TimeoutError:
                late.append("inner")
    except TimeoutError:
        late.append("outer")
    assert late == [who]
    assert now() == pytest.approx(4)
    assert cancelling() == 0
    assert not alarms.set
    await asyncio.sleep(10)


async def test_a_bound_of_the_callers_around_it_is_obeyed(alarms: DeadlineTimer) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            with Deadline(alarms, 5):
                await asyncio.sleep(10)
    assert now() == pytest.approx(2)
    assert not alarms.set
    await asyncio.sleep(10)


@pytest.mark.parametrize("end", ["success", "error", "cancel"])
async def test_however_a_block_ends_nothing_is_left_of_it(alarms: DeadlineTimer, end: str) -> None:
    counts: list[int] = []

    async def block() -> None:
        try:
            with Deadline(alarms, 5):
                assert len(alarms.set) == 1
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
    assert not alarms.set
    await asyncio.sleep(10)


async def test_a_block_that_raises_something_else_when_it_is_cancelled_raises_that(alarms: DeadlineTimer) -> None:
    with pytest.raises(LookupError), Deadline(alarms, 5):
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            raise LookupError from None
    assert cancelling() == 0


async def test_a_bound_works_where_a_cancelled_task_cleans_up(alarms: DeadlineTimer) -> None:
    late: list[float] = []

    async def block() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            try:
                with Deadline(alarms, now() + 1):
                    await asyncio.sleep(10)
            except TimeoutError:
                late.append(now())
            assert cancelling() == 1

    task = asyncio.create_task(block())
    asyncio.get_running_loop().call_at(2, task.cancel)
    await asyncio.wait([task])
    assert task.cancelled()
    assert late == [3]


async def test_outside_of_a_task_a_bound_is_refused(alarms: DeadlineTimer) -> None:
    refused: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def callback() -> None:
        try:
            with Deadline(alarms, 5):
                pass
        except RuntimeError as error:
            refused.set_result(error)

    asyncio.get_running_loop().call_soon(callback)
    assert "needs a task" in str(await refused)
    assert not alarms.set


# Whole seconds for starts, and parts of one that tell bounds, work and cancellations apart: which of two timers of
# the same time comes first is nobody's promise.
_BOUNDS = st.one_of(st.just(math.inf), st.integers(0, 6).map(lambda whole: whole + 0.25))
_CASES = st.lists(
    st.tuples(
        st.integers(0, 5),
        _BOUNDS,
        st.one_of(st.none(), _BOUNDS),
        st.integers(0, 6).map(lambda whole: whole + 0.5),
        st.one_of(st.none(), st.integers(0, 6).map(lambda whole: whole + 0.125)),
        st.sampled_from(["returns", "raises", "swallows"]),
    ),
    min_size=1,
    max_size=12,
)


async def _told(body: Awaitable[Any]) -> tuple[Any, float, int]:
    """How it ended, when, and how many cancellations its task has left by then."""
    try:
        ended = await body
    except (TimeoutError, LookupError, asyncio.CancelledError) as error:
        ended = type(error).__name__
    return ended, round(now(), 4), cancelling()


async def _outcomes(cases: list[Any], bound: Any) -> list[Any]:
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
            return await body() if inner is None else await _told(bound(now() + inner, body))

        return await _told(bound(now() + outer, nested))

    tasks: list[asyncio.Task[Any]] = []
    for start, outer, inner, work, cancel, how in cases:
        task = asyncio.create_task(case(start, outer, inner, work, how))
        tasks.append(task)
        if cancel is not None:
            asyncio.get_running_loop().call_later(start + cancel, task.cancel)
    return await asyncio.gather(*tasks, return_exceptions=True)


@given(_CASES)
@settings(max_examples=150, deadline=None)
def test_any_number_of_blocks_end_as_and_when_they_do_under_asyncios_own_bound(cases: list[Any]) -> None:
    async def theirs(when: float, body: Any) -> Any:
        async with asyncio.timeout_at(None if math.isinf(when) else when):
            return await body()

    async def compare(*, own: bool) -> list[Any]:
        alarms = DeadlineTimer(asyncio.get_running_loop())

        async def ours(when: float, body: Any) -> Any:
            with Deadline(alarms, when):
                return await body()

        ended = await _outcomes(cases, ours if own else theirs)
        assert not alarms.set
        return [repr(each) for each in ended]

    found: list[list[Any]] = []
    for own in (True, False):
        loop = new_event_loop()
        try:
            found.append(loop.run_until_complete(compare(own=own)))
        finally:
            loop.close()
    assert found[0] == found[1]
