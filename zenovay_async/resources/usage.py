"""The account: what a key is, what it has used, and what it may.

Source: docs "GET /usage".
"""

from __future__ import annotations

import msgspec

from zenovay_async._protocol.call import Call
from zenovay_async._protocol.decoding import AwareDatetime, Decoder
from zenovay_async._protocol.headers import UsageHeaders


class APIKey(msgspec.Struct, frozen=True, gc=False):
    """The key that asked.

    Attributes:
        id: Its identifier (``ak_...``); not the key itself.
        name: Its name.
        permission: ``full_access`` or ``site_access``.
        website_id: The one website that it reaches; ``None`` for a key with full access.
    """

    id: str
    name: str | None = None
    permission: str | None = None
    website_id: str | None = None


class MonthlyUsage(msgspec.Struct, frozen=True, gc=False):
    """The month's requests.

    Attributes:
        monthly_requests: Requests made in this billing period.
        monthly_limit: Requests allowed in it.
        monthly_remaining: Requests left in it.
        monthly_reset_at: When the count starts again; aware.
        total_requests: Requests ever made with this key.
    """

    monthly_requests: int
    monthly_limit: int | None = None
    monthly_remaining: int | None = None
    monthly_reset_at: AwareDatetime | None = None
    total_requests: int | None = None


class MinuteLimit(msgspec.Struct, frozen=True, gc=False):
    """The rate limit.

    Attributes:
        requests_per_minute: Requests allowed per minute.
    """

    requests_per_minute: int | None = None


class Subscription(msgspec.Struct, frozen=True, gc=False):
    """The plan.

    Attributes:
        tier: Its name, such as ``pro`` or ``scale``; older names such as ``professional`` occur.
    """

    tier: str | None = None


class Usage(msgspec.Struct, frozen=True, gc=False):
    """What a key has used and may use.

    Attributes:
        api_key: The key.
        usage: The month's requests.
        rate_limits: The requests per minute.
        subscription: The plan.
    """

    api_key: APIKey
    usage: MonthlyUsage
    rate_limits: MinuteLimit = MinuteLimit()
    subscription: Subscription = Subscription()


def _as_headers(told: Usage) -> UsageHeaders:
    month = told.usage
    return UsageHeaders(month.monthly_requests, month.monthly_limit, month.monthly_reset_at, month.total_requests)


USAGE = Call("GET", "usage", Decoder(Usage), usage_of=_as_headers)
"""The call of ``Zenovay.usage``."""
