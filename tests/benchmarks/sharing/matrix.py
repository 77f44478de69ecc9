"""Batches of several processes on one key, against each kind of server."""

from __future__ import annotations

import asyncio
import time
from itertools import product
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import msgspec

from zenovay_async.sandbox.limits import LimiterKind

from .messages import Access, Batch, Setting, StoreName

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .processes import Server, Worker

Load: TypeAlias = Literal["equal", "90/10"]

KINDS: tuple[LimiterKind, ...] = get_args(LimiterKind)
PROCESSES = (1, 2, 4, 8)
LATENCIES = (0.02, 0.2)
SHORT = (30, 3.0, 160)
"""Requests per window, seconds of the window, calls: the lowest plan in a twentieth of the time."""
MINUTE = (30, 60.0, 120)
"""The lowest plan as it is."""
_IN_FLIGHT = 64
# Processes get the task, open their stores, and wait for the same moment.
_LEAD = 0.3
# An event loop that is later than this, in windows, makes a request late for its window; such a run is repeated.
_LATE, _RUNS = 1 / 60, 3


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One configuration.

    Attributes:
        setting: How the server counts.
        processes: How many use the key.
        store: Where they share the budget.
        load: Whether each makes the same number of calls, or the first one 90 % of them.
        calls: Calls of all.
    """

    setting: Setting
    processes: int
    store: StoreName
    load: Load
    calls: int

    @property
    def shares(self) -> list[int]:
        """Calls of each process."""
        heavy = [] if self.load == "equal" or self.processes == 1 else [self.calls * 9 // 10]
        rest, among = self.calls - sum(heavy), self.processes - len(heavy)
        return [*heavy, *(rest // among + (place < rest % among) for place in range(among))]

    @property
    def phase(self) -> float:
        """The share of the server's window that is over at the start: the same whoever shares, and with whom.

        No run of a sliding counter starts near the end of its window, where chance would decide in which window its
        first burst is counted.
        """
        setting = self.setting
        place = KINDS.index(setting.kind) * 4 + (setting.latency > LATENCIES[0]) * 2 + setting.remaining
        return 0.1 + 0.7 * place / (4 * len(KINDS))


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What a run gave.

    Attributes:
        run: The run.
        ok: Calls with a result.
        requests: Requests that the server counted.
        rate_limited: Those that got a 429.
        seconds: From the first call to the last result of all.
        spread: Seconds between the end of the first process and that of the last.
        operations: Reads and writes of the store per request; ``None`` without one.
        worst_update: Reads and writes of the store for one update, at most.
        late: Seconds that an event loop was late, at most; runs in which that is much are repeated.
        events: How often each event came, in all processes.
    """

    run: Run
    ok: int
    requests: int
    rate_limited: int
    seconds: float
    spread: float
    operations: float | None
    worst_update: int
    late: float
    events: dict[str, int]


def all_runs() -> list[Run]:
    """The whole matrix; without a store, only what is compared with."""
    limit, window, calls = SHORT
    settings = [
        Setting(kind=kind, limit=limit, window=window, latency=latency, remaining=remaining)
        for latency, remaining, kind in product(LATENCIES, (True, False), KINDS)
    ]
    runs: list[Run] = []
    loads: tuple[Load, ...] = ("equal", "90/10")
    stores: tuple[StoreName, ...] = ("none", "machine", "redis")
    for processes, load, store, setting in product(PROCESSES, loads, stores, settings):
        plain = setting.remaining and setting.latency == LATENCIES[0]
        if (load == "equal" or processes > 1) and (store != "none" or processes == 1 or plain):
            runs.append(Run(setting=setting, processes=processes, store=store, load=load, calls=calls))
    return runs


def quick_runs() -> list[Run]:
    """Four processes, with each store, against each kind of server, and one alone."""
    return [
        run
        for run in all_runs()
        if run.setting.remaining
        and run.setting.latency == LATENCIES[0]
        and ((run.processes, run.load) == (4, "equal") or (run.processes == 1 and run.store == "none"))
    ]


def minute_runs() -> list[Run]:
    """A few runs of the lowest plan's minute, with ``Retry-After`` in whole seconds."""
    limit, window, calls = MINUTE
    setting = Setting(kind="sliding", limit=limit, window=window, latency=0.2, whole_seconds=True)
    kinds = [msgspec.structs.replace(setting, kind=kind) for kind in KINDS]
    among: list[tuple[int, StoreName, Load]] = [
        *((1, "none", "equal"), (4, "none", "equal")),
        *((4, "machine", "equal"), (4, "machine", "90/10"), (8, "machine", "equal")),
        *((4, "redis", "equal"), (4, "redis", "90/10"), (8, "redis", "equal")),
    ]
    return [
        Run(setting=each, processes=processes, store=store, load=load, calls=calls)
        for (processes, store, load), each in product(among, kinds)
    ]


async def measure_all(
    runs: Sequence[Run], server: Server, workers: Sequence[Worker], redis: str | None, room: asyncio.Semaphore
) -> list[Row]:
    """Measure runs, as many at the same time as there is room; those that need a Redis only where there is one."""

    async def measured(run: Run) -> Row:
        async with room:
            rows = [await measure(run, server, workers, redis)]
            while rows[-1].late > _LATE * run.setting.window and len(rows) < _RUNS:
                rows.append(await measure(run, server, workers, redis))
            return min(rows, key=lambda row: row.late)

    return await asyncio.gather(*(measured(run) for run in runs if run.store != "redis" or redis))


async def measure(run: Run, server: Server, workers: Sequence[Worker], redis: str | None) -> Row:
    """Let the first of the processes make the calls of a run, each its share."""
    window = run.setting.window
    access = Access(
        key=await server.add_key(run.setting),
        url=server.url,
        window=window,
        store={"none": None, "machine": "machine", "redis": redis}[run.store],
        headroom=0,
        counts=True,
    )
    ready = time.monotonic() + _LEAD
    start_at = ready + (run.phase * window - ready) % window
    # `zip` ends with the shares: the other processes take no part.
    done = await asyncio.gather(
        *(
            worker.do(Batch(access=access, start_at=start_at, calls=calls, concurrency=min(calls, _IN_FLIGHT)))
            for calls, worker in zip(run.shares, workers, strict=False)
        )
    )
    counted = await server.counted(access.key)
    ends = [each.ended for each in done]
    events = [name for each in done for name, _ in each.events]
    return Row(
        run=run,
        ok=sum(each.ok for each in done),
        requests=counted.requests,
        rate_limited=len(counted.rejected),
        seconds=max(ends) - start_at,
        spread=max(ends) - min(ends),
        operations=None if run.store == "none" else sum(each.operations for each in done) / counted.requests,
        worst_update=max(each.worst_update for each in done),
        late=max(each.late for each in done),
        events={name: events.count(name) for name in sorted(set(events))},
    )
