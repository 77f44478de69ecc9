"""Usage: the key, its monthly quota, its rate limit and its plan.

Source: docs "GET /usage".
"""

from __future__ import annotations

from typing import Any, ClassVar

from zenovay_async._protocol.call import Endpoint
from zenovay_async._protocol.decoding import AwareDatetime, Decoder
from zenovay_async._protocol.results import Result
from zenovay_async._tables.layout import Layout, Row
from zenovay_async.rate_limits import UsageHeaders


class APIKey(Result, frozen=True, kw_only=True, gc=False):
    """The key of the call.

    Attributes:
        id: Its identifier (``ak_...``); not the key itself.
        name: Its name.
        permission: ``full_access`` or ``site_access``.
        website_id: ID of the only website that it can reach; ``None`` for a key with full access.
    """

    id: str | None = None
    name: str | None = None
    permission: str | None = None
    website_id: str | None = None


class MonthlyUsage(Result, frozen=True, kw_only=True, gc=False):
    """The monthly quota.

    Attributes:
        monthly_requests: Requests used in this billing period.
        monthly_limit: Requests allowed in it.
        monthly_remaining: Requests left in it.
        monthly_reset_at: When the count restarts; aware.
        total_requests: Requests ever made with this key.
    """

    monthly_requests: int
    monthly_limit: int | None = None
    monthly_remaining: int | None = None
    monthly_reset_at: AwareDatetime | None = None
    total_requests: int | None = None


class MinuteLimit(Result, frozen=True, kw_only=True, gc=False):
    """The rate limit.

    Attributes:
        requests_per_minute: Requests allowed per minute.
    """

    requests_per_minute: int | None = None


class Subscription(Result, frozen=True, kw_only=True, gc=False):
    """The plan.

    Attributes:
        tier: Its name, such as ``pro`` or ``scale``; older names such as ``professional`` occur.
    """

    tier: str | None = None


def _usage_row(usage: Any) -> list[Row]:
    return [{**usage["api_key"], **usage["usage"], **usage["rate_limits"], **usage["subscription"]}]


class Usage(Result, frozen=True, kw_only=True, gc=False):
    """Usage and limits of a key.

    Attributes:
        api_key: The key.
        usage: The monthly quota.
        rate_limits: The rate limit.
        subscription: The plan.
    """

    _layout: ClassVar[Layout] = Layout(
        rows=_usage_row,
        columns=(
            *("id", "name", "permission", "website_id", "tier", "requests_per_minute"),
            *("monthly_requests", "monthly_limit", "monthly_remaining", "monthly_reset_at", "total_requests"),
        ),
        noun=None,
    )

    api_key: APIKey = APIKey()
    usage: MonthlyUsage
    rate_limits: MinuteLimit = MinuteLimit()
    subscription: Subscription = Subscription()


def _usage_of(result: Usage) -> UsageHeaders:
    quota = result.usage
    limit, remaining = quota.monthly_limit, quota.monthly_remaining
    if limit is None and remaining:
        limit = quota.monthly_requests + remaining
    return UsageHeaders(
        monthly=quota.monthly_requests,
        # Other APIs write -1 where there is no limit.
        limit=limit if limit is not None and limit > 0 else None,
        reset=quota.monthly_reset_at,
        total=quota.total_requests,
    )


USAGE = Endpoint("usage", "usage", Decoder(Usage), usage_of=_usage_of)
"""The endpoint of ``Zenovay.usage``."""
