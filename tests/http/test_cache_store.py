"""The cache of a client whose responses several processes share; each has a cache here, and all of them one store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from aioresponses import CallbackResult
from helpers import URL, now, requests_sent, unique_key
from simulated_cache_store import CachePlace, SimulatedCacheStore

from zenovay_async import (
    APITimeoutError,
    Cache,
    CacheStoreBack,
    CacheStoreLost,
    CallEnded,
    CallEvent,
    ClientClosedError,
    Event,
    NotFoundError,
    ServerError,
    Zenovay,
)
from zenovay_async._cache.options import parts_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from aioresponses import aioresponses

GOOD: dict[str, Any] = {"success": True, "data": {"pages": []}}

pytestmark = pytest.mark.looptime


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> CachePlace:
    """Where all caches of a test keep their responses."""
    place = CachePlace()
    monkeypatch.setattr(
        "zenovay_async._cache.options.make_cache_store", lambda _, **__: SimulatedCacheStore(place, round_trip=0.001)
    )
    return place


@pytest.fixture
def process(place: CachePlace) -> Callable[..., Zenovay]:
    """Makes a client as another process has it; what they have in common is the key and the place."""
    assert place.values == {}
    key, attempts = unique_key(), 1

    def make(**options: Any) -> Zenovay:
        nonlocal attempts
        # Clients of one thread join the calls of others with as many attempts; those of other processes do not.
        attempts += 1
        names = ("ttl", "stale", "negative_ttl")
        given = {"ttl": 60, "stale": 600, **{name: options.pop(name) for name in names if name in options}}
        cache = options.pop("cache", None) or Cache(**given, jitter=0, store="machine")
        parts_of(cache).clock = now
        return Zenovay(key, cache=cache, rate_limit=None, max_attempts=attempts, **options)

    return make


def slow(seconds: float, request_id: str = "", *, status: int = 200) -> Callable[..., Any]:
    async def respond(*_: Any, **__: Any) -> CallbackResult:
        await asyncio.sleep(seconds)
        return CallbackResult(status=status, payload=GOOD, headers={"x-request-id": request_id})

    return respond


async def test_a_response_of_another_process_costs_no_request(
    canned: aioresponses, process: Callable[..., Zenovay]
) -> None:
    canned.get(URL, payload=GOOD, headers={"x-request-id": "r1"})
    async with process() as one, process() as two:
        await one.heatmaps.pages("x")
        await asyncio.sleep(10)
        first, second = [await two.with_raw_response(two.heatmaps.pages)("x") for _ in range(2)]
        assert (first.from_cache, first.attempts, first.request_id) == (True, 0, "r1")
        assert first.age == pytest.approx(10, abs=0.1)
        # Decoded once.
        assert second.data is first.data
        assert (two.cache.stats.hits, two.cache.stats.misses) == (2, 0)


async def test_one_process_of_many_requests_a_response(canned: aioresponses, process: Callable[..., Zenovay]) -> None:
    canned.get(URL, callback=slow(0.5), repeat=True)
    async with process() as one, process() as two, process() as three:
        await asyncio.gather(*(client.heatmaps.pages("x") for client in (one, two, three, one)))
        assert requests_sent(canned) == 1


async def test_one_process_of_many_refreshes_a_response(canned: aioresponses, process: Callable[..., Zenovay]) -> None:
    canned.get(URL, callback=slow(0.5), repeat=True)
    async with process() as one, process() as two:
        await one.heatmaps.pages("x")
        await asyncio.sleep(70)
        ages: list[float] = []
        for _ in range(50):
            for client in (one, two):
                response = await client.with_raw_response(client.heatmaps.pages)("x")
                assert response.from_cache
                ages.append(response.age)
            await asyncio.sleep(0.1)
        assert requests_sent(canned) == 2
        assert max(ages[-2:]) < 6
        assert one.cache.stats.refreshes + two.cache.stats.refreshes == 1


async def test_a_stale_response_survives_an_outage_in_all_processes(
    canned: aioresponses, process: Callable[..., Zenovay]
) -> None:
    canned.get(URL, payload=GOOD)
    canned.get(URL, status=503, repeat=True)
    async with process() as one, process() as two:
        await one.heatmaps.pages("x")
        for _ in range(20):
            await asyncio.sleep(20)
            for client in (one, two):
                assert (await client.with_raw_response(client.heatmaps.pages)("x")).from_cache


async def test_an_invalidation_holds_in_all_processes(canned: aioresponses, process: Callable[..., Zenovay]) -> None:
    canned.get(URL, payload=GOOD, repeat=True)
    async with process() as one, process() as two:
        await one.heatmaps.pages("x")
        await two.heatmaps.pages("x")
        await two.cache.invalidate("x")
        await one.heatmaps.pages("x")
        await two.heatmaps.pages("x")
        assert requests_sent(canned) == 2
        await one.cache.invalidate("y")
        await two.heatmaps.pages("x")
        assert requests_sent(canned) == 2


async def test_a_call_joins_none_that_another_process_invalidated_since(
    canned: aioresponses, process: Callable[..., Zenovay]
) -> None:
    """Neither a call in flight, nor a refresh."""
    canned.get(URL, callback=slow(5), repeat=True)
    async with process() as one, process() as two:
        for requests in (2, 4):
            before = asyncio.create_task(one.heatmaps.pages("x"))
            await asyncio.sleep(1)
            await two.cache.invalidate("x")
            began = now()
            await asyncio.gather(one.heatmaps.pages("x"), one.heatmaps.pages("x"))
            assert now() - began == pytest.approx(5, abs=0.1)
            assert requests_sent(canned) == requests
            await before
            # Stale from then on, so that what comes next is a refresh.
            await asyncio.sleep(70)


async def test_a_response_that_another_process_invalidated_is_not_returned_after_a_newer_one(
    canned: aioresponses, process: Callable[..., Zenovay], place: CachePlace
) -> None:
    """Even if it came later, while the store was lost."""
    responses = [slow(0.1, "new"), slow(10, "old")]

    async def respond(*_: Any, **__: Any) -> CallbackResult:
        response: CallbackResult = await responses.pop()()
        return response

    canned.get(URL, callback=respond, repeat=True)
    async with process() as one, process() as two:
        old = asyncio.create_task(one.heatmaps.pages("x"))
        await asyncio.sleep(1)
        await two.cache.invalidate("x")
        await two.heatmaps.pages("x", timeout=3)
        place.is_down = True
        await old
        place.is_down = False
        await asyncio.sleep(20)
        response = await one.with_raw_response(one.heatmaps.pages)("x")
        assert (response.from_cache, response.request_id) == (True, "new")


async def test_a_store_that_freezes_holds_up_no_call_beyond_its_deadline(
    canned: aioresponses, process: Callable[..., Zenovay], place: CachePlace
) -> None:
    canned.get(URL, payload=GOOD)
    async with process() as one:
        began = now()
        asyncio.get_running_loop().call_at(began + 0.0016, lambda: setattr(place, "is_frozen", True))
        with pytest.raises(APITimeoutError) as caught:
            await one.heatmaps.pages("x", timeout=0.3)
        assert "acquire_lease" in place.operations
        assert now() - began == pytest.approx(0.3, abs=0.01)
        assert caught.value.sent is False
    assert requests_sent(canned) == 0


async def test_an_invalidation_concerns_no_other_key(canned: aioresponses, process: Callable[..., Zenovay]) -> None:
    canned.get(URL, payload=GOOD, repeat=True)
    async with process() as one:
        other = one.with_options(api_key=unique_key())
        await one.heatmaps.pages("x")
        await other.heatmaps.pages("x")
        await other.cache.clear()
        await one.heatmaps.pages("x")
        assert requests_sent(canned) == 2
        await other.heatmaps.pages("x")
        assert requests_sent(canned) == 3


async def test_max_age_concerns_responses_of_other_processes_too(
    canned: aioresponses, process: Callable[..., Zenovay]
) -> None:
    canned.get(URL, payload=GOOD, repeat=True)
    async with process() as one, process() as two:
        await one.heatmaps.pages("x")
        await asyncio.sleep(10)
        for max_age, requests in ((20, 1), (5, 2), (0, 3), (0, 4)):
            client = two.with_options(max_age=max_age)
            await client.heatmaps.pages("x")
            assert requests_sent(canned) == requests
        await one.heatmaps.pages("x")
        assert requests_sent(canned) == 4


async def test_a_404_is_kept_for_all_processes_on_request(
    canned: aioresponses, process: Callable[..., Zenovay]
) -> None:
    body = {"success": False, "error": {"code": "NOT_FOUND", "message": "Website not found"}}
    canned.get(URL, status=404, payload=body, headers={"x-request-id": "r1"}, repeat=True)
    async with process(negative_ttl=30) as one, process(negative_ttl=30) as two:
        for client, attempts in ((one, 1), (two, 0), (one, 0), (two, 0)):
            with pytest.raises(NotFoundError, match="Website not found") as caught:
                await client.heatmaps.pages("x")
            error = caught.value
            assert (error.attempts, error.operation, error.call) == (attempts, "heatmaps.pages", "GET heatmaps/x/pages")
            assert (error.status, error.code, error.request_id) == (404, "NOT_FOUND", "r1")
        await asyncio.sleep(31)
        with pytest.raises(NotFoundError):
            await two.heatmaps.pages("x")
        assert requests_sent(canned) == 2


async def test_memory_goes_on_alone_while_the_store_is_lost(
    canned: aioresponses, place: CachePlace, process: Callable[..., Zenovay]
) -> None:
    events: list[Event] = []
    canned.get(URL, payload=GOOD, repeat=True)
    async with process(on_event=events.append) as one, process() as two:
        await one.heatmaps.pages("x")
        place.is_down = True
        for _ in range(10):
            await one.heatmaps.pages("x")
        assert requests_sent(canned) == 1
        await two.heatmaps.pages("x")
        await two.heatmaps.pages("x")
        assert requests_sent(canned) == 2
        assert [type(event) for event in events if not isinstance(event, CallEvent)] == [CacheStoreLost]
        assert one.cache.stats.errors == 1
        place.is_down = False
        await asyncio.sleep(20)
        await one.heatmaps.pages("x")
        await asyncio.sleep(1)
        await one.heatmaps.pages("x")
        assert [type(event) for event in events if not isinstance(event, CallEvent)] == [CacheStoreLost, CacheStoreBack]


async def test_a_failure_leaves_the_request_to_others(canned: aioresponses, process: Callable[..., Zenovay]) -> None:
    canned.get(URL, status=501)
    canned.get(URL, payload=GOOD)
    async with process() as one, process() as two:
        with pytest.raises(ServerError):
            await one.heatmaps.pages("x")
        began = now()
        await two.heatmaps.pages("x")
        assert now() - began < 1


async def test_a_call_that_is_canceled_leaves_the_request_to_others(
    canned: aioresponses, process: Callable[..., Zenovay]
) -> None:
    canned.get(URL, callback=slow(100), repeat=True)
    async with process() as one, process() as two:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(one.heatmaps.pages("x"), 1)
        canned.clear()
        canned.get(URL, payload=GOOD)
        began = now()
        await two.heatmaps.pages("x")
        assert now() - began < 1


async def test_the_last_client_of_a_cache_closes_its_store(
    canned: aioresponses, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SimulatedCacheStore(CachePlace())
    monkeypatch.setattr("zenovay_async._cache.options.make_cache_store", lambda _, **__: store)
    canned.get(URL, payload=GOOD, repeat=True)
    cache = Cache(store="machine")
    parts_of(cache).clock = now
    key = unique_key()
    async with Zenovay(key, cache=cache, rate_limit=None) as one:
        await one.heatmaps.pages("x")
        async with Zenovay(key, cache=cache, rate_limit=None) as two:
            await two.heatmaps.pages("x")
        assert store.closed == 0
        await one.heatmaps.pages("x")
    assert store.closed == 1
    async with Zenovay(key, cache=cache, rate_limit=None) as three:
        await three.heatmaps.pages("x")
    assert store.closed == 2
    async with Zenovay(key, cache=cache, rate_limit=None) as four:
        await four.cache.clear()
    assert store.closed == 3
    assert requests_sent(canned) == 1


def test_an_invalidation_for_other_processes_needs_an_event_loop() -> None:
    with pytest.raises(ClientClosedError):
        Zenovay(unique_key(), cache=Cache(store="machine")).cache.clear()


async def test_a_store_that_is_frozen_holds_up_no_lookup_beyond_the_deadline(
    process: Callable[..., Zenovay], place: CachePlace
) -> None:
    async with process() as one:
        place.is_frozen = True
        began = now()
        with pytest.raises(APITimeoutError, match="store of the cache") as caught:
            await one.heatmaps.pages("x", timeout=0.2)
        assert now() - began == pytest.approx(0.2, abs=0.01)
        assert caught.value.sent is False


async def test_what_is_not_get_asks_no_store(
    canned: aioresponses, process: Callable[..., Zenovay], place: CachePlace
) -> None:
    canned.post(URL.replace("heatmaps/x/pages", "query/x"), payload={"success": True, "data": {}}, repeat=True)
    async with process() as one:
        for _ in range(2):
            await one.request("POST", "query/x", json={"question": "?"})
    assert not place.operations


async def test_a_wait_for_the_request_of_another_process_is_explained(
    canned: aioresponses, process: Callable[..., Zenovay]
) -> None:
    canned.get(URL, callback=slow(4))
    events: list[Event] = []
    async with process() as one, process(on_event=events.append) as two:
        first = asyncio.create_task(one.heatmaps.pages("x"))
        await asyncio.sleep(1)
        response = await two.with_raw_response(two.heatmaps.pages)("x")
        await first
    assert requests_sent(canned) == 1
    (wait,) = response.last_waits
    assert wait.reason == "cache"
    assert wait.seconds == pytest.approx(3, abs=0.5)
    assert response.seconds == pytest.approx(wait.seconds, abs=0.1)
    assert response.explain().startswith(f"0.0 s waited {wait.seconds:.1f} s for the cache; from the cache, ")
    assert (response.history, response.attempts) == ((), 0)
    (ended,) = (event for event in events if isinstance(event, CallEnded))
    assert (ended.cache, ended.waits) == ("hit", (wait,))
    assert ended.explain() == f"0.0 s waited {wait.seconds:.1f} s for the cache; from the cache"


async def test_a_request_after_a_wait_for_another_process_says_that_it_waited(
    canned: aioresponses, process: Callable[..., Zenovay]
) -> None:
    async with process() as one, process() as two:
        canned.get(URL, callback=slow(4, status=500))
        canned.get(URL, payload=GOOD, repeat=True)
        first = asyncio.create_task(one.with_options(max_attempts=1).heatmaps.pages("x"))
        await asyncio.sleep(1)
        response = await two.with_raw_response(two.heatmaps.pages)("x")
        with pytest.raises(ServerError):
            await first
    (wait,) = response.history[0].waits
    assert wait.reason == "cache"
    assert wait.seconds == pytest.approx(3, abs=0.5)
    assert response.last_waits == ()
    assert response.explain().startswith(f"0.0 s waited {wait.seconds:.1f} s for the cache; attempt 1: 200 in ")
