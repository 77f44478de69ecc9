"""The sandbox behaves as the API's documentation says, and shares no code with the client."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

import zenovay_async.sandbox
from zenovay_async.sandbox import Sandbox
from zenovay_async.sandbox.limits import Kind, make_limiter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


async def get(
    session: aiohttp.ClientSession, sandbox: Sandbox, path: str, key: str | None = None
) -> tuple[int, Any, Any]:
    headers = {"X-API-Key": key or sandbox.api_key}
    async with session.get(f"{sandbox.url}{path}", headers=headers, allow_redirects=False) as response:
        return response.status, await response.json(), response.headers


def test_it_imports_nothing_of_the_client() -> None:
    folder = Path(zenovay_async.sandbox.__file__).parent
    imported = {
        name
        for file in folder.glob("*.py")
        for name in re.findall(r"^(?:from|import) (zenovay_async\S*)", file.read_text(), re.MULTILINE)
    }
    assert all(name.startswith("zenovay_async.sandbox") for name in imported)


async def test_answers_carry_the_documented_envelope_and_headers(
    session: aiohttp.ClientSession, sandbox: Sandbox
) -> None:
    status, body, headers = await get(session, sandbox, f"/heatmaps/{sandbox.website_ids[0]}/pages?limit=1")
    assert status == 200
    assert set(body) == {"success", "data", "timestamp"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body["timestamp"])
    assert set(body["data"]["pages"][0]) == {"url", "total_interactions", "last_updated"}
    assert {"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-Usage-Monthly", "X-Usage-Limit"} <= set(headers)
    assert {"X-Usage-Reset", "X-Usage-Total", "x-request-id"} <= {*headers, *map(str.lower, headers)}


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/heatmaps/{id}/pages?limit=0", 400, "VALIDATION_ERROR"),
        ("/heatmaps/{id}/pages?limit=101", 400, "VALIDATION_ERROR"),
        ("/heatmaps/{id}/pages?limit=ten", 400, "VALIDATION_ERROR"),
        ("/analytics/{id}?range=2d", 400, "VALIDATION_ERROR"),
        ("/insights/{id}?range=1y", 400, "VALIDATION_ERROR"),
        ("/heatmaps/nobody/pages", 404, "NOT_FOUND"),
        ("/nothing", 404, "NOT_FOUND"),
        ("/stats/aggregate", 400, "VALIDATION_ERROR"),
    ],
)
async def test_wrong_requests_get_the_documented_errors(
    session: aiohttp.ClientSession, sandbox: Sandbox, path: str, status: int, code: str
) -> None:
    got, body, _ = await get(session, sandbox, path.format(id=sandbox.website_ids[0]))
    assert (got, body["error"]["code"], body["success"]) == (status, code, False)


async def test_refused_keys_are_not_charged(session: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    assert (await get(session, sandbox, "/usage", "zv_wrong"))[0] == 401
    assert (await get(session, sandbox, "/usage"))[1]["data"]["usage"]["monthly_requests"] == 1


async def test_the_limit_refuses_in_the_documented_words(session: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    key = sandbox.add_key("small", rate_limit=2)
    answers = [await get(session, sandbox, "/usage", key) for _ in range(3)]
    assert [status for status, _, _ in answers] == [200, 200, 429]
    _, body, headers = answers[2]
    said = re.fullmatch(
        r"Rate limit exceeded \(2 requests/minute\)\. Try again in (\d+) seconds", body["error"]["message"]
    )
    assert said is not None
    assert headers["Retry-After"] == said[1]


async def test_the_same_seed_is_the_same_world() -> None:
    one, two, other = Sandbox(websites=3), Sandbox(websites=3), Sandbox(websites=3, seed=1)
    assert one.website_ids == two.website_ids != other.website_ids


async def test_figures_hang_together(session: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    site = sandbox.website_ids[1]
    _, overview, _ = await get(session, sandbox, f"/analytics/{site}?range=30d")
    summary, rows = overview["data"]["summary"], overview["data"]["daily_stats"]
    assert len(rows) == 30
    assert summary["total_visitors"] == sum(row["total_visitors"] for row in rows)
    assert summary["total_page_views"] == sum(row["page_views"] for row in rows)
    _, countries, _ = await get(session, sandbox, f"/analytics/{site}/countries?range=30d")
    assert sum(row["visitors"] for row in countries["data"]["countries"]) == summary["total_visitors"]
    _, heatmap, _ = await get(session, sandbox, f"/heatmaps/{site}/pages?limit=100")
    counts = [page["total_interactions"] for page in heatmap["data"]["pages"]]
    assert counts == sorted(counts, reverse=True)
    _, retention, _ = await get(session, sandbox, f"/retention/{site}")
    for row in retention["data"]["cohorts"]:
        assert row["retention_rate"] == round(row["retained_users"] / row["total_users"] * 100, 2)
    listed = {row["id"]: row for row in (await get(session, sandbox, "/websites"))[1]["data"]["websites"]}
    assert overview["data"]["website"]["domain"] == listed[site]["domain"]


async def test_pages_of_visitors_join_without_gap_or_overlap(session: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    site = sandbox.website_ids[0]
    seen: list[str] = []
    more = True
    while more:
        _, body, _ = await get(session, sandbox, f"/analytics/{site}/visitors?range=24h&limit=300&offset={len(seen)}")
        seen += [visitor["id"] for visitor in body["data"]["visitors"]]
        more = body["data"]["pagination"]["has_more"]
    _, overview, _ = await get(session, sandbox, f"/analytics/{site}?range=24h")
    assert len(set(seen)) == len(seen) == overview["data"]["summary"]["total_visitors"]


async def test_a_question_costs_three_and_needs_the_scale_plan(
    session: aiohttp.ClientSession, sandbox: Sandbox
) -> None:
    for plan, status, used in (("scale", 200, 3), ("pro", 403, 3)):
        key = sandbox.add_key(plan, plan=plan)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - from a table
        url = f"{sandbox.url}/query/{sandbox.website_ids[0]}"
        async with session.post(url, headers={"X-API-Key": key}, json={"question": "Who?"}) as response:
            assert (response.status, response.headers["X-Usage-Monthly"]) == (status, str(used))


async def test_the_openapi_document_needs_no_key(session: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    async with session.get(f"{sandbox.url}/openapi.json") as response:
        assert (await response.json())["openapi"] == "3.1.0"


@pytest.mark.parametrize("kind", ["fixed", "sliding", "bucket", "counter"])
def test_each_limiter_allows_its_limit_and_tells_truly_when_the_next_may_come(kind: Kind) -> None:
    limiter = make_limiter(kind, 10, 60.0)
    now = 600.0
    assert [limiter.admit(now) for _ in range(11)] == [True] * 10 + [False]
    for _ in range(30):
        wait = limiter.reset_after(now)
        if wait > 0:
            assert not limiter.admit(now + wait * 0.99 - 1e-6)
        now += wait + 1e-6
        assert limiter.remaining(now) >= 1
        assert limiter.admit(now)


@pytest.mark.parametrize(
    "options",
    [{"websites": -1}, {"api_key": "x"}, {"plan": "gold"}, {"rate_limit": 0}, {"rate_limiter": "magic"}],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Sandbox(**options)


def test_a_hundred_thousand_websites_are_there_at_once() -> None:
    assert len(set(Sandbox(websites=100_000).website_ids)) == 100_000


def test_it_runs_from_a_shell() -> None:
    command = [sys.executable, "-u", "-m", "zenovay_async.sandbox", "--port", "0", "--fault", "500:0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own
        assert process.stdout is not None
        assert process.stdout.readline().startswith("export ZENOVAY_BASE_URL=http://127.0.0.1:")
        assert process.stdout.readline().startswith("export ZENOVAY_API_KEY=zv_")
        while "Ctrl-C" not in process.stdout.readline():
            pass
        process.send_signal(2)
        _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")
