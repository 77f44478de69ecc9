"""Faults on demand: each responds in place of the API, delays the response, or adds headers to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
from aiohttp import web

if TYPE_CHECKING:
    import random

FaultHandler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse | None]]
"""Return the faulty response, or ``None`` for the normal one."""

_HTML = "<html><head><title>502 Bad Gateway</title></head><body><center><h1>502 Bad Gateway</h1></center></body></html>"
_PART = b'{"success": true, "data": {"pages": [{"url": "/", "total_interactions": 12543, "last_updated": "2026-02-07'


class Fault(msgspec.Struct, frozen=True):
    """A fault, created by the functions below and installed with ``Sandbox.fault``.

    Attributes:
        name: Name on the command line.
        respond: Returns the faulty response, or ``None`` for the normal one.
        headers: Headers that are added to the response.
    """

    name: str
    respond: FaultHandler
    headers: Mapping[str, str] = {}

    @staticmethod
    def latency(seconds: float) -> Fault:
        """Delay the normal response by a number of seconds."""

        async def respond(_: web.Request) -> None:
            await asyncio.sleep(seconds)

        return Fault("latency", respond)

    @staticmethod
    def deprecated(
        deprecated_at: datetime | None = None, sunset_at: datetime | None = None, link: str | None = None
    ) -> Fault:
        """Send the normal response, with headers that announce the end of the endpoint.

        Args:
            deprecated_at: From when on it is deprecated, aware; by default 2026-01-01.
            sunset_at: When it ends, aware; by default that is not stated.
            link: URL of a page about it; ``None`` for none.

        Raises:
            ValueError: A time is no ``datetime`` or has no zone, or the URL is no str or has a character that none has.
        """
        deprecated_at = deprecated_at or datetime(2026, 1, 1, tzinfo=UTC)
        for name, when in (("deprecated_at", deprecated_at), ("sunset_at", sunset_at)):
            if when is not None and (not isinstance(when, datetime) or when.tzinfo is None):
                raise ValueError(f"{name}={when!r}: expected an aware datetime, such as datetime.now(UTC)")
        headers = {"Deprecation": f"@{int(deprecated_at.timestamp())}"}
        if sunset_at is not None:
            headers["Sunset"] = format_datetime(sunset_at.astimezone(UTC), usegmt=True)
        if link is not None:
            if not isinstance(link, str) or not link.isascii() or not link.isprintable() or set(link) & set(" <>"):
                raise ValueError(f"link={link!r}: expected a URL such as 'https://example.com/changes'")
            headers["Link"] = f'<{link}>; rel="deprecation"'

        async def respond(_: web.Request) -> None:
            return None

        return Fault("deprecated", respond, headers)

    @staticmethod
    def status(status: int, message: str = "Failed to fetch heatmap data", code: str = "GENERIC_ERROR") -> Fault:
        """Respond with an error of the documented shape."""
        return Fault(str(status), _json(status, {"success": False, "error": {"message": message, "code": code}}))

    @staticmethod
    def rate_limited(
        retry_after: str | None = None, message: str = "Rate limit exceeded (30 requests/minute)"
    ) -> Fault:
        """Respond with a 429 that no limiter caused, with ``Retry-After`` unless ``retry_after`` is ``None``."""
        body = {"success": False, "error": {"message": message, "code": "RATE_LIMIT_EXCEEDED"}}
        headers = {} if retry_after is None else {"Retry-After": retry_after}
        return Fault("429", _json(429, body, headers))

    @staticmethod
    def monthly_limit() -> Fault:
        """Respond as if the monthly quota were exhausted."""
        body = {"success": False, "error": {"message": "Monthly limit exceeded", "code": "MONTHLY_LIMIT_EXCEEDED"}}
        return Fault("monthly-limit", _json(429, body))

    @staticmethod
    def bad_gateway() -> Fault:
        """Respond with a 502 and an HTML page, as a proxy does."""
        return Fault("502-html", _bytes(502, _HTML.encode(), "text/html"))

    @staticmethod
    def html() -> Fault:
        """Respond with status 200 and an HTML page."""
        return Fault("html", _bytes(200, b"<html><body>Checking your browser</body></html>", "text/html"))

    @staticmethod
    def garbage_json() -> Fault:
        """Respond with status 200 and malformed JSON."""
        return Fault("garbage-json", _bytes(200, b'{"success": true, "data": {pages: oops}}', "application/json"))

    @staticmethod
    def cut_json() -> Fault:
        """Respond with truncated JSON and a matching ``Content-Length``."""
        return Fault("cut-json", _bytes(200, _PART, "application/json"))

    @staticmethod
    def not_success() -> Fault:
        """Respond with status 200 and an error body."""
        return Fault(
            "not-success", _json(200, {"success": False, "error": {"message": "Broken", "code": "GENERIC_ERROR"}})
        )

    @staticmethod
    def redirect(location: str = "https://elsewhere.example/") -> Fault:
        """Redirect to another host."""
        return Fault("redirect", _json(302, {}, {"Location": location}))

    @staticmethod
    def reset() -> Fault:
        """Close the connection before any response."""

        async def respond(request: web.Request) -> web.StreamResponse:
            _disconnect(request)
            return web.Response()

        return Fault("reset", respond)

    @staticmethod
    def cut_body() -> Fault:
        """Close the connection in the middle of the body."""

        async def respond(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "5000"})
            await response.prepare(request)
            await response.write(_PART)
            _disconnect(request)
            return response

        return Fault("cut-body", respond)

    @staticmethod
    def slow_body(seconds: float = 60.0) -> Fault:
        """Send the start of the body, pause for a number of seconds, then close the connection."""

        async def respond(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(request)
            await response.write(_PART)
            await asyncio.sleep(seconds)
            _disconnect(request)
            return response

        return Fault("slow-body", respond)


NAMED: dict[str, Callable[[], Fault]] = {
    "429": Fault.rate_limited,
    "500": lambda: Fault.status(500),
    "503": lambda: Fault.status(503),
    "502-html": Fault.bad_gateway,
    "monthly-limit": Fault.monthly_limit,
    "html": Fault.html,
    "garbage-json": Fault.garbage_json,
    "cut-json": Fault.cut_json,
    "not-success": Fault.not_success,
    "redirect": Fault.redirect,
    "reset": Fault.reset,
    "cut-body": Fault.cut_body,
    "slow-body": Fault.slow_body,
    "latency": lambda: Fault.latency(1.0),
    "deprecated": Fault.deprecated,
}
"""Faults by their name on the command line."""


def parse_fault(text: str, option: str) -> tuple[Fault, float]:
    """Return the fault and the share that ``NAME:SHARE`` stands for.

    Args:
        text: Such as ``reset:0.05``; without a share, that of all requests.
        option: What it was given as, for errors.

    Raises:
        ValueError: The name is unknown, or the share is out of range.
    """
    name, _, share = text.partition(":")
    if name not in NAMED:
        raise ValueError(f"{option} {text}: expected NAME:SHARE with a name of {', '.join(NAMED)}")
    with contextlib.suppress(ValueError):
        if 0 <= float(share or "1") <= 1:
            return NAMED[name](), float(share or "1")
    raise ValueError(f"{option} {text}: expected NAME:SHARE with a share from 0 to 1")


class FaultRule:
    """A fault and the requests that it applies to.

    Args:
        fault: The fault.
        times: Number of requests; ``None`` for no bound.
        path: Text that the request's path contains.
        share: Share of these requests, from 0 to 1.
        rng: Random generator that selects the share.

    Attributes:
        fault: The fault.
    """

    def __init__(self, fault: Fault, times: int | None, path: str, share: float, rng: random.Random) -> None:
        self.fault = fault
        self._times = times
        self._remaining = times
        self._path = path
        self._share = share
        self._rng = rng

    def __str__(self) -> str:
        path = f", path={self._path!r}" if self._path else ""
        return f"{self.fault.name}, times={self._times}{path}"

    @property
    def is_unused(self) -> bool:
        """Whether it is for a number of requests, and applied to none so far."""
        return bool(self._times) and self._remaining == self._times

    def matches(self, path: str) -> bool:
        """Return whether the fault applies to this request, and count the request if so."""
        if self._remaining == 0 or self._path not in path or (self._share < 1 and self._rng.random() >= self._share):
            return False
        if self._remaining is not None:
            self._remaining -= 1
        return True


def _json(status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> FaultHandler:
    return _bytes(status, msgspec.json.encode(body), "application/json", headers)


def _bytes(status: int, body: bytes, content_type: str, headers: dict[str, str] | None = None) -> FaultHandler:
    async def respond(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body, content_type=content_type, headers=headers)

    return respond


def _disconnect(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
