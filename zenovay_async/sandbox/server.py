"""The sandbox: a real HTTP server on the loopback that behaves as the API's documentation says."""

from __future__ import annotations

import asyncio
import math
import random
import secrets
import time
import uuid
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

import msgspec
from aiohttp import web

from zenovay_async.sandbox.data import World, timestamp
from zenovay_async.sandbox.faults import Fault, Planned
from zenovay_async.sandbox.limits import Kind, Limiter, Month, make_limiter
from zenovay_async.sandbox.routes import OF_A_WEBSITE, STATS, Invalid, question, stats, stats_site

if TYPE_CHECKING:
    from types import TracebackType

BASE_PATH = "/api/external/v1"

Plan: TypeAlias = Literal["free", "pro", "scale", "enterprise"]

# Requests per minute and per month (help "Rate limits").
PLANS: dict[Plan, tuple[int, int]] = {
    "free": (10, 1_000),
    "pro": (30, 10_000),
    "scale": (60, 100_000),
    "enterprise": (120, 1_000_000),
}
# So that demonstrations and tests do not wait; no plan has it.
GENEROUS = 6_000
_QUERY_COST = 3


class Seen(msgspec.Struct, frozen=True):
    """A request that the sandbox received.

    Attributes:
        method: HTTP method.
        path: Path below the base URL, with a leading slash.
        query: Query string as it came.
        status: Status of the answer; 0 where a fault cut the connection, or the client gave up.
        at: When it came, in seconds of ``time.monotonic``.
        request_id: The ``x-request-id`` that it was answered with; a fault in the midst of a body sends none.
    """

    method: str
    path: str
    query: str
    status: int
    at: float
    request_id: str


class _Refusal(Exception):  # noqa: N818 - an answer, not an error of the sandbox
    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.code, self.headers = status, code, headers


class _Key(msgspec.Struct):
    name: str
    plan: Plan
    websites: list[str]
    site: str | None
    limiter: Limiter | None
    month: Month


class Sandbox:
    """An API of made-up websites, for tests, notebooks and demonstrations.

    Use it as ``async with Sandbox(websites=200) as sandbox:``, then ``Zenovay(sandbox.api_key,
    base_url=sandbox.url)``.

    Args:
        websites: How many websites there are.
        seed: Which figures they have; the same seed gives the same.
        api_key: The key that it accepts; left out, a new one.
        host: Address to listen on.
        port: Port to listen on; 0 for any that is free.
        plan: The key's plan: ``"free"`` (no API access), ``"pro"``, ``"scale"`` or ``"enterprise"``.
        rate_limit: Requests per window; ``None`` for no limiter and no headers of one; left out, far above any plan,
            so that nobody waits.
        rate_limit_window: Seconds of the window.
        rate_limiter: How it counts: ``"fixed"``, ``"sliding"``, ``"bucket"`` or ``"counter"``.
        monthly_limit: Requests per month; left out, the plan's.
        monthly_used: Requests used already.
        send_remaining: Whether answers tell ``X-RateLimit-Remaining``, which the API does not always.
        send_retry_after: Whether a 429 tells ``Retry-After``, in whole seconds.
        latency: Seconds that each answer takes.
        jitter: Up to so many seconds more, drawn evenly.
        now: The time in the made-up figures, aware; left out, the present.

    Raises:
        ValueError: An argument cannot be right.
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
        rate_limit: int | None = GENEROUS,
        rate_limit_window: float = 60.0,
        rate_limiter: Kind = "fixed",
        monthly_limit: int | None = None,
        monthly_used: int = 0,
        send_remaining: bool = True,
        send_retry_after: bool = True,
        latency: float = 0.0,
        jitter: float = 0.0,
        now: datetime | None = None,
    ) -> None:
        if websites < 0:
            raise ValueError(f"websites={websites!r}: expected 0 or more")
        if api_key is not None and not api_key.startswith("zv_"):
            raise ValueError("api_key: expected a key that starts with 'zv_'")
        self._world = World(websites, seed, now or datetime.now(UTC).replace(microsecond=0))
        self._host, self._port = host, port
        self._window = rate_limit_window
        self._kind: Kind = rate_limiter
        self._send_remaining, self._send_retry_after = send_remaining, send_retry_after
        self._latency, self._jitter = latency, jitter
        self._rng = random.Random(seed)  # noqa: S311 - jitter and faults
        self._keys: dict[str, _Key] = {}
        self._faults: list[Planned] = []
        self._runner: web.AppRunner | None = None
        self.requests: deque[Seen] = deque(maxlen=10_000)
        """The newest requests that came, oldest first."""
        self._counts: dict[int, int] = {}
        self.api_key = self.add_key(
            "sandbox",
            api_key=api_key,
            plan=plan,
            rate_limit=rate_limit,
            monthly_limit=monthly_limit,
            monthly_used=monthly_used,
        )
        """A key for all its websites."""

    @property
    def website_ids(self) -> list[str]:
        """Ids of the websites."""
        return self._world.ids

    @property
    def url(self) -> str:
        """The base URL, while it runs."""
        if self._runner is None:
            raise RuntimeError("the sandbox does not run; use it in 'async with'")
        host, port = self._runner.addresses[0][:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}{BASE_PATH}"

    def add_key(
        self,
        name: str,
        *,
        api_key: str | None = None,
        plan: Plan = "enterprise",
        rate_limit: int | None = GENEROUS,
        monthly_limit: int | None = None,
        monthly_used: int = 0,
        website_id: str | None = None,
    ) -> str:
        """Accept another key, with a budget of its own.

        Args:
            name: The key's name.
            api_key: The key; left out, a new one.
            plan: Its plan.
            rate_limit: Requests per window; ``None`` for no limiter.
            monthly_limit: Requests per month; left out, the plan's.
            monthly_used: Requests used already.
            website_id: The one website that it may read; left out, all.

        Returns:
            The key.
        """
        if plan not in PLANS:
            raise ValueError(f"plan={plan!r}: expected one of {', '.join(PLANS)}")
        key = api_key or f"zv_sandbox_{secrets.token_hex(12)}"
        limiter = None if rate_limit is None else make_limiter(self._kind, rate_limit, self._window)
        month = Month(PLANS[plan][1] if monthly_limit is None else monthly_limit, monthly_used)
        websites = self._world.ids if website_id is None else [website_id]
        self._keys[key] = _Key(name, plan, websites, website_id, limiter, month)
        return key

    def fault(self, fault: Fault, *, times: int | None = None, path: str = "", share: float = 1.0) -> None:
        """Let something go wrong.

        Args:
            fault: What; made by the functions of ``Fault``.
            times: For how many requests; ``None`` until :meth:`clear_faults`.
            path: Only those whose path contains this, such as a website's id.
            share: For this share of them, 0 to 1, drawn by the seed.
        """
        self._faults.append(Planned(fault, times, path, share, self._rng))

    def clear_faults(self) -> None:
        """Let nothing more go wrong."""
        self._faults.clear()

    def count(self, *, status: int | None = None) -> int:
        """How many requests came, or how many were answered with a status (0: by none)."""
        return sum(self._counts.values()) if status is None else self._counts.get(status, 0)

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        # A slow answer must not hold up the end: what is on its way is cut off.
        self._runner = web.AppRunner(app, shutdown_timeout=0.05, access_log=None, handler_cancellation=True)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except BaseException:
            await self._runner.cleanup()
            self._runner = None
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        request_id, came = str(uuid.UUID(int=self._rng.getrandbits(128), version=4)), time.monotonic()
        # Nothing is served beside the base path.
        path = request.path.removeprefix(BASE_PATH) if request.path.startswith(f"{BASE_PATH}/") else ""
        status = 0
        try:
            if self._latency or self._jitter:
                await asyncio.sleep(self._latency + self._rng.uniform(0, self._jitter))
            response = await self._fault(request, path) or await self._answer(request, path)
            if not response.prepared:
                response.headers["x-request-id"] = request_id
            if request.transport is not None and not request.transport.is_closing():
                status = response.status
            return response
        finally:
            self._counts[status] = self._counts.get(status, 0) + 1
            self.requests.append(Seen(request.method, path, request.query_string, status, came, request_id))

    async def _fault(self, request: web.Request, path: str) -> web.StreamResponse | None:
        for planned in self._faults:
            if planned.strikes(path):
                return await planned.fault.answer(request)
        return None

    async def _answer(self, request: web.Request, path: str) -> web.StreamResponse:
        headers: dict[str, str] = {}
        status, body = 200, b""
        try:
            if path == "/openapi.json":
                return web.json_response(_openapi())
            key = self._authenticate(request)
            cost = _QUERY_COST if path.startswith("/query/") else 1
            try:
                self._admit(key, cost)
                data = await self._data(key, request, path)
            finally:
                headers.update(self._limit_headers(key))
            body = msgspec.json.encode({"success": True, "data": data, "timestamp": timestamp(datetime.now(UTC))})
        except Invalid as problem:
            status, body = 400, _error(problem.code, str(problem))
        except _Refusal as refusal:
            status, body = refusal.status, _error(refusal.code, str(refusal))
            headers.update(refusal.headers)
            if refusal.code == "API_PAID_PLAN_REQUIRED":
                body = msgspec.json.encode({"error": str(refusal), "code": refusal.code})
        return web.Response(status=status, body=body, content_type="application/json", headers=headers)

    def _authenticate(self, request: web.Request) -> _Key:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        given = request.headers.get("X-API-Key") or (token if scheme.lower() == "bearer" else "")
        key = self._keys.get(given)
        if key is None:
            raise _Refusal(401, "UNAUTHORIZED", "Invalid API key" if given else "API Key Not Found")
        if key.plan == "free":
            message = "The Zenovay API requires a paid plan. Upgrade to Pro or higher to use API keys."
            raise _Refusal(403, "API_PAID_PLAN_REQUIRED", message)
        return key

    def _admit(self, key: _Key, cost: int) -> None:
        if not key.month.has_room_for(cost):
            raise _Refusal(429, "MONTHLY_LIMIT_EXCEEDED", f"Monthly limit exceeded ({key.month.limit} requests/month)")
        # Whether a refused request counts towards the month is not documented; here it does not.
        now = time.monotonic()
        if key.limiter is not None and not key.limiter.admit(now):
            seconds = max(1, math.ceil(key.limiter.reset_after(now)))
            message = f"Rate limit exceeded ({key.limiter.limit} requests/minute). Try again in {seconds} seconds"
            headers = {"Retry-After": str(seconds)} if self._send_retry_after else {}
            raise _Refusal(429, "RATE_LIMIT_EXCEEDED", message, **headers)
        key.month.charge(cost)

    async def _data(self, key: _Key, request: web.Request, path: str) -> dict[str, Any]:
        if request.method == "POST" and path.startswith("/query/"):
            return await self._query(key, request, path.removeprefix("/query/"))
        if request.method == "GET":
            if path == "/usage":
                return self._usage(key)
            if path == "/websites":
                return {"websites": [self._world.website(site) for site in key.websites], "total": len(key.websites)}
            if path in STATS:
                site = stats_site(request.query)
                self._may_read(key, site)
                return stats(self._world, path, site)
            head, _, rest = path[1:].partition("/")
            site, _, tail = rest.partition("/")
            found = OF_A_WEBSITE.get(f"/{head}/{{id}}/{tail}" if tail else f"/{head}/{{id}}")
            if found is not None and site:
                self._may_read(key, site)
                return found(self._world, site, request.query)
        raise _Refusal(404, "NOT_FOUND", "Not found")

    async def _query(self, key: _Key, request: web.Request, site: str) -> dict[str, Any]:
        if key.plan == "pro":
            raise _Refusal(403, "FORBIDDEN", "This endpoint requires the Scale plan or higher")
        self._may_read(key, site)
        try:
            asked, range_ = question(msgspec.json.decode(await request.read()))
        except msgspec.DecodeError:
            raise Invalid("Invalid JSON body") from None
        return self._world.answer(site, asked, range_)

    def _may_read(self, key: _Key, site: str) -> None:
        if site not in self._world:
            raise _Refusal(404, "NOT_FOUND", "Website not found")
        if key.site is not None and site != key.site:
            raise _Refusal(403, "FORBIDDEN", "Access denied to this website")

    def _usage(self, key: _Key) -> dict[str, Any]:
        month = key.month
        return {
            "api_key": {
                "id": f"ak_{uuid.uuid5(uuid.NAMESPACE_URL, key.name)}",
                "name": key.name,
                "permission": "full_access" if key.site is None else "site_access",
                "website_id": key.site,
            },
            "usage": {
                "monthly_requests": month.used,
                "monthly_limit": month.limit,
                "monthly_remaining": month.limit - month.used,
                "monthly_reset_at": timestamp(month.resets_at(datetime.now(UTC))),
                "total_requests": month.total,
            },
            "rate_limits": {"requests_per_minute": key.limiter.limit if key.limiter else PLANS[key.plan][0]},
            "subscription": {"tier": key.plan},
        }

    def _limit_headers(self, key: _Key) -> dict[str, str]:
        month = key.month
        headers = {
            "X-Usage-Monthly": str(month.used),
            "X-Usage-Limit": str(month.limit),
            "X-Usage-Reset": timestamp(month.resets_at(datetime.now(UTC))),
            "X-Usage-Total": str(month.total),
        }
        if key.limiter is not None:
            headers["X-RateLimit-Limit"] = str(key.limiter.limit)
            if self._send_remaining:
                headers["X-RateLimit-Remaining"] = str(max(0, key.limiter.remaining(time.monotonic())))
        return headers


def _error(code: str, message: str) -> bytes:
    error = {"message": message, "code": code, "timestamp": timestamp(datetime.now(UTC))}
    return msgspec.json.encode({"success": False, "error": error})


def _openapi() -> dict[str, Any]:
    paths = ["/usage", "/websites", *OF_A_WEBSITE, *STATS]
    served: dict[str, Any] = {path.replace("{id}", "{websiteId}"): {"get": {}} for path in paths}
    served["/query/{websiteId}"] = {"post": {}}
    info = {"title": "Zenovay External API (sandbox)", "version": "1.0.0"}
    return {"openapi": "3.1.0", "info": info, "paths": served}
