"""A report on every website of the key, one call at a time.

Run it with: python docs/examples/report.py
"""

import asyncio

from zenovay_async import PermissionDeniedError, Zenovay


async def main() -> None:
    async with Zenovay() as zenovay:
        usage = await zenovay.usage()
        print(f"plan {usage.subscription.tier}: {usage.usage.monthly_requests} of {usage.usage.monthly_limit} used")

        for site in (await zenovay.websites.list()).websites:
            overview = await zenovay.analytics.overview(site.id, range="30d")
            countries = await zenovay.analytics.countries(site.id, range="30d", limit=3)
            print(f"\n{site.domain}: {overview.summary.unique_visitors} unique visitors in 30 days")
            print("  mostly from", ", ".join(country.country_name or "?" for country in countries.countries))
            for group in (await zenovay.errors.groups(site.id, status="unresolved", limit=2)).error_groups:
                print(f"  {group.occurrence_count} x {group.message}")
            async for anomaly in zenovay.anomalies.list(site.id, range="90d", resolved=False).take(2):
                print(f"  {anomaly.metric_name}: {anomaly.actual_value} where {anomaly.expected_value} was expected")
            try:
                sources = (await zenovay.query(site.id, "Where do my visitors come from?", time_range="7d")).results
            except PermissionDeniedError:
                continue  # questions need the Scale plan
            print("  most visitors come from:", sources.rows[0])


if __name__ == "__main__":
    asyncio.run(main())
