"""Fixtures: a sandbox over real HTTP, a client of it, and canned responses."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from redis_server import RedisServer

import _zenovay_async_pytest
import zenovay_async
from zenovay_async import Zenovay
from zenovay_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from aioresponses import aioresponses


# In the background, SIGINT is ignored, and under nohup SIGHUP, also by the programs that tests start and end. A handler
# set here is reset to the default in those programs.
signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)

# How long examples take depends on the machine, above all the first ones, for which hypothesis makes tables of Unicode.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("any machine"))
settings.load_profile("any machine")

# looptime asks for the current loop around every test. If none was ever set, Python makes one, which is never closed;
# after None was set, it does not.
asyncio.set_event_loop(None)


pytest_plugins = ["pytester"]


def pytest_configure(config: pytest.Config) -> None:
    """Load the plugin also where the package is not installed, and so has no entry points."""
    if not config.pluginmanager.is_registered(_zenovay_async_pytest):
        config.pluginmanager.register(_zenovay_async_pytest)


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


@pytest.fixture(autouse=True)
def _level_of_the_root_logger_as_before() -> Iterator[None]:
    """Litestar sets it as an application starts, and tests read which lines come without such a setting."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)


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


@pytest.fixture
def canned(zenovay_aioresponses: aioresponses) -> aioresponses:
    """Canned responses, and no socket."""
    return zenovay_aioresponses
