"""What the processes of a measurement are started with, and what the API's server prints, as JSON."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

VARIABLE = "ZENOVAY_DASHBOARD"
"""The environment variable with the settings of the web application."""

Command: TypeAlias = Literal["count", "fail", "recover"]
"""What the API's server does: nothing but count, respond to everything with a 503, respond as before."""


class AppSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The options of the application's client.

    Attributes:
        coalesce: Whether equal calls in flight are one request.
        ttl: Seconds for which responses are fresh; ``None`` for no cache.
        stale: Seconds for which they are stale.
        store: Where responses are kept; ``None`` for the process.
        rate_limit_store: Where the budget is kept; ``None`` for the process.
        timeout: Seconds for a call.
    """

    coalesce: bool
    ttl: float | None
    stale: float
    store: str | None
    rate_limit_store: str | None
    timeout: float


class ApiSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The API: its key, its limit per minute, and the least and the most seconds of a response.

    Attributes:
        api_key: The key.
        limit: Requests per minute.
        fastest: Seconds of a response at least.
        slowest: Seconds of a response at most.
        port: Port to listen on; 0 for any free one.
    """

    api_key: str
    limit: int = 30
    fastest: float = 0.1
    slowest: float = 0.2
    port: int = 0


class ApiStarted(msgspec.Struct, frozen=True):
    """The first line of the API's server."""

    url: str
    port: int
    website_ids: list[str]


class Counted(msgspec.Struct, frozen=True):
    """Requests that the API's server has received, and those of them that got a 429."""

    requests: int
    rate_limited: int

    def since(self, before: Counted) -> Counted:
        return Counted(self.requests - before.requests, self.rate_limited - before.rate_limited)
