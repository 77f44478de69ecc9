"""The cache of a client: what is returned without a request, what is refreshed, and what is never kept."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any
from unittest.mock import create_autospec

import pytest
from aiohttp import web
from helpers import URL, make_client, now, requests_sent, unique_key, until

from zenovay_async import (
    AuthenticationError,
    BadRequestError,
    Cache,
    CacheStats,
    ClientClosedError,
    ConfigurationError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExceededError,
    ResponseDecodeError,
    ServerError,
    Zenovay,
    ZenovayError,
)
from zenovay_async._cache.options import parts_of
from zenovay_async.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from aioresponses import aioresponses

GOOD: dict[str, Any] = {"success": True, "data": {"pages": []}}


class Clock:
    """The time of a cache, which passes when a test says so."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds


def timed(clock: Callable[[], float], **options: Any) -> Cache:
    """A cache with a clock of its own, and without jitter."""
    given: dict[str, Any] = {"ttl": 60, "stale": 600, "jitter": 0, **options}
    cache = Cache(**given)
    parts_of(cache).clock = clock
    return cache


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make(sandbox: Sandbox, clock: Clock, *, api_key: str | None = None, **options: Any) -> Zenovay:
    """A client of the sandbox, with a cache unless another one is given; calls make one attempt."""
    names = ("ttl", "stale", "max_entries", "max_bytes", "negative_ttl", "jitter")
    given = {name: options.pop(name) for name in names if name in options}
    options.setdefault("cache", timed(clock, **given))
    options.setdefault("max_attempts", 1)
    return Zenovay(api_key or sandbox.api_key, base_url=sandbox.url, rate_limit=None, **options)


class Gate:
    """Responses that a sandbox holds back until it is opened."""

    def __init__(self) -> None:
        self.waiting = 0
        self._opened = asyncio.Event()

    def open(self) -> None:
        self._opened.set()

    @property
    def fault(self) -> Fault:
        async def respond(_: web.Request) -> None:
            self.waiting += 1
            await self._opened.wait()

        return Fault("held back", respond)


def responding(make_response: Callable[[], web.Response]) -> Fault:
    """A fault that responds in a way of its own."""

    async def respond(_: web.Request) -> web.Response:
        return make_response()

    return Fault("own", respond)


async def test_a_fresh_response_costs_no_request(sandbox: Sandbox, clock: Clock) -> None:
    site = sandbox.website_ids[0]
    async with make(sandbox, clock) as zenovay:
        raw = zenovay.with_raw_response(zenovay.heatmaps.pages)
        first = await raw(site, limit=5)
        clock.advance(59)
        second = await raw(site, limit=5)
        assert sandbox.count() == 1
        assert second.data == first.data
        assert (await raw(site, limit=5)).data is second.data
        assert (first.from_cache, first.age, first.attempts) == (False, 0.0, 1)
        assert (second.from_cache, second.age, second.attempts, second.waits) == (True, 59.0, 0, ())
        assert (second.body, second.status, second.timestamp) == (first.body, 200, first.timestamp)
        assert second.request_id == first.request_id
        assert second.headers["X-USAGE-monthly"] == first.headers["x-usage-monthly"]
        await zenovay.heatmaps.pages(site, limit=6)
        assert sandbox.count() == 2


async def test_programs_that_end_before_a_refresh_does_wait_for_the_next_one(sandbox: Sandbox, clock: Clock) -> None:
    site, cache, ages = sandbox.website_ids[0], timed(clock), []
    for _ in range(5):
        # As a web request that has an event loop and a client of its own.
        async with make(sandbox, clock, cache=cache) as zenovay:
            ages.append((await zenovay.with_raw_response(zenovay.heatmaps.pages)(site)).age)
        clock.advance(60)
    assert ages == [0, 60, 0, 60, 0]
    assert sandbox.count() == 3


async def test_such_programs_get_the_stale_response_where_that_one_fails(sandbox: Sandbox, clock: Clock) -> None:
    site, cache, ages = sandbox.website_ids[0], timed(clock), []
    for _ in range(4):
        async with make(sandbox, clock, cache=cache) as zenovay:
            ages.append((await zenovay.with_raw_response(zenovay.heatmaps.pages)(site)).age)
        sandbox.fault(Fault.status(503))
        clock.advance(60)
    assert ages == [0, 60, 120, 180]
    assert sandbox.count() == 2
    async with make(sandbox, clock, cache=cache) as zenovay:
        with pytest.raises(ServerError):
            await zenovay.with_options(max_age=100).heatmaps.pages(site)


async def test_a_stale_response_is_returned_while_one_request_refreshes_it(sandbox: Sandbox, clock: Clock) -> None:
    site = sandbox.website_ids[0]
    async with make(sandbox, clock) as zenovay:
        raw = zenovay.with_raw_response(zenovay.heatmaps.pages)
        await raw(site)
        clock.advance(60)
        gate = Gate()
        sandbox.fault(gate.fault, times=1)
        responses = [await raw(site) for _ in range(20)]
        assert {(one.from_cache, one.age) for one in responses} == {(True, 60.0)}
        await until(lambda: gate.waiting == 1)
        gate.open()
        await until(lambda: zenovay.cache.stats.refreshes == 1 and sandbox.count() == 2)
        await until_refreshed(zenovay, site)
        assert sandbox.count() == 2
        assert zenovay.cache.stats.stale >= 20


async def until_refreshed(zenovay: Zenovay, site: str) -> None:
    raw = zenovay.with_raw_response(zenovay.heatmaps.pages)
    async with asyncio.timeout(10):
        while True:
            if not (await raw(site)).age:
                return
            await asyncio.sleep(0.001)


async def test_a_response_is_gone_once_it_is_no_longer_stale(sandbox: Sandbox, clock: Clock) -> None:
    site = sandbox.website_ids[0]
    async with make(sandbox, clock, ttl=10, stale=5) as zenovay:
        raw = zenovay.with_raw_response(zenovay.heatmaps.pages)
        await raw(site)
        clock.advance(15)
        assert not (await raw(site)).from_cache
        assert sandbox.count() == 2


async def test_jitter_only_shortens_the_time_for_which_a_response_is_fresh(sandbox: Sandbox, clock: Clock) -> None:
    cache = timed(clock, jitter=0.5, stale=0)
    parts_of(cache).random = lambda: 0.5
    async with make(sandbox, clock, cache=cache) as zenovay:
        raw = zenovay.with_raw_response(zenovay.heatmaps.pages)
        await raw(sandbox.website_ids[0])
        clock.advance(44)
        await raw(sandbox.website_ids[0])
        assert zenovay.cache.stats.hits == 1
        clock.advance(2)
        await raw(sandbox.website_ids[0])
        assert (zenovay.cache.stats.hits, zenovay.cache.stats.stale) == (1, 1)


@pytest.mark.looptime
async def test_pages_survive_an_outage_of_a_minute(canned: aioresponses) -> None:
    zenovay = make_client(cache=timed(now, ttl=10, stale=120), max_attempts=2)
    async with zenovay:
        canned.get(URL, payload=GOOD)
        raw = zenovay.with_raw_response(zenovay.heatmaps.pages)
        response = await raw("x")
        canned.get(URL, status=503, repeat=True)
        for _ in range(60):
            await asyncio.sleep(1)
            response = await raw("x")
            assert response.from_cache
        assert response.age == pytest.approx(60)
        assert zenovay.cache.stats.errors > 0
        # Not one with each call.
        assert requests_sent(canned) < 40
        canned.clear()
        canned.get(URL, payload=GOOD, repeat=True)
        while response.age > 10:
            await asyncio.sleep(1)
            response = await raw("x")
        assert zenovay.cache.stats.misses == 1


@pytest.mark.looptime
async def test_the_next_refresh_after_one_that_failed_waits_a_little(canned: aioresponses) -> None:
    """As long as the server says, within bounds."""
    async with make_client(cache=timed(now, ttl=10, stale=1000), max_attempts=1) as zenovay:
        canned.get(URL, payload=GOOD)
        await zenovay.heatmaps.pages("x")
        await asyncio.sleep(10)
        canned.get(URL, payload={"success": True, "data": {"pages": 7}}, repeat=True)
        for _ in range(30):
            await zenovay.heatmaps.pages("x")
            await asyncio.sleep(0.5)
        assert zenovay.cache.stats.refreshes == zenovay.cache.stats.errors == 3
        canned.clear()
        canned.get(URL, status=503, headers={"Retry-After": "20"}, repeat=True)
        refreshes = zenovay.cache.stats.refreshes
        for _ in range(36):
            await zenovay.heatmaps.pages("x")
            await asyncio.sleep(0.5)
        assert zenovay.cache.stats.refreshes <= refreshes + 1


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, BadRequestError),
        (401, AuthenticationError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (422, BadRequestError),
    ],
)
async def test_a_refresh_that_is_refused_for_good_ends_the_stale_response(
    sandbox: Sandbox, clock: Clock, status: int, error: type[ZenovayError]
) -> None:
    site = sandbox.website_ids[0]
    async with make(sandbox, clock) as zenovay:
        await zenovay.heatmaps.pages(site)
        clock.advance(100)
        sandbox.fault(Fault.status(status))
        await zenovay.heatmaps.pages(site)
        await until(lambda: zenovay.cache.stats.entries == 0)
        with pytest.raises(error):
            await zenovay.heatmaps.pages(site)
        assert zenovay.cache.stats.errors == 0


async def test_a_refusal_ends_the_kept_response_also_if_another_client_made_the_request(
    sandbox: Sandbox, clock: Clock
) -> None:
    site, released, requests = sandbox.website_ids[0], asyncio.Event(), 0

    async def refuse(_: web.Request) -> web.Response:
        nonlocal requests
        requests += 1
        await released.wait()
        return web.json_response({"success": False, "error": {"message": "Revoked"}}, status=401)

    async with make(sandbox, clock) as zenovay:
        await zenovay.heatmaps.pages(site)
        clock.advance(1)
        sandbox.fault(Fault("revoked", refuse))
        calls = [asyncio.create_task(zenovay.with_options(cache=None).heatmaps.pages(site))]
        await until(lambda: requests == 1)
        calls.append(asyncio.create_task(zenovay.with_options(max_age=0).heatmaps.pages(site)))
        await until(lambda: zenovay.cache.stats.joined == 1)
        released.set()
        for call in calls:
            with pytest.raises(AuthenticationError):
                await call
        assert requests == 1
        assert zenovay.cache.stats.entries == 0
        with pytest.raises(AuthenticationError):
            await zenovay.heatmaps.pages(site)


async def test_errors_are_not_kept(sandbox: Sandbox, clock: Clock) -> None:
    site = sandbox.website_ids[0]
    async with make(sandbox, clock) as zenovay:
        for fault in (Fault.status(500), Fault.status(404), Fault.not_success(), Fault.garbage_json()):
            sandbox.fault(fault, times=1)
            with pytest.raises(ZenovayError):
                await zenovay.heatmaps.pages(site)
        assert (await zenovay.heatmaps.pages(site)).pages
        assert zenovay.cache.stats.misses == 5


async def test_other_keys_never_get_a_response(sandbox: Sandbox, clock: Clock) -> None:
    site, cache = sandbox.website_ids[0], timed(clock)
    other_key = sandbox.add_key("other")
    async with make(sandbox, clock, cache=cache) as one, make(sandbox, clock, cache=cache, api_key=other_key) as other:
        await one.heatmaps.pages(site)
        await other.heatmaps.pages(site)
        assert sandbox.count() == 2
        with pytest.raises(AuthenticationError):
            await one.with_options(api_key=unique_key()).heatmaps.pages(site)
        await other.cache.clear()
        await one.heatmaps.pages(site)
        assert sandbox.count() == 3


async def test_clients_of_one_key_share_a_cache(sandbox: Sandbox, clock: Clock) -> None:
    """As in a program that makes a client for each request that it serves."""
    cache = timed(clock)
    for _ in range(3):
        async with make(sandbox, clock, cache=cache) as zenovay:
            await zenovay.heatmaps.pages(sandbox.website_ids[0])
    assert sandbox.count() == 1


async def test_post_is_never_kept(sandbox: Sandbox, clock: Clock) -> None:
    site = sandbox.website_ids[0]
    async with make(sandbox, clock) as zenovay:
        for _ in range(2):
            await zenovay.query(site, "How many visitors?")
            await zenovay.request("POST", f"query/{site}", json={"question": "How many?"})
            await zenovay.request("GET", f"heatmaps/{site}/pages", json={"a": 1})
        assert sandbox.count() == 6
        assert zenovay.cache.stats == CacheStats(
            hits=0, stale=0, misses=0, joined=0, refreshes=0, errors=0, entries=0, bytes=0
        )


async def test_a_404_is_kept_on_request(sandbox: Sandbox, clock: Clock) -> None:
    async with make(sandbox, clock, negative_ttl=30) as zenovay:
        errors: list[NotFoundError] = []
        for _ in range(3):
            with pytest.raises(NotFoundError) as caught:
                await zenovay.heatmaps.pages("nobody")
            errors.append(caught.value)
            clock.advance(10)
        assert sandbox.count() == 1
        first, second, third = errors
        assert len({id(error) for error in errors}) == 3
        assert (first.attempts, second.attempts, second.waits) == (1, 0, ())
        for name in ("message", "status", "code", "operation", "call", "request_id", "body"):
            assert getattr(third, name) == getattr(first, name) is not None
        with pytest.raises(NotFoundError) as caught:
            await zenovay.heatmaps.pages("nobody")
        assert (caught.value.attempts, sandbox.count()) == (1, 2)


async def test_a_404_replaces_a_stale_response(sandbox: Sandbox, clock: Clock) -> None:
    site = sandbox.website_ids[0]
    async with make(sandbox, clock, negative_ttl=30) as zenovay:
        await zenovay.heatmaps.pages(site)
        clock.advance(100)
        sandbox.fault(Fault.status(404), times=1)
        await zenovay.heatmaps.pages(site)
        await until(lambda: zenovay.cache.stats.refreshes == 1 and sandbox.count() == 2)
        await until(lambda: zenovay.cache.stats.bytes < 200)
        with pytest.raises(NotFoundError) as caught:
            await zenovay.heatmaps.pages(site)
        assert (caught.value.attempts, sandbox.count()) == (0, 2)


async def test_invalidate_drops_what_it_names(sandbox: Sandbox, clock: Clock) -> None:
    one, two = sandbox.website_ids[:2]
    async with make(sandbox, clock) as zenovay:

        async def ask() -> int:
            """Make four calls; returns how many requests they took."""
            clock.advance(1)
            before = sandbox.count()
            for site in (one, two):
                await zenovay.heatmaps.pages(site)
                await zenovay.analytics.countries(site)
            return sandbox.count() - before

        assert (await ask(), await ask()) == (4, 0)
        zenovay.cache.invalidate(one)
        assert (await ask(), await ask()) == (2, 0)
        await zenovay.cache.invalidate(operation="heatmaps.pages")
        assert (await ask(), await ask()) == (2, 0)
        await zenovay.cache.invalidate(website_id=one, operation="heatmaps.pages")
        assert (await ask(), await ask()) == (1, 0)
        await zenovay.cache.clear()
        assert (await ask(), await ask()) == (4, 0)


async def test_a_request_that_began_before_an_invalidation_does_not_undo_it(sandbox: Sandbox, clock: Clock) -> None:
    site, gate = sandbox.website_ids[0], Gate()
    async with make(sandbox, clock) as zenovay:
        sandbox.fault(gate.fault, times=1)
        task = asyncio.create_task(zenovay.heatmaps.pages(site))
        await until(lambda: gate.waiting == 1)
        clock.advance(1)
        zenovay.cache.invalidate(site)
        gate.open()
        assert (await task).pages
        assert zenovay.cache.stats.entries == 0
        clock.advance(1)
        await zenovay.heatmaps.pages(site)
        await zenovay.heatmaps.pages(site)
        assert sandbox.count() == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"expected a website_id, an operation or both; for all, use clear\(\)"),
        ({"website_id": ""}, "website_id=''"),
        ({"website_id": 7}, "website_id=7: expected a non-blank str"),
        ({"operation": 7}, "operation=7: expected a non-blank str"),
        ({"operation": Zenovay.heatmaps.pages}, "operation: expected a name such as 'heatmaps.pages', not the method"),
    ],
)
def test_invalidate_says_what_is_wrong_with_its_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Zenovay(unique_key()).cache.invalidate(**arguments)


def test_the_cache_of_a_client_is_not_set_by_assignment() -> None:
    zenovay: Any = Zenovay(unique_key())
    with pytest.raises(AttributeError, match=r"cache=, or a sibling by with_options\(cache=\)"):
        zenovay.cache = Cache()
    assert zenovay.cache is zenovay.cache


def test_the_cache_of_a_client_shows_its_options_and_its_figures_but_no_password() -> None:
    shown = repr(Zenovay(unique_key(), cache=Cache(ttl=5, store="redis://:swordfish@127.0.0.1")).cache)
    assert shown.startswith("<ClientCache: CacheStats(hits=")
    assert "hits=0" in shown
    assert "swordfish" not in shown


async def test_max_age_bounds_how_old_a_response_may_be(sandbox: Sandbox, clock: Clock) -> None:
    site = sandbox.website_ids[0]
    async with make(sandbox, clock) as zenovay:
        new, newer = zenovay.with_options(max_age=100), zenovay.with_options(max_age=0)
        await zenovay.heatmaps.pages(site)
        clock.advance(99)
        assert (await new.with_raw_response(new.heatmaps.pages)(site)).age == 99
        await until_refreshed(zenovay, site)
        count = sandbox.count()
        clock.advance(100)
        assert not (await new.with_raw_response(new.heatmaps.pages)(site)).from_cache
        assert sandbox.count() == count + 1
        for _ in range(3):
            clock.advance(1)
            assert not (await newer.with_raw_response(newer.heatmaps.pages)(site)).from_cache
        assert sandbox.count() == count + 4
        # What it requested is there for the others.
        clock.advance(59)
        assert (await zenovay.with_raw_response(zenovay.heatmaps.pages)(site)).age == 59
        assert sandbox.count() == count + 4
        again = newer.with_options(max_age=None)
        assert (await again.with_raw_response(again.heatmaps.pages)(site)).from_cache


async def test_a_sibling_without_a_cache_neither_uses_nor_fills_it(sandbox: Sandbox, clock: Clock) -> None:
    site = sandbox.website_ids[0]
    async with make(sandbox, clock) as zenovay:
        sibling = zenovay.with_options(cache=None)
        await sibling.heatmaps.pages(site)
        await zenovay.heatmaps.pages(site)
        await sibling.heatmaps.pages(site)
        assert sandbox.count() == 3
        assert sibling.cache.stats == CacheStats(
            hits=0, stale=0, misses=0, joined=0, refreshes=0, errors=0, entries=0, bytes=0
        )
        await sibling.cache.clear()
        await sibling.with_options(cache=timed(clock)).heatmaps.pages(site)
        assert sandbox.count() == 4


async def test_each_cache_of_equal_calls_keeps_the_response(sandbox: Sandbox, clock: Clock) -> None:
    site = sandbox.website_ids[0]
    async with make(sandbox, clock) as one, make(sandbox, clock) as two:
        await asyncio.gather(one.heatmaps.pages(site), two.heatmaps.pages(site))
        count = sandbox.count()
        await one.heatmaps.pages(site)
        await two.heatmaps.pages(site)
        assert sandbox.count() == count
        assert (one.cache.stats.entries, two.cache.stats.entries) == (1, 1)


async def test_stats_say_what_happened(sandbox: Sandbox, clock: Clock) -> None:
    site = sandbox.website_ids[0]
    async with make(sandbox, clock) as zenovay:
        response = await zenovay.with_raw_response(zenovay.heatmaps.pages)(site)
        await zenovay.heatmaps.pages(site)
        clock.advance(100)
        await zenovay.heatmaps.pages(site)
        await until(lambda: sandbox.count() == 2)
        stats = zenovay.cache.stats
        assert (stats.hits, stats.stale, stats.misses, stats.refreshes, stats.errors) == (1, 1, 1, 1, 0)
        assert (stats.entries, stats.bytes) == (1, len(response.body))


@pytest.mark.parametrize("where", ["body", "header"])
@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("zv_test", "zv_test"),
        ("zv_a/b+c", "zv_a/b+c"),
        ("zv_a/b+c", "zv_a\\/b+c"),
        ("zv_a/b+c", "zv_a/b\\u002bc"),
        ("zv_a/b+c", "zv_a/b%2Bc"),
        ("zv_a/b+c", "zv_a%2fb%2bc"),
        ("zv_a&b<c", "zv_a&amp;b&lt;c"),
        ("zv_a&b<c", "zv_a\\u0026amp;b&#60;c"),
        ("zv_a\\b%c", "zv_a\\\\b%c"),
        ("zv_a%41/b", "zv_a%41/b"),
    ],
)
async def test_a_response_that_has_the_key_in_it_is_not_kept(
    sandbox: Sandbox, clock: Clock, where: str, key: str, shown: str
) -> None:
    """However JSON, a URL or HTML spells it."""
    body = b'{"success": true, "data": {"pages": []}, "key": "%s"}' % (b"" if where == "header" else shown.encode())
    headers = {"X-Debug": shown} if where == "header" else {}
    sandbox.fault(responding(lambda: web.Response(body=body, content_type="application/json", headers=headers)))
    async with make(sandbox, clock, api_key=key) as zenovay:
        for _ in range(2):
            await zenovay.heatmaps.pages(sandbox.website_ids[0])
        assert (sandbox.count(), zenovay.cache.stats.entries) == (2, 0)


async def test_cookies_are_not_kept(sandbox: Sandbox, clock: Clock) -> None:
    headers = {"Set-Cookie": "a=1", "X-Other": "2"}
    sandbox.fault(responding(lambda: web.json_response(GOOD, headers=headers)))
    async with make(sandbox, clock) as zenovay:
        raw = zenovay.with_raw_response(zenovay.heatmaps.pages)
        first, second = await raw("x"), await raw("x")
        assert (first.headers.get("set-cookie"), second.headers.get("set-cookie")) == ("a=1", None)
        assert second.from_cache
        assert second.headers["x-other"] == "2"


async def test_a_call_with_an_invalid_timeout_fails_also_where_the_response_is_kept(
    sandbox: Sandbox, clock: Clock
) -> None:
    async with make(sandbox, clock) as zenovay:
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="timeout=0"):
                await zenovay.heatmaps.pages(sandbox.website_ids[0], timeout=0)
            await zenovay.heatmaps.pages(sandbox.website_ids[0], timeout=None)


async def test_a_closed_client_returns_nothing(sandbox: Sandbox, clock: Clock) -> None:
    async with make(sandbox, clock) as zenovay:
        await zenovay.heatmaps.pages(sandbox.website_ids[0])
    with pytest.raises(ClientClosedError):
        await zenovay.heatmaps.pages(sandbox.website_ids[0])


async def test_closing_a_client_ends_its_refreshes(sandbox: Sandbox, clock: Clock) -> None:
    site, gate = sandbox.website_ids[0], Gate()
    async with make(sandbox, clock) as zenovay:
        await zenovay.heatmaps.pages(site)
        clock.advance(100)
        before = asyncio.all_tasks()
        sandbox.fault(gate.fault)
        await zenovay.heatmaps.pages(site)
        await until(lambda: gate.waiting == 1)
        assert asyncio.all_tasks() - before
    # Those of the sandbox end with their connections.
    await until(lambda: asyncio.all_tasks() <= before)
    assert zenovay.cache.stats.entries == 1


async def test_plain_values_are_nobody_elses(sandbox: Sandbox, clock: Clock) -> None:
    site = sandbox.website_ids[0]
    async with make(sandbox, clock) as zenovay:
        first = await zenovay.request("GET", f"heatmaps/{site}/pages")
        expected = len(first["pages"])
        first["pages"].clear()
        second = await zenovay.request("GET", f"heatmaps/{site}/pages")
        assert len(second["pages"]) == expected
        second.clear()
        assert (await zenovay.request("GET", f"heatmaps/{site}/pages"))["pages"]
        assert sandbox.count() == 1


async def test_a_strict_client_gets_no_response_that_only_another_one_accepts(sandbox: Sandbox, clock: Clock) -> None:
    body = {"success": True, "data": {"pages": [], "surprise": 1}}
    sandbox.fault(responding(lambda: web.json_response(body)))
    cache = timed(clock)
    async with make(sandbox, clock, cache=cache) as lenient, make(sandbox, clock, cache=cache, strict=True) as strict:
        await lenient.heatmaps.pages("x")
        with pytest.raises(ResponseDecodeError, match="surprise"):
            await strict.heatmaps.pages("x")
        await lenient.heatmaps.pages("x")
        assert sandbox.count() == 2
        sandbox.clear_faults()
        first = await strict.heatmaps.pages(sandbox.website_ids[0])
        kept = await strict.heatmaps.pages(sandbox.website_ids[0])
        assert kept == first
        assert await lenient.heatmaps.pages(sandbox.website_ids[0]) is kept


async def test_a_batch_uses_what_is_kept(sandbox: Sandbox, clock: Clock) -> None:
    async with make(sandbox, clock) as zenovay:
        for _ in range(2):
            async with zenovay.batch(sandbox.website_ids, zenovay.heatmaps.pages) as results:
                assert len([result async for result in results if result.error is None]) == 3
        assert sandbox.count() == 3


async def test_what_is_kept_shows_a_batch_that_its_parameters_are_valid(sandbox: Sandbox, clock: Clock) -> None:
    """So that errors of the websites that follow are their own."""
    async with make(sandbox, clock) as zenovay:
        await zenovay.heatmaps.pages(sandbox.website_ids[0])
        sandbox.fault(Fault.status(400))
        items = [sandbox.website_ids[0], *"abcdef"]
        async with zenovay.batch(items, zenovay.heatmaps.pages, concurrency=1) as results:
            errors = [result.error async for result in results]
        assert [type(error) for error in errors] == [type(None), *[BadRequestError] * 6]


async def test_usage_is_requested_while_the_quota_is_exhausted(sandbox: Sandbox, clock: Clock) -> None:
    async with make(sandbox, clock) as zenovay:
        await zenovay.usage()
        await zenovay.usage()
        assert sandbox.count() == 1
        sandbox.fault(Fault.monthly_limit(), times=1)
        with pytest.raises(QuotaExceededError):
            await zenovay.heatmaps.pages(sandbox.website_ids[0])
        await zenovay.usage()
        assert sandbox.count() == 3
        await zenovay.heatmaps.pages(sandbox.website_ids[0])


async def test_a_response_from_the_cache_is_logged(
    sandbox: Sandbox, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "zenovay_async")
    async with make(sandbox, clock) as zenovay:
        await zenovay.heatmaps.pages(sandbox.website_ids[0])
        clock.advance(10)
        await zenovay.heatmaps.pages(sandbox.website_ids[0])
        clock.advance(60)
        await zenovay.heatmaps.pages(sandbox.website_ids[0])
    assert f"GET heatmaps/{sandbox.website_ids[0]}/pages: HTTP 200 from the cache, fresh, 10.0 s old" in caplog.messages
    assert any("from the cache, stale, 70.0 s old" in message for message in caplog.messages)


async def test_a_response_larger_than_the_bound_is_not_kept(sandbox: Sandbox, clock: Clock) -> None:
    async with make(sandbox, clock, max_bytes=50) as zenovay:
        for _ in range(2):
            await zenovay.heatmaps.pages(sandbox.website_ids[0])
        assert (sandbox.count(), zenovay.cache.stats.entries) == (2, 0)


async def test_a_mock_of_a_client_has_a_cache() -> None:
    mock = create_autospec(Zenovay)
    mock.cache.invalidate("a1")
    mock.cache.invalidate.assert_called_once_with("a1")
    with pytest.raises(TypeError):
        mock.cache.clear(1, 2, 3)


@pytest.mark.looptime
async def test_an_error_of_a_miss_is_the_call_s_own(canned: aioresponses) -> None:
    async with make_client(cache=timed(now), max_attempts=1) as zenovay:
        canned.get(URL, status=500, repeat=True)
        for _ in range(2):
            with pytest.raises(ServerError) as caught:
                await zenovay.heatmaps.pages("x")
            assert (caught.value.attempts, caught.value.operation) == (1, "heatmaps.pages")
        assert requests_sent(canned) == 2


def test_a_cache_outlives_event_loops_and_serves_several_threads() -> None:
    """A stale response is refreshed in whichever loop runs."""
    clock = Clock()
    cache = timed(clock)
    ages: list[float] = []

    async def ask(sandbox_url: str, api_key: str) -> None:
        async with Zenovay(api_key, base_url=sandbox_url, cache=cache, rate_limit=None) as zenovay:
            raw = zenovay.with_raw_response(zenovay.heatmaps.pages)
            ages.append((await raw("x")).age)
            if cache_is_stale():
                await until_refreshed(zenovay, "x")

    def cache_is_stale() -> bool:
        return clock.time > 1050

    async def run() -> None:
        async with Sandbox() as sandbox:
            sandbox.fault(responding(lambda: web.json_response(GOOD)))
            url, key = sandbox.url, sandbox.api_key
            await asyncio.to_thread(asyncio.run, ask(url, key))
            clock.advance(10)
            threads = [threading.Thread(target=asyncio.run, args=(ask(url, key),)) for _ in range(3)]
            for thread in threads:
                thread.start()
            await asyncio.gather(*(asyncio.to_thread(thread.join) for thread in threads))
            clock.advance(90)
            await asyncio.to_thread(asyncio.run, ask(url, key))
            assert sandbox.count() == 2

    asyncio.run(run())
    assert ages == [0.0, 10.0, 10.0, 10.0, 100.0]
