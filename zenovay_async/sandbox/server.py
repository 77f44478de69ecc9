"""The sandbox: an HTTP server on the loopback that behaves as the API's documentation says."""

from __future__ import annotations

import asyncio
import copy
import math
import random
import secrets
import threading
import uuid
import weakref
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Self, get_args

import msgspec
from aiohttp import web

from zenovay_async.sandbox.clock import Clock
from zenovay_async.sandbox.data import FakeData, timestamp
from zenovay_async.sandbox.faults import Fault, FaultRule
from zenovay_async.sandbox.keys import PLANS, ApiKey, Plan
from zenovay_async.sandbox.limits import LimiterKind, LimitHeaders, MonthlyQuota, limit_headers, make_limiter
from zenovay_async.sandbox.near_misses import did_you_mean, explain_path, explain_website
from zenovay_async.sandbox.own_responses import (
    OperationRequest,
    OwnData,
    OwnDataFunction,
    OwnResponse,
    OwnResponses,
)
from zenovay_async.sandbox.recording import RecordedRequest, Recorder, describe
from zenovay_async.sandbox.routes import ROUTES
from zenovay_async.sandbox.routing import ApiError, ApiRequest, Match, Route
from zenovay_async.sandbox.server_thread import ServerThread

if TYPE_CHECKING:
    from types import TracebackType

BASE_PATH = "/api/external/v1"

# Requests per window; above every plan, so that demonstrations and tests do not wait.
DEFAULT_RATE_LIMIT = 6_000


_RUNNING: weakref.WeakSet[Sandbox] = weakref.WeakSet()
_RUNNING_LOCK = threading.Lock()


def running_sandboxes(*, on_other_loops_than: asyncio.AbstractEventLoop | None = None) -> list[Sandbox]:
    """Return the sandboxes that run in this process.

    Args:
        on_other_loops_than: Leave out the sandboxes that this event loop serves; they count on its clock.
    """
    with _RUNNING_LOCK:
        return [sandbox for sandbox in _RUNNING if sandbox.loop is not on_other_loops_than]


class _Settings(NamedTuple):
    """What a test may change of a sandbox."""

    keys: dict[str, ApiKey]
    fault_rules: list[FaultRule]
    own_responses: OwnResponses
    randomness: Any


class Sandbox:
    """An API server with generated websites, for tests, notebooks and demonstrations.

    Use it as ``async with Sandbox(websites=200) as sandbox:``, then ``Zenovay(sandbox.api_key,
    base_url=sandbox.url)``.

    Args:
        websites: Number of websites.
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
        if websites < 0:
            raise ValueError(f"websites={websites!r}: expected an int >= 0")
        if api_key is not None and not api_key.startswith("zv_"):
            raise ValueError("api_key: expected a key that starts with 'zv_'")
        if rate_limit_headers not in get_args(LimitHeaders):
            styles = ", ".join(get_args(LimitHeaders))
            raise ValueError(f"rate_limit_headers={rate_limit_headers!r}: expected one of {styles}")
        self._data = FakeData(websites, seed, now or datetime.now(UTC).replace(microsecond=0))
        self._host, self._port = host, port
        self._window = rate_limit_window
        self._kind: LimiterKind = rate_limiter
        self._limit_style: LimitHeaders = rate_limit_headers
        self._send_remaining, self._send_retry_after = send_remaining, send_retry_after
        self._latency, self._jitter = latency, jitter
        self._rng = random.Random(seed)  # noqa: S311 - request IDs, jitter and faults
        self._clock = Clock()
        self._lock = threading.Lock()
        self._keys: dict[str, ApiKey] = {}
        self._fault_rules: list[FaultRule] = []
        self._own_responses = OwnResponses()
        self._recorder = Recorder()
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
        self._initial = self._settings()

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """The newest 10,000 requests received until now, oldest first; a copy."""
        return self._recorder.requests()

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that serves; ``None`` if the sandbox is not running."""
        return self._loop

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
        if plan not in PLANS:
            raise ValueError(f"plan={plan!r}: expected one of {', '.join(PLANS)}")
        key = api_key or f"zv_sandbox_{secrets.token_hex(12)}"
        limiter = None if rate_limit is None else make_limiter(self._kind, rate_limit, self._window)
        quota = MonthlyQuota(PLANS[plan].per_month if monthly_limit is None else monthly_limit, monthly_used)
        self._keys[key] = ApiKey(name, plan, website_id, limiter, quota)
        return key

    def fault(self, fault: Fault, *, times: int | None = None, path: str = "", share: float = 1.0) -> None:
        """Install a fault.

        Args:
            fault: The fault, created by a function of ``Fault``.
            times: Number of requests; ``None`` until :meth:`clear_faults`.
            path: Text that the request's path contains, such as a website's ID; ``""`` for all requests.
            share: Share of these requests, from 0 to 1, selected by the seed.
        """
        with self._lock:
            self._fault_rules.append(FaultRule(fault, times, path, share, self._rng))

    def clear_faults(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._fault_rules.clear()

    @property
    def unused_faults(self) -> list[FaultRule]:
        """The faults with ``times=`` that no request met."""
        with self._lock:
            return [rule for rule in self._fault_rules if rule.is_unused]

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
        route = _route_of(operation)
        if website_id is not None:
            if not route.has_website:
                raise ValueError(f"website_id={website_id!r}: {operation} concerns no single website")
            if website_id not in self._data:
                raise ValueError(f"website_id={explain_website(website_id, self._data.ids)}")
        if times is not None and times < 1:
            raise ValueError(f"times={times!r}: expected an int >= 1")
        response = OwnResponse(operation, data, website_id, times)
        with self._lock:
            self._own_responses.add(response)

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
            raise AssertionError(f"expected no 429, sent {count}:\n{describe(self._recorder.rate_limited())}")

    def assert_no_repeats(self) -> None:
        """Raise an ``AssertionError`` that lists the requests if the same data were sent, and paid for, twice.

        The same are GET requests with equal paths and parameters that got the status 200, of whichever API key; of the
        newest 10,000 requests.
        """
        __tracebackhide__ = True
        self.assert_own_responses()
        repeats = self._recorder.repeats()
        if repeats:
            raise AssertionError(f"expected no request twice, repeated {len(repeats)}:\n{describe(repeats)}")

    def assert_own_responses(self) -> None:
        """Raise the error why a response given to :meth:`respond` could not be sent, if there is one."""
        __tracebackhide__ = True
        if self._recorder.failure is not None:
            raise self._recorder.failure

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
        return self._recorder.count(operation, status)

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
        with self._lock:
            self._recorder = Recorder()
            self._keys, self._fault_rules, self._own_responses, randomness = _copy(self._initial)
            self._rng.setstate(randomness)

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
            thread.stop()
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
        await self._stop()
        self._is_entered = False
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        """Raise why an own response could not be sent, or note it in the error that ended the block."""
        failure = self._recorder.failure
        if error is None:
            self.assert_own_responses()
        elif failure is not None and failure is not error:
            error.add_note(f"In the sandbox, an own response could not be sent: {_name(failure)}")

    def _enter(self) -> None:
        with self._lock:
            if self._is_entered:
                raise RuntimeError("sandbox is already running: leave its block before it is entered again")
            self._is_entered = True
            self._initial = self._settings()

    def _settings(self) -> _Settings:
        return _copy(_Settings(self._keys, self._fault_rules, self._own_responses, self._rng.getstate()))

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
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
            await runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        request_id, received_at = str(uuid.UUID(int=self._rng.getrandbits(128), version=4)), self._clock.now()
        recorder = self._recorder
        # A path outside the base path matches no route.
        path = request.path.removeprefix(BASE_PATH) if request.path.startswith(f"{BASE_PATH}/") else ""
        match = ROUTES.match(request.method, path)
        status, fault, problem = 0, None, ""
        try:
            if self._latency or self._jitter:
                await asyncio.sleep(self._latency + self._rng.uniform(0, self._jitter))
            fault = self._next_fault(path)
            response = None if fault is None else await fault.respond(request)
            if response is None:
                response, problem = await self._respond(request, path, match)
            if not response.prepared:
                response.headers["x-request-id"] = request_id
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

    def _next_fault(self, path: str) -> Fault | None:
        with self._lock:
            return next((rule.fault for rule in self._fault_rules if rule.matches(path)), None)

    async def _respond(self, request: web.Request, path: str, match: Match | None) -> tuple[web.Response, str]:
        """Return the response, and the message of an error."""
        if path == "/openapi.json":
            return web.json_response(ROUTES.openapi()), ""
        headers: dict[str, str] = {}
        problem = ""
        try:
            key = self._authenticate(request)
            try:
                self._admit(key, match.route.cost if match else 1)
                status, body = 200, _envelope(await self._call(match, key, request))
            finally:
                headers.update(self._limit_headers(key))
        except ApiError as error:
            status, body, problem = error.status, _error_body(error), str(error)
            headers.update(error.headers)
        return web.Response(status=status, body=body, content_type="application/json", headers=headers), problem

    def _authenticate(self, request: web.Request) -> ApiKey:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        given = request.headers.get("X-API-Key") or (token if scheme.lower() == "bearer" else "")
        key = self._keys.get(given)
        if key is None:
            raise ApiError(401, "UNAUTHORIZED", "Invalid API key" if given else "API Key Not Found")
        if not key.has_plan("pro"):
            message = "The Zenovay API requires a paid plan. Upgrade to Pro or higher to use API keys."
            raise ApiError(403, "API_PAID_PLAN_REQUIRED", message)
        return key

    def _admit(self, key: ApiKey, cost: int) -> None:
        if not key.quota.has_room_for(cost):
            raise ApiError(429, "MONTHLY_LIMIT_EXCEEDED", f"Monthly limit exceeded ({key.quota.limit} requests/month)")
        now = self._clock.now()
        if key.limiter is not None and not key.limiter.admit(now):
            seconds = max(1, math.ceil(key.limiter.reset_after(now)))
            message = f"Rate limit exceeded ({key.limiter.limit} requests/minute). Try again in {seconds} seconds"
            headers = {"Retry-After": str(seconds)} if self._send_retry_after else {}
            raise ApiError(429, "RATE_LIMIT_EXCEEDED", message, headers)
        # The documentation does not say whether the API charges a rate limited request; the sandbox does not.
        key.quota.charge(cost)

    async def _call(self, match: Match | None, key: ApiKey, request: web.Request) -> Any:
        if match is None:
            near = explain_path(request.method, request.path, BASE_PATH, ROUTES)
            raise ApiError(404, "NOT_FOUND", f"Not found ({near})")
        route, arguments = match
        if not key.has_plan(route.plan):
            raise ApiError(403, "FORBIDDEN", f"This endpoint requires the {route.plan.title()} plan or higher")
        website_id = route.website_id(arguments, request.query)
        if website_id is not None:
            if website_id not in self._data:
                raise ApiError(404, "NOT_FOUND", f"Website not found ({explain_website(website_id, self._data.ids)})")
            if not key.may_read(website_id):
                raise ApiError(403, "FORBIDDEN", "Access denied to this website")
        body = await request.read()
        # Generated even if it is not sent, as the handler checks the parameters.
        data = route.handler(ApiRequest(self._data, key, arguments, website_id or "", request.query, body))
        with self._lock:
            own = self._own_responses.take(route.operation, website_id)
        if own is None:
            return data
        json = msgspec.json.decode(body) if body else None
        return self._own_data(own, OperationRequest(own.operation, website_id, request.query, json), data)

    def _own_data(self, own: OwnResponse, request: OperationRequest, generated: dict[str, Any]) -> Any:
        try:
            return own.respond(request, with_position="pagination" in generated)
        except BaseException as error:
            if not isinstance(error, (KeyboardInterrupt, SystemExit)):
                self._recorder.fail(error)
                message = f"The sandbox could not send an own response: {_name(error)}"
                raise ApiError(500, "GENERIC_ERROR", message) from None
            raise

    def _limit_headers(self, key: ApiKey) -> dict[str, str]:
        quota = key.quota
        headers = {
            "X-Usage-Monthly": str(quota.used),
            "X-Usage-Limit": str(quota.limit),
            "X-Usage-Reset": timestamp(quota.resets_at(datetime.now(UTC))),
            "X-Usage-Total": str(quota.total),
        }
        if key.limiter is not None:
            now = self._clock.now()
            headers |= limit_headers(
                self._limit_style, key.limiter, self._window, now, with_remaining=self._send_remaining
            )
        return headers


def _name(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _route_of(operation: str) -> Route:
    routes = {route.operation: route for route in ROUTES.routes}
    if operation not in routes:
        near = did_you_mean(operation, routes) or f"; expected one of {', '.join(routes)}"
        raise ValueError(f"operation={operation!r}: there is no such operation{near}")
    return routes[operation]


def _copy(settings: _Settings) -> _Settings:
    # The rules share the random numbers of the sandbox.
    rules = [copy.copy(rule) for rule in settings.fault_rules]
    return settings._replace(
        keys=copy.deepcopy(settings.keys), fault_rules=rules, own_responses=settings.own_responses.copy()
    )


def _envelope(data: Any) -> bytes:
    return msgspec.json.encode({"success": True, "data": data, "timestamp": timestamp(datetime.now(UTC))})


def _error_body(error: ApiError) -> bytes:
    if error.code == "API_PAID_PLAN_REQUIRED":
        return msgspec.json.encode({"error": str(error), "code": error.code})
    details = {"message": str(error), "code": error.code, "timestamp": timestamp(datetime.now(UTC))}
    return msgspec.json.encode({"success": False, "error": details})
