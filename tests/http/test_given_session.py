"""A client sends with the aiohttp session that it was given, whatever its settings, and never closes it."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from zenovay_async import APITimeoutError, ClientClosedError, ConfigurationError, Zenovay, ZenovayError
from zenovay_async._limits.window import WindowLimiter
from zenovay_async.sandbox.faults import NAMED

if TYPE_CHECKING:
    from zenovay_async.sandbox import Sandbox


async def test_a_given_session_stays_open(sandbox: Sandbox) -> None:
    """A session that was passed in stays open."""
    async with aiohttp.ClientSession() as session:
        async with Zenovay(sandbox.api_key, base_url=sandbox.url, session=session) as zenovay:
            await zenovay.heatmaps.pages(sandbox.website_ids[0])
        assert not session.closed


async def test_a_closed_session_is_named_as_the_cause(sandbox: Sandbox) -> None:
    """A session that was passed in and closed is named as the cause."""
    session = aiohttp.ClientSession()
    await session.close()
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, session=session) as zenovay:
        with pytest.raises(ClientClosedError, match="session was closed"):
            await zenovay.heatmaps.pages(sandbox.website_ids[0])


@pytest.mark.parametrize("fault", [None, *NAMED])
async def test_raise_for_status_makes_no_difference(sandbox: Sandbox, fault: str | None) -> None:
    """Neither to the error nor to its text, although aiohttp's error has the key among its headers."""
    if fault is not None:
        sandbox.fault(NAMED[fault](), times=1)

    async def outcome(session: aiohttp.ClientSession | None) -> tuple[str, int | None]:
        # A short timeout only for the faults that are slow, as any other may take long on a busy machine.
        timeout = 0.2 if fault in {"slow-body", "latency"} else 15.0
        options: dict[str, Any] = {"max_attempts": 1, "rate_limit": None, "timeout": timeout}
        key = sandbox.add_key("another")
        async with Zenovay(key, base_url=sandbox.url, session=session, **options) as zenovay:
            try:
                await zenovay.heatmaps.pages(sandbox.website_ids[0])
            except ZenovayError as error:
                return type(error).__name__, error.status
        return "", 200

    async with aiohttp.ClientSession(raise_for_status=True) as session:
        strict = await outcome(session)
    if fault is not None:
        sandbox.clear_faults()
        sandbox.fault(NAMED[fault](), times=1)
    assert strict == await outcome(None)


async def test_an_auth_of_the_session_beside_a_bearer_key_is_rejected(sandbox: Sandbox) -> None:
    """An ``auth`` of the session that was passed in, beside a bearer key, is a configuration error."""
    limiter = WindowLimiter()
    with warnings.catch_warnings():
        # aiohttp 4 will have none.
        warnings.simplefilter("ignore", DeprecationWarning)
        made = aiohttp.ClientSession(auth=aiohttp.BasicAuth("user", "password"))
    async with made as session:
        options: dict[str, Any] = {"base_url": sandbox.url, "session": session, "rate_limit": limiter}
        async with Zenovay(sandbox.api_key, auth="bearer", **options) as zenovay:
            with pytest.raises(ConfigurationError, match="aiohttp rejected the request"):
                await zenovay.heatmaps.pages(sandbox.website_ids[0])
        async with Zenovay(sandbox.api_key, **options) as zenovay:
            assert (await zenovay.heatmaps.pages(sandbox.website_ids[0])).pages
    assert sandbox.count() == 1
    assert limiter.statistics().in_flight == 0


async def test_middlewares_of_the_session_still_run(sandbox: Sandbox) -> None:
    """The middlewares of a session that was passed in still run."""
    seen: list[str] = []

    async def note(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        seen.append(request.url.path)
        return await handler(request)

    async with aiohttp.ClientSession(middlewares=[note]) as session:
        await Zenovay(sandbox.api_key, base_url=sandbox.url, session=session).heatmaps.pages(sandbox.website_ids[0])
    assert len(seen) == 1


async def test_an_error_that_the_caller_handles_keeps_its_traceback(sandbox: Sandbox) -> None:
    """A call made while an error is handled fails without touching that error, whatever aiohttp raises."""
    session = aiohttp.ClientSession()
    await session.close()
    zenovay = Zenovay(sandbox.api_key, base_url=sandbox.url, session=session)
    own = KeyError("the caller's own")
    try:
        raise own
    except KeyError:
        with pytest.raises(ClientClosedError):
            await zenovay.usage()
    assert own.__traceback__ is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"timeout": None, "attempt_timeout": None},
            "No complete response within the time that something else allowed",
        ),
        ({"timeout": None, "attempt_timeout": 9}, "No complete response within attempt_timeout=9"),
        ({"timeout": 5, "attempt_timeout": 9}, "No complete response within the SECONDS s left of timeout"),
    ],
)
async def test_a_timeout_names_the_bound(sandbox: Sandbox, options: dict[str, Any], message: str) -> None:
    """A timeout names the bound that ran out; one that a middleware of the session raises may have none here."""

    async def time_out(*_: object) -> aiohttp.ClientResponse:
        raise TimeoutError

    async with aiohttp.ClientSession(middlewares=[time_out]) as session:
        zenovay = Zenovay(sandbox.api_key, base_url=sandbox.url, session=session, max_attempts=1, **options)
        with pytest.raises(APITimeoutError) as caught:
            await zenovay.usage()
    assert re.sub(r"[\d.]+ s", "SECONDS s", caught.value.message) == message
