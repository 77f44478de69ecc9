"""Fixtures: a sandbox over real HTTP, a client of it, and canned responses."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aioresponses import aioresponses
from hypothesis import HealthCheck, settings
from redis_server import RedisServer

import zenovay_async
from zenovay_async import Zenovay
from zenovay_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


# In the background, as under nohup, SIGINT is ignored, also by the programs that tests start and interrupt. A handler
# set here is reset to the default in those programs.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long examples take depends on the machine, above all the first ones, for which hypothesis makes tables of Unicode.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("any machine"))
settings.load_profile("any machine")

# looptime asks for the current loop around every test. If none was ever set, Python makes one, which is never closed;
# after None was set, it does not.
asyncio.set_event_loop(None)


def pytest_report_header() -> str:
    """Say which package is tested: the tree, or a wheel that is installed."""
    return f"testing: {Path(zenovay_async.__file__).parent}"


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZENOVAY_API_KEY", raising=False)
    monkeypatch.delenv("ZENOVAY_BASE_URL", raising=False)
    monkeypatch.delenv("ZENOVAY_RATE_LIMIT_STORE", raising=False)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(websites=3) as running:
        yield running


@pytest.fixture
async def zenovay(sandbox: Sandbox) -> AsyncIterator[Zenovay]:
    async with Zenovay(sandbox.api_key, base_url=sandbox.url) as client:
        yield client


@pytest.fixture(scope="session")
def _redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture
def redis_server(_redis_server: RedisServer) -> Iterator[RedisServer]:
    """A Redis or Valkey server that tests may kill, freeze and empty; one for all of this process."""
    _redis_server.start()
    yield _redis_server
    _redis_server.cont()


class _Response(aiohttp.ClientResponse):
    """aioresponses 0.7.9 does not know an argument that aiohttp 3.14 requires (its issue 289)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if "stream_writer" in inspect.signature(aiohttp.ClientResponse).parameters:
            kwargs.setdefault("stream_writer", SimpleNamespace(output_size=0))
        super().__init__(*args, **kwargs)


@pytest.fixture
def canned(monkeypatch: pytest.MonkeyPatch) -> Iterator[aioresponses]:
    """Canned responses, and no socket."""
    monkeypatch.setattr("aioresponses.core.ClientResponse", _Response)
    with aioresponses() as mocked:
        yield mocked
