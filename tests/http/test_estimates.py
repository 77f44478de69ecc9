"""What a batch would take: estimated from its items and its method, without a request."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from helpers import make_client, unique_key

from zenovay_async import Cache, ConfigurationError, Estimate, HeatmapPages, Zenovay
from zenovay_async._methods import plan_calls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zenovay_async._protocol.call import Call
    from zenovay_async.sandbox import Sandbox


class Fresh:
    """A cache in which the calls of some paths are fresh."""

    def __init__(self, *paths: str) -> None:
        self.paths = paths
        self.asked: list[str] = []

    def is_fresh(self, call: Call[Any]) -> bool:
        self.asked.append(f"{call.path}?{call.query}")
        return call.path in self.paths


async def test_an_estimate_of_items_is_that_of_as_many_calls(zenovay: Zenovay, sandbox: Sandbox) -> None:
    await zenovay.usage()
    ids = [f"w{number}" for number in range(200)]
    for background in (True, False):
        estimate = zenovay.estimate(ids, zenovay.heatmaps.pages, background=background)
        assert estimate.requests == 200
        assert estimate.cached == 0
        # Time goes by between the two.
        assert estimate.seconds == pytest.approx(zenovay.estimate(200, background=background).seconds, abs=5)
        assert estimate.quota_share == zenovay.estimate(200).quota_share
    assert sandbox.count() == 1


def test_equal_items_count_once_as_a_batch_fetches_them_once() -> None:
    zenovay = make_client()
    for items in (["a", "b", "a", "a"], deque("abab"), {"a", "b"}, {"x": "a", "y": "b", "z": "a"}.values()):
        assert zenovay.estimate(items, zenovay.heatmaps.pages).requests == 2
    assert zenovay.estimate([], zenovay.heatmaps.pages) == Estimate(seconds=0.0, requests=0, quota_share=None)


def test_each_call_counts_what_its_endpoint_costs() -> None:
    zenovay = make_client()
    assert zenovay.estimate(["a", "b"], partial(zenovay.query, question="How many?")).requests == 6
    assert zenovay.estimate(["goals", "funnels"], partial(zenovay.request, "GET", cost=5)).requests == 10


def test_a_list_in_pages_counts_one_page() -> None:
    """No list is reported as one that was never awaited."""
    zenovay = make_client()
    assert zenovay.estimate(["a", "b"], zenovay.analytics.visitors).requests == 2
    assert zenovay.estimate(["a", "b"], partial(zenovay.replays.sessions, limit=7)).requests == 2


def test_what_is_fresh_needs_no_request() -> None:
    """Each call is asked for as it would be made."""
    zenovay, cache = make_client(), Fresh("insights/a", "insights/c")
    method = partial(partial(zenovay.insights.list, range="30d"), limit=3)
    plan = plan_calls(["a", "a", "b", "c"], method, zenovay._caller, cache)
    assert (plan.requests, plan.cached) == (1, 2)
    assert cache.asked == [f"insights/{item}?range=30d&limit=3" for item in "abc"]


async def test_what_a_client_fetched_a_moment_ago_is_fresh(sandbox: Sandbox) -> None:
    """As long as it counts for that client."""
    ids = sandbox.website_ids
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, cache=Cache(ttl=60)) as zenovay:
        await zenovay.heatmaps.pages(ids[0])
        await zenovay.heatmaps.pages(ids[1], limit=3)
        assert zenovay.estimate(ids, zenovay.heatmaps.pages).cached == 1
        assert zenovay.estimate(ids, partial(zenovay.heatmaps.pages, limit=3)).cached == 1
        assert zenovay.estimate(ids, zenovay.websites.get).cached == 0
        for sibling in (zenovay.with_options(max_age=0), zenovay.with_options(cache=None)):
            assert sibling.estimate(ids, sibling.heatmaps.pages).cached == 0
        async with zenovay.batch(ids, zenovay.heatmaps.pages) as results:
            assert len([result async for result in results]) == 3
        assert sandbox.count() == 4
        assert zenovay.estimate(ids, zenovay.heatmaps.pages) == Estimate(
            seconds=0.0, requests=0, quota_share=0.0, cached=3
        )
        zenovay.cache.invalidate(website_id=ids[0])
        assert zenovay.estimate(ids, zenovay.heatmaps.pages).cached == 2
        assert sandbox.count() == 4


async def test_an_estimate_is_what_a_batch_then_takes(zenovay: Zenovay, sandbox: Sandbox) -> None:
    ids = [*sandbox.website_ids, sandbox.website_ids[0], "no-such-website"]
    for method in (zenovay.heatmaps.pages, partial(zenovay.query, question="How many?")):
        await zenovay.usage()
        before = zenovay.quota.used
        estimate = zenovay.estimate(ids, method)
        async with zenovay.batch(ids, method) as results:
            assert len([result async for result in results]) == 5
        await zenovay.usage()
        assert before is not None
        assert zenovay.quota.used == before + estimate.requests + 1


def endless() -> Iterator[str]:
    """IDs without an end."""
    while True:
        yield "a"


async def one_by_one() -> Any:
    """IDs that come one by one."""
    yield "a"


@pytest.mark.parametrize(
    "items", [endless(), itertools.count(), iter(["a"]), map(str, [1]), one_by_one(), "abc", b"abc", 5, None]
)
def test_items_whose_number_is_unknown_are_no_collection(items: Any) -> None:
    zenovay = make_client()
    with pytest.raises(ConfigurationError, match=r"^items=.*: expected a collection whose length is known"):
        zenovay.estimate(items, zenovay.heatmaps.pages)


def test_an_iterator_loses_no_item() -> None:
    zenovay = make_client()
    items: Any = iter(["a", "b"])
    with pytest.raises(ConfigurationError, match="would take them away"):
        zenovay.estimate(items, zenovay.heatmaps.pages)
    assert list(items) == ["a", "b"]


@pytest.mark.parametrize(
    ("items", "make_method", "message"),
    [
        (["a", ""], lambda zenovay: zenovay.heatmaps.pages, "website_id='': expected an ID"),
        ([5], lambda zenovay: zenovay.analytics.visitors, "website_id=5: expected an ID"),
        (["a"], lambda zenovay: partial(zenovay.heatmaps.pages, limit=0), "limit=0: expected"),
        (["a"], lambda zenovay: partial(zenovay.heatmaps.pages, timeout=-1), "timeout=-1: expected"),
        (["a"], lambda zenovay: partial(zenovay.request, "PUT"), "method='PUT': expected"),
    ],
)
async def test_an_invalid_argument_raises_as_it_would_in_the_call(
    sandbox: Sandbox, items: list[Any], make_method: Callable[[Any], Any], message: str
) -> None:
    async with Zenovay(sandbox.api_key, base_url=sandbox.url) as zenovay:
        method = make_method(zenovay)
        with pytest.raises(ConfigurationError) as estimated:
            zenovay.estimate(items, method)
        with pytest.raises(ConfigurationError) as called:
            await method(items[-1])
    assert estimated.value.message.startswith(message)
    assert estimated.value.message == called.value.message
    assert sandbox.count() == 0


def test_a_method_that_takes_no_item_raises_as_it_would_in_the_call() -> None:
    zenovay: Any = make_client()
    with pytest.raises(TypeError, match="takes 1 positional argument"):
        zenovay.estimate(["a"], zenovay.usage)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'path'"):
        zenovay.estimate(["a"], zenovay.request)


def test_only_methods_of_this_client_are_planned_and_no_function_of_the_users_runs() -> None:
    zenovay, other, called = make_client(), make_client(), []

    async def fetch(item: str) -> HeatmapPages:
        called.append(item)
        return await zenovay.heatmaps.pages(item)

    methods: list[Any] = [
        fetch,
        partial(fetch),
        called.append,
        other.heatmaps.pages,
        partial(other.query, question="?"),
    ]
    methods += [
        print,
        asyncio.sleep,
        zenovay.estimate,
        zenovay.batch,
        zenovay.with_raw_response(zenovay.heatmaps.pages),
    ]
    methods += [zenovay.heatmaps._is_bound_to, "zenovay.heatmaps.pages"]
    for method in methods:
        with pytest.raises(ConfigurationError) as caught:
            zenovay.estimate(["a"], method)
        assert caught.value.message == (
            f"estimate(..., {method!r}): expected a method of this client that makes one call, such as "
            "zenovay.heatmaps.pages, or a functools.partial of one"
        )
    assert called == []


def test_a_method_that_makes_no_call_at_once_is_none_that_makes_one() -> None:
    """A subclass may have methods of its own."""

    class Mine(Zenovay):
        async def usage(self, *_: Any, **__: Any) -> Any:
            return None

        async def query(self, *_: Any, **__: Any) -> Any:
            await asyncio.sleep(0)

    zenovay: Any = Mine(unique_key())
    for method in (zenovay.usage, zenovay.query):
        with pytest.raises(ConfigurationError, match="expected a method of this client that makes one call"):
            zenovay.estimate(["a"], method)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((["a"],), {}, r"estimate\(\) of a list: expected a number of calls, or a collection of items and the method"),
        ((2.0,), {}, r"estimate\(\) of a float: expected a number of calls"),
        ((-1,), {}, "n=-1: expected an int >= 0"),
        ((True,), {}, "n=True: expected an int >= 0"),
        ((3,), {"cost": 0}, "cost=0: expected an int >= 1"),
    ],
)
def test_an_estimate_of_a_number_checks_its_arguments(arguments: Any, options: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_client().estimate(*arguments, **options)


def test_a_method_excludes_a_cost() -> None:
    zenovay: Any = make_client()
    with pytest.raises(ConfigurationError, match=r"^cost=3: the endpoint of the method says what its calls cost"):
        zenovay.estimate(["a"], zenovay.heatmaps.pages, cost=3)
