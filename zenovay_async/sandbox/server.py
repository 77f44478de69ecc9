"""The sandbox: an HTTP server on the loopback that behaves as the API's documentation says."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import secrets
import threading
import uuid
import weakref
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self, get_args

from aiohttp import web

from zenovay_async.sandbox.api import BASE_PATH, Api, LimitStatement, describe_error
from zenovay_async.sandbox.clock import Clock
from zenovay_async.sandbox.data import FakeData
from zenovay_async.sandbox.keys import PLANS, ApiKey, Plan
from zenovay_async.sandbox.limits import LimiterKind, LimitHeaders, MonthlyQuota, make_limiter
from zenovay_async.sandbox.near_misses import did_you_mean, explain_website
from zenovay_async.sandbox.own_responses import OwnData, OwnDataFunction, OwnResponse
from zenovay_async.sandbox.recording import RecordedRequest, describe
from zenovay_async.sandbox.routes import ROUTES
from zenovay_async.sandbox.server_thread import ServerThread
from zenovay_async.sandbox.state import State

if TYPE_CHECKING:
    from types import TracebackType

    from zenovay_async.sandbox.faults import Fault
    from zenovay_async.sandbox.routing import Route

# Requests per window; above every plan, so that demonstrations and tests do not wait.
DEFAULT_RATE_LIMIT = 6_000

# IDs are made in advance: this many take 3 s and 200 MB.
MAX_WEBSITES = 1_000_000

_RUNNING: weakref.WeakSet[Sandbox] = weakref.WeakSet()
_RUNNING_LOCK = threading.Lock()


def running_sandboxes(*, on_other_loops_than: asyncio.AbstractEventLoop | None = None) -> list[Sandbox]:
    """Return the sandboxes that run in this process.

    Args:
        on_other_loops_than: Leave out the sandboxes that this event loop serves; they count on its clock.
    """
    with _RUNNING_LOCK:
        return [sandbox for sandbox in _RUNNING if sandbox._loop is not on_other_loops_than]  # noqa: SLF001 - of this module


class Sandbox:
    """An API server with generated websites, for tests, notebooks and demonstrations.

    ``with Sandbox() as sandbox:`` serves on a thread with an event loop of its own, for tests of any kind: without an
    event loop, with one for each call, or in another process. ``async with Sandbox() as sandbox:`` serves on the event
    loop of the test and counts on its clock, so that a virtual clock such as looptime's is that of the rate limits and
    delays too. Either way all methods may be called from any thread while it serves::

        import asyncio

        from zenovay_async import Zenovay
        from zenovay_async.sandbox import Fault, Sandbox


        async def top_pages(url: str, api_key: str, website_ids: list[str]) -> list[str]:
            async with Zenovay(api_key, base_url=url) as zenovay:
                reports = [await zenovay.heatmaps.pages(website_id, limit=1) for website_id in website_ids]
            return [report.pages[0].url for report in reports]


        with Sandbox(websites=3, rate_limit=30) as sandbox:
            first = sandbox.website_ids[0]
            # Data of your own, checked here; for all websites, and for one. A function may return them as well.
            sandbox.respond("heatmaps.pages", {"pages": [{"url": "/", "total_interactions": 5}]})
            sandbox.respond("heatmaps.pages", {"pages": [{"url": "/a", "total_interactions": 7}]}, website_id=first)
            sandbox.fault(Fault.latency(0.01), times=1)

            assert asyncio.run(top_pages(sandbox.url, sandbox.api_key, sandbox.website_ids)) == ["/a", "/", "/"]

            # What was requested; if it is not so, the error lists the requests.
            sandbox.assert_requests(3, operation="heatmaps.pages")
            sandbox.assert_no_429()
            sandbox.assert_no_repeats()
            assert sandbox.unused_faults == []
            assert sandbox.calls("heatmaps.pages", website_id=first)[0].query == "limit=1"

            sandbox.advance(60)  # seconds, after which the next window of the rate limit begins
            sandbox.reset()  # all as at the start of the block, for the next test

    Args:
        websites: Number of websites, 0 to 1,000,000; 100,000 take about 0.3 s.
        seed: Seed of the generated figures; equal seeds give equal figures.
        api_key: API key to accept, starting with ``zv_``; by default a new one.
        host: Address to listen on.
        port: Port to listen on; 0 for any free one.
        plan: Plan of the key: ``"free"`` (no API access), ``"pro"``, ``"scale"`` or ``"enterprise"``.
        rate_limit: Requests per window, at least 1; ``None`` for no rate limit and none of its headers. The default is
            above every plan.
        rate_limit_window: Length of the window in seconds.
        rate_limiter: Kind of rate limiter: ``"fixed"``, ``"sliding"``, ``"bucket"`` or ``"counter"``.
        monthly_limit: Requests per month; by default the plan's.
        monthly_used: Requests already used.
        rate_limit_headers: How responses state the rate limit: ``"x"`` for ``X-RateLimit-*``, as the API does;
            ``"draft-6"``, ``"draft-7"`` or ``"draft-8"`` for the IETF's headers, as a proxy may; or ``"none"``.
        send_remaining: State how many requests remain, as the API does in some responses only.
        send_retry_after: Send ``Retry-After`` with a 429, in whole seconds.
        latency: Delay of each response in seconds.
        jitter: Maximum of an additional random delay in seconds, evenly distributed.
        now: Time at which the generated figures end, aware; by default the present.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        *,
        websites: int = 3,
        seed: int = 0,
        api_key: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        plan: Plan = "enterprise",
        rate_limit: int | None = DEFAULT_RATE_LIMIT,
        rate_limit_window: float = 60.0,
        rate_limiter: LimiterKind = "fixed",
        rate_limit_headers: LimitHeaders = "x",
        monthly_limit: int | None = None,
        monthly_used: int = 0,
        send_remaining: bool = True,
        send_retry_after: bool = True,
        latency: float = 0.0,
        jitter: float = 0.0,
        now: datetime | None = None,
    ) -> None:
        if not isinstance(websites, int) or not 0 <= websites <= MAX_WEBSITES:
            raise ValueError(f"websites={websites!r}: expected an int from 0 to {MAX_WEBSITES}")
        if api_key is not None and not api_key.startswith("zv_"):
            raise ValueError("api_key: expected a key that starts with 'zv_'")
        if rate_limit_headers not in get_args(LimitHeaders):
            styles = ", ".join(get_args(LimitHeaders))
            raise ValueError(f"rate_limit_headers={rate_limit_headers!r}: expected one of {styles}")
        for name, seconds in (("latency", latency), ("jitter", jitter)):
            if not 0 <= seconds < math.inf:
                raise ValueError(f"{name}={seconds!r}: expected seconds >= 0")
        if now is not None and now.tzinfo is None:
            raise ValueError(f"now={now!r}: expected an aware datetime, such as datetime.now(UTC)")
        self._data = FakeData(websites, seed, now or datetime.now(UTC).replace(microsecond=0))
        self._host, self._port = host, port
        self._window = rate_limit_window
        self._kind: LimiterKind = rate_limiter
        self._latency, self._jitter = latency, jitter
        self._rng = random.Random(seed)  # noqa: S311 - request IDs, jitter and faults
        self._clock = Clock()
        self._state = State(self._rng)
        statement = LimitStatement(rate_limit_headers, rate_limit_window, send_remaining, send_retry_after)
        self._api = Api(self._data, self._state, self._clock, statement)
        self._lock = threading.Lock()
        self._is_entered = False
        self._thread: ServerThread | None = None
        self._runner: web.AppRunner | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.api_key = self.add_key(
            "sandbox",
            api_key=api_key,
            plan=plan,
            rate_limit=rate_limit,
            monthly_limit=monthly_limit,
            monthly_used=monthly_used,
        )
        """An API key for all websites."""
        self._state.save()

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """The newest 10,000 requests received until now, oldest first; a copy."""
        return self._state.recorder.requests()

    @property
    def website_ids(self) -> list[str]:
        """IDs of the websites."""
        return self._data.ids

    @property
    def url(self) -> str:
        """Base URL; of a sandbox that listens on all addresses, the one on the loopback.

        Raises:
            RuntimeError: The sandbox is not running.
        """
        if self._runner is None:
            raise RuntimeError("sandbox is not running: use its url inside 'with sandbox:' or 'async with sandbox:'")
        address, port = self._runner.addresses[0][:2]
        # To listen on, these mean every address; they are no destinations.
        host = str({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address))  # noqa: S104 - not bound to here
        return f"http://{f'[{host}]' if ':' in host else host}:{port}{BASE_PATH}"

    def add_key(
        self,
        name: str,
        *,
        api_key: str | None = None,
        plan: Plan = "enterprise",
        rate_limit: int | None = DEFAULT_RATE_LIMIT,
        monthly_limit: int | None = None,
        monthly_used: int = 0,
        website_id: str | None = None,
    ) -> str:
        """Accept another API key, with a budget of its own.

        Args:
            name: Name of the key.
            api_key: The key; by default a new one.
            plan: Plan of the key.
            rate_limit: Requests per window, at least 1; ``None`` for no rate limit.
            monthly_limit: Requests per month; by default the plan's.
            monthly_used: Requests already used.
            website_id: The only website that the key may read; by default it may read all.

        Returns:
            The key.

        Raises:
            ValueError: An argument is out of range.
        """
        for what, requests in (("monthly_limit", monthly_limit or 0), ("monthly_used", monthly_used)):
            if requests < 0:
                raise ValueError(f"{what}={requests!r}: expected an int >= 0")
        if plan not in PLANS:
            raise ValueError(f"plan={plan!r}: expected one of {', '.join(PLANS)}")
        key = api_key or f"zv_sandbox_{secrets.token_hex(12)}"
        limiter = None if rate_limit is None else make_limiter(self._kind, rate_limit, self._window)
        quota = MonthlyQuota(PLANS[plan].per_month if monthly_limit is None else monthly_limit, monthly_used)
        self._state.add_key(key, ApiKey(name, plan, website_id, limiter, quota))
        return key

    def fault(self, fault: Fault, *, times: int | None = None, path: str = "", share: float = 1.0) -> None:
        """Install a fault.

        Args:
            fault: The fault, created by a function of ``Fault``.
            times: Number of requests; ``None`` until :meth:`clear_faults`.
            path: Text that the request's path contains, such as a website's ID; ``""`` for all requests.
            share: Share of these requests, from 0 to 1, selected by the seed.

        Raises:
            ValueError: An argument is out of range.
        """
        if times is not None and times < 0:
            raise ValueError(f"times={times!r}: expected an int >= 0")
        if not 0 <= share <= 1:
            raise ValueError(f"share={share!r}: expected a number from 0 to 1")
        self._state.add_fault(fault, times, path, share)

    def clear_faults(self) -> None:
        """Remove all faults."""
        self._state.clear_faults()

    @property
    def unused_faults(self) -> list[str]:
        """The faults with ``times=`` that no request met, such as ``"500, times=2, path='/usage'"``."""
        return self._state.unused_faults()

    def respond(
        self,
        operation: str,
        data: OwnData | OwnDataFunction,
        *,
        website_id: str | None = None,
        times: int | None = None,
    ) -> None:
        """Respond to an operation with data of your own instead of generated ones.

        The request has to pass all the same: its key, limits, access and parameters are checked, and faults apply.
        Several own responses may be installed for an operation: those for the website go before those for all, and
        newer ones before older ones, which apply again after ``times`` responses.

        A list that comes in pages (``analytics.visitors``, ``replays.sessions``, ``insights.list``,
        ``anomalies.list``) is given as a whole, and sent in pages by the ``offset`` and ``limit`` of the request,
        without a ``limit`` up to its end; data with a ``pagination`` are sent as they are, as are all other lists.

        Args:
            operation: Name of the operation: attribute and method of the client, such as ``"heatmaps.pages"``.
            data: The ``data`` of the response: a dictionary as the API sends it, or a result such as ``HeatmapPages``,
                checked now against the type of the operation's result; or a function that takes an
                :class:`OperationRequest` and returns such data, checked when it is called. If they are wrong, or the
                function raises an error, the response is a 500, and the error is raised at the end of the block, or by
                the next ``assert_...``.
            website_id: The website to respond for; ``None`` for all.
            times: Number of responses; ``None`` for no bound.

        Raises:
            ValueError: There is no such operation or website, or the data do not fit: names the field, what was given
                and what is expected.
        """
        __tracebackhide__ = True
        route = _route_of(operation)
        if website_id is not None:
            if not route.has_website:
                raise ValueError(f"website_id={website_id!r}: {operation} concerns no single website")
            if website_id not in self._data:
                raise ValueError(f"website_id={explain_website(website_id, self._data.ids)}")
        if times is not None and times < 1:
            raise ValueError(f"times={times!r}: expected an int >= 1")
        self._state.add_own_response(OwnResponse(operation, data, website_id, times))

    def calls(self, operation: str, *, website_id: str | None = None) -> list[RecordedRequest]:
        """Return the newest requests of an operation, oldest first.

        Args:
            operation: Name of the operation, such as ``"heatmaps.pages"``.
            website_id: Only those that concern this website.

        Raises:
            ValueError: There is no such operation.
        """
        _route_of(operation)
        return [
            request
            for request in self.requests
            if request.operation == operation and website_id in (None, request.website_id)
        ]

    def assert_requests(self, n: int, *, operation: str | None = None) -> None:
        """Raise an ``AssertionError`` that lists the requests unless ``n`` were received.

        Args:
            n: Number of requests, whatever their responses.
            operation: Count only requests of this operation.

        Raises:
            ValueError: There is no such operation.
        """
        __tracebackhide__ = True
        self.assert_own_responses()
        count = self.count(operation=operation)
        if count != n:
            found = self.requests if operation is None else self.calls(operation)
            of = f" of {operation}" if operation else ""
            raise AssertionError(f"expected {n} request{'s' * (n != 1)}{of}, received {count}:\n{describe(found)}")

    def assert_no_429(self) -> None:
        """Raise an ``AssertionError`` that lists the requests if any was rate limited, or the quota exhausted."""
        __tracebackhide__ = True
        self.assert_own_responses()
        count = self.count(status=429)
        if count:
            raise AssertionError(f"expected no 429, sent {count}:\n{describe(self._state.recorder.rate_limited())}")

    def assert_no_repeats(self) -> None:
        """Raise an ``AssertionError`` that lists the requests if the same data were sent, and paid for, twice.

        The same are GET requests with equal paths and parameters that got the status 200, of whichever API key; of the
        newest 10,000 requests.
        """
        __tracebackhide__ = True
        self.assert_own_responses()
        repeats = self._state.recorder.repeats()
        if repeats:
            raise AssertionError(f"expected no request twice, repeated {len(repeats)}:\n{describe(repeats)}")

    def assert_own_responses(self) -> None:
        """Raise the error why a response given to :meth:`respond` could not be sent, if there is one."""
        __tracebackhide__ = True
        if self._state.recorder.failure is not None:
            raise self._state.recorder.failure

    def count(self, *, status: int | None = None, operation: str | None = None) -> int:
        """Return the number of requests received.

        Args:
            status: Count only requests with this response status; 0 for those without a response.
            operation: Count only requests of this operation, such as ``"heatmaps.pages"``.

        Raises:
            ValueError: There is no such operation.
        """
        if operation is not None:
            _route_of(operation)
        return self._state.recorder.count(operation, status)

    def advance(self, seconds: float) -> None:
        """Move the clock of the sandbox forward, so that windows of rate limits pass.

        The time of day is not moved, and so neither are the generated figures and the monthly quota.

        Args:
            seconds: Seconds to skip, at least 0.

        Raises:
            ValueError: The seconds are out of range.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"seconds={seconds!r}: expected a number >= 0")
        with self._lock:
            self._clock.advance(seconds)

    def reset(self) -> None:
        """Go back to the state at the start of the block: what was recorded, added and used since is forgotten.

        These are requests and counts, faults, own responses, API keys, the state of rate limits, monthly quotas, and
        the random numbers. The server and its clock run on; a request that is being served is not recorded.
        """
        self._state.restore()

    def __enter__(self) -> Self:
        self._enter()
        try:
            thread = ServerThread(self._start, self._stop)
            thread.start()
        except BaseException:
            self._is_entered = False
            raise
        self._thread = thread
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            try:
                thread.stop()
            finally:
                self._is_entered = False
            self._end(error)

    async def __aenter__(self) -> Self:
        self._enter()
        try:
            await self._start()
        except BaseException:
            self._is_entered = False
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._stop()
        finally:
            self._is_entered = False
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        """Raise why an own response could not be sent, or note it in the error that ended the block."""
        failure = self._state.recorder.failure
        if error is None:
            self.assert_own_responses()
        elif failure is not None and failure is not error:
            error.add_note(f"In the sandbox, an own response could not be sent: {describe_error(failure)}")

    def _enter(self) -> None:
        with self._lock:
            if self._is_entered:
                raise RuntimeError("sandbox is already running: leave its block before it is entered again")
            self._is_entered = True
        self._state.save()

    async def _start(self) -> None:
        app = web.Application()
        # A dot stands for no line break.
        app.router.add_route("*", r"/{path:[\s\S]*}", self._serve)
        # Closing does not wait for slow responses.
        runner = web.AppRunner(app, shutdown_timeout=0.05, access_log=None, handler_cancellation=True)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner, self._loop = runner, (loop := asyncio.get_running_loop())

        def read() -> float:
            # Looked up each time, as tests may replace the method.
            return loop.time()

        self._clock.start(read)
        with _RUNNING_LOCK:
            _RUNNING.add(self)

    async def _stop(self) -> None:
        runner, self._runner, self._loop = self._runner, None, None
        with _RUNNING_LOCK:
            _RUNNING.discard(self)
        if runner is not None:
            try:
                await _stop_accepting(runner)
            finally:
                await runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        request_id, received_at = str(uuid.UUID(int=self._rng.getrandbits(128), version=4)), self._clock.now()
        recorder = self._state.recorder
        # A path outside the base path matches no route.
        path = request.path.removeprefix(BASE_PATH) if request.path.startswith(f"{BASE_PATH}/") else ""
        match = ROUTES.match(request.method, path)
        status, fault, problem = 0, None, ""
        try:
            if self._latency or self._jitter:
                await asyncio.sleep(self._latency + self._rng.uniform(0, self._jitter))
            fault = self._state.take_fault(path)
            response = None if fault is None else await fault.respond(request)
            if response is None:
                response, problem = await self._api.respond(request, path, match)
            if not response.prepared:
                response.headers["x-request-id"] = request_id
                response.headers.update({} if fault is None else fault.headers)
            if request.transport is not None and not request.transport.is_closing():
                status = response.status
            return response
        finally:
            recorder.add(
                RecordedRequest(
                    request.method,
                    path,
                    request.query_string,
                    status,
                    received_at,
                    request_id,
                    operation=match.route.operation if match else "",
                    website_id=None if match is None else match.requested_website(request.query),
                    fault=None if fault is None else fault.name,
                    error=problem,
                )
            )


async def _stop_accepting(runner: web.AppRunner) -> None:
    """Accept no more connections, and let those be made that were just accepted.

    asyncio leaks a connection that was accepted before its server was closed and is made afterwards.
    """
    loop = asyncio.get_running_loop()
    for site in runner.sites:
        server = getattr(site, "_server", None)
        for listener in () if server is None else server.sockets:
            # A proactor has no readers.
            with contextlib.suppress(NotImplementedError):
                loop.remove_reader(listener.fileno())
    for _ in range(3):
        await asyncio.sleep(0)


def _route_of(operation: str) -> Route:
    __tracebackhide__ = True
    routes = {route.operation: route for route in ROUTES.routes}
    if operation not in routes:
        near = did_you_mean(operation, routes) or f"; expected one of {', '.join(routes)}"
        raise ValueError(f"operation={operation!r}: there is no such operation{near}")
    return routes[operation]
