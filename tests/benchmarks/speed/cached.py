# ruff: noqa: PLC0415 - a process must load only what it measures
"""The ways to share and to keep responses that are compared, as ``contenders`` has those to make a call.

Those that get a response of before ask for one website alone, whatever id is given.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .contenders import CONTENDERS, KEY, Contender
from .observed import OBSERVED

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from contextlib import AbstractAsyncContextManager

    from zenovay_async import Response, Timeout
    from zenovay_async._protocol.call import Call

    from .contenders import Fetch

REDIS = "ZENOVAY_SPEED_REDIS"
"""The environment variable with the URL of a Redis."""
_SITE = "site"


@asynccontextmanager
async def alone(url: str) -> AsyncGenerator[Fetch]:
    """This SDK where each call is a request of its own."""
    from zenovay_async import Zenovay

    async with Zenovay(KEY, base_url=url, coalesce=False) as zenovay:

        async def fetch(site: str, limit: int) -> Any:
            return (await zenovay.heatmaps.pages(site, limit=limit)).pages

        yield fetch


@asynccontextmanager
async def joined(url: str) -> AsyncGenerator[Fetch]:
    """This SDK as it is, asked for the same: of those in flight at one time, all but one join."""
    async with CONTENDERS["sdk"].open(url) as fetch:

        async def fetch_one(_: str, limit: int) -> Any:
            return await fetch(_SITE, limit)

        yield fetch_one


@asynccontextmanager
async def missed(url: str) -> AsyncGenerator[Fetch]:
    """A cache that is asked for something else each time, so that it keeps each response and drops an older one."""
    from zenovay_async import Cache, Zenovay

    async with Zenovay(KEY, base_url=url, cache=Cache()) as zenovay:

        async def fetch(site: str, limit: int) -> Any:
            return (await zenovay.heatmaps.pages(site, limit=limit)).pages

        yield fetch


def hit(store: Callable[[], str | None]) -> Callable[[str], AbstractAsyncContextManager[Fetch]]:
    """A cache with a fresh response."""

    @asynccontextmanager
    async def way(url: str) -> AsyncGenerator[Fetch]:
        from zenovay_async import Cache, Zenovay

        async with Zenovay(KEY, base_url=url, cache=Cache(ttl=3_600, store=store())) as zenovay:

            async def fetch(_: str, limit: int) -> Any:
                return (await zenovay.heatmaps.pages(_SITE, limit=limit)).pages

            yield fetch

    return way


class _Constant:
    """Returns the same response to every call."""

    def __init__(self, response: Response[Any]) -> None:
        self._response = response

    async def send(self, call: Call[Any], timeout: Timeout) -> Response[Any]:
        del call, timeout
        return self._response


@asynccontextmanager
async def described(url: str) -> AsyncGenerator[Fetch]:
    """What comes before all of these: the method checks its arguments and describes the call."""
    from zenovay_async import Heatmaps, Zenovay

    async with Zenovay(KEY, base_url=url) as zenovay:
        heatmaps: Heatmaps | None = None

        async def fetch(_: str, limit: int) -> Any:
            nonlocal heatmaps
            if heatmaps is None:
                response = await zenovay.with_raw_response(zenovay.heatmaps.pages)(_SITE, limit=limit)
                heatmaps = Heatmaps(_Constant(response))
            return (await heatmaps.pages(_SITE, limit=limit)).pages

        yield fetch


@asynccontextmanager
async def redis_get(url: str) -> AsyncGenerator[Fetch]:
    """One round trip: ``redis.asyncio`` gets as many bytes as a response has."""
    from .server import body_of

    del url
    client = import_module("redis.asyncio").Redis.from_url(os.environ[REDIS])
    pages: list[None] = []

    async def fetch(_: str, limit: int) -> Any:
        if len(pages) != limit:
            pages[:] = [None] * limit
            await client.set(_SITE, body_of(limit))
        await client.get(_SITE)
        return pages

    yield fetch
    await client.aclose()


ALONE = "alone"
DESCRIBED = "described"
CACHED: dict[str, Contender] = {
    ALONE: Contender("coalesce=False", alone),
    "joined": Contender("joins an equal call", joined),
    "missed": Contender("cache, found nothing", missed),
    DESCRIBED: Contender("describing the call alone", described),
    "hit": Contender("fresh, in memory", hit(lambda: None)),
    "hit-machine": Contender('fresh, store="machine"', hit(lambda: "machine")),
    "hit-redis": Contender('fresh, store="redis://..."', hit(lambda: os.environ[REDIS]), ("redis",)),
    "redis": Contender("GET of redis.asyncio", redis_get, ("redis",)),
}
EVERY = {**CONTENDERS, **CACHED, **OBSERVED}
