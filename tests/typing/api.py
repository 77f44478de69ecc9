"""What an editor knows of each result; read by the type checkers, not run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_type

if TYPE_CHECKING:
    import dataclasses
    from datetime import date, datetime
    from functools import partial

    import msgspec

    import zenovay_async as z
    from zenovay_async.tables import Row, Table

    class Mine(msgspec.Struct):
        """A type of the caller's own."""

        total: int

    async def results(zenovay: z.Zenovay, site: str) -> None:
        assert_type(await zenovay.usage(), z.Usage)
        assert_type((await zenovay.websites.list()).websites, tuple[z.Website, ...])
        assert_type((await zenovay.websites.get(site)).settings.heatmaps, bool | None)
        overview = await zenovay.analytics.overview(site, range="7d")
        assert_type(overview.summary.total_visitors, int | None)
        assert_type(overview.daily_stats[0].date, date)
        assert_type(await zenovay.analytics.visitors(site), z.VisitorPage)
        async for visitor in zenovay.analytics.visitors(site).take(5):
            assert_type(visitor, z.Visitor)
        assert_type((await zenovay.analytics.countries(site)).countries[0].visitors, int | None)
        assert_type((await zenovay.heatmaps.pages(site)).pages[0].last_updated, datetime | None)
        async for session in zenovay.replays.sessions(site):
            assert_type(session.started_at, datetime | None)
        assert_type((await zenovay.errors.groups(site, status="resolved")).error_groups[0].message, str | None)
        async for insight in zenovay.insights.list(site, type="trend", severity="info"):
            assert_type(insight, z.Insight)
        async for anomaly in zenovay.anomalies.list(site, resolved=True):
            assert_type(anomaly.is_resolved, bool | None)
        assert_type((await zenovay.retention.cohorts(site)).cohorts[0].retention_rate, float | None)
        value = await zenovay.revenue.ltv(site)
        assert_type(value.cohorts[0].periods[0].cumulative_revenue_per_customer, float | None)
        assert_type(value.to_dict(), dict[str, Any])
        assert_type(value.to_json(), str)
        assert_type(dataclasses.asdict(value), dict[str, Any])
        assert_type((await zenovay.query(site, "?")).extra, dict[str, Any])
        assert_type(await zenovay.request("GET", "websites", result_type=Mine), Mine)
        assert_type(await zenovay.stats.aggregate(site_id=site), Any)
        assert_type(await zenovay.usage(extra_query={"a": 1, "b": "c", "d": None}), z.Usage)
        assert_type(await zenovay.analytics.pages(site, range="7d"), Any)
        assert_type(await zenovay.analytics.technology(site), Any)

    def resources(zenovay: z.Zenovay) -> None:
        assert_type(zenovay.heatmaps, z.Heatmaps)
        assert_type(z.Zenovay.heatmaps, type[z.Heatmaps])
        assert_type(zenovay.analytics.visitors("x", limit=5).take(2), z.Paged[z.VisitorPage, z.Visitor])

    async def responses(zenovay: z.Zenovay, site: str) -> None:
        response = await zenovay.with_raw_response(zenovay.heatmaps.pages)(site, limit=3)
        assert_type(response, z.Response[z.HeatmapPages])
        assert_type((await zenovay.with_raw_response(zenovay.usage)()).data, z.Usage)
        assert_type((await zenovay.with_raw_response(zenovay.insights.list)(site)).data, z.InsightPage)

    async def batches(zenovay: z.Zenovay, sites: list[str]) -> None:
        async with zenovay.batch(sites, zenovay.heatmaps.pages) as results:
            async for result in results:
                assert_type(result.item, str)
                if result.error is None:
                    assert_type(result.value, z.HeatmapPages)
                else:
                    assert_type(result.error, Exception)
        async with zenovay.batch(sites, zenovay.replays.sessions) as pages:
            async for page in pages:
                if page.error is None:
                    assert_type(page.value, z.ReplaySessionPage)

    async def tables(zenovay: z.Zenovay, sites: list[str]) -> None:
        report = await zenovay.heatmaps.pages("x")
        assert_type(report.rows(), list[dict[str, Any]])
        assert_type(report.columns(), dict[str, list[Any]])
        assert_type(len(report), int)
        rows: list[Row] = list(report)
        table: Table = await zenovay.query("x", "?")
        assert_type(await zenovay.analytics.visitors("x").take(500).table(), z.VisitorPage)
        async with zenovay.batch(sites, zenovay.heatmaps.pages) as results:
            combined = await results.table(item="site")
        assert_type(combined, z.BatchTable[str])
        assert_type(combined.failures[0].item, str)
        table = combined
        rows += table.rows()

    def budgets(store: z.Store, change: z.StoreChange) -> None:
        zenovay = z.Zenovay(rate_limit_store="machine", batch_headroom="auto")
        z.Zenovay(rate_limit_store=store, batch_headroom=10)
        assert_type(zenovay.with_options(batch_headroom=0), z.Zenovay)
        assert_type(zenovay.estimate(3, background=False), z.Estimate)
        assert_type(zenovay.estimate(n=3, cost=2), z.Estimate)
        assert_type(zenovay.estimate(["x"], zenovay.heatmaps.pages, background=False), z.Estimate)
        assert_type(zenovay.estimate({"x": 1}.keys(), zenovay.replays.sessions).cached, int)
        assert_type(zenovay.estimate(("x",), partial(zenovay.heatmaps.pages, limit=3)), z.Estimate)
        assert_type(zenovay.estimate(("websites",), partial(zenovay.request, "GET")), z.Estimate)
        assert_type(change(None, 0.0), z.StoreWrite | None)
        assert_type(store.update_nowait("name", change), bool)

    async def caches() -> None:
        zenovay = z.Zenovay(cache=z.Cache(ttl=60, stale=600, store="machine"), coalesce=True)
        assert_type(zenovay.cache, z.ClientCache)
        assert_type(zenovay.cache.stats, z.CacheStats)
        assert_type(zenovay.cache.stats.hits, int)
        assert_type(await zenovay.cache.invalidate("x", operation="heatmaps.pages"), None)
        assert_type(zenovay.with_options(max_age=0), z.Zenovay)
        assert_type(zenovay.with_options(max_age=None, cache=None, coalesce=False), z.Zenovay)
        response = await zenovay.with_raw_response(zenovay.heatmaps.pages)("x")
        assert_type((response.from_cache, response.age), tuple[bool, float])

    def events(event: z.Event) -> None:
        if isinstance(event, z.SharedBudgetLost):
            assert_type(event.limit, int)
        elif isinstance(event, z.SharedBudgetBack):
            assert_type(event.seconds, float)
