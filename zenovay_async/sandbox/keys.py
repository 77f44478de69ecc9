"""API keys and the limits of their plans."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import msgspec

from zenovay_async.sandbox.limits import Limiter, MonthlyQuota

Plan: TypeAlias = Literal["free", "pro", "scale", "enterprise"]


class PlanLimits(NamedTuple):
    """The documented limits of a plan.

    Attributes:
        per_minute: Requests per minute.
        per_month: Requests per month.
    """

    per_minute: int
    per_month: int


PLANS: dict[Plan, PlanLimits] = {
    "free": PlanLimits(10, 1_000),
    "pro": PlanLimits(30, 10_000),
    "scale": PlanLimits(60, 100_000),
    "enterprise": PlanLimits(120, 1_000_000),
}
"""Limits by plan, lowest plan first (source: help "Rate limits")."""


class ApiKey(msgspec.Struct):
    """An API key and its budget.

    Attributes:
        name: Name shown by ``GET /usage``.
        plan: Plan of the key.
        website_id: The only website that the key may read; ``None`` for all.
        limiter: Rate limiter of the key; ``None`` for no rate limit.
        quota: Monthly quota of the key.
    """

    name: str
    plan: Plan
    website_id: str | None
    limiter: Limiter | None
    quota: MonthlyQuota

    def has_plan(self, lowest: Plan) -> bool:
        """Return whether the key's plan is ``lowest`` or a higher one."""
        plans = list(PLANS)
        return plans.index(self.plan) >= plans.index(lowest)

    def may_read(self, website_id: str) -> bool:
        """Return whether the key may read a website."""
        return self.website_id in (None, website_id)
