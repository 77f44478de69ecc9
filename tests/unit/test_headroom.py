"""A batch leaves room in each window for direct calls to come, and loses nothing by it. Time is virtual."""

from __future__ import annotations

import asyncio
import copy
import statistics
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pytest
from helpers import now, sample
from hypothesis import example, given, settings
from hypothesis import strategies as st
from simulated_servers import KINDS, Server, SmallBucket

from zenovay_async import RateLimitError
from zenovay_async._limits.headroom import AUTO, IDLE_SHARE
from zenovay_async._limits.pacing import Pacer
from zenovay_async._limits.request_log import TICK, WINDOW_MARGIN, PermitRecord
from zenovay_async._limits.window import WindowLimiter
from zenovay_async.sandbox.limits import make_limiter

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from zenovay_async._limits.headroom import Headroom
    from zenovay_async.rate_limits import Permit
    from zenovay_async.sandbox.limits import Limiter, LimiterKind

WINDOW = 60.0
TIMEOUT = 5.0
LATENCIES = [0.02, 0.2]


class Caller:
    """What a simulated server asks for permits, of a batch or of one direct call."""

    def __init__(self, limiter: WindowLimiter, *, until: float | None = None, headroom: int = AUTO) -> None:
        self._limiter, self._until, self._headroom = limiter, until, headroom
        self.starts: list[float] = []

    async def acquire(self, *, background: bool = False) -> Permit:
        max_wait = None if self._until is None else max(0.0, self._until - now())
        permit = await self._limiter.acquire(max_wait=max_wait, background=background, headroom=self._headroom)
        self.starts.append(now())
        return permit


class Direct(NamedTuple):
    """A direct call: when it came, and how long it waited for its permit; ``None`` if it got none."""

    at: float
    wait: float | None


class Scene:
    """A server, and one process with direct calls and a batch."""

    def __init__(self, kind: LimiterKind | Limiter, *, latency: float = 0.02, remaining: float = 1.0) -> None:
        self.limit = 30 if isinstance(kind, str) else kind.limit
        self.server = Server(kind, self.limit, WINDOW, latency=latency, jitter=latency / 2, remaining=remaining)
        self.limiter = WindowLimiter()
        self.calls: list[Direct] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.create_task(work))

    async def pages(self, interval: float, at_once: int = 1) -> None:
        """Direct calls without end, of people who wait as long as TIMEOUT."""
        while True:
            for _ in range(at_once):
                self.start(self.page())
            await asyncio.sleep(interval)

    async def page(self) -> None:
        began = now()
        caller = Caller(self.limiter, until=began + TIMEOUT)
        try:
            await self.server.until_admitted(caller)
        except RateLimitError:
            self.calls.append(Direct(began, None))
        else:
            self.calls.append(Direct(began, caller.starts[-1] - began))

    def start_batch(self, headroom: int = AUTO) -> Caller:
        """A batch without end, eight calls at a time."""
        caller = Caller(self.limiter, headroom=headroom)

        async def work() -> None:
            while True:
                await self.server.call(caller, background=True)

        for _ in range(8):
            self.start(work())
        return caller

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def served(self, since: float, until: float) -> tuple[float, float]:
        """The share of the direct calls of a time that were served, and their median wait."""
        came = [call.wait for call in self.calls if since <= call.at < until]
        waits = [wait for wait in came if wait is not None]
        return len(waits) / len(came), statistics.median(waits)


def of_size(limit: int) -> Limiter:
    return make_limiter("sliding", limit, WINDOW)


SERVERS: list[Any] = [
    *KINDS,
    pytest.param(SmallBucket(30, WINDOW, 10), id="small bucket"),
    *(pytest.param(of_size(limit), id=f"{limit} a minute") for limit in (60, 120)),
]


@pytest.mark.looptime
@pytest.mark.parametrize("latency", sample(LATENCIES))
@pytest.mark.parametrize("kind", SERVERS)
async def test_direct_calls_are_served_beside_a_batch_that_began_later(
    kind: LimiterKind | Limiter, latency: float
) -> None:
    """Where direct calls came before the batch, they are served within a second, and the rate is used."""
    scene = Scene(copy.deepcopy(kind), latency=latency)
    scene.start(scene.pages(3.0 * 30 / scene.limit))
    await asyncio.sleep(3 * WINDOW + 1)
    before, began = scene.server.admitted, now()
    scene.start_batch()
    await asyncio.sleep(6 * WINDOW)
    await scene.stop()
    share, median = scene.served(began, now() - TIMEOUT)
    assert share >= 0.95
    # A sliding counter may have nothing left at the end of a window; then direct calls are paced as well.
    assert median <= (1.5 if kind == "counter" else 1.0)
    assert scene.server.admitted - before >= 0.95 * 6 * scene.limit
    assert scene.server.rate_limited == 0


@pytest.mark.looptime
@pytest.mark.parametrize("latency", sample(LATENCIES))
@pytest.mark.parametrize("kind", SERVERS)
async def test_half_of_the_direct_calls_beside_a_batch_on_an_idle_key_are_served(
    kind: LimiterKind | Limiter, latency: float
) -> None:
    """Half of the direct calls in the first window of a batch on an idle key are served, and then nearly all."""
    scene = Scene(copy.deepcopy(kind), latency=latency)
    scene.start_batch()
    await asyncio.sleep(1.7)
    scene.start(scene.pages(3.0 * 30 / scene.limit))
    await asyncio.sleep(6 * WINDOW)
    await scene.stop()
    assert scene.served(0, WINDOW)[0] >= 0.5
    share, median = scene.served(WINDOW, now() - TIMEOUT)
    assert share >= 0.95
    assert median <= 1.0
    assert scene.server.admitted >= 0.95 * 6 * scene.limit
    assert scene.server.rate_limited == 0


@pytest.mark.looptime
@pytest.mark.parametrize("kind", KINDS)
async def test_pages_of_several_calls_are_served_beside_a_batch(kind: LimiterKind) -> None:
    """Pages that make three calls at once are served beside a batch."""
    scene = Scene(kind)
    scene.start(scene.pages(10.0, at_once=3))
    await asyncio.sleep(3 * WINDOW + 1)
    began = now()
    scene.start_batch()
    await asyncio.sleep(6 * WINDOW)
    await scene.stop()
    share, median = scene.served(began, now() - TIMEOUT)
    assert share >= 0.95
    assert median <= 1.0


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("kind", "limit", "latency"),
    [
        (kind, *server)
        for server in sample([(30, 0.02), (1, 0.02), (2, 0.2), (3, 0.02), (10, 0.2), (30, 0.2), (120, 0.02)])
        for kind in KINDS
    ],
)
async def test_a_batch_alone_loses_nothing_in_the_long_run(kind: LimiterKind, limit: int, latency: float) -> None:
    """A batch alone uses the rate as a client without headroom does, to 97 % where that can."""
    used, rejected = list[int](), list[int]()
    for headroom in (AUTO, 0):
        scene = Scene(make_limiter(kind, limit, WINDOW), latency=latency)
        scene.start_batch(headroom)
        await asyncio.sleep(10 * WINDOW)
        await scene.stop()
        used.append(scene.server.admitted)
        rejected.append(scene.server.rate_limited)
    # One request is much of a small limit.
    assert used[0] >= 0.97 * used[1] - 1
    assert rejected[0] <= max(rejected[1], used[0] / 100)


@pytest.mark.looptime
@pytest.mark.parametrize("phase", [0.4, 0.55, 0.7])
async def test_a_batch_alone_is_not_rejected_by_a_sliding_counter(phase: float) -> None:
    """What a batch leaves at first, and is lent later, does not make a sliding counter reject what follows."""
    scene = Scene("counter")
    scene.server = Server("counter", 120, WINDOW, latency=0.02, jitter=0.01, phase=phase)
    scene.start_batch()
    await asyncio.sleep(8 * WINDOW)
    await scene.stop()
    assert scene.server.rate_limited == 0
    assert scene.server.admitted >= 0.97 * 8 * 120


@pytest.mark.looptime
async def test_a_script_that_lists_websites_may_burst() -> None:
    """A direct call or two before a batch do not slow it: they are no steady flow."""
    scene = Scene("sliding")
    await scene.page()
    await asyncio.gather(scene.page(), scene.page())
    batch = scene.start_batch()
    await asyncio.sleep(1)
    await scene.stop()
    assert len(batch.starts) >= (1 - IDLE_SHARE) * scene.limit - 3


@pytest.mark.looptime
async def test_a_number_of_requests_is_always_free() -> None:
    """``batch_headroom=10`` leaves ten requests of each window to direct calls, at any time, and no more."""
    scene = Scene("sliding")
    batch = scene.start_batch(10)
    for _ in range(5):
        await asyncio.sleep(1.5 * WINDOW)
        began = now()
        await asyncio.gather(*(scene.page() for _ in range(10)))
        assert now() - began < 1
    await scene.stop()
    assert scene.served(0, now()) == (1.0, 0.0)
    for first, last in zip(batch.starts, batch.starts[20:], strict=False):
        assert last - first >= WINDOW
    assert len(batch.starts) >= 7 * 20


@pytest.mark.looptime
@pytest.mark.parametrize("headroom", [30, 1000])
async def test_a_batch_keeps_one_request_of_each_window_at_least(headroom: int) -> None:
    """However many requests it leaves, a batch goes on."""
    scene = Scene("sliding")
    batch = scene.start_batch(headroom)
    await asyncio.sleep(4.5 * WINDOW)
    await scene.stop()
    assert len(batch.starts) == 5


@pytest.mark.looptime
async def test_a_batch_proceeds_at_a_quarter_of_the_rate_beside_any_number_of_direct_calls() -> None:
    """A batch proceeds at nearly a quarter of the rate however many direct calls come."""
    scene = Scene("sliding")
    scene.start(scene.pages(0.5))
    await asyncio.sleep(2 * WINDOW)
    batch = scene.start_batch()
    await asyncio.sleep(10 * WINDOW)
    await scene.stop()
    assert len(batch.starts) >= 10 * 30 / 4 * 0.9


@pytest.mark.looptime
@pytest.mark.parametrize("n", sample([40, 15, 25, 100, 300]))
@pytest.mark.parametrize(
    ("headroom", "batch_before", "interval"),
    [(AUTO, 0, None), (AUTO, 400, None), (AUTO, 0, 3.0), (AUTO, 0, 10.0), (10, 0, None)],
    ids=["idle key", "batch alone", "many direct calls", "few direct calls", "a number of requests"],
)
async def test_the_forecast_counts_what_a_batch_leaves(
    n: int, headroom: int, batch_before: int, interval: float | None
) -> None:
    """The forecast for a batch is what it then takes, but for a few percent."""
    scene = Scene("sliding")
    await scene.page()
    if interval:
        scene.start(scene.pages(interval))
        await asyncio.sleep(3 * WINDOW + 1)
    caller = Caller(scene.limiter, headroom=headroom)

    async def batch(calls: int) -> None:
        left = iter(range(calls))

        async def work() -> None:
            for _ in left:
                await scene.server.call(caller, background=True)

        await asyncio.gather(*(work() for _ in range(8)))

    await batch(batch_before)
    expected, began = scene.limiter.forecast(n, background=True, headroom=headroom), now()
    await batch(n)
    await scene.stop()
    assert caller.starts[-1] - began == pytest.approx(expected, rel=0.06, abs=1.0)


@pytest.mark.looptime
async def test_direct_calls_are_forecast_without_what_a_batch_leaves() -> None:
    """What a batch leaves is there for direct calls at once."""
    scene = Scene("sliding")
    scene.start_batch()
    await asyncio.sleep(1)
    assert scene.limiter.forecast(5) == 0
    assert scene.limiter.forecast(5, background=True) > 10
    await scene.stop()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["direct", "background", "respond", "rate limit", "lose", "refund"]),
        st.integers(1, 3),
        st.sampled_from([0.0, 0.02, 1.0, 2.5, 7.0, 30.0, 61.0]),
        st.integers(0, 20),
    ),
    max_size=80,
)


@given(st.integers(1, 40), st.sampled_from([AUTO, 1, 5, 100]), STEPS)
@example(2, AUTO, [("direct", 1, 0.0, 0), ("rate limit", 1, 0.0, 0), ("direct", 2, 61.0, 0)])
@settings(max_examples=300)
def test_a_background_request_leaves_room_for_what_may_come(
    limit: int, headroom: int, steps: list[tuple[str, int, float, int]]
) -> None:
    """A batch beyond its share leaves room for direct calls in all windows to come, and is never starved."""
    pacer, at, held = Pacer.create(limit, WINDOW), 0.0, list[PermitRecord]()
    for kind, cost, pause, which in steps:
        at += pause
        kept = headroom if kind == "background" else 0
        if kind == "direct":
            pacer.record_arrival(at, cost)
        if kind in {"direct", "background"}:
            if pacer.ready_at(at, cost, kept) <= at:
                before = msgspec.structs.replace(pacer.headroom, background=pacer.headroom.background[:])
                held.append(pacer.acquire(at, cost, background=kind == "background"))
                if kept:
                    check(pacer, before, min(cost, limit), kept, at)
        elif held:
            settle(pacer, held.pop(which % len(held)), kind, at)
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(pacer), type=Pacer) == pacer
    while held:
        settle(pacer, held.pop(), "respond", at)
    for cost in (1, 3):
        ready = pacer.ready_at(at, cost, headroom)
        # A 429 may cost a direct call more than that, and a batch no more than it.
        assert ready <= max(at + 3 * WINDOW, pacer.ready_at(at, cost, 0))
        assert pacer.ready_at(ready + TICK, cost, headroom) <= ready + TICK


def settle(pacer: Pacer, permit: PermitRecord, how: str, at: float) -> None:
    if how == "respond":
        pacer.on_response(permit, at, limit=None, remaining=None)
    elif how == "rate limit":
        pacer.on_rate_limited(permit, at, retry_after=2.0, limit=None, jitter=0.5)
    elif how == "lose":
        pacer.on_no_response(permit, at)
    else:
        pacer.refund(permit)


def check(pacer: Pacer, before: Headroom, cost: int, headroom: int, at: float) -> None:
    """A permit of a batch was just acquired: is there room for the direct calls to come?"""
    limit, log = pacer.limit, pacer.log
    if headroom != AUTO:
        assert len(pacer.headroom.background) <= max(cost, limit - headroom)
        return
    if before.is_owed(at, cost, AUTO, limit, WINDOW):
        return
    burst, rate = before._demand(at, cost, limit, WINDOW)
    for index, dated in enumerate(log.times):
        leaves = dated + WINDOW * WINDOW_MARGIN
        coming = int(burst + rate * max(0.0, leaves - at - 2 * TICK))
        assert leaves <= at + TICK or len(log.times) - index + log.in_flight + coming <= limit
    assert log.in_flight + int(burst + rate * WINDOW) <= limit
