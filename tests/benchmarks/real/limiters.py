"""The rate limiters that are run against: which program each is part of, and what it allows."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import msgspec

Program: TypeAlias = Literal["nginx", "envoy", "node", "throttled"]

WINDOW = 6.0
LIMIT = 30


class Limiter(msgspec.Struct, frozen=True, kw_only=True):
    """A rate limiter.

    Attributes:
        name: What its rows are called.
        program: What it is part of.
        settings: Options of its program, besides limit and window.
        limit: Requests per window.
        window: Seconds.
        burst: Requests that it lets through at once; ``None`` for one that counts by fixed windows.
        lower: Seconds after a key's first request from which the limit is another one, and that limit.
    """

    name: str
    program: Program
    settings: dict[str, Any] = {}
    limit: int = LIMIT
    window: float = WINDOW
    burst: int | None = None
    lower: tuple[float, int] | None = None

    def ideal(self, calls: int) -> float:
        """Return the least seconds in which it lets this many calls through."""
        if self.burst is not None:
            return max(0, calls - self.burst) * self.window / self.limit
        if self.lower is None:
            return (math.ceil(calls / self.limit) - 1) * self.window
        after, limit = self.lower
        windows = math.ceil(after / self.window)
        return (windows + math.ceil((calls - windows * self.limit) / limit) - 1) * self.window


def _express(name: str, headers: str, **settings: Any) -> Limiter:
    limit, lower = settings.pop("limit", LIMIT), settings.pop("lower", None)
    settings |= {"kind": "express", "headers": headers} | ({"lower": lower} if lower else {})
    return Limiter(name=name, program="node", settings=settings, limit=limit, lower=lower)


def _lie(name: str, **headers: str | None) -> Limiter:
    instead = {header.replace("_", "-"): value for header, value in headers.items()}
    return _express(f"express, {name}", "legacy", instead=instead)


def _envoy(name: str, burst: int, *, fill: int = 1, interval: float = 0.2, headers: bool = False) -> Limiter:
    settings = {"burst": burst, "fill": fill, "interval": interval, "headers": headers}
    # One that is filled once a window counts by fixed windows.
    return Limiter(name=name, program="envoy", settings=settings, burst=None if fill == burst else burst)


def _throttled(name: str, using: str, burst: int | None, *, headers: bool) -> Limiter:
    settings = {"kind": using, "burst": burst or LIMIT, "headers": headers}
    return Limiter(name=name, program="throttled", settings=settings, burst=burst)


LIMITERS = [
    Limiter(name="nginx, no burst", program="nginx", settings={"server": "no_burst"}, burst=1),
    Limiter(name="nginx, burst=10", program="nginx", settings={"server": "burst_10"}, burst=11),
    Limiter(name="nginx, burst=10 nodelay", program="nginx", settings={"server": "burst_10_nodelay"}, burst=11),
    Limiter(name="nginx, burst=10 nodelay, 503", program="nginx", settings={"server": "burst_10_503"}, burst=11),
    Limiter(name="nginx, burst=29 nodelay", program="nginx", settings={"server": "burst_29_nodelay"}, burst=30),
    _envoy("envoy, bucket of 10", 10),
    _envoy("envoy, bucket of 10, X-RateLimit", 10, headers=True),
    _envoy("envoy, bucket of 30", 30),
    _envoy("envoy, bucket of 30, X-RateLimit", 30, headers=True),
    _envoy("envoy, 30 each 6 s", 30, fill=30, interval=WINDOW),
    _envoy("envoy, 30 each 6 s, X-RateLimit", 30, fill=30, interval=WINDOW, headers=True),
    _express("express, legacy", "legacy"),
    _express("express, no headers", "none"),
    _express("express, draft-6", "draft-6"),
    _express("express, draft-7", "draft-7"),
    _express("express, draft-8", "draft-8"),
    Limiter(name="hono, draft-6", program="node", settings={"kind": "hono", "headers": "draft-6"}),
    Limiter(name="hono, draft-7", program="node", settings={"kind": "hono", "headers": "draft-7"}),
    Limiter(name="fastify", program="node", settings={"kind": "fastify"}),
    Limiter(name="rate-limiter-flexible", program="node", settings={"kind": "flexible"}),
    _throttled("GCRA of 1, X-RateLimit", "gcra", 1, headers=True),
    _throttled("GCRA of 1, no headers", "gcra", 1, headers=False),
    _throttled("GCRA of 10, X-RateLimit", "gcra", 10, headers=True),
    _throttled("GCRA of 10, no headers", "gcra", 10, headers=False),
    _throttled("GCRA of 30, X-RateLimit", "gcra", 30, headers=True),
    _throttled("sliding window, X-RateLimit", "sliding_window", None, headers=True),
    _express("express, 15, no headers", "none", limit=15),
    _express("express, 15, draft-7", "draft-7", limit=15),
    _express("express, 60, legacy", "legacy", limit=60),
    _express("express, 60, draft-7", "draft-7", limit=60),
    _express("express, 60, draft-8", "draft-8", limit=60),
    _express("express, 30 then 12, no headers", "none", lower=(9.0, 12)),
    _express("express, 30 then 12, legacy", "legacy", lower=(9.0, 12)),
    _lie("Limit 1000000, Remaining 999999", X_RateLimit_Limit="1000000", X_RateLimit_Remaining="999999"),
    _lie("Limit 1000000", X_RateLimit_Limit="1000000"),
    _lie("Remaining 30 always", X_RateLimit_Remaining="30"),
    _lie("Remaining 0 always", X_RateLimit_Remaining="0"),
    _lie("Limit 30, 30;w=6", X_RateLimit_Limit="30, 30;w=6"),
]

# What they say about time matters after a 429 alone.
MISTIMED = [
    _lie("Retry-After 0", Retry_After="0", X_RateLimit_Reset=None, X_RateLimit_Remaining=None),
    _lie("Retry-After in ms", Retry_After="6000"),
    _lie("no Retry-After, Reset in 3 s", X_RateLimit_Reset="3", Retry_After=None),
    _lie("no Retry-After, no Reset", X_RateLimit_Reset=None, Retry_After=None),
]

# Behind a server that goes away; the second one is the lowest plan's minute.
BEHIND = Limiter(name="express, 30 each 6 s", program="node", settings={"kind": "express", "headers": "legacy"})
BEHIND_MINUTE = msgspec.structs.replace(BEHIND, name="express, 30 a minute", window=60.0)
