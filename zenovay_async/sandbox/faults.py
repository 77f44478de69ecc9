"""What can go wrong on demand: each fault answers in place of the API, or delays it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
from aiohttp import web

if TYPE_CHECKING:
    import random

Answer: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse | None]]

_HTML = "<html><head><title>502 Bad Gateway</title></head><body><center><h1>502 Bad Gateway</h1></center></body></html>"
_BODY = b'{"success": true, "data": {"pages": [{"url": "/", "total_interactions": 12543, "last_updated": "2026-02-07'


class Fault(msgspec.Struct, frozen=True):
    """Something that goes wrong; made by the functions below, installed with ``Sandbox.fault``.

    Attributes:
        name: What it is called on the command line.
        answer: Gives the wrong answer, or ``None`` to go on to the right one.
    """

    name: str
    answer: Answer

    @staticmethod
    def latency(seconds: float) -> Fault:
        """The right answer, after a while."""

        async def answer(_: web.Request) -> None:
            await asyncio.sleep(seconds)

        return Fault("latency", answer)

    @staticmethod
    def status(status: int, message: str = "Failed to fetch heatmap data", code: str = "GENERIC_ERROR") -> Fault:
        """An error in the documented shape."""
        return Fault(str(status), _always(status, {"success": False, "error": {"message": message, "code": code}}))

    @staticmethod
    def rate_limited(
        retry_after: str | None = None, message: str = "Rate limit exceeded (30 requests/minute)"
    ) -> Fault:
        """A 429 out of turn, with any ``Retry-After`` or none."""
        body = {"success": False, "error": {"message": message, "code": "RATE_LIMIT_EXCEEDED"}}
        headers = {} if retry_after is None else {"Retry-After": retry_after}
        return Fault("429", _always(429, body, headers))

    @staticmethod
    def monthly_limit() -> Fault:
        """The month is used up."""
        body = {"success": False, "error": {"message": "Monthly limit exceeded", "code": "MONTHLY_LIMIT_EXCEEDED"}}
        return Fault("monthly-limit", _always(429, body))

    @staticmethod
    def bad_gateway() -> Fault:
        """A 502 with an HTML page, as from an edge."""
        return Fault("502-html", _raw(502, _HTML.encode(), "text/html"))

    @staticmethod
    def html() -> Fault:
        """A page in place of data, under status 200."""
        return Fault("html", _raw(200, b"<html><body>Checking your browser</body></html>", "text/html"))

    @staticmethod
    def garbage_json() -> Fault:
        """Something that calls itself JSON and is not."""
        return Fault("garbage-json", _raw(200, b'{"success": true, "data": {pages: oops}}', "application/json"))

    @staticmethod
    def cut_json() -> Fault:
        """JSON that stops in the middle, though by HTTP's account it is whole."""
        return Fault("cut-json", _raw(200, _BODY, "application/json"))

    @staticmethod
    def not_success() -> Fault:
        """An error under status 200."""
        return Fault(
            "not-success", _always(200, {"success": False, "error": {"message": "Broken", "code": "GENERIC_ERROR"}})
        )

    @staticmethod
    def redirect(location: str = "https://elsewhere.example/") -> Fault:
        """A redirect to somewhere else."""
        return Fault("redirect", _always(302, {}, {"Location": location}))

    @staticmethod
    def reset() -> Fault:
        """The connection is cut before any answer."""

        async def answer(request: web.Request) -> web.StreamResponse:
            _hang_up(request)
            return web.Response()

        return Fault("reset", answer)

    @staticmethod
    def cut_body() -> Fault:
        """The connection is cut in the middle of the body."""

        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "5000"})
            await response.prepare(request)
            await response.write(_BODY)
            _hang_up(request)
            return response

        return Fault("cut-body", answer)

    @staticmethod
    def slow_body(seconds: float = 60.0) -> Fault:
        """The body starts, and then takes its time."""

        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(request)
            await response.write(_BODY)
            await asyncio.sleep(seconds)
            _hang_up(request)
            return response

        return Fault("slow-body", answer)


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
}
"""The faults that the command line knows."""


class Planned:
    """A fault that waits for its requests.

    Args:
        fault: What goes wrong.
        times: For how many requests; ``None`` for all.
        path: Only those whose path contains this.
        share: For this share of them, 0 to 1.
        rng: Draws which.
    """

    def __init__(self, fault: Fault, times: int | None, path: str, share: float, rng: random.Random) -> None:
        self.fault = fault
        self._left = times
        self._path = path
        self._share = share
        self._rng = rng

    def strikes(self, path: str) -> bool:
        """Whether this request is one of them; counts it if so."""
        if self._left == 0 or self._path not in path or (self._share < 1 and self._rng.random() >= self._share):
            return False
        if self._left is not None:
            self._left -= 1
        return True


def _always(status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> Answer:
    return _raw(status, msgspec.json.encode(body), "application/json", headers)


def _raw(status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body, content_type=kind, headers=headers)

    return answer


def _hang_up(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
