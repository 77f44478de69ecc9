"""The report of a batch says what it sent and what came of it; ``max_requests`` bounds what it may send."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from helpers import until

from zenovay_async import BatchReport, BatchStoppedError, Cache, Failure, NotFoundError, ServerError, Success, Zenovay
from zenovay_async.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from aiohttp import web

    from zenovay_async import Batch, BatchResult


@pytest.fixture(autouse=True)
def _quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zenovay_async._session.retry.BACKOFF_FIRST", 0.002)


@pytest.fixture
async def many() -> AsyncIterator[Sandbox]:
    """A sandbox with more websites."""
    async with Sandbox(websites=12) as running:
        yield running


def client(sandbox: Sandbox, **options: Any) -> Zenovay:
    """A client that is not paced."""
    return Zenovay(sandbox.api_key, base_url=sandbox.url, rate_limit=None, **options)


async def run(
    zenovay: Zenovay, items: Iterable[Any], fetch: Callable[[Any], Any] | None = None, **options: Any
) -> tuple[Batch[Any, Any], list[BatchResult[Any, Any]], BatchStoppedError | None]:
    """Run a batch; returns it, its results and the error that stopped it."""
    results: list[BatchResult[Any, Any]] = []
    stopped = None
    batch = zenovay.batch(items, fetch or zenovay.heatmaps.pages, **options)
    try:
        async with batch:
            async for result in batch:
                results.append(result)
    except BatchStoppedError as error:
        stopped = error
    return batch, results, stopped


async def test_the_report_counts_what_the_server_received(many: Sandbox) -> None:
    """Retries, rate limits, errors, and requests without a response, whatever came of their items."""
    many.fault(Fault.rate_limited("0"), times=2)
    many.fault(Fault.status(500), times=3)
    many.fault(Fault.reset(), times=1)
    many.fault(Fault.cut_body(), times=2)
    before = datetime.now(UTC)
    async with client(many) as zenovay:
        batch, results, _ = await run(zenovay, [*many.website_ids, "unknown"], concurrency=4)
    report = batch.report
    await until(lambda: many.count() == report.requests)
    assert report.requests - report.retries == 13
    assert report.rate_limited == many.count(status=429) == 2
    assert (report.done, report.succeeded, report.failed) == (13, 12, {"NotFoundError": 1})
    assert [type(result.error) for result in results if isinstance(result, Failure)] == [NotFoundError]
    assert report.ended is not None
    assert before <= report.started <= report.ended <= datetime.now(UTC)
    assert report.p50 is not None
    assert report.p95 is not None
    assert 0 < report.p50 <= report.p95


async def test_a_report_is_json(sandbox: Sandbox) -> None:
    """Times are text with their zone; numbers are numbers."""
    async with client(sandbox) as zenovay:
        batch, _, _ = await run(zenovay, [*sandbox.website_ids, "unknown"])
    plain = json.loads(json.dumps(batch.report.to_dict()))
    assert datetime.fromisoformat(plain["started"]).utcoffset() is not None
    assert plain["failed"] == {"NotFoundError": 1}
    assert (plain["requests"], plain["retries"], plain["waited"]) == (4, 0, 0.0)
    assert set(plain) == set(BatchReport.__struct_fields__)
    assert json.loads(batch.report.to_json()) == plain


async def test_a_report_while_the_batch_runs_says_what_was_done_so_far(sandbox: Sandbox) -> None:
    """It has no end, and is a value that does not change."""
    async with (
        client(sandbox) as zenovay,
        zenovay.batch(sandbox.website_ids, zenovay.heatmaps.pages, concurrency=1) as batch,
    ):
        assert (batch.report.requests, batch.report.done, batch.report.p50) == (0, 0, None)
        await anext(batch)
        first = batch.report
        counted = (first.requests, first.done)
        async for _ in batch:
            pass
        assert first.ended is None
        assert (first.requests, first.done) == counted
        assert counted[0] >= 1
    assert batch.report.requests == 3


async def test_no_more_requests_are_sent_than_max_requests(many: Sandbox) -> None:
    """Retries included; what was fetched until then is handed out, and the next run fetches the others."""
    many.fault(Fault.status(503), share=0.3)
    async with client(many, max_attempts=2) as zenovay:
        batch, results, stopped = await run(zenovay, many.website_ids, concurrency=5, max_requests=7)
    assert stopped is not None
    assert stopped.reason == "max_requests"
    assert stopped.message == "Stopped after 7 requests (max_requests=7); no further request was sent"
    assert many.count() == batch.report.requests == 7
    assert not any(isinstance(result.error, BatchStoppedError) for result in results)
    assert batch.report.done == len(results) < 12


async def test_a_batch_that_takes_just_as_many_requests_as_it_may_is_whole(sandbox: Sandbox) -> None:
    """Only the next one would be too many."""
    async with client(sandbox) as zenovay:
        batch, results, stopped = await run(zenovay, sandbox.website_ids, max_requests=3)
    assert stopped is None
    assert [type(result) for result in results] == [Success] * 3
    assert batch.report.requests == 3


async def test_a_question_takes_three_requests_of_the_bound(sandbox: Sandbox) -> None:
    """The bound is in requests as the quota counts them; the report counts those that were sent."""
    async with client(sandbox) as zenovay:
        batch, results, stopped = await run(
            zenovay, range(4), lambda _: zenovay.query(sandbox.website_ids[0], "How many visitors?"), max_requests=8
        )
    assert stopped is not None
    assert "Stopped after 6 requests (max_requests=8); the next call is charged 3" in stopped.message
    assert (len(results), batch.report.requests, sandbox.count()) == (2, 2, 2)


async def test_a_retry_that_does_not_fit_leaves_its_item_for_a_later_run(sandbox: Sandbox) -> None:
    """The item has no result, as a later run may fetch it; the error says what its last attempt met."""
    sandbox.fault(Fault.status(500, "Out of order"))
    async with client(sandbox) as zenovay:
        _, results, stopped = await run(zenovay, sandbox.website_ids, concurrency=1, max_requests=2)
    assert results == []
    assert stopped is not None
    assert stopped.attempts == 2
    cause = stopped.__cause__
    assert isinstance(cause, ServerError)
    assert "Out of order" in str(cause)
    assert sandbox.count() == 2


async def test_direct_calls_beside_a_batch_are_not_its_own(many: Sandbox) -> None:
    """They are not in its report, and not held to its bound."""
    async with client(many) as zenovay:
        batch, results, stopped = await run(zenovay, many.website_ids[:3], max_requests=3)
        for website_id in many.website_ids[3:]:
            await zenovay.heatmaps.pages(website_id)
    assert stopped is None
    assert (len(results), batch.report.requests, many.count()) == (3, 3, 12)


async def test_a_batch_that_joins_direct_calls_sends_nothing(sandbox: Sandbox) -> None:
    """Who led the request has sent it."""
    have_joined = asyncio.Event()

    async def respond(_: web.Request) -> None:
        await have_joined.wait()

    sandbox.fault(Fault("held", respond))
    async with client(sandbox) as zenovay, asyncio.TaskGroup() as group:
        for website_id in sandbox.website_ids:
            group.create_task(zenovay.heatmaps.pages(website_id))
        await asyncio.sleep(0)
        running = group.create_task(run(zenovay, sandbox.website_ids, max_requests=1))
        await until(lambda: zenovay.cache.stats.joined == 3)
        have_joined.set()
    batch, results, stopped = await running
    assert stopped is None
    assert (len(results), batch.report.requests, sandbox.count()) == (3, 0, 3)
    assert batch.report.p50 is None


async def test_responses_from_the_cache_take_nothing_of_the_bound(sandbox: Sandbox) -> None:
    """They need no request."""
    async with client(sandbox, cache=Cache(ttl=60)) as zenovay:
        await run(zenovay, sandbox.website_ids)
        batch, results, stopped = await run(zenovay, sandbox.website_ids, max_requests=1)
    assert stopped is None
    assert (len(results), batch.report.requests, batch.report.done) == (3, 0, 3)
    assert sandbox.count() == 3


async def test_a_server_that_refuses_connections_takes_no_request(sandbox: Sandbox) -> None:
    """Attempts that make no connection are none of the report's requests, nor charged."""
    async with Sandbox() as gone:
        url = gone.url
    async with Zenovay(sandbox.api_key, base_url=url, rate_limit=None) as zenovay:
        batch = zenovay.batch(range(3), lambda _: zenovay.usage(), max_requests=1, max_outage=0.0)
        with pytest.raises(Exception, match="server has been unreachable"):
            async with batch:
                async for _ in batch:
                    pass
    assert (batch.report.requests, batch.report.retries, batch.report.p50) == (0, 0, None)


async def test_the_report_says_what_is_left_of_the_quota(sandbox: Sandbox) -> None:
    """As the newest response stated it."""
    key = sandbox.add_key("nightly", monthly_limit=100, monthly_used=40)
    async with Zenovay(key, base_url=sandbox.url) as zenovay:
        batch, _, _ = await run(zenovay, sandbox.website_ids)
    assert batch.report.quota_remaining == 57
