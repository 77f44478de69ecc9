"""Equal calls are one request, whoever joins, leaves or runs out of time. Time is virtual; the wire is simulated."""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from helpers import examples, now, unique_key
from hypothesis import given, settings
from hypothesis import strategies as st
from looptime import new_event_loop
from simulated_session import BASE_URL, GateLimiter, SimulatedServer, SimulatedTransport

from zenovay_async import APIConnectionError, APITimeoutError, NotFoundError, RateLimitError, ServerError, ZenovayError
from zenovay_async._cache.invalidation import Scope
from zenovay_async._cache.stats import Counters
from zenovay_async._limits.budget import budget_for
from zenovay_async._limits.options import Limits
from zenovay_async._limits.window import WindowLimiter
from zenovay_async._protocol.auth import Auth, Secret
from zenovay_async._protocol.call import custom_call
from zenovay_async._session.background import SCOPE, Background, BackgroundScope
from zenovay_async._session.coalescing import Coalescer
from zenovay_async._session.deadlines import DeadlineTimer
from zenovay_async._session.drift import DriftReporter
from zenovay_async._session.flight import forget_flights
from zenovay_async._session.observing import Observation, ObservingCaller
from zenovay_async._session.session import Options, Session
from zenovay_async.events import AttemptEnded, AttemptStarted, CallEnded, CallEvent, CallStarted, Event

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence
    from types import TracebackType

    from simulated_session import ResponseKind, SimulatedRequest

    from zenovay_async._protocol.response import Response
    from zenovay_async._session.state import CallState

# Seconds by which two things of one moment may differ.
SOON = 0.02
# Seconds that a response takes at most.
LONGEST = 2.0
CALLS = {path: custom_call("GET", f"heatmaps/{path}", None, None, None, 1) for path in "ab"}
ERRORS: dict[ResponseKind, type[ZenovayError]] = {
    "404": NotFoundError,
    "500": ServerError,
    "reset": APIConnectionError,
}


class Planned(NamedTuple):
    """A call, as it is planned.

    Attributes:
        path: What is called.
        at: When it is made, in seconds.
        background: Whether it belongs to a batch.
        timeout: Seconds for the whole call.
        patience: Seconds after which it is canceled; ``None`` for never.
        client: Which client makes it.
    """

    path: str
    at: float
    background: bool
    timeout: float | None
    patience: float | None
    client: int


class Made:
    """A call that was made, and how it ended."""

    def __init__(self, planned: Planned) -> None:
        self.planned = planned
        self.began = now()
        self.ended: float | None = None
        self.data: Any = None
        self.error: ZenovayError | None = None
        self.was_canceled = False
        self.task: asyncio.Task[None] | None = None

    @property
    def due(self) -> float:
        """When its time is over; that of a background call is, if it waits for no permit."""
        timeout = self.planned.timeout
        return float("inf") if timeout is None else self.began + timeout

    def end(self, _: asyncio.Task[None]) -> None:
        """Note when it ended."""
        self.ended = now()

    def is_pending(self, at: float) -> bool:
        """Whether it was waited for just before and just after a moment."""
        assert self.ended is not None
        return self.began < at - SOON and self.ended > at + SOON


class World:
    """Two clients with one key, a server, and what happened."""

    def __init__(
        self, script: Sequence[tuple[float, ResponseKind]], limiter: GateLimiter | int | None, max_attempts: int = 1
    ) -> None:
        self.server = SimulatedServer(script)
        auth, limits = Auth(Secret(unique_key())), Limits(limiter, 3.0)
        self.events: list[Event] = []
        options = Options(
            timeout=30.0, attempt_timeout=None, max_attempts=max_attempts, on_event=self.events.append, strict=False
        )
        observe = partial(Observation, self.events.append, auth)
        self.counters = Counters()
        self.transports = [SimulatedTransport(self.server) for _ in range(2)]
        self.budgets = [budget_for(auth, BASE_URL, limits) for _ in range(2)]
        self.sessions = [
            Session(transport, auth, BASE_URL, budget, options, DriftReporter(None))
            for transport, budget in zip(self.transports, self.budgets, strict=True)
        ]
        self.coalescers = [
            Coalescer(session, budget, "kind", self.counters, observe)
            for session, budget in zip(self.sessions, self.budgets, strict=True)
        ]
        self.callers = [ObservingCaller(coalescer, observe) for coalescer in self.coalescers]
        self.gate = limiter if isinstance(limiter, GateLimiter) else None
        self.made: list[Made] = []

    async def spend(self, n: int) -> None:
        """Make other calls at once, so that further ones have to wait for a permit."""
        for _ in range(n):
            await self.sessions[0].send(custom_call("GET", "usage", None, None, None, 1), None)
        del self.server.requests[:]

    def call(self, planned: Planned) -> Made:
        made = Made(planned)
        made.task = asyncio.get_running_loop().create_task(self._call(made))
        made.task.add_done_callback(made.end)
        self.made.append(made)
        return made

    async def _call(self, made: Made) -> None:
        planned = made.planned
        scope = BackgroundScope(Background()) if planned.background else None
        SCOPE.set(scope)
        try:
            response = await self.callers[planned.client].send(CALLS[planned.path], planned.timeout)
            made.data = response.data
            made.data["caller"] = len(made.data)
        except ZenovayError as error:
            made.error = error

    async def run(self, schedule: Sequence[tuple[float, Any]]) -> None:
        """Make calls, and whatever else the schedule says, each at its time; then wait for all callers."""
        steps = [(at, number, step) for number, (at, step) in enumerate(schedule)]
        step: Any
        start = now()
        canceling: list[tuple[float, Made]] = []
        while steps or canceling:
            steps.sort(key=lambda step: step[:2])
            canceling.sort(key=lambda leaving: leaving[0])
            if canceling and (not steps or canceling[0][0] <= steps[0][0]):
                at, step = canceling.pop(0)
            else:
                at, _, step = steps.pop(0)
            if at > now() - start:
                await asyncio.sleep(at - (now() - start))
            if isinstance(step, Made):
                assert step.task is not None
                if not step.task.done():
                    step.was_canceled = step.task.cancel()
            elif isinstance(step, Planned):
                made = self.call(step)
                if step.patience is not None:
                    canceling.append((at + step.patience, made))
            else:
                step(self)
        tasks = [made.task for made in self.made if made.task is not None]
        async with asyncio.timeout(1000):
            await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)

    async def close(self) -> None:
        """End the refreshes, and check that nothing is left of any call."""
        for coalescer in self.coalescers:
            await coalescer.aclose()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        loop: Any = asyncio.get_running_loop()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert self.budgets[0].flights is self.budgets[1].flights
        assert self.budgets[0].flights == {}
        assert [transport.requests_in_flight for transport in self.transports] == [0, 0]
        assert self.budgets[0].statistics().in_flight == 0
        limiter = self.budgets[0]._shared.limiter
        if isinstance(limiter, GateLimiter):
            assert limiter.in_flight == 0
        elif isinstance(limiter, WindowLimiter):
            left = limiter.statistics()
            assert (left.in_flight, left.direct_waiting, left.background_waiting) == (0, 0, 0)
        # A transport keeps the one timer of its deadlines.
        timers = [handle for handle in loop._scheduled if not handle.cancelled()]
        assert [timer for timer in timers if not isinstance(timer._callback.__self__, DeadlineTimer)] == []
        for transport in self.transports:
            await transport.close()
        self._check_events()

    def _check_events(self) -> None:
        """Every call and every attempt that began ended, once; those of a flight may go on for who joined it."""
        of_calls: dict[int, list[CallEvent]] = {}
        for event in self.events:
            if isinstance(event, CallEvent):
                of_calls.setdefault(event.call_id, []).append(event)
        assert len(of_calls) >= len([made for made in self.made if made.ended is not None and made.began < made.ended])
        for events in of_calls.values():
            assert isinstance(events[0], CallStarted)
            (end,) = (event for event in events if isinstance(event, CallEnded))
            attempts = [event for event in events if isinstance(event, AttemptStarted | AttemptEnded)]
            assert [type(event) for event in attempts] == [AttemptStarted, AttemptEnded] * (len(attempts) // 2)
            assert [event.number for event in attempts] == [1 + n // 2 for n in range(len(attempts))]
            assert len(events) == len(attempts) + 2
            assert [attempt.number for attempt in end.history] == [*range(1, len(end.history) + 1)]
            if end.cache != "joined" and end.outcome == "succeeded":
                assert [attempt.status for attempt in end.history] == [
                    event.status for event in attempts if isinstance(event, AttemptEnded)
                ]

    def check(self, *, direct_opens: float = 0.0, max_attempts: int = 1, is_alone: bool = True) -> None:
        """Check how each call ended.

        Args:
            direct_opens: When direct calls get a permit at the latest, in the time of the loop.
            max_attempts: Requests that a call may make.
            is_alone: Whether no two requests for one path may be in flight at once, nor one for which nobody waits.
        """
        self._check_requests(is_alone=is_alone)
        for made in self.made:
            assert made.task is not None
            assert made.task.done()
            assert made.ended is not None
            if made.task.cancelled():
                assert made.was_canceled
                continue
            assert made.task.exception() is None
            if made.error is None:
                self._check_response(made)
            else:
                self._check_error(made, made.error, direct_opens, max_attempts)
            self._check_time(made)
        self._check_own()

    def requests(self, path: str) -> list[SimulatedRequest]:
        return [request for request in self.server.requests if request.path == path]

    def _check_requests(self, *, is_alone: bool) -> None:
        for path in CALLS:
            requests = self.requests(path)
            callers = [made for made in self.made if made.planned.path == path]
            for request in requests:
                assert request.ended is not None
                if request.canceled:
                    # Only as nobody waited for it any longer.
                    assert [made for made in callers if made.is_pending(request.ended) and is_alone] == []
            if is_alone:
                for before, after in pairwise(requests):
                    assert before.ended is not None
                    assert after.began >= before.ended - SOON

    def _check_response(self, made: Made) -> None:
        assert set(made.data) == {"request", "caller"}
        request = self.server.requests[made.data["request"]]
        assert (request.path, request.kind) == (made.planned.path, "200")
        assert made.ended is not None
        assert request.ended == pytest.approx(made.ended, abs=SOON)
        assert request.ended >= made.began

    def _check_error(self, made: Made, error: ZenovayError, direct_opens: float, max_attempts: int) -> None:
        assert made.ended is not None
        is_direct, is_over = not made.planned.background, made.ended >= made.due - SOON
        if isinstance(error, APITimeoutError):
            # Less time was left than the fastest response took, which is known as a permit is acquired.
            is_hopeless = not error.sent and "fastest recent response" in error.message
            assert is_over or is_hopeless
            assert made.due - made.ended <= LONGEST
            # A background call waits for a permit as long as it takes.
            assert is_direct or not error.message.startswith("The deadline passed")
        elif isinstance(error, RateLimitError):
            # The wait for a permit does not fit; no other client is in the way here.
            assert is_direct
            assert error.status is None
            assert direct_opens >= made.due - SOON
        else:
            seen = [request for request in self.requests(made.planned.path) if (request.ended or 0.0) <= made.ended]
            kinds = {ERRORS[request.kind] for request in seen if request.kind != "200" and not request.canceled}
            assert type(error) in kinds
            if max_attempts == 1:
                assert made.ended in [pytest.approx(request.ended, abs=SOON) for request in seen]
        assert error.operation == "request"
        assert error.call == f"GET heatmaps/{made.planned.path}"

    def _check_time(self, made: Made) -> None:
        assert made.ended is not None
        if not made.planned.background:
            assert made.ended <= made.due + SOON
            return
        if isinstance(made.error, APITimeoutError) and not made.error.sent:
            return
        # Its time is that of its last request, and counts from its permit.
        began = [request.began for request in self.requests(made.planned.path) if request.began <= made.ended]
        later = max(0.0, max(began, default=made.ended) - made.began)
        assert made.ended <= made.due + later + SOON

    def _check_own(self) -> None:
        """Each caller has an object of its own, and an error that shows no other caller's frames."""
        data = [made.data for made in self.made if made.data is not None]
        assert len({id(value) for value in data}) == len(data)
        errors = [made.error for made in self.made if made.error is not None]
        assert len({id(error) for error in errors}) == len(errors)
        steps = [step for error in errors for step in steps_of(error.__traceback__)]
        assert len({id(step) for step in steps}) == len(steps)
        for error in errors:
            assert len([*steps_of(error.__traceback__)]) < 12


def steps_of(traceback: TracebackType | None) -> Iterator[TracebackType]:
    """The steps of a traceback."""
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run in virtual time, on a loop of its own."""
    # No other thread has to be waited for.
    loop = new_event_loop(noop_cycles=0)
    try:
        loop.run_until_complete(main)
    finally:
        loop.close()


def tenths(low: int, high: int) -> st.SearchStrategy[float]:
    """Seconds, in tenths, so that things often happen at once."""
    return st.integers(low, high).map(lambda value: value / 10)


PLANNED = st.builds(
    Planned,
    path=st.sampled_from("aaab"),
    at=tenths(0, 30),
    background=st.booleans(),
    timeout=st.sampled_from([0.3, 1.0, 2.5, 8.0, None]),
    patience=st.none() | tenths(0, 30),
    client=st.integers(0, 1),
)
SCHEDULE = st.lists(PLANNED, min_size=1, max_size=7)
KINDS: st.SearchStrategy[ResponseKind] = st.sampled_from(["200", "200", "404", "500", "reset"])
SCRIPT = st.lists(st.tuples(tenths(0, int(10 * LONGEST)), KINDS), min_size=1, max_size=3)


def by_time(schedule: Sequence[Planned]) -> list[tuple[float, Any]]:
    """A schedule of calls alone."""
    return [(planned.at, planned) for planned in schedule]


@pytest.mark.parametrize("max_attempts", [1, 2])
@pytest.mark.parametrize("opens", [(0.0, 0.0), (0.0, 1.5), (1.1, 1.1), (0.7, 2.2)], ids=str)
@given(script=SCRIPT, schedule=SCHEDULE)
@settings(max_examples=examples(400))
def test_each_caller_has_a_deadline_and_an_end_of_its_own(
    opens: tuple[float, float],
    max_attempts: int,
    script: list[tuple[float, ResponseKind]],
    schedule: list[Planned],
) -> None:
    """Whoever joins, leaves or runs out of time while a call waits for a permit, is in flight or backs off."""

    async def main() -> None:
        direct, background = opens
        world = World(script, GateLimiter(now() + direct, now() + background), max_attempts)
        began = now()
        await world.run(by_time(schedule))
        world.check(direct_opens=began + direct, max_attempts=max_attempts)
        for made in world.made:
            # Whoever waits when permits are to be had is waited for no longer.
            opened = max(made.began, began + (background if made.planned.background else direct))
            if made.is_pending(opened) or (made.began == opened and made.ended != made.began):
                begun = [request for request in world.requests(made.planned.path) if request.began <= opened + SOON]
                assert begun or made.was_canceled
        await world.close()

    run(main())


@pytest.mark.parametrize("max_attempts", [1, 2])
@pytest.mark.parametrize("limit", [1, 2])
@given(script=SCRIPT, schedule=SCHEDULE)
@settings(max_examples=examples(250))
def test_no_permit_of_the_limiter_is_lost_or_kept(
    limit: int, max_attempts: int, script: list[tuple[float, ResponseKind]], schedule: list[Planned]
) -> None:
    """The same with the limiter that every client has, whose window is full as the first call comes."""

    async def main() -> None:
        world = World([(0.1, "200")], limit, max_attempts)
        await world.spend(limit)
        world.server = SimulatedServer(script)
        for transport in world.transports:
            transport.serve(world.server)
        await world.run(by_time(schedule))
        world.check(direct_opens=float("inf"), max_attempts=max_attempts)
        await world.close()

    run(main())


FORGET = st.sampled_from([Scope("a"), Scope("b"), Scope(operation="request"), Scope(operation="usage"), Scope()])
STEPS = st.tuples(tenths(0, 30), st.integers(0, 1), st.sampled_from("aab") | FORGET)


@given(script=SCRIPT, schedule=SCHEDULE, steps=st.lists(STEPS, max_size=4))
@settings(max_examples=examples(800))
def test_refreshes_and_invalidations_leave_no_caller_behind(
    script: list[tuple[float, ResponseKind]], schedule: list[Planned], steps: list[tuple[float, int, str | Scope]]
) -> None:
    """A refresh runs with nobody who waits; a call after an invalidation does not join what began before."""
    forgotten: list[tuple[float, Scope]] = []

    def make_step(client: int, what: str | Scope) -> Any:
        def step(world: World) -> None:
            coalescer = world.coalescers[client]
            if isinstance(what, Scope):
                forgotten.append((now(), what))
                forget_flights(world.budgets[client], what)
                return
            coalescer.refresh(CALLS[what])
            assert not coalescer.refresh(CALLS[what])

        return step

    async def main() -> None:
        forgotten.clear()
        world = World(script, GateLimiter(now(), now() + 1.5))
        others = [(at, make_step(client, what)) for at, client, what in steps]
        began = now()
        await world.run([*by_time(schedule), *others])
        await world.close()
        world.check(direct_opens=began, is_alone=False)
        for made in world.made:
            if made.data is not None:
                for at, scope in forgotten:
                    if at < made.began - SOON and scope.covers("request", CALLS[made.planned.path].path, ""):
                        assert world.server.requests[made.data["request"]].began >= at

    run(main())


def test_a_caller_canceled_while_its_call_ends_is_canceled() -> None:
    """Its time is over, and the call, which nobody else waits for, takes a while to end."""

    async def main() -> None:
        world = World([(9.0, "200")], None)
        coalescer, session = world.coalescers[0], world.sessions[0]

        async def end_late(state: CallState[Any]) -> Response[Any]:
            try:
                return await session.run(state)
            except asyncio.CancelledError:
                await asyncio.sleep(1)
                raise

        first, last = [asyncio.create_task(coalescer.send(CALLS["a"], timeout, end_late)) for timeout in (9.0, 1.0)]
        await asyncio.sleep(0.5)
        first.cancel()
        await asyncio.sleep(1)
        last.cancel()
        ended = await asyncio.gather(first, last, return_exceptions=True)
        assert [type(error) for error in ended] == [asyncio.CancelledError] * 2
        assert now() == pytest.approx(2, abs=SOON)
        await world.close()

    run(main())
