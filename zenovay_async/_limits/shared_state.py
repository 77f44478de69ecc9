"""What the processes that share a budget know: one value, kept in a store. Pure."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from zenovay_async._limits.outage import Outage
from zenovay_async._limits.pacing import Pacer


class Member(msgspec.Struct, array_like=True):
    """One of those who share a budget: a process, or a thread of it.

    Attributes:
        seen: When it last wrote.
        tag: Its permits in the common count, by which who had least goes first.
        direct: Cost of its direct calls that wait.
        background: Cost of its background calls that wait.
        wake_at: When it looks again; ``-math.inf`` if nothing waits.
        address: Where to ring it; ``""`` for nowhere.
    """

    seen: float = -math.inf
    tag: int = 0
    direct: int = 0
    background: int = 0
    wake_at: float = -math.inf
    address: str = ""


class SharedQuota(msgspec.Struct, array_like=True):
    """The monthly quota as all know it; times are in Unix seconds, but for that of the probe.

    Attributes:
        used: Requests used this month, as the newest response stated it.
        limit: Requests allowed per month.
        resets_at: When the count restarts, as the server stated it.
        total: Requests ever made with the key.
        exhaustions: Number of changes of ``exhausted_until``; the greater one is the newer.
        exhausted_until: Until when the quota is exhausted; ``None`` if it is not.
        probe_at: When the next probe may go; of the store's clock.
        restarts: Number of times that the count restarted; the greater one is the newer.
        month_ends: When the count restarts, as far as known.
    """

    used: int | None = None
    limit: int | None = None
    resets_at: float | None = None
    total: int | None = None
    exhaustions: int = 0
    exhausted_until: float | None = None
    probe_at: float | None = None
    restarts: int = 0
    month_ends: float | None = None


class SharedState(msgspec.Struct, array_like=True):
    """What the processes that share a budget know.

    Attributes:
        version: Version of the encoded form; decoding any other fails.
        epoch: Drawn when the state is made, so that a permit of another state is recognized.
        pacer: The pacer; its times are of the store's clock.
        revision: Number of writes.
        members: Those who share, by name.
        flights: When each permit in flight was acquired, and its cost, by number; what a killed process holds lapses.
        virtual_time: The common count of fair queueing.
        direct_streak: Direct calls that overtook background calls in a row.
        retries: Retries that may still be made.
        outage: Whether the server is away; its times are of the store's clock.
        outages: Number of beginnings and ends of outages; the greater one is the newer.
        probe_by: Name of the member whose probe of an outage is in flight; ``""`` for none.
        probe_until: When that probe counts as lost.
        quota: The monthly quota.
        rejoining_until: Until when those who were without the store count what they sent meanwhile.
    """

    version: Literal[1]
    epoch: int
    pacer: Pacer
    revision: int = 0
    members: dict[str, Member] = msgspec.field(default_factory=dict[str, Member])
    flights: dict[int, tuple[float, int]] = msgspec.field(default_factory=dict[int, tuple[float, int]])
    virtual_time: int = 0
    direct_streak: int = 0
    retries: float | None = None
    outage: Outage = msgspec.field(default_factory=Outage)
    outages: int = 0
    probe_by: str = ""
    probe_until: float = -math.inf
    quota: SharedQuota = msgspec.field(default_factory=SharedQuota)
    rejoining_until: float = -math.inf
