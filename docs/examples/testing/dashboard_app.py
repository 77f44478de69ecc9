"""The busiest pages of a website, served by FastAPI."""

import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request

from zenovay_async import HeatmapPages, NotFoundError, RateLimitError, Zenovay


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    async with Zenovay(timeout=5) as app.state.zenovay:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/top/{website_id}")
async def top_pages(website_id: str, request: Request) -> HeatmapPages:
    zenovay: Zenovay = request.app.state.zenovay
    try:
        return await zenovay.heatmaps.pages(website_id, limit=3)
    except NotFoundError:
        raise HTTPException(404, "No such website") from None
    except RateLimitError as error:
        seconds = math.ceil(error.retry_after or 1)
        raise HTTPException(503, "Busy", headers={"Retry-After": str(seconds)}) from None
