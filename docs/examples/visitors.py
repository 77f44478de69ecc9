"""The newest visits of a website, page by page.

Run it with: python docs/examples/visitors.py WEBSITE_ID
"""

import asyncio
import sys
from collections import Counter

from zenovay_async import Zenovay


async def main(website_id: str) -> None:
    async with Zenovay() as zenovay:
        # Awaited, it is one page.
        page = await zenovay.analytics.visitors(website_id, range="24h", limit=3)
        for visitor in page.visitors:
            print(visitor.visited_at, visitor.country_name, visitor.landing_page)

        # Iterated over, it is every visit; a page is requested only when its first visit is wanted.
        browsers: Counter[str] = Counter()
        async for visitor in zenovay.analytics.visitors(website_id, range="30d").take(2000):
            browsers[visitor.browser or "unknown"] += 1
        print(browsers.most_common(3))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
