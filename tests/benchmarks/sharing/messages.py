"""What the processes of a measurement send each other, as lines of JSON."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from zenovay_async.sandbox.limits import LimiterKind

StoreName: TypeAlias = Literal["none", "machine", "redis"]
"""Where the processes share the budget."""


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """How the server treats one key.

    Attributes:
        kind: How it counts.
        limit: Requests per window.
        window: Seconds of the window.
        latency: Seconds that a request and its response take on average; each way a quarter to three quarters of it.
        remaining: Whether responses have ``X-RateLimit-Remaining``.
        whole_seconds: Whether ``Retry-After`` is rounded up to whole seconds.
    """

    kind: LimiterKind
    limit: int
    window: float
    latency: float = 0.02
    remaining: bool = True
    whole_seconds: bool = False


class Counted(msgspec.Struct, frozen=True):
    """What the server counted for one key: when it admitted a request, and when it rejected one with 429."""

    admitted: list[float]
    rejected: list[float]

    @property
    def requests(self) -> int:
        return len(self.admitted) + len(self.rejected)


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """How a process reaches the server.

    Attributes:
        key: The key.
        url: Base URL.
        window: Seconds of the limit's window.
        store: Where the budget is kept; ``None`` for this process.
        headroom: What batches leave to direct calls.
        counts: Whether the operations of the store are counted.
    """

    key: str
    url: str
    window: float
    store: str | None = None
    headroom: Literal["auto"] | int = "auto"
    counts: bool = False


class Task(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What a process is to do, from a time of the monotonic clock on, which all processes of a machine share."""

    access: Access
    start_at: float


class Batch(Task, frozen=True, kw_only=True):
    """Make a number of calls in a batch, so many at a time."""

    calls: int
    concurrency: int


class EndlessBatch(Task, frozen=True, kw_only=True):
    """Make calls in a batch until a time."""

    end_at: float


class DirectCalls(Task, frozen=True, kw_only=True):
    """Make a direct call every so many seconds until a time, each with a timeout."""

    end_at: float
    every: float
    timeout: float


class Visits(Task, frozen=True, kw_only=True):
    """Let visitors open dashboards all at once: each makes a number of direct calls together, with a timeout."""

    visitors: int
    dashboards: int
    questions: int
    timeout: float | None


AnyTask: TypeAlias = Batch | EndlessBatch | DirectCalls | Visits


class Wait(msgspec.Struct, frozen=True, array_like=True):
    """How long a call took, from when on, in seconds; and what it failed with, ``""`` for nothing."""

    at: float
    seconds: float
    error: str


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a task; times are of the monotonic clock.

    Attributes:
        calls: When each call ended, how long it took, what it failed with.
        began: When the task began.
        ended: When its last call ended.
        operations: Reads and writes of the store.
        worst_update: Reads and writes of the store for one update, at most.
        events: Names of the events, and when they came.
        late: Seconds that the event loop was late, at most.
    """

    calls: list[Wait]
    began: float
    ended: float
    operations: int
    worst_update: int
    events: list[tuple[str, float]]
    late: float

    @property
    def ok(self) -> int:
        return sum(not call.error for call in self.calls)


class Order(msgspec.Struct, frozen=True):
    """A numbered task."""

    number: int
    task: AnyTask


class Report(msgspec.Struct, frozen=True):
    """What became of the task of a number."""

    number: int
    done: Done
