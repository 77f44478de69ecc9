"""What the API responds to a request: its key, limits, access and parameters are checked, then data are sent."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from aiohttp import web

from zenovay_async.sandbox.data import timestamp
from zenovay_async.sandbox.limits import LimitHeaders, limit_headers
from zenovay_async.sandbox.near_misses import explain_path, explain_website
from zenovay_async.sandbox.own_responses import OperationRequest
from zenovay_async.sandbox.routes import ROUTES
from zenovay_async.sandbox.routing import ApiError, ApiRequest

if TYPE_CHECKING:
    from zenovay_async.sandbox.clock import Clock
    from zenovay_async.sandbox.data import FakeData
    from zenovay_async.sandbox.keys import ApiKey
    from zenovay_async.sandbox.own_responses import OwnResponse
    from zenovay_async.sandbox.routing import Match
    from zenovay_async.sandbox.state import State

BASE_PATH = "/api/external/v1"


class LimitStatement(NamedTuple):
    """How responses state the rate limit.

    Attributes:
        headers: Which headers.
        window: Length of the window in seconds.
        with_remaining: Whether they state how many requests remain.
        with_retry_after: Whether a 429 states ``Retry-After``.
    """

    headers: LimitHeaders
    window: float
    with_remaining: bool
    with_retry_after: bool


class Api:
    """The API, without connections and faults.

    Args:
        data: The websites.
        state: API keys and own responses.
        clock: The clock of the rate limits.
        statement: How responses state the rate limit.
    """

    def __init__(self, data: FakeData, state: State, clock: Clock, statement: LimitStatement) -> None:
        self._data = data
        self._state = state
        self._clock = clock
        self._statement = statement

    async def respond(self, request: web.Request, path: str, match: Match | None) -> tuple[web.Response, str]:
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
        key = self._state.keys.get(given)
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
            headers = {"Retry-After": str(seconds)} if self._statement.with_retry_after else {}
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
        own = self._state.take_own_response(route.operation, website_id)
        if own is None:
            return data
        # The handler has accepted the body of a route that takes one.
        json = msgspec.json.decode(body) if route.method == "POST" else None
        return self._own_data(own, OperationRequest(own.operation, website_id, request.query, json), data)

    def _own_data(self, own: OwnResponse, request: OperationRequest, generated: dict[str, Any]) -> Any:
        try:
            return own.respond(request, with_position="pagination" in generated)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - raised at the end of the block
            # What ends a test in pytest is no Exception.
            self._state.recorder.fail(error)
            message = f"The sandbox could not send an own response: {describe_error(error)}"
            raise ApiError(500, "GENERIC_ERROR", message) from None

    def _limit_headers(self, key: ApiKey) -> dict[str, str]:
        quota = key.quota
        headers = {
            "X-Usage-Monthly": str(quota.used),
            "X-Usage-Limit": str(quota.limit),
            "X-Usage-Reset": timestamp(quota.resets_at(datetime.now(UTC))),
            "X-Usage-Total": str(quota.total),
        }
        if key.limiter is not None:
            stated = self._statement
            headers |= limit_headers(
                stated.headers, key.limiter, stated.window, self._clock.now(), with_remaining=stated.with_remaining
            )
        return headers


def describe_error(error: BaseException) -> str:
    """Return the class and the message of an error."""
    return f"{type(error).__name__}: {error}"


def _envelope(data: Any) -> bytes:
    return msgspec.json.encode({"success": True, "data": data, "timestamp": timestamp(datetime.now(UTC))})


def _error_body(error: ApiError) -> bytes:
    if error.code == "API_PAID_PLAN_REQUIRED":
        return msgspec.json.encode({"error": str(error), "code": error.code})
    details = {"message": str(error), "code": error.code, "timestamp": timestamp(datetime.now(UTC))}
    return msgspec.json.encode({"success": False, "error": details})
