"""Mocked responses and blocked requests: what they do to a client."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from zenovay_async import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    ConfigurationError,
    RateLimitError,
    ServerError,
    Zenovay,
    ZenovayError,
)
from zenovay_async.sandbox import Fault
from zenovay_async.testing import aioresponses, block_live, forget_limits, no_waits

if TYPE_CHECKING:
    from zenovay_async.sandbox import Sandbox

URL = "https://api.zenovay.example"
WEBSITES: dict[str, Any] = {"success": True, "data": {"websites": []}}


def client(**options: Any) -> Zenovay:
    return Zenovay("zv_mocked", base_url=URL, **options)


@pytest.mark.parametrize(
    ("mocked", "error"),
    [
        ({"status": 500}, ServerError),
        ({"status": 502, "body": "<html>", "content_type": "text/html"}, ServerError),
        ({"status": 429, "headers": {"Retry-After": "7"}}, RateLimitError),
        ({"status": 302, "headers": {"Location": "https://x.example"}}, APIStatusError),
        ({"timeout": True}, APITimeoutError),
        ({"exception": aiohttp.ServerDisconnectedError()}, APIConnectionError),
        ({}, APIConnectionError),
    ],
)
async def test_each_failure_that_is_mocked_is_the_error_that_it_would_be(
    mocked: dict[str, Any], error: type[ZenovayError]
) -> None:
    with aioresponses() as responses, no_waits():
        if mocked:
            responses.get(f"{URL}/websites", repeat=True, **mocked)
        async with client(max_attempts=2) as zenovay:
            with pytest.raises(error) as caught:
                await zenovay.websites.list()
    assert caught.value.attempts == (1 if error is APIStatusError else 2)
    assert type(caught.value) is error


async def test_a_rate_limit_is_not_shared_by_two_tests() -> None:
    """They have one key, and each spends the whole limit."""
    for _ in range(2):
        with aioresponses() as responses:
            responses.get(f"{URL}/websites", payload=WEBSITES, repeat=True)
            async with client(rate_limit=3, timeout=5) as zenovay:
                for _ in range(3):
                    await zenovay.websites.list()
                with pytest.raises(RateLimitError):
                    await zenovay.websites.list()


async def test_what_is_known_of_a_key_can_be_forgotten(sandbox: Sandbox) -> None:
    """Also by a client that goes on."""
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=2, timeout=5) as zenovay:
        for _ in range(2):
            await zenovay.usage()
        with pytest.raises(RateLimitError):
            await zenovay.usage()
        forget_limits()
        await zenovay.usage()


async def test_requests_to_a_sandbox_may_pass_beside_mocks(sandbox: Sandbox) -> None:
    with aioresponses(passthrough=[sandbox.url]):
        async with Zenovay(sandbox.api_key, base_url=sandbox.url) as zenovay:
            assert (await zenovay.websites.list()).websites


def test_a_mock_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aioresponses", None)
    with pytest.raises(ConfigurationError, match="pip install aioresponses"), aioresponses():
        pass


async def test_a_live_request_is_blocked_before_a_connection_is_made() -> None:
    with block_live():
        async with client(max_attempts=3) as zenovay:
            with pytest.raises(
                ConfigurationError, match=r"would send one to api\.zenovay\.example; make it where the fixture"
            ) as caught:
                await zenovay.websites.list()
    assert caught.value.attempts == 1


async def test_all_else_is_not_blocked(sandbox: Sandbox) -> None:
    """Neither this machine, nor mocks, nor requests of others."""
    with block_live():
        async with Zenovay(sandbox.api_key, base_url=sandbox.url, max_attempts=1) as zenovay:
            await zenovay.usage()
            await sandbox.__aexit__(None, None, None)
            with pytest.raises(APIConnectionError):
                await zenovay.usage()
        with aioresponses() as responses:
            responses.get(f"{URL}/websites", payload=WEBSITES)
            async with client() as zenovay:
                await zenovay.websites.list()
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get("http://nowhere.invalid")


@pytest.mark.parametrize("is_outside", [True, False])
async def test_waits_are_skipped_inside_and_outside_of_a_block_of_live_requests(
    sandbox: Sandbox, *, is_outside: bool
) -> None:
    sandbox.fault(Fault.rate_limited("30"), times=1)
    with ExitStack() as stack:
        if is_outside:
            stack.enter_context(block_live())
        waits = stack.enter_context(no_waits())
        if not is_outside:
            stack.enter_context(block_live())
        async with client(max_attempts=1) as zenovay:
            with pytest.raises(ConfigurationError):
                await zenovay.usage()
        async with Zenovay(sandbox.api_key, base_url=sandbox.url, timeout=60) as zenovay:
            await zenovay.usage()
    assert waits.skipped == pytest.approx(30, abs=5)
