"""Run a server of its own process: the origin behind nginx and Envoy, and limiters of ``throttled-py``.

``python -m tests.benchmarks.real.origin '{"log": FILE, "limiters": [{"port": ..., ...}]}'``
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import sys
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PAGE = {
    "success": True,
    "data": {"pages": [{"url": "/", "total_interactions": 1, "last_updated": "2026-02-07T14:30:00.000Z"}]},
    "timestamp": "2026-02-07T12:00:00.000Z",
}
REJECTION = {
    "success": False,
    "error": {
        "message": "Rate limit exceeded",
        "code": "RATE_LIMIT_EXCEEDED",
        "timestamp": "2026-02-07T12:00:00.000Z",
    },
}


async def respond(_: web.Request) -> web.Response:
    """Respond after 10 to 30 ms."""
    await asyncio.sleep(random.uniform(0.01, 0.03))
    return web.json_response(PAGE)


def throttled(
    log: Path, using: str, limit: int, window: float, burst: int, *, headers: bool
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Make a handler limited by ``throttled-py``, which states the documented headers or none."""
    package = import_module("throttled.asyncio")
    quota = package.rate_limiter.per_duration(timedelta(seconds=window), limit, burst=burst)
    limiter = package.Throttled(using=using, quota=quota, store=package.store.MemoryStore())

    async def handle(request: web.Request) -> web.Response:
        key = request.headers["X-API-Key"]
        result = await limiter.limit(key)
        response = web.json_response(REJECTION, status=429) if result.limited else await respond(request)
        if headers:
            response.headers["X-RateLimit-Limit"] = str(limit)
            response.headers["X-RateLimit-Remaining"] = str(result.state.remaining)
            if result.limited:
                response.headers["Retry-After"] = str(math.ceil(result.state.retry_after))
        with log.open("a") as lines:
            lines.write(f"{key} {response.status} {request.method} {request.path}\n")
        return response

    return handle


async def serve(port: int, handle: Callable[[web.Request], Awaitable[web.Response]]) -> None:
    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=60)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()


async def main(log: str, limiters: list[dict[str, Any]]) -> None:
    """Serve until the process is ended."""
    for limiter in limiters:
        port, kind = limiter.pop("port"), limiter.pop("kind")
        await serve(port, respond if kind == "origin" else throttled(Path(log), kind, **limiter))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(**json.loads(sys.argv[1])))
