"""People beside a batch: direct calls that share the key with a batch without end, and visitors of a web backend."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from itertools import product
from statistics import median
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from zenovay_async.sandbox.limits import LimiterKind

from .matrix import KINDS
from .messages import Access, DirectCalls, Done, EndlessBatch, Setting, StoreName, Visits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .processes import Server, Worker

Start: TypeAlias = Literal["direct calls first", "idle key", "batch alone"]

LIMIT = 30
# A direct call every 3 s of a minute, with 5 s of time.
_EVERY, _TIMEOUT = 1 / 20, 1 / 12
_BEFORE = 2
"""Windows of direct calls before the batch, where they come first."""
_LEAD = 0.5


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A batch without end, and direct calls.

    Attributes:
        kind: How the server counts.
        window: Seconds of the window; direct calls, and their timeout, are scaled as it is.
        windows: Windows for which the batch goes on.
        processes: 1 for one that makes all calls; 2 for direct calls in another process than the batch.
        store: Where they share the budget.
        start: What comes first.
        remaining: Whether responses have ``X-RateLimit-Remaining``.
    """

    kind: LimiterKind
    window: float
    windows: int
    processes: int
    store: StoreName
    start: Start
    remaining: bool = True


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the direct calls since the batch began, window by window.

    Attributes:
        case: The case.
        asked: Direct calls.
        served: Those with a result.
        median_wait: Seconds that a direct call with a result took, in the median; ``None`` for none.
        used: Requests that the server admitted, in shares of the limit.
        rate_limited: Requests that got a 429.
        batch_ok: Calls of the batch with a result.
        errors: What calls failed with.
    """

    case: Case
    asked: list[int]
    served: list[int]
    median_wait: list[float | None]
    used: list[float]
    rate_limited: int
    batch_ok: int
    errors: dict[str, int]


class VisitsRow(msgspec.Struct, frozen=True, kw_only=True):
    """What became of visitors who all came at once.

    Attributes:
        store: Where the processes shared the budget.
        kind: How the server counted.
        timeout: Seconds that each call had; ``None`` for no bound.
        calls: Calls of all visitors.
        served: Those with a result.
        requests: Requests that the server counted.
        rate_limited: Those that got a 429.
        seconds: From the first call to the last result.
        errors: What calls failed with.
    """

    store: StoreName
    kind: LimiterKind
    timeout: float | None
    calls: int
    served: int
    requests: int
    rate_limited: int
    seconds: float
    errors: dict[str, int]


def cases(window: float, windows: int, kinds: Sequence[LimiterKind] = KINDS) -> list[Case]:
    """One process; two, over each store; each with direct calls before the batch, and without."""
    among: list[tuple[int, StoreName]] = [(1, "none"), (2, "machine"), (2, "redis")]
    starts: tuple[Start, ...] = ("direct calls first", "idle key")
    shared = [
        Case(kind=kind, window=window, windows=windows, processes=processes, store=store, start=start)
        for (processes, store), start, kind in product(among, starts, kinds)
    ]
    alone = [
        Case(kind=kind, window=window, windows=windows, processes=1, store="none", start="batch alone")
        for kind in kinds
    ]
    without = [msgspec.structs.replace(case, remaining=False) for case in shared if case.processes == 1]
    return shared + alone + (without if len(kinds) > 1 else [])


async def measure_all(
    wanted: Sequence[Case], server: Server, workers: Sequence[Worker], redis: str | None, room: asyncio.Semaphore
) -> list[Row]:
    """Measure cases, as many at the same time as there is room; those that need a Redis only where there is one."""

    async def measured(case: Case) -> Row:
        async with room:
            return await measure(case, server, workers, redis)

    return await asyncio.gather(*(measured(case) for case in wanted if case.store != "redis" or redis))


async def measure(case: Case, server: Server, workers: Sequence[Worker], redis: str | None) -> Row:
    """Let a process make a batch, and the same or another one direct calls."""
    window = case.window
    setting = Setting(
        kind=case.kind,
        limit=LIMIT,
        window=window,
        latency=0.2 if window >= 60 else 0.02,
        remaining=case.remaining,
        whole_seconds=window >= 60,
    )
    access = Access(
        key=await server.add_key(setting),
        url=server.url,
        window=window,
        store={"none": None, "machine": "machine", "redis": redis}[case.store],
    )
    batch_at = time.monotonic() + _LEAD + (_BEFORE * window if case.start == "direct calls first" else 0)
    end_at = batch_at + case.windows * window
    first = batch_at - _BEFORE * window if case.start == "direct calls first" else batch_at + _EVERY * window / 2
    batch = workers[0].do(EndlessBatch(access=access, start_at=batch_at, end_at=end_at))
    others: list[Done] = []
    if case.start == "batch alone":
        done = await batch
    else:
        direct = DirectCalls(
            access=access, start_at=first, end_at=end_at, every=_EVERY * window, timeout=_TIMEOUT * window
        )
        done, *others = await asyncio.gather(batch, workers[case.processes - 1].do(direct))
    counted = await server.counted(access.key)

    def number(at: float) -> int:
        return int((at - batch_at) // window)

    calls = [call for each in others for call in each.calls]
    asked = Counter(number(call.at - call.seconds) for call in calls)
    waits: list[list[float]] = [[] for _ in range(case.windows)]
    for call in calls:
        if not call.error and 0 <= (place := number(call.at - call.seconds)) < case.windows:
            waits[place].append(call.seconds)
    used = Counter(map(number, counted.admitted))
    places = range(case.windows)
    return Row(
        case=case,
        asked=[asked[place] for place in places],
        served=[len(waits[place]) for place in places],
        median_wait=[median(each) if each else None for each in waits],
        used=[used[place] / LIMIT for place in places],
        rate_limited=len(counted.rejected),
        batch_ok=done.ok,
        errors=dict(Counter(call.error for call in [*calls, *done.calls] if call.error)),
    )


async def measure_visits(
    kinds: Sequence[LimiterKind], server: Server, workers: Sequence[Worker], redis: str | None, room: asyncio.Semaphore
) -> list[VisitsRow]:
    """30 visitors of four processes, each of whom opens three dashboards of two questions, without a cache."""
    stores: tuple[StoreName, ...] = ("none", "machine", "redis")

    async def measured(store: StoreName, kind: LimiterKind, timeout: float | None) -> VisitsRow:
        async with room:
            return await _visits(server, workers[:4], redis, store, kind, timeout)

    # Half a window is what the default timeout is of a minute.
    among = product(stores, kinds, (1.5, None))
    return await asyncio.gather(*(measured(*each) for each in among if each[0] != "redis" or redis))


async def _visits(
    server: Server,
    workers: Sequence[Worker],
    redis: str | None,
    store: StoreName,
    kind: LimiterKind,
    timeout: float | None,
    window: float = 3.0,
) -> VisitsRow:
    access = Access(
        key=await server.add_key(Setting(kind=kind, limit=LIMIT, window=window)),
        url=server.url,
        window=window,
        store={"none": None, "machine": "machine", "redis": redis}[store],
    )
    start_at = time.monotonic() + _LEAD
    visitors = [30 // len(workers) + (place < 30 % len(workers)) for place in range(len(workers))]
    done = await asyncio.gather(
        *(
            worker.do(
                Visits(access=access, start_at=start_at, visitors=number, dashboards=3, questions=2, timeout=timeout)
            )
            for worker, number in zip(workers, visitors, strict=True)
        )
    )
    counted = await server.counted(access.key)
    calls = [call for each in done for call in each.calls]
    return VisitsRow(
        store=store,
        kind=kind,
        timeout=timeout,
        calls=len(calls),
        served=sum(not call.error for call in calls),
        requests=counted.requests,
        rate_limited=len(counted.rejected),
        seconds=max(call.at for call in calls) - start_at,
        errors=dict(Counter(call.error for call in calls if call.error)),
    )
