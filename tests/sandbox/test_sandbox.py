"""The sandbox behaves as the API's documentation says, and shares no code with the client."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

import zenovay_async.sandbox
from zenovay_async.sandbox import Fault, Sandbox
from zenovay_async.sandbox.__main__ import main
from zenovay_async.sandbox.limits import Kind, make_limiter
from zenovay_async.sandbox.visits import Day, Visit, Visits

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


async def data(session: aiohttp.ClientSession, sandbox: Sandbox, path: str) -> Any:
    """The data of an answer that succeeds."""
    status, body, _ = await get(session, sandbox, path)
    assert status == 200, body
    return body["data"]


async def all_visitors(session: aiohttp.ClientSession, sandbox: Sandbox, site: str, range_: str) -> list[Any]:
    """Every visitor of a range, page by page."""
    found: list[Any] = []
    more = True
    while more:
        path = f"/analytics/{site}/visitors?range={range_}&limit=1000&offset={len(found)}"
        page = await data(session, sandbox, path)
        found += page["visitors"]
        more = page["pagination"]["has_more"]
    return found


async def ask(session: aiohttp.ClientSession, sandbox: Sandbox, question: Any) -> tuple[int, Any]:
    url, headers = f"{sandbox.url}/query/{sandbox.website_ids[0]}", {"X-API-Key": sandbox.api_key}
    async with session.post(url, headers=headers, json=question) as response:
        return response.status, await response.json()


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
        ("/insights/{id}?type=rumour", 400, "VALIDATION_ERROR"),
        ("/insights/{id}?severity=high", 400, "VALIDATION_ERROR"),
        ("/anomalies/{id}?severity=", 400, "VALIDATION_ERROR"),
        ("/anomalies/{id}?severity=Critical", 400, "VALIDATION_ERROR"),
        ("/anomalies/{id}?resolved=True", 400, "VALIDATION_ERROR"),
        ("/errors/{id}/groups?status=open", 400, "VALIDATION_ERROR"),
        ("/heatmaps/nobody/pages", 404, "NOT_FOUND"),
        ("/nothing", 404, "NOT_FOUND"),
        ("/stats/aggregate", 400, "MISSING_SITE_ID"),
        ("/stats/timeseries?site_id=", 400, "MISSING_SITE_ID"),
        ("/stats/breakdown?site_id=nobody", 404, "NOT_FOUND"),
    ],
)
async def test_wrong_requests_get_the_documented_errors(
    session: aiohttp.ClientSession, sandbox: Sandbox, path: str, status: int, code: str
) -> None:
    got, body, _ = await get(session, sandbox, path.format(id=sandbox.website_ids[0]))
    assert (got, body["error"]["code"], body["success"]) == (status, code, False)


@pytest.mark.parametrize("context", [{"compare_to": "last_week"}, {"compare_to": ""}, {"time_range": "1y"}, [], "7d"])
async def test_a_question_in_a_context_that_is_not_documented_is_refused(
    session: aiohttp.ClientSession, sandbox: Sandbox, context: Any
) -> None:
    status, body = await ask(session, sandbox, {"question": "Who?", "context": context})
    assert (status, body["error"]["code"]) == (400, "VALIDATION_ERROR")


async def test_a_filter_lets_through_what_it_asks_for_and_nothing_else(
    session: aiohttp.ClientSession, sandbox: Sandbox
) -> None:
    site = sandbox.website_ids[0]
    for path, name, field, values in (
        ("insights", "type", "type", ("anomaly", "trend", "recommendation", "prediction")),
        ("insights", "severity", "severity", ("info", "warning", "critical")),
        ("anomalies", "severity", "severity", ("info", "warning", "critical")),
        ("anomalies", "metric", "metric_name", ("visitors", "page_views", "bounce_rate", "error_rate")),
        ("anomalies", "resolved", "is_resolved", ("true", "false")),
    ):
        whole = (await data(session, sandbox, f"/{path}/{site}?range=90d&limit=200"))[path]
        found: list[Any] = []
        for value in values:
            some = (await data(session, sandbox, f"/{path}/{site}?range=90d&limit=200&{name}={value}"))[path]
            assert {str(row[field]).lower() for row in some} <= {value}
            found += some
        assert sorted(row["id"] for row in found) == sorted(row["id"] for row in whole)


@pytest.mark.parametrize("path", ["/websites/{}", "/analytics/{}", "/insights/{}", "/stats/aggregate?site_id={}"])
async def test_a_key_of_one_website_reads_no_other(session: aiohttp.ClientSession, sandbox: Sandbox, path: str) -> None:
    own, other = sandbox.website_ids[:2]
    key = sandbox.add_key("own", website_id=own)
    assert (await get(session, sandbox, path.format(own), key))[0] == 200
    status, body, _ = await get(session, sandbox, path.format(other), key)
    assert (status, body["error"]["code"]) == (403, "FORBIDDEN")


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


def test_another_process_sees_the_same_world() -> None:
    script = (
        "from datetime import UTC, datetime\n"
        "from zenovay_async.sandbox.data import World\n"
        "world = World(2, 5, datetime(2026, 2, 7, 12, tzinfo=UTC))\n"
        "site = world.ids[1]\n"
        "print(world.visitors(site, '7d', 0, 300), world.countries(site, '30d'), world.insights(site, '90d'))\n"
    )
    seen = {
        subprocess.run(  # noqa: S603 - our own
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": hashes},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hashes in ("1", "2")
    }
    assert len(seen) == 1


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


@pytest.mark.parametrize("range_", ["24h", "7d", "30d"])
async def test_the_countries_are_those_that_counting_the_visitors_gives(
    session: aiohttp.ClientSession, sandbox: Sandbox, range_: str
) -> None:
    for site in sandbox.website_ids if range_ == "24h" else sandbox.website_ids[:1]:
        scores: dict[str, list[int]] = defaultdict(list)
        for visitor in await all_visitors(session, sandbox, site, range_):
            scores[visitor["country_code"]].append(visitor["value_score"])
        shown = (await data(session, sandbox, f"/analytics/{site}/countries?range={range_}"))["countries"]
        assert {row["country_code"]: (row["visitors"], row["avg_value_score"]) for row in shown} == {
            code: (len(of_it), round(sum(of_it) / len(of_it), 2)) for code, of_it in scores.items()
        }
        counts = [row["visitors"] for row in shown]
        assert counts == sorted(counts, reverse=True)
        assert all(0 <= score <= 100 for of_it in scores.values() for score in of_it)


async def test_an_answer_in_words_and_the_stats_have_the_same_countries(
    session: aiohttp.ClientSession, sandbox: Sandbox
) -> None:
    site = sandbox.website_ids[0]
    shown = (await data(session, sandbox, f"/analytics/{site}/countries?range=30d"))["countries"]
    assert (await data(session, sandbox, f"/stats/breakdown?site_id={site}"))["results"] == shown
    _, answer = await ask(session, sandbox, {"question": "Where from?", "context": {"time_range": "30d"}})
    rows = answer["data"]["results"]["rows"]
    assert [row[:2] for row in rows] == [[row["country_name"], row["visitors"]] for row in shown]


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=9)), timezone(timedelta(hours=-9))], ids=str)
async def test_each_day_has_the_visitors_that_are_dated_on_it(session: aiohttp.ClientSession, zone: timezone) -> None:
    async with Sandbox(websites=1, now=datetime(2026, 2, 7, 3, tzinfo=zone)) as sandbox:
        site = sandbox.website_ids[0]
        visitors = await all_visitors(session, sandbox, site, "7d")
        overview = await data(session, sandbox, f"/analytics/{site}")
        points = (await data(session, sandbox, f"/stats/timeseries?site_id={site}"))["results"]
    counted = Counter(visitor["visited_at"][:10] for visitor in visitors)
    rows = overview["daily_stats"]
    assert {row["date"]: row["total_visitors"] for row in rows} == counted
    assert {point["date"]: point["visitors"] for point in points[-7:]} == counted
    assert overview["date_range"]["start"] == rows[0]["date"]
    assert rows[-1]["date"] < overview["date_range"]["end"], "the present day is not over"
    assert all(row["unique_visitors"] <= row["total_visitors"] for row in rows)
    times = [visitor["visited_at"] for visitor in visitors]
    assert times == sorted(times, reverse=True)


async def test_a_shorter_range_is_the_newest_part_of_a_longer_one(
    session: aiohttp.ClientSession, sandbox: Sandbox
) -> None:
    site = sandbox.website_ids[0]
    visitors = [await all_visitors(session, sandbox, site, range_) for range_ in ("30d", "7d", "24h")]
    days = [(await data(session, sandbox, f"/analytics/{site}?range={r}"))["daily_stats"] for r in ("1y", "30d", "7d")]
    for longer, shorter in pairwise(visitors):
        assert shorter == longer[: len(shorter)]
    for longer, shorter in pairwise(days):
        assert shorter == longer[-len(shorter) :]
    for path in ("anomalies", "insights"):
        found = [(await data(session, sandbox, f"/{path}/{site}?range={r}&limit=200"))[path] for r in ("90d", "30d")]
        assert found[1] == found[0][: len(found[1])]


async def test_what_was_is_told_in_the_same_way_a_day_later(session: aiohttp.ClientSession) -> None:
    now = datetime(2026, 2, 7, 12, tzinfo=UTC)

    async def told(when: datetime) -> tuple[Any, ...]:
        async with Sandbox(websites=1, now=when) as sandbox:
            site = sandbox.website_ids[0]
            return (
                await data(session, sandbox, f"/websites/{site}"),
                (await data(session, sandbox, f"/analytics/{site}?range=30d"))["daily_stats"],
                {visitor["id"]: visitor for visitor in await all_visitors(session, sandbox, site, "7d")},
                *[
                    {row["id"]: row for row in (await data(session, sandbox, f"/{path}/{site}?range=90d"))[path]}
                    for path in ("anomalies", "insights")
                ],
            )

    website, days, *before = await told(now)
    website_later, days_later, *later = await told(now + timedelta(days=1))
    assert website_later == website
    assert days_later[:-1] == days[1:]
    for old, new, lost in zip(before, later, (days[-7]["total_visitors"], 1, 1), strict=True):
        kept = old.keys() & new.keys()
        assert len(kept) >= len(old) - lost
        assert {key: new[key] for key in kept} == {key: old[key] for key in kept}


async def test_an_anomaly_is_about_the_figure_of_its_day(session: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    columns = {"visitors": "total_visitors", "page_views": "page_views"}
    met: set[str] = set()
    for site in sandbox.website_ids:
        rows = (await data(session, sandbox, f"/analytics/{site}?range=90d"))["daily_stats"]
        days = {row["date"]: row for row in rows}
        anomalies = (await data(session, sandbox, f"/anomalies/{site}?range=90d&limit=200"))["anomalies"]
        assert len({anomaly["id"] for anomaly in anomalies}) == len(anomalies)
        for anomaly in anomalies:
            metric, expected, actual = (anomaly[name] for name in ("metric_name", "expected_value", "actual_value"))
            met.add(metric)
            if metric in columns:
                assert actual == days[anomaly["detected_at"][:10]][columns[metric]]
            else:
                assert 0 <= expected <= 100
                assert 0 <= actual <= 100
            assert anomaly["deviation_percentage"] == round((actual - expected) / expected * 100, 1)
            assert abs(anomaly["deviation_percentage"]) > 20
    assert met == {"visitors", "page_views", "bounce_rate", "error_rate"}


async def test_an_insight_tells_of_an_anomaly_with_its_figures(
    session: aiohttp.ClientSession, sandbox: Sandbox
) -> None:
    site = sandbox.website_ids[0]
    anomalies = (await data(session, sandbox, f"/anomalies/{site}?range=90d&limit=200"))["anomalies"]
    insights = (await data(session, sandbox, f"/insights/{site}?range=90d&limit=200"))["insights"]
    assert [
        (row["metric_name"], row["metric_value"], row["metric_change"], row["severity"], row["created_at"])
        for row in insights
    ] == [
        (
            row["metric_name"],
            row["actual_value"],
            row["deviation_percentage"],
            row["severity"],
            row["detected_at"],
        )
        for row in anomalies
    ]
    assert len({row["id"] for row in insights}) == len(insights)


async def test_a_cohort_is_made_of_people_who_were_there(session: aiohttp.ClientSession) -> None:
    async with Sandbox(websites=12) as sandbox:
        for site in sandbox.website_ids:
            rows = (await data(session, sandbox, f"/analytics/{site}?range=90d"))["daily_stats"]
            at = {row["date"]: number for number, row in enumerate(rows)}
            options = "range=90d&granularity=weekly"
            cohorts = (await data(session, sandbox, f"/retention/{site}?{options}"))["cohorts"]
            people = {row["cohort_date"]: row["total_users"] for row in cohorts}
            for start, users in people.items():
                assert 0 < users <= sum(row["unique_visitors"] for row in rows[at[start] : at[start] + 7])
            for cohort in (await data(session, sandbox, f"/revenue/{site}/ltv?{options}"))["cohorts"]:
                assert 0 < cohort["customers"] <= people[cohort["cohort_date"]]


async def test_of_a_year_only_the_days_that_somebody_looks_at_are_drawn_visit_by_visit(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Day] = []
    draw = Visits._visits

    def noted(self: Visits, website_id: str, day: Day) -> list[Visit]:
        drawn.append(day)
        return draw(self, website_id, day)

    monkeypatch.setattr(Visits, "_visits", noted)
    async with Sandbox(websites=1) as sandbox:
        site = sandbox.website_ids[0]
        for path in ("", "/countries"):
            await data(session, sandbox, f"/analytics/{site}{path}?range=1y")
        assert not drawn
        await data(session, sandbox, f"/analytics/{site}/visitors?range=1y&limit=1")
        assert len(drawn) == 1


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


@pytest.mark.parametrize(
    "fault",
    [
        Fault.status(500),
        Fault.rate_limited(),
        Fault.monthly_limit(),
        Fault.bad_gateway(),
        Fault.html(),
        Fault.garbage_json(),
        Fault.cut_json(),
        Fault.not_success(),
        Fault.redirect(),
        Fault.latency(0),
    ],
    ids=lambda fault: fault.name,
)
async def test_an_answer_has_a_request_id_even_if_it_is_a_fault(
    session: aiohttp.ClientSession, sandbox: Sandbox, fault: Fault
) -> None:
    sandbox.fault(fault)
    headers = {"X-API-Key": sandbox.api_key}
    async with session.get(f"{sandbox.url}/usage", headers=headers, allow_redirects=False) as response:
        assert response.headers["x-request-id"] == sandbox.requests[-1].request_id


async def test_a_request_whose_client_gave_up_is_counted(session: aiohttp.ClientSession) -> None:
    async with Sandbox(websites=1, latency=60) as sandbox:
        with pytest.raises(TimeoutError):
            await session.get(f"{sandbox.url}/usage", timeout=aiohttp.ClientTimeout(total=0.1))
        async with asyncio.timeout(2):
            while not sandbox.requests:  # noqa: ASYNC110 - the server is another program, in effect
                await asyncio.sleep(0.01)
        assert (sandbox.count(), sandbox.count(status=0), sandbox.requests[-1].status) == (1, 1, 0)


async def test_its_address_may_be_one_of_ipv6(session: aiohttp.ClientSession) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    async with Sandbox(websites=1, host="::1") as sandbox:
        assert sandbox.url.startswith("http://[::1]:")
        assert (await get(session, sandbox, "/usage"))[0] == 200


async def test_a_port_that_is_taken_leaves_nothing_running(sandbox: Sandbox) -> None:
    port = int(sandbox.url.split(":")[2].partition("/")[0])
    other = Sandbox(websites=1, port=port)
    with pytest.raises(OSError, match="in use"):
        await other.__aenter__()
    with pytest.raises(RuntimeError, match="does not run"):
        _ = other.url


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


@pytest.mark.parametrize(
    "arguments",
    ["--fault reset:x", "--fault reset:2", "--fault nothing", "--websites -1", "--port 70000", "--rate-limit 0"],
)
def test_a_shell_is_told_in_one_sentence_what_cannot_be(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1


def test_a_shell_is_told_that_a_port_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["--port", str(taken.getsockname()[1])]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "address already in use" in printed.err
    assert len(printed.err.splitlines()) == 1
