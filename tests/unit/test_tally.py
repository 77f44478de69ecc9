"""What a batch sends is counted as it was sent, and never exceeds its bound. Time is virtual; the wire is simulated."""

from __future__ import annotations

import asyncio
import math
import pickle
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from helpers import examples, now, unique_key
from hypothesis import given, settings
from hypothesis import strategies as st
from looptime import new_event_loop
from simulated_session import BASE_URL, SimulatedResponse, SimulatedServer, SimulatedTransport

from zenovay_async import BatchStoppedError, RateLimitError, ServerError, ZenovayError
from zenovay_async._cache.stats import Counters
from zenovay_async._limits.budget import budget_for
from zenovay_async._limits.options import Limits
from zenovay_async._protocol.auth import Auth, Secret
from zenovay_async._protocol.call import custom_call
from zenovay_async._session.background import SCOPE, Background, BackgroundScope
from zenovay_async._session.coalescing import Coalescer
from zenovay_async._session.drift import DriftReporter
from zenovay_async._session.session import Options, Session
from zenovay_async._session.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from zenovay_async._limits.options import RateLimitOption

    Script = Sequence[tuple[float, str]]

SECONDS = st.floats(1e-6, 1e5)


@given(seconds=st.lists(SECONDS, min_size=1), share=st.floats(0.01, 1.0))
def test_a_quantile_is_right_within_three_percent(seconds: list[float], share: float) -> None:
    """It is the duration that so many responses did not exceed."""
    tally = Tally()
    for duration in seconds:
        tally.record_response(duration)
    exact = sorted(seconds)[math.ceil(share * len(seconds)) - 1]
    assert tally.quantile(share) == pytest.approx(exact, rel=0.03)


def test_quantiles_take_as_much_memory_for_any_number_of_responses() -> None:
    """The histogram has some hundred buckets, whatever the responses took."""
    tally = Tally()
    for number in range(20_000):
        tally.record_response(1e-9 * 1.002**number)
    assert len(tally._buckets) < 600


def test_there_is_no_quantile_without_a_response() -> None:
    """A batch that sent nothing has no median."""
    assert Tally().quantile(0.5) is None


@pytest.mark.parametrize(("seconds", "low", "high"), [(0.0, 0.0, 1e-5), (-1.0, 0.0, 1e-5), (1e9, 9e4, 2e5)])
def test_a_duration_beyond_what_is_counted_is_the_nearest_that_is(seconds: float, low: float, high: float) -> None:
    """A clock may stand still, and a call without a timeout may take for days."""
    tally = Tally()
    tally.record_response(seconds)
    assert low <= (tally.quantile(0.5) or 0.0) <= high


@given(waits=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20))), asked=st.integers(0, 80))
def test_waits_that_overlap_count_once(waits: list[tuple[int, int]], asked: int) -> None:
    """Ten calls that wait for the same ten seconds have waited ten, also as long as they wait."""
    tally = Tally()
    steps = [(begin, 0) for begin, _ in waits] + [(begin + length, 1) for begin, length in waits]
    for at, is_end in sorted(steps):
        if at <= asked:
            (tally.end_wait if is_end else tally.begin_wait)(at)
    expected = {second for begin, length in waits for second in range(begin, min(begin + length, asked))}
    assert tally.waited(asked) == len(expected)


@pytest.mark.parametrize(
    ("bound", "charged", "cost", "message"),
    [
        (1000, 1000, 1, "Stopped after 1,000 requests (max_requests=1000); no further request was sent"),
        (1, 1, 1, "Stopped after 1 request (max_requests=1); no further request was sent"),
        (10, 9, 3, "Stopped after 9 requests (max_requests=10); the next call is charged 3; no further request"),
        (2, 0, 3, "Stopped after 0 requests (max_requests=2); the next call is charged 3; no further request"),
    ],
)
def test_the_error_says_how_many_requests_there_were(bound: int, charged: int, cost: int, message: str) -> None:
    """With the bound, and the cost of a call that did not fit."""
    background = Background(max_requests=bound)
    background.tally.charged = charged
    with pytest.raises(BatchStoppedError) as caught:
        background.reserve(cost, None)
    assert str(caught.value).startswith(message)
    assert caught.value.reason == "max_requests"
    assert pickle.loads(pickle.dumps(caught.value)).reason == "max_requests"  # noqa: S301 - of this test
    assert background.tally.charged == charged


class Server(SimulatedServer):
    """A server that may also be away, or rate limit; its requests are those that reached it."""

    def __init__(self, script: Script) -> None:
        super().__init__([(seconds, "200") for seconds, _ in script])
        self._kinds = [kind for _, kind in script]
        self._numbers = 0

    async def request(self, _: str, url: Any, **__: Any) -> SimulatedResponse:
        kind = self._kinds[self._numbers % len(self._kinds)]
        self._numbers += 1
        if kind == "refused":
            raise aiohttp.ClientConnectorError(KEY_OF_CONNECTION, OSError("refused"))
        response = await super().request("GET", url)
        if kind == "reset":
            raise aiohttp.ServerDisconnectedError
        if kind == "429":
            response.headers["Retry-After"] = "1"
        if kind != "200":
            response.status = int(kind)
            response._body = b'{"success": false, "error": {"message": "Failure", "code": "ERROR"}}'
        return response


KEY_OF_CONNECTION = ConnectionKey(
    "api.example", 443, is_ssl=True, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None
)


class World:
    """A client, a server, and the calls of a batch."""

    def __init__(
        self,
        script: Script,
        background: Background,
        *,
        limit: RateLimitOption = None,
        max_attempts: int = 3,
        coalesce: bool = True,
    ) -> None:
        self.server = Server(script)
        self.background, self.tally = background, background.tally
        auth = Auth(Secret(unique_key()))
        options = Options(timeout=30.0, attempt_timeout=None, max_attempts=max_attempts, on_event=None, strict=False)
        self.budget = budget_for(auth, BASE_URL, Limits(limit, 60.0))
        self.transport = SimulatedTransport(self.server)
        session = Session(self.transport, auth, BASE_URL, self.budget, options, DriftReporter(None))
        self.coalescer = Coalescer(session, self.budget, "kind", Counters(), enabled=coalesce)

    async def call(self, path: str, cost: int = 1, background: Background | None = None) -> Any:
        """Make a call of the batch, or of another one."""
        SCOPE.set(BackgroundScope(background or self.background))
        return await self.direct_call(path, cost)

    async def direct_call(self, path: str, cost: int = 1) -> Any:
        """Make a call."""
        call = custom_call("GET", f"heatmaps/{path}", None, None, None, cost)
        return (await self.coalescer.send(call)).data

    def close(self) -> None:
        """Check that nothing is left of any call."""
        assert self.budget.flights == {}
        assert self.transport.requests_in_flight == 0
        assert self.budget.statistics().in_flight == 0


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine in virtual time."""
    loop = new_event_loop(noop_cycles=0)
    try:
        loop.run_until_complete(main)
    finally:
        loop.close()


class Planned(NamedTuple):
    """A call: when it is made, what it is charged, and after how many seconds it is canceled, if it is."""

    at: float
    cost: int
    patience: float | None


TENTHS = st.integers(0, 30).map(lambda value: value / 10)
PLANNED = st.builds(Planned, TENTHS, st.sampled_from([1, 1, 3]), st.none() | TENTHS)
KINDS = st.sampled_from(["200", "200", "404", "429", "500", "503", "reset", "refused"])
SCRIPT = st.lists(st.tuples(TENTHS, KINDS), min_size=1, max_size=6)


@pytest.mark.parametrize("limit", [None, 4])
@pytest.mark.parametrize("max_attempts", [1, 3])
@given(
    script=SCRIPT,
    schedule=st.lists(PLANNED, min_size=1, max_size=12),
    bound=st.none() | st.integers(1, 12),
    max_outage=st.sampled_from([0.5, 20.0]),
)
@settings(max_examples=examples(150))
def test_whatever_happens_the_batch_is_charged_no_more_than_its_bound(
    limit: int | None,
    max_attempts: int,
    script: Script,
    schedule: list[Planned],
    bound: int | None,
    max_outage: float,
) -> None:
    """Of calls that fail, are retried, meet no server or are canceled, each request counts once."""

    async def main() -> None:
        world = World(script, Background(max_outage, bound), limit=limit, max_attempts=max_attempts)
        server, tally = world.server, world.tally
        errors: list[ZenovayError] = []

        def charged() -> int:
            return sum(schedule[int(request.path)].cost for request in server.requests)

        async def make(number: int, planned: Planned) -> None:
            await asyncio.sleep(planned.at)
            try:
                async with asyncio.timeout(planned.patience):
                    await world.call(str(number), planned.cost)
            except TimeoutError:
                pass
            except ZenovayError as error:
                errors.append(error)
            assert bound is None or charged() <= tally.charged <= bound

        async with asyncio.timeout(3000):
            await asyncio.gather(*(make(number, planned) for number, planned in enumerate(schedule)))
        world.close()
        assert tally.charged == charged()
        assert tally.requests == len(server.requests)
        assert tally.requests - tally.retries == len({request.path for request in server.requests})
        assert tally.waited(now()) == tally.waited(now() + 1000.0)
        for error in errors:
            if isinstance(error, BatchStoppedError):
                assert bound is not None
                assert error.operation == "request"
                assert isinstance(error.__cause__, ZenovayError) is (error.attempts > 0)

    run(main())


class Equal(NamedTuple):
    """A call that may equal another: when it is made, what is called, for whom, and when it is canceled, if it is."""

    at: float
    path: str
    caller: str
    patience: float | None


EQUAL = st.builds(
    Equal, TENTHS, st.sampled_from("ab"), st.sampled_from(["bounded", "free", "direct"]), st.none() | TENTHS
)


@pytest.mark.parametrize("limit", [None, 4])
@given(script=SCRIPT, schedule=st.lists(EQUAL, min_size=1, max_size=12), bound=st.integers(1, 4))
@settings(max_examples=examples(150))
def test_whoever_joins_the_bound_of_a_batch_stops_nobody_else(
    limit: int | None, script: Script, schedule: list[Equal], bound: int
) -> None:
    """Equal calls of two batches and of none are one request, which is one batch's at most."""

    async def main() -> None:
        world, free = World(script, Background(20.0, bound), limit=limit), Background(20.0)
        stopped: list[str] = []

        async def make(equal: Equal) -> None:
            await asyncio.sleep(equal.at)
            try:
                async with asyncio.timeout(equal.patience):
                    if equal.caller == "direct":
                        await world.direct_call(equal.path)
                    else:
                        await world.call(equal.path, background=free if equal.caller == "free" else None)
            except BatchStoppedError:
                stopped.append(equal.caller)
            except (TimeoutError, ZenovayError):
                pass

        async with asyncio.timeout(3000):
            await asyncio.gather(*map(make, schedule))
        world.close()
        assert set(stopped) <= {"bounded"}
        assert world.tally.charged == world.tally.requests <= bound
        assert free.tally.charged == free.tally.requests
        others = len(world.server.requests) - world.tally.requests - free.tally.requests
        assert others == 0 if all(equal.caller != "direct" for equal in schedule) else others >= 0

    run(main())


@pytest.mark.looptime
async def test_a_retry_that_does_not_fit_ends_the_call_with_the_error_of_its_last_attempt() -> None:
    """Its item is not done; what the last attempt met is the cause."""
    world = World([(0.1, "503")], Background(None, 2))
    with pytest.raises(BatchStoppedError, match=r"Stopped after 2 requests \(max_requests=2\)") as caught:
        await world.call("a")
    cause = caught.value.__cause__
    assert isinstance(cause, ServerError)
    assert cause.status == 503
    assert cause.__traceback__ is None
    assert (caught.value.attempts, len(caught.value.waits)) == (2, 1)
    assert (world.tally.requests, world.tally.retries) == (2, 1)
    world.close()


@pytest.mark.looptime
async def test_what_is_reserved_for_attempts_in_flight_is_not_sent_twice() -> None:
    """However many calls begin at once, the bound holds, and the calls in flight end as they would."""
    world = World([(1.0, "200")], Background(None, 5))
    results = await asyncio.gather(*(world.call(str(number)) for number in range(20)), return_exceptions=True)
    assert len(world.server.requests) == 5
    assert sum(isinstance(result, BatchStoppedError) for result in results) == 15
    assert world.tally.requests == world.tally.charged == 5


@pytest.mark.looptime
async def test_a_call_that_does_not_fit_waits_for_no_permit() -> None:
    """It ends at once, though the rate limit would let it wait for a minute."""
    world = World([(0.1, "200")], Background(None, 1), limit=1)
    await world.call("a")
    began = now()
    with pytest.raises(BatchStoppedError):
        await world.call("b")
    assert now() == began


@pytest.mark.looptime
async def test_an_attempt_without_a_connection_takes_nothing_of_the_bound() -> None:
    """After an outage the batch has all of its requests left."""
    world = World([(0.0, "refused")] * 6 + [(0.1, "200")], Background(None, 2))
    await world.call("a")
    await world.call("b")
    assert (world.tally.requests, world.tally.retries, world.tally.charged) == (2, 0, 2)
    with pytest.raises(BatchStoppedError):
        await world.call("c")


@pytest.mark.looptime
async def test_a_direct_call_that_joined_one_of_a_batch_is_not_stopped_with_it() -> None:
    """The bound is the batch's; the direct call sends a request of its own."""
    world = World([(1.0, "503"), (1.0, "200")], Background(None, 1))
    led = asyncio.ensure_future(world.call("a"))
    await asyncio.sleep(0.1)
    joined = asyncio.ensure_future(world.direct_call("a"))
    with pytest.raises(BatchStoppedError):
        await led
    assert await joined == {"request": 1}
    assert (world.tally.requests, world.tally.charged) == (1, 1)
    world.close()


@pytest.mark.looptime
async def test_another_batch_that_joined_is_not_stopped_either() -> None:
    """It leads on its own account; calls of the batch that reached its bound stop, also those that joined."""
    world, other = World([(1.0, "503"), (1.0, "200")], Background(None, 1)), Background()
    led = asyncio.ensure_future(world.call("a"))
    await asyncio.sleep(0.1)
    own = asyncio.ensure_future(world.call("a"))
    foreign = asyncio.ensure_future(world.call("a", background=other))
    for stopped in (led, own):
        with pytest.raises(BatchStoppedError):
            await stopped
    assert await foreign == {"request": 1}
    assert (world.tally.requests, other.tally.requests) == (1, 1)
    world.close()


@pytest.mark.looptime
async def test_a_call_that_joins_another_sends_nothing_for_its_batch() -> None:
    """A request belongs to whose call leads it: a direct call's to nobody, a batch's to that batch."""
    world, other = World([(1.0, "200")], Background(None, 1)), Background(None, 1)
    direct = asyncio.ensure_future(world.direct_call("a"))
    await asyncio.sleep(0.1)
    await asyncio.gather(direct, world.call("a"))
    assert (world.tally.requests, world.tally.charged) == (0, 0)
    await asyncio.gather(world.call("b"), world.call("b"), world.call("b", background=other))
    assert (world.tally.requests, other.tally.requests) == (1, 0)
    world.close()


@pytest.mark.looptime
async def test_a_call_that_is_canceled_in_flight_counts_as_a_request() -> None:
    """The server has it, and may have counted it; it has no duration."""
    world = World([(5.0, "200")], Background(None, 1))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await world.call("a")
    assert (world.tally.requests, world.tally.charged, world.tally.quantile(0.5)) == (1, 1, None)
    world.close()


@pytest.mark.looptime
async def test_a_call_that_is_canceled_while_it_waits_leaves_its_request_to_others() -> None:
    """It sent nothing."""
    world = World([(0.1, "200")], Background(None, 2), limit=1)
    await world.call("a")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await world.call("b")
    assert (world.tally.requests, world.tally.charged) == (1, 1)
    assert world.tally.waited(now()) == pytest.approx(5.0, abs=0.01)
    await world.call("c")
    assert (world.tally.requests, world.tally.charged) == (2, 2)


@pytest.mark.looptime
async def test_the_seconds_in_which_any_call_waited_for_the_rate_limit_are_counted_once() -> None:
    """Three calls of the same minute wait for it together, also as seen while they wait."""
    world = World([(0.0, "200")], Background(), limit=1)
    await world.direct_call("first")
    began = now()
    waiting = asyncio.gather(*(world.call(str(number)) for number in range(3)))
    await asyncio.sleep(20)
    assert world.tally.waited(now()) == pytest.approx(20.0, abs=0.01)
    await waiting
    assert world.tally.waited(now()) == pytest.approx(now() - began, abs=0.01)


@pytest.mark.looptime
async def test_durations_are_those_of_responses_without_the_wait_before_them() -> None:
    """Errors are responses too; the time that a call waits for a permit is not in them."""
    script = [(0.1, "200"), (0.1, "404"), (0.1, "200"), (8.0, "200")]
    world = World(script, Background(), limit=2)
    results = await asyncio.gather(*(world.call(str(number)) for number in range(4)), return_exceptions=True)
    assert sum(isinstance(result, ZenovayError) for result in results) == 1
    assert world.tally.quantile(0.5) == pytest.approx(0.1, rel=0.03)
    assert world.tally.quantile(0.95) == pytest.approx(8.0, rel=0.03)


@pytest.mark.looptime
async def test_requests_that_were_rate_limited_are_counted_apart() -> None:
    """They are requests, and what follows them retries."""
    world = World([(0.1, "429"), (0.1, "429"), (0.1, "200")], Background())
    await world.call("a")
    assert (world.tally.requests, world.tally.rate_limited, world.tally.retries) == (3, 2, 2)
    world = World([(0.1, "429")], Background(), max_attempts=1)
    with pytest.raises(RateLimitError):
        await world.call("a")
    assert (world.tally.requests, world.tally.rate_limited, world.tally.retries) == (1, 1, 0)
