"""The sandbox's figures depend on the seed alone and agree across endpoints."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from sandbox_calls import all_visitors, ask, data, get

from zenovay_async.sandbox import Sandbox
from zenovay_async.sandbox.visits import Day, Visit, Visits


async def test_equal_seeds_give_equal_websites() -> None:
    one, two, other = Sandbox(websites=3), Sandbox(websites=3), Sandbox(websites=3, seed=1)
    assert one.website_ids == two.website_ids != other.website_ids


def test_another_process_generates_the_same_data() -> None:
    script = (
        "from datetime import UTC, datetime\n"
        "from zenovay_async.sandbox.data import FakeData\n"
        "data = FakeData(2, 5, datetime(2026, 2, 7, 12, tzinfo=UTC))\n"
        "site = data.ids[1]\n"
        "print(data.visitors(site, '7d', 0, 300), data.countries(site, '30d'), data.insights(site, '90d'))\n"
    )
    outputs = {
        subprocess.run(  # noqa: S603 - our own
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": hashes},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hashes in ("1", "2")
    }
    assert len(outputs) == 1


def test_a_hundred_thousand_websites_are_created_at_once() -> None:
    assert len(set(Sandbox(websites=100_000).website_ids)) == 100_000


async def test_figures_agree_across_endpoints(sandbox: Sandbox) -> None:
    site = sandbox.website_ids[1]
    _, overview, _ = await get(sandbox, f"/analytics/{site}?range=30d")
    summary, rows = overview["data"]["summary"], overview["data"]["daily_stats"]
    assert len(rows) == 30
    assert summary["total_visitors"] == sum(row["total_visitors"] for row in rows)
    assert summary["total_page_views"] == sum(row["page_views"] for row in rows)
    _, countries, _ = await get(sandbox, f"/analytics/{site}/countries?range=30d")
    assert sum(row["visitors"] for row in countries["data"]["countries"]) == summary["total_visitors"]
    _, heatmap, _ = await get(sandbox, f"/heatmaps/{site}/pages?limit=100")
    counts = [page["total_interactions"] for page in heatmap["data"]["pages"]]
    assert counts == sorted(counts, reverse=True)
    _, retention, _ = await get(sandbox, f"/retention/{site}")
    for row in retention["data"]["cohorts"]:
        assert row["retention_rate"] == round(row["retained_users"] / row["total_users"] * 100, 2)
    listed = {row["id"]: row for row in (await get(sandbox, "/websites"))[1]["data"]["websites"]}
    assert overview["data"]["website"]["domain"] == listed[site]["domain"]


@pytest.mark.parametrize("range_", ["24h", "7d"])
async def test_countries_equal_the_count_of_the_visitors(sandbox: Sandbox, range_: str) -> None:
    for site in sandbox.website_ids if range_ == "24h" else sandbox.website_ids[:1]:
        scores: dict[str, list[int]] = defaultdict(list)
        for visitor in await all_visitors(sandbox, site, range_):
            scores[visitor["country_code"]].append(visitor["value_score"])
        shown = (await data(sandbox, f"/analytics/{site}/countries?range={range_}"))["countries"]
        assert {row["country_code"]: (row["visitors"], row["avg_value_score"]) for row in shown} == {
            code: (len(of_it), round(sum(of_it) / len(of_it), 2)) for code, of_it in scores.items()
        }
        counts = [row["visitors"] for row in shown]
        assert counts == sorted(counts, reverse=True)
        assert all(0 <= score <= 100 for of_it in scores.values() for score in of_it)


async def test_a_query_and_the_stats_have_the_same_countries(sandbox: Sandbox) -> None:
    site = sandbox.website_ids[0]
    shown = (await data(sandbox, f"/analytics/{site}/countries?range=30d"))["countries"]
    assert (await data(sandbox, f"/stats/breakdown?site_id={site}"))["results"] == shown
    _, body, _ = await ask(sandbox, {"question": "Where from?", "context": {"time_range": "30d"}})
    rows = body["data"]["results"]["rows"]
    assert [row[:2] for row in rows] == [[row["country_name"], row["visitors"]] for row in shown]


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=9)), timezone(timedelta(hours=-9))], ids=str)
async def test_each_day_counts_the_visitors_dated_on_it(zone: timezone) -> None:
    async with Sandbox(websites=1, now=datetime(2026, 2, 7, 3, tzinfo=zone)) as sandbox:
        site = sandbox.website_ids[0]
        visitors = await all_visitors(sandbox, site, "7d")
        overview = await data(sandbox, f"/analytics/{site}")
        points = (await data(sandbox, f"/stats/timeseries?site_id={site}"))["results"]
    counted = Counter(visitor["visited_at"][:10] for visitor in visitors)
    rows = overview["daily_stats"]
    assert {row["date"]: row["total_visitors"] for row in rows} == counted
    assert {point["date"]: point["visitors"] for point in points[-7:]} == counted
    assert overview["date_range"]["start"] == rows[0]["date"]
    assert rows[-1]["date"] < overview["date_range"]["end"], "today is not part of a range"
    assert all(row["unique_visitors"] <= row["total_visitors"] for row in rows)
    times = [visitor["visited_at"] for visitor in visitors]
    assert times == sorted(times, reverse=True)


async def test_a_shorter_range_is_the_newest_part_of_a_longer_one(sandbox: Sandbox) -> None:
    site = sandbox.website_ids[0]
    visitors = [await all_visitors(sandbox, site, range_) for range_ in ("30d", "7d", "24h")]
    days = [(await data(sandbox, f"/analytics/{site}?range={r}"))["daily_stats"] for r in ("1y", "30d", "7d")]
    for longer, shorter in pairwise(visitors):
        assert shorter == longer[: len(shorter)]
    for longer, shorter in pairwise(days):
        assert shorter == longer[-len(shorter) :]
    for path in ("anomalies", "insights"):
        found = [(await data(sandbox, f"/{path}/{site}?range={r}&limit=200"))[path] for r in ("90d", "30d")]
        assert found[1] == found[0][: len(found[1])]


async def test_past_days_keep_their_figures() -> None:
    now = datetime(2026, 2, 7, 12, tzinfo=UTC)

    async def read(when: datetime) -> tuple[Any, ...]:
        async with Sandbox(websites=1, now=when) as sandbox:
            site = sandbox.website_ids[0]
            return (
                await data(sandbox, f"/websites/{site}"),
                (await data(sandbox, f"/analytics/{site}?range=30d"))["daily_stats"],
                {visitor["id"]: visitor for visitor in await all_visitors(sandbox, site, "7d")},
                *[
                    {row["id"]: row for row in (await data(sandbox, f"/{path}/{site}?range=90d"))[path]}
                    for path in ("anomalies", "insights")
                ],
            )

    website, days, *before = await read(now)
    website_later, days_later, *later = await read(now + timedelta(days=1))
    assert website_later == website
    assert days_later[:-1] == days[1:]
    for old, new, lost in zip(before, later, (days[-7]["total_visitors"], 1, 1), strict=True):
        kept = old.keys() & new.keys()
        assert len(kept) >= len(old) - lost
        assert {key: new[key] for key in kept} == {key: old[key] for key in kept}


async def test_an_anomaly_has_the_figure_of_its_day(sandbox: Sandbox) -> None:
    columns = {"visitors": "total_visitors", "page_views": "page_views"}
    met: set[str] = set()
    for site in sandbox.website_ids:
        rows = (await data(sandbox, f"/analytics/{site}?range=90d"))["daily_stats"]
        days = {row["date"]: row for row in rows}
        anomalies = (await data(sandbox, f"/anomalies/{site}?range=90d&limit=200"))["anomalies"]
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


async def test_an_insight_has_the_figures_of_its_anomaly(sandbox: Sandbox) -> None:
    site = sandbox.website_ids[0]
    anomalies = (await data(sandbox, f"/anomalies/{site}?range=90d&limit=200"))["anomalies"]
    insights = (await data(sandbox, f"/insights/{site}?range=90d&limit=200"))["insights"]
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


async def test_a_cohort_is_no_larger_than_its_visitors() -> None:
    async with Sandbox(websites=12) as sandbox:
        for site in sandbox.website_ids:
            rows = (await data(sandbox, f"/analytics/{site}?range=90d"))["daily_stats"]
            at = {row["date"]: number for number, row in enumerate(rows)}
            options = "range=90d&granularity=weekly"
            cohorts = (await data(sandbox, f"/retention/{site}?{options}"))["cohorts"]
            people = {row["cohort_date"]: row["total_users"] for row in cohorts}
            for start, users in people.items():
                assert 0 < users <= sum(row["unique_visitors"] for row in rows[at[start] : at[start] + 7])
            for cohort in (await data(sandbox, f"/revenue/{site}/ltv?{options}"))["cohorts"]:
                assert 0 < cohort["customers"] <= people[cohort["cohort_date"]]


async def test_visits_are_generated_for_requested_days_only(monkeypatch: pytest.MonkeyPatch) -> None:
    generated: list[Day] = []
    generate = Visits._visits

    def recording(self: Visits, website_id: str, day: Day) -> list[Visit]:
        generated.append(day)
        return generate(self, website_id, day)

    monkeypatch.setattr(Visits, "_visits", recording)
    async with Sandbox(websites=1) as sandbox:
        site = sandbox.website_ids[0]
        for path in ("", "/countries"):
            await data(sandbox, f"/analytics/{site}{path}?range=1y")
        assert not generated
        await data(sandbox, f"/analytics/{site}/visitors?range=1y&limit=1")
        assert len(generated) == 1
