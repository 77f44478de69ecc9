"""A client sends with the aiohttp session that it was given, whatever its settings, and never closes it."""

from __future__ import annotations

import asyncio
import threading
import warnings
from typing import Any

import aiohttp
import pytest

from zenovay_async import (
    APIConnectionError,
    APITimeoutError,
    ClientClosedError,
    ConfigurationError,
    Zenovay,
    ZenovayError,
)
from zenovay_async._limits.window import WindowLimiter
from zenovay_async.sandbox import Sandbox
from zenovay_async.sandbox.faults import NAMED


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


class SocksError(Exception):
    """As aiohttp-socks raises them: none of aiohttp's, nor of the system's."""


class SocksConnector(aiohttp.TCPConnector):
    """A connector of another package than aiohttp, whose proxy is not there."""

    async def connect(self, *_: Any, **__: Any) -> Any:
        raise SocksError("Couldn't connect to proxy 127.0.0.1:1080")


@pytest.mark.parametrize("kind", [OSError, aiohttp.ClientError, ValueError])
async def test_what_a_connector_says_is_shown_on_one_line(kind: type[Exception]) -> None:
    """A connector, a resolver or a proxy floods and forges no log: its words are printable, and few."""

    class Loud(aiohttp.TCPConnector):
        async def connect(self, *_: Any, **__: Any) -> Any:
            raise kind("no way\r\n\x1b[31mINFO all is well " + "and on\n" * 100_000)

    async with aiohttp.ClientSession(connector=Loud()) as session:
        zenovay = Zenovay("zv_k", base_url="https://api.example", session=session, max_attempts=1)
        with pytest.raises(ZenovayError, match="no way") as caught:
            await zenovay.usage()
    assert len(str(caught.value)) < 700
    assert str(caught.value).isprintable()


async def test_what_the_connector_raises_is_an_error_of_the_tree(sandbox: Sandbox) -> None:
    """As no connection could be made, nothing was sent, not even what must not be sent twice."""
    async with aiohttp.ClientSession(connector=SocksConnector()) as session:
        zenovay = Zenovay(sandbox.api_key, base_url=sandbox.url, session=session, max_attempts=1)
        for call in (zenovay.websites.list(), zenovay.query(sandbox.website_ids[0], "Where from?")):
            with pytest.raises(APIConnectionError) as caught:
                await call
            assert caught.value.message == (
                "No connection could be made: SocksError: Couldn't connect to proxy 127.0.0.1:1080"
            )
            assert (caught.value.sent, caught.value.unreachable, caught.value.final) == (False, True, False)
            assert isinstance(caught.value.__cause__, SocksError)


async def test_what_a_middleware_of_the_session_raises_is_the_callers(sandbox: Sandbox) -> None:
    async def fail(*_: object) -> aiohttp.ClientResponse:
        raise KeyError("the caller's own")

    async with aiohttp.ClientSession(middlewares=[fail]) as session:
        zenovay = Zenovay(sandbox.api_key, base_url=sandbox.url, session=session)
        with pytest.raises(KeyError, match="the caller's own"):
            await zenovay.websites.list()


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
        ({"timeout": 5, "attempt_timeout": 9}, "No complete response within timeout=5"),
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
    assert caught.value.message == message


async def make_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession()


async def check_rejected(sandbox: Sandbox, session: aiohttp.ClientSession, message: str) -> None:
    """Every way to use a client of that session says what is wrong."""
    zenovay = Zenovay(sandbox.api_key, base_url=sandbox.url, session=session)
    for client in (zenovay, zenovay.with_options(timeout=None)):
        with pytest.raises(ClientClosedError, match=message):
            await client.heatmaps.pages("x")
        with pytest.raises(ClientClosedError, match=message):
            async with client:
                pytest.fail("entered")
        with pytest.raises(ClientClosedError, match=message):
            async with client.batch(["a", "b"], client.heatmaps.pages) as results:
                await anext(results)
    await zenovay.close()
    assert sandbox.count() == 0
    assert zenovay._budget.statistics().in_flight == 0


async def test_a_session_of_a_closed_event_loop_is_named_as_the_cause(sandbox: Sandbox) -> None:
    session = await asyncio.to_thread(asyncio.run, make_session())
    await check_rejected(sandbox, session, "belongs to an event loop that is closed; make it in the loop")
    assert session.connector is not None
    await session.connector.close()


async def test_a_session_of_a_loop_in_another_thread_is_named_as_the_cause(sandbox: Sandbox) -> None:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    session = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(make_session(), loop))
    await check_rejected(sandbox, session, "belongs to another event loop")
    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(session.close(), loop))
    loop.call_soon_threadsafe(loop.stop)
    await asyncio.to_thread(thread.join)
    loop.close()


@pytest.mark.parametrize(
    ("limits", "slots", "bound"),
    [
        ({"limit": 1}, 1, r"all 1 \(limit of the session's connector\) are in use"),
        ({"limit": 0, "limit_per_host": 2}, 2, r"all 2 \(limit_per_host of the session's connector\) are in use"),
        ({"limit": 0}, 3, r"all 3 \(max_connections\) are in use"),
        ({"limit": 3}, 3, r"all 3 \(max_connections\) are in use"),
    ],
)
async def test_no_more_requests_are_in_flight_than_the_session_has_connections(
    limits: dict[str, Any], slots: int, bound: str
) -> None:
    """So that no request waits inside aiohttp, where the timeout of its attempt runs."""
    async with (
        Sandbox(websites=1, latency=0.1) as sandbox,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(**limits)) as session,
    ):
        options: dict[str, Any] = {"session": session, "max_connections": 3, "rate_limit": None, "max_attempts": 1}
        zenovay = Zenovay(sandbox.api_key, base_url=sandbox.url, coalesce=False, **options)
        site = sandbox.website_ids[0]
        await asyncio.gather(*(zenovay.heatmaps.pages(site) for _ in range(3 * slots)))
        assert sandbox.count() == 3 * slots
        calls = [asyncio.create_task(zenovay.heatmaps.pages(site)) for _ in range(slots)]
        await asyncio.sleep(0)
        with pytest.raises(APITimeoutError, match=bound) as caught:
            await zenovay.heatmaps.pages(site, timeout=0.02)
        assert not caught.value.sent
        await asyncio.gather(*calls)
