"""Arguments of a call are checked before a request is sent, and each call can return its whole response."""

from __future__ import annotations

import asyncio
import copy
import pickle
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from zenovay_async import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallStarted,
    ConfigurationError,
    HeatmapPages,
    NotFoundError,
    RetryScheduled,
    Zenovay,
)
from zenovay_async.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from zenovay_async import Event
    from zenovay_async.sandbox import Sandbox


async def listen(_event: object) -> None:
    """A listener that would have to be awaited."""


async def generate(event: object) -> AsyncIterator[object]:
    yield event


def yield_event(event: object) -> Iterator[object]:
    yield event


class AsynchronousListener:
    async def __call__(self, event: object) -> None:
        await listen(event)


NEVER_RUN = [
    *(listen, generate, yield_event, partial(listen), AsynchronousListener(), partial(partial(AsynchronousListener()))),
]
"""Listeners that, when they are called, return something to be run."""


async def test_pages_are_typed_sorted_and_limited(zenovay: Zenovay, sandbox: Sandbox) -> None:
    report = await zenovay.heatmaps.pages(sandbox.website_ids[0], limit=3)
    assert isinstance(report, HeatmapPages)
    counts = [page.total_interactions for page in report.pages]
    assert len(counts) == 3
    assert counts == sorted(counts, reverse=True)
    assert all(page.last_updated and page.last_updated.tzinfo for page in report.pages)


async def test_without_a_limit_the_servers_default_holds(zenovay: Zenovay, sandbox: Sandbox) -> None:
    assert len((await zenovay.heatmaps.pages(sandbox.website_ids[0])).pages) <= 20
    assert sandbox.requests[-1].query == ""


@pytest.mark.parametrize("limit", [0, -1, 101, 1.5, "10", True])
async def test_an_invalid_limit_costs_no_request(zenovay: Zenovay, sandbox: Sandbox, limit: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"limit={limit!r}: expected an int from 1 to 100"):
        await zenovay.heatmaps.pages(sandbox.website_ids[0], limit=limit)
    assert sandbox.count() == 0


@pytest.mark.parametrize("website_id", ["", "  ", ".", "..", None, 5])
async def test_an_invalid_id_costs_no_request(zenovay: Zenovay, sandbox: Sandbox, website_id: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"website_id={website_id!r}: expected an ID"):
        await zenovay.heatmaps.pages(website_id)
    assert sandbox.count() == 0


@pytest.mark.parametrize("website_id", ["a/../../usage", "a?limit=1", "a#b", "ü/ö", "a%2Fb", "a b"])
async def test_an_id_stays_one_segment_of_the_path(zenovay: Zenovay, website_id: str) -> None:
    """An ID cannot reach beyond its segment of the path."""
    with pytest.raises(NotFoundError):
        await zenovay.heatmaps.pages(website_id)


async def test_the_raw_response_has_headers_and_metadata(zenovay: Zenovay, sandbox: Sandbox) -> None:
    """All that came with a response is available."""
    response = await zenovay.with_raw_response(zenovay.heatmaps.pages)(sandbox.website_ids[0], limit=1)
    assert len(response.data.pages) == 1
    assert response.status == 200
    assert response.request_id == sandbox.requests[-1].request_id
    assert response.attempts == 1
    assert response.waits == ()
    assert response.timestamp is not None
    assert response.rate_limit.limit is not None
    assert response.usage.monthly == 1
    assert response.json()["data"]["pages"][0]["url"] == response.data.pages[0].url


async def test_a_raw_response_pickles_and_copies(zenovay: Zenovay, sandbox: Sandbox) -> None:
    response = await zenovay.with_raw_response(zenovay.heatmaps.pages)(sandbox.website_ids[0], limit=1)
    for twin in (pickle.loads(pickle.dumps(response)), copy.copy(response), copy.deepcopy(response)):  # noqa: S301 - our own
        assert type(twin) is type(response)
        assert twin == response
        assert twin.headers["X-REQUEST-ID"] == twin.request_id == response.request_id
        assert (twin.rate_limit, twin.usage, twin.json()) == (response.rate_limit, response.usage, response.json())


async def test_a_raw_response_is_shown_in_a_few_words_and_without_what_the_server_sent(
    zenovay: Zenovay, sandbox: Sandbox
) -> None:
    """A server may echo the key anywhere."""
    response = await zenovay.with_raw_response(zenovay.heatmaps.pages)(sandbox.website_ids[0])
    assert repr(response) == f"Response(200, HeatmapPages, {len(response.body)} bytes)"


async def test_only_methods_of_this_client_have_a_raw_response(zenovay: Zenovay) -> None:
    async with Zenovay("zv_other") as other:
        methods: list[Any] = [print, other.heatmaps.pages, asyncio.sleep, zenovay.estimate, zenovay.batch]
        for method in methods:
            with pytest.raises(ConfigurationError) as caught:
                zenovay.with_raw_response(method)
            assert caught.value.message == (
                f"with_raw_response({method!r}): expected a method of this client that makes one call, "
                "such as zenovay.heatmaps.pages"
            )


async def test_an_endpoint_without_a_method_is_called_by_its_path(zenovay: Zenovay, sandbox: Sandbox) -> None:
    path = f"heatmaps/{sandbox.website_ids[0]}/pages"
    typed = await zenovay.request("GET", path, params={"limit": 2, "range": None}, result_type=HeatmapPages)
    plain = await zenovay.request("GET", f"/{path}", params={"limit": 2})
    assert [page.url for page in typed.pages] == [page["url"] for page in plain["pages"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"allow_http": "false"}, "allow_http='false': expected True or False"),
        ({"strict": "x"}, "strict='x': expected True or False"),
        ({"on_event": 5}, "on_event=5: expected a plain function of one event, or several in a list"),
        ({"on_event": [print, 5]}, "on_event=.*: expected a plain function of one event, or several"),
        ({"telemetry": 5}, "telemetry=5: expected an object with"),
        ({"on_event": asyncio.sleep}, "on_event=<function sleep"),
        *(({"on_event": listener}, "on_event=.*: expected a plain function of one event") for listener in NEVER_RUN),
    ],
)
def test_an_option_of_another_type_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Zenovay("zv_x", **options)


async def test_a_listener_that_returns_a_coroutine_is_logged(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """What only shows when it is called is said in the log, and the call goes on."""
    forward: Any = lambda event: listen(event)  # noqa: E731, PLW0108 - the mistake
    sandbox.fault(Fault.status(500), times=1)
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, on_event=forward) as zenovay:
        await zenovay.usage()
    assert "on_event returned a coroutine, which nothing awaits" in caplog.text


async def test_a_fetch_that_cannot_be_called_is_named(zenovay: Zenovay) -> None:
    fetch: Any = None
    with pytest.raises(ConfigurationError, match="fetch=None: expected a function of one item"):
        zenovay.batch(["a"], fetch)


async def test_a_sibling_may_have_no_listener(sandbox: Sandbox) -> None:
    heard: list[Event] = []
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, on_event=heard.append) as zenovay:
        await zenovay.usage()
        before = len(heard)
        assert before > 0
        sandbox.fault(Fault.status(500), times=1)
        await zenovay.with_options(on_event=None).usage()
        assert len(heard) == before
        sandbox.fault(Fault.status(500), times=1)
        await zenovay.with_options(timeout=5).usage()
        assert [type(event) for event in heard[before:]] == [
            *(CallStarted, AttemptStarted, AttemptEnded, RetryScheduled),
            *(AttemptStarted, AttemptEnded, CallEnded),
        ]
