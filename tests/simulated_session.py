"""A session over a simulated server, for tests in virtual time: all of it is real but the wire and the permits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import aiohttp
import msgspec
from helpers import now

from zenovay_async import RateLimit, RateLimitError
from zenovay_async._session.connection_pool import ConnectionPool
from zenovay_async._session.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zenovay_async import Outcome, ZenovayError

BASE_URL = "https://api.example/v1"

ResponseKind: TypeAlias = Literal["200", "404", "500", "reset"]
"""Status of a response; or the connection breaks."""


class SimulatedRequest(msgspec.Struct, eq=False):
    """A request that arrived.

    Attributes:
        number: Its number, from 0.
        path: Its path, the last segment.
        began: When it came, in the time of the event loop.
        kind: How the server responds.
        ended: When it ended; ``None`` before that.
        canceled: Whether the client went away.
    """

    number: int
    path: str
    began: float
    kind: ResponseKind
    ended: float | None = None
    canceled: bool = False


class SimulatedResponse:
    """A response; its data is a dictionary with the number of the request."""

    def __init__(self, request: SimulatedRequest) -> None:
        self.status = int(request.kind)
        self.headers = {"x-request-id": str(request.number)}
        body = {"success": True, "data": {"request": request.number}}
        if self.status != 200:
            body = {"success": False, "error": {"message": f"Failure {request.number}", "code": "ERROR"}}
        self._body = msgspec.json.encode(body)

    async def read(self) -> bytes:
        return self._body


class SimulatedServer:
    """Stands for an aiohttp session and the server behind it.

    Args:
        script: Seconds that each response takes, and what it is; it begins anew after the last.
    """

    closed = False

    def __init__(self, script: Sequence[tuple[float, ResponseKind]]) -> None:
        self._script = script
        self.requests: list[SimulatedRequest] = []

    async def request(self, _: str, url: Any, **__: Any) -> SimulatedResponse:
        number = len(self.requests)
        latency, kind = self._script[number % len(self._script)]
        request = SimulatedRequest(number, url.name, now(), kind)
        self.requests.append(request)
        try:
            await asyncio.sleep(latency)
        except asyncio.CancelledError:
            request.canceled = True
            raise
        finally:
            request.ended = now()
        if kind == "reset":
            raise aiohttp.ServerDisconnectedError
        return SimulatedResponse(request)


class SimulatedTransport(Transport):
    """Sends to a simulated server."""

    def __init__(self, server: SimulatedServer) -> None:
        super().__init__(BASE_URL, "test", None, max_connections=100)
        self._server = server

    def serve(self, server: SimulatedServer) -> None:
        """Send to another server from now on."""
        self._server = server
        if self._pool is not None:
            self._pool.session = cast("Any", server)

    async def _start(self, loop: asyncio.AbstractEventLoop) -> ConnectionPool:
        self.check_open()
        if self._pool is None:
            self._pool = ConnectionPool(loop, cast("Any", self._server), 100, "100")
        return self._pool

    @property
    def requests_in_flight(self) -> int:
        """Slots that are acquired."""
        return 0 if self._pool is None else 100 - self._pool.slots.available


class GatePermit:
    """A permit of a :class:`GateLimiter`."""

    def __init__(self, limiter: GateLimiter) -> None:
        self._limiter = limiter
        self._is_returned = False
        limiter.in_flight += 1

    def settle(self, outcome: Outcome) -> None:
        del outcome
        self.refund()

    def refund(self) -> None:
        assert not self._is_returned
        self._is_returned = True
        self._limiter.in_flight -= 1


class GateLimiter:
    """Permits from a certain time on: one for direct calls, another for background calls.

    Args:
        direct: When the first direct call may be sent, in the time of the event loop.
        background: When the first background call may be.

    Attributes:
        in_flight: Permits acquired and not returned yet.
    """

    def __init__(self, direct: float, background: float) -> None:
        self.opens = {False: direct, True: background}
        self.in_flight = 0

    def acquire_nowait(self, *, cost: int = 1, background: bool = False) -> GatePermit | None:
        del cost
        return GatePermit(self) if now() >= self.opens[background] else None

    async def acquire(self, *, cost: int = 1, max_wait: float | None = None, background: bool = False) -> GatePermit:
        wait = self.forecast(cost, background=background)
        if max_wait is not None and wait > max_wait:
            raise RateLimitError("the wait is too long", retry_after=wait)
        await asyncio.sleep(wait)
        return GatePermit(self)

    def fail_waiters(self, make_error: Callable[[], ZenovayError]) -> None:
        del make_error

    def snapshot(self) -> RateLimit:
        return RateLimit(limit=1, remaining=1, window=1.0, reset_after=0.0, learned=True)

    def forecast(self, n: int, *, background: bool = False) -> float:
        del n
        return max(0.0, self.opens[background] - now())

    async def aclose(self) -> None:
        pass
