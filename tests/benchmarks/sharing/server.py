# ruff: noqa: T201 - its parent reads the port that it prints
"""A server that counts the requests of each key in its own way; run as ``python -m tests.benchmarks.sharing.server``.

``PUT /keys/{key}`` sets how it treats a key, ``GET`` returns what it counted for it.
"""

from __future__ import annotations

import asyncio
import math
import random
import time

import msgspec
from aiohttp import web

from zenovay_async.sandbox.limits import make_limiter

from .messages import Counted, Setting

PAGE = msgspec.json.encode(
    {
        "success": True,
        "data": {"pages": [{"url": "/", "total_interactions": 1, "last_updated": "2026-02-07T14:30:00.000Z"}]},
        "timestamp": "2026-02-07T12:00:00.000Z",
    }
)
REJECTION = msgspec.json.encode(
    {
        "success": False,
        "error": {
            "message": "Rate limit exceeded",
            "code": "RATE_LIMIT_EXCEEDED",
            "timestamp": "2026-02-07T12:00:00.000Z",
        },
    }
)


class Key:
    """The requests of one key; windows start at multiples of their length, by the monotonic clock."""

    def __init__(self, setting: Setting) -> None:
        self.counted = Counted([], [])
        self._setting = setting
        self._limiter = make_limiter(setting.kind, setting.limit, setting.window)

    async def respond(self) -> web.Response:
        await self._travel()
        now, limiter = time.monotonic(), self._limiter
        admitted = limiter.admit(now)
        (self.counted.admitted if admitted else self.counted.rejected).append(now)
        headers = {"Content-Type": "application/json", "X-RateLimit-Limit": str(limiter.limit)}
        if self._setting.remaining:
            headers["X-RateLimit-Remaining"] = str(max(0, limiter.remaining(now)))
        if not admitted:
            wait = limiter.reset_after(now)
            headers["Retry-After"] = str(math.ceil(wait)) if self._setting.whole_seconds else f"{wait:.3f}"
        await self._travel()
        return web.Response(body=PAGE if admitted else REJECTION, status=200 if admitted else 429, headers=headers)

    async def _travel(self) -> None:
        await asyncio.sleep(self._setting.latency * random.uniform(0.25, 0.75))


async def main() -> None:
    """Serve until the process is ended."""
    keys: dict[str, Key] = {}

    async def add(request: web.Request) -> web.Response:
        keys[request.match_info["key"]] = Key(msgspec.json.decode(await request.read(), type=Setting))
        return web.Response()

    async def counted(request: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(keys[request.match_info["key"]].counted))

    async def respond(request: web.Request) -> web.Response:
        return await keys[request.headers["X-API-Key"]].respond()

    app = web.Application()
    app.router.add_put("/keys/{key}", add)
    app.router.add_get("/keys/{key}", counted)
    app.router.add_get("/api/{path:.*}", respond)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=600)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
