"""The visitors of a website, served by Flask."""

import asyncio

from flask import Flask, abort

from zenovay_async import AnalyticsOverview, NotFoundError, Zenovay

app = Flask(__name__)


async def last_week(website_id: str) -> AnalyticsOverview:
    async with Zenovay(timeout=5) as zenovay:
        return await zenovay.analytics.overview(website_id, range="7d")


@app.get("/visitors/<website_id>")
def visitors(website_id: str) -> dict[str, object]:
    try:
        overview = asyncio.run(last_week(website_id))
    except NotFoundError:
        abort(404)
    return {"visitors": overview.summary.unique_visitors}
