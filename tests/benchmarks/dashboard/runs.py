"""What is measured: visitors all at once, over some seconds, while the API is down, and after a restart."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from .processes import api_running, site_running
from .settings import ApiSettings, AppSettings, Counted
from .visitors import visit

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from .processes import Api, Site
    from .visitors import Loads

Arrival: TypeAlias = Literal["at once", "over 10 s"]
Failure: TypeAlias = Literal["503", "no connection"]

SPREAD: dict[Arrival, float] = {"at once": 0.0, "over 10 s": 10.0}
TIMEOUT = 5.0
TTL, STALE = 60.0, 600.0
SHORT_TTL = 5.0
"""Seconds for which responses are fresh before an outage, which begins once they are stale."""
AWAY = 60.0
"""Seconds for which the API is down."""
_LEAVES = 6.0
"""Seconds between the last visitor and the end of the outage: longer than a call waits."""

_numbers = itertools.count()


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """How the application's client is set up.

    Attributes:
        name: What the report calls it.
        coalesce: Whether equal calls in flight are one request.
        keeps: Whether responses are kept.
        store: Where they are kept.
        shares_budget: Whether the workers share one budget.
    """

    name: str
    coalesce: bool = True
    keeps: bool = False
    store: Literal["machine", "redis"] | None = None
    shares_budget: bool = False


NOTHING = Variant(name="`coalesce=False`", coalesce=False)
BUDGET = Variant(name="the same, a shared budget", coalesce=False, shares_budget=True)
COALESCING = Variant(name="the default, no cache")
CACHES = (
    Variant(name="`Cache()`", keeps=True),
    Variant(name='`Cache(store="machine")`', keeps=True, store="machine"),
    Variant(name='`Cache(store="redis://…")`', keeps=True, store="redis"),
)
WORKERS = (1, 4)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a part of a run.

    Attributes:
        variant: How the client was set up.
        workers: Workers of the application.
        part: When the visitors came, or what had failed.
        requests: Requests that the API received.
        rate_limited: Those that got a 429.
        loads: Page loads.
        served: Pages served.
        p50: Seconds within which half of them were served; ``None`` for none.
        p95: Seconds within which 95 % of them were.
    """

    variant: str
    workers: int
    part: str
    requests: int
    rate_limited: int
    loads: int
    served: int
    p50: float | None
    p95: float | None


def row(variant: Variant, workers: int, part: str, counted: Counted, loads: Loads) -> Row:
    return Row(
        variant=variant.name,
        workers=workers,
        part=part,
        requests=counted.requests,
        rate_limited=counted.rate_limited,
        loads=len(loads.all),
        served=len(loads.served),
        p50=loads.percentile(0.5),
        p95=loads.percentile(0.95),
    )


class Bench:
    """Runs that can be measured on this machine.

    Args:
        redis: URL of a Redis; ``None`` where there is none, whose runs are left out.
    """

    def __init__(self, redis: str | None) -> None:
        self._redis = redis

    def present(self, variants: Sequence[Variant]) -> list[Variant]:
        """Those that do not need what is missing."""
        return [variant for variant in variants if variant.store != "redis" or self._redis]

    async def arrive(self, variant: Variant, workers: int, arrival: Arrival) -> Row:
        """All visitors come to workers that have just started."""
        async with self._running(variant, workers) as (api, site):
            loads = await visit(site.workers, api.website_ids, SPREAD[arrival])
            return row(variant, workers, arrival, await api.do("count"), loads)

    async def restart(self, variant: Variant, workers: int) -> Row:
        """All visitors come, the workers are restarted, and all visitors come again: what became of these."""
        async with self._running(variant, workers) as (api, site):
            await visit(site.workers, api.website_ids)
            await site.stop()
            await site.start()
            before = await api.do("count")
            loads = await visit(site.workers, api.website_ids)
            return row(variant, workers, "after a restart", (await api.do("count")).since(before), loads)

    async def fail(self, variant: Variant, workers: int, failure: Failure) -> list[Row]:
        """Visitors come while the API is down, after each worker has served each page; and once it is back."""
        async with self._running(variant, workers, SHORT_TTL) as (api, site):
            await visit(site.workers, api.website_ids)
            await asyncio.sleep(SHORT_TTL)
            before, began = await api.do("count"), time.monotonic()
            await (api.do("fail") if failure == "503" else api.kill())
            loads = await visit(site.workers, api.website_ids, AWAY - _LEAVES)
            await asyncio.sleep(began + AWAY - time.monotonic())
            await (api.do("recover") if failure == "503" else api.start())
            back = await api.do("count")
            away = row(variant, workers, f"API down: {failure}", back.since(before), loads)
            loads = await visit(site.workers, api.website_ids)
            after = row(variant, workers, f"just after {failure}", (await api.do("count")).since(back), loads)
            return [away, after]

    @contextlib.asynccontextmanager
    async def _running(
        self, variant: Variant, workers: int, ttl: float = TTL
    ) -> AsyncGenerator[tuple[Api, Site], None]:
        # A key of its own, so that no run meets what another one has left in a store.
        api_key = f"zv_dashboard_{os.getpid()}_{next(_numbers)}"
        settings = AppSettings(
            coalesce=variant.coalesce,
            ttl=ttl if variant.keeps else None,
            stale=STALE,
            store=self._redis if variant.store == "redis" else variant.store,
            rate_limit_store="machine" if variant.shares_budget else None,
            timeout=TIMEOUT,
        )
        async with (
            api_running(ApiSettings(api_key=api_key)) as api,
            site_running(settings, api, api_key, workers) as site,
        ):
            yield api, site
