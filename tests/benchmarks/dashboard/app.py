"""The web application: two pages, one client; run as ``uvicorn tests.benchmarks.dashboard.app:app``."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import msgspec
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse

from zenovay_async import AnalyticsOverview, Cache, HeatmapPages, Zenovay, ZenovayError

from .settings import VARIABLE, AppSettings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

SETTINGS = msgspec.json.decode(os.environ[VARIABLE], type=AppSettings)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
    cache = None if SETTINGS.ttl is None else Cache(SETTINGS.ttl, SETTINGS.stale, store=SETTINGS.store)
    async with Zenovay(
        timeout=SETTINGS.timeout,
        coalesce=SETTINGS.coalesce,
        cache=cache,
        rate_limit_store=SETTINGS.rate_limit_store,
        trust_env=False,
    ) as app.state.zenovay:
        yield


def client_of(request: Request) -> Zenovay:
    zenovay: Zenovay = request.app.state.zenovay
    return zenovay


app = FastAPI(lifespan=lifespan)
Client = Annotated[Zenovay, Depends(client_of)]


@app.get("/top-pages/{website_id}")
async def top_pages(website_id: str, zenovay: Client) -> HeatmapPages:
    return await zenovay.heatmaps.pages(website_id, limit=10)


@app.get("/overview")
async def overview(website_ids: str, zenovay: Client) -> list[AnalyticsOverview]:
    return await asyncio.gather(*(zenovay.analytics.overview(each) for each in website_ids.split(",")))


@app.exception_handler(ZenovayError)
async def failed(_: Request, error: ZenovayError) -> JSONResponse:
    return JSONResponse({"detail": type(error).__name__}, 503)
