# ruff: noqa: PLC0415 - a process must load only what it measures
"""The ways to make a call that are compared: this SDK, and what people write by hand.

Each is opened once with the base URL and gives a function that fetches the pages of one website, typed where the way
has types. All keep their connections, check the status, and may have 100 connections. The peers are imported by name
at run time, as none of them is a dependency of this package.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeAlias

import msgspec

Fetch: TypeAlias = Callable[[str, int], Awaitable[Any]]

KEY = "zv_benchmark_0123456789abcdef"
HEADERS = {"X-API-Key": KEY, "Accept": "application/json"}
CONNECTIONS = 100


class Page(msgspec.Struct):
    """A page, as one writes it by hand."""

    url: str
    total_interactions: int
    last_updated: datetime


class Pages(msgspec.Struct):
    """The ``data`` of a response."""

    pages: list[Page]


class Body(msgspec.Struct):
    """A whole response body."""

    success: bool
    data: Pages
    timestamp: datetime


def pydantic_body() -> Any:
    """The same three types as pydantic models; returns the outermost."""
    create = import_module("pydantic").create_model
    page: Any = create("Page", url=(str, ...), total_interactions=(int, ...), last_updated=(datetime, ...))
    pages = create("Pages", pages=(_list_of(page), ...))
    return create("Body", success=(bool, ...), data=(pages, ...), timestamp=(datetime, ...))


def _list_of(item: Any) -> Any:
    return list[item]


@asynccontextmanager
async def sdk(url: str) -> AsyncGenerator[Fetch]:
    """This SDK with all that it does by default: pacing, quota, deadline, retries, typed errors."""
    from zenovay_async import Zenovay

    async with Zenovay(KEY, base_url=url) as zenovay:

        async def fetch(site: str, limit: int) -> Any:
            return (await zenovay.heatmaps.pages(site, limit=limit)).pages

        yield fetch


@asynccontextmanager
async def bare(url: str) -> AsyncGenerator[Fetch]:
    """The measure of all others: aiohttp as its documentation shows it, and a msgspec decoder made once."""
    import aiohttp

    decoder = msgspec.json.Decoder(Body)
    async with aiohttp.ClientSession(f"{url}/", headers=HEADERS) as session:

        async def fetch(site: str, limit: int) -> Any:
            async with session.get(f"heatmaps/{site}/pages", params={"limit": limit}) as response:
                response.raise_for_status()
                body = await response.read()
            return decoder.decode(body).data.pages

        yield fetch


@asynccontextmanager
async def tuned(url: str) -> AsyncGenerator[Fetch]:
    """The same by someone who knows where aiohttp spends its time: no bound on it, no cookies, a URL made cheaply."""
    import aiohttp
    from yarl import URL

    decoder, base = msgspec.json.Decoder(Body), URL(url)
    no_bound, jar = aiohttp.ClientTimeout(total=None), aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(headers=HEADERS, timeout=no_bound, cookie_jar=jar) as session:

        async def fetch(site: str, limit: int) -> Any:
            path, query = f"{base.raw_path}/heatmaps/{site}/pages", f"limit={limit}"
            where = URL.build(
                scheme=base.scheme, authority=base.raw_authority, path=path, query_string=query, encoded=True
            )
            response = await session.get(where, allow_redirects=False)
            if response.status != 200:
                response.raise_for_status()
            return decoder.decode(await response.read()).data.pages

        yield fetch


@asynccontextmanager
async def aiohttp_json(url: str) -> AsyncGenerator[Fetch]:
    """The same with ``response.json()``: dictionaries, no types."""
    import aiohttp

    async with aiohttp.ClientSession(f"{url}/", headers=HEADERS) as session:

        async def fetch(site: str, limit: int) -> Any:
            async with session.get(f"heatmaps/{site}/pages", params={"limit": limit}) as response:
                response.raise_for_status()
                return (await response.json())["data"]["pages"]

        yield fetch


@asynccontextmanager
async def aiohttp_tenacity(url: str) -> AsyncGenerator[Fetch]:
    """The bare way under tenacity's decorator, as its documentation shows it."""
    import aiohttp
    from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

    async with bare(url) as plain:

        @retry(
            stop=stop_after_attempt(4),
            wait=wait_random_exponential(multiplier=0.5, max=8),
            retry=retry_if_exception_type(aiohttp.ClientError),
            reraise=True,
        )
        async def fetch(site: str, limit: int) -> Any:
            return await plain(site, limit)

        yield fetch


@asynccontextmanager
async def httpx_pydantic(url: str) -> AsyncGenerator[Fetch]:
    """What most SDKs are made of: httpx, and pydantic models."""
    httpx, model = import_module("httpx"), pydantic_body()
    # By default httpx keeps 20 connections only, and would open new ones all the time at 50 in flight.
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    async with httpx.AsyncClient(base_url=url, headers=HEADERS, limits=limits) as client:

        async def fetch(site: str, limit: int) -> Any:
            response = await client.get(f"heatmaps/{site}/pages", params={"limit": limit})
            response.raise_for_status()
            return model.model_validate_json(response.content).data.pages

        yield fetch


class _Wire(asyncio.Protocol):
    """One connection; reads just enough of a response to find its end."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[bytes] | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self.transport = transport

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data if self._received else data
        end = received.find(b"\r\n\r\n")
        if end < 0:
            return
        start = received.find(b"\r\nContent-Length: ") + 18
        if len(received) >= end + 4 + int(received[start : received.find(b"\r", start)]):
            self._received = b""
            if self._waiter is not None:
                self._waiter.set_result(received[end + 4 :] if received.startswith(b"HTTP/1.1 200") else b"")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(exc or ConnectionResetError())

    async def ask(self, request: bytes) -> bytes:
        if self.transport is None:
            raise ConnectionError("not connected")
        self._waiter = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._waiter


@asynccontextmanager
async def floor(url: str) -> AsyncGenerator[Fetch]:
    """Sockets under asyncio and nothing else that could be left out: no client is likely to cost less."""
    host, _, path = url.removeprefix("http://").partition("/")
    address, _, port = host.partition(":")
    tail = f" HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {KEY}\r\nAccept: application/json\r\n\r\n"
    decoder, loop, idle, every = msgspec.json.Decoder(Body), asyncio.get_running_loop(), list[_Wire](), list[_Wire]()

    async def fetch(site: str, limit: int) -> Any:
        if idle:
            wire = idle.pop()
        else:
            _, wire = await loop.create_connection(_Wire, address, int(port))
            every.append(wire)
        body = await wire.ask(f"GET /{path}/heatmaps/{site}/pages?limit={limit}{tail}".encode())
        idle.append(wire)
        return decoder.decode(body).data.pages

    yield fetch
    for wire in every:
        if wire.transport is not None:
            wire.transport.close()


class Contender(msgspec.Struct, frozen=True):
    """One way, and the peers that it takes."""

    title: str
    open: Callable[[str], AbstractAsyncContextManager[Fetch]]
    needs: tuple[str, ...] = ()

    def missing(self) -> list[str]:
        """The peers that are not installed."""
        return [name for name in self.needs if not _is_installed(name)]


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        # Of the package that it is in.
        return False


BARE = "bare"
CONTENDERS: dict[str, Contender] = {
    "sdk": Contender("this SDK", sdk),
    BARE: Contender("aiohttp + msgspec", bare),
    "tuned": Contender("aiohttp + msgspec, tuned", tuned),
    "json": Contender("aiohttp + json", aiohttp_json),
    "tenacity": Contender("aiohttp + msgspec + tenacity", aiohttp_tenacity),
    "httpx": Contender("httpx + pydantic", httpx_pydantic, ("httpx", "pydantic")),
    "floor": Contender("sockets, no client", floor),
}


def plain_decode(body: bytes) -> Any:
    """The standard library's way with a response."""
    return json.loads(body)["data"]["pages"]
