"""Heatmap pages of one website, then of many.

Run it with: python docs/examples/heatmaps.py WEBSITE_ID...
"""

import asyncio
import sys

from zenovay_async import HeatmapPages, Zenovay


async def main(website_ids: list[str]) -> None:
    async with Zenovay() as zenovay:
        report = await zenovay.heatmaps.pages(website_ids[0], limit=10)
        for page in report.pages:
            print(page.url, page.total_interactions, page.last_updated)

        async def fetch(website_id: str) -> HeatmapPages:
            return await zenovay.heatmaps.pages(website_id, limit=10)

        async with zenovay.batch(website_ids, fetch, concurrency=8) as results:
            async for result in results:
                if result.error is None:
                    print(result.item, len(result.value.pages))
                else:
                    print(result.item, "failed:", result.error)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
