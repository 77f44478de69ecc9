"""Stores and processes that fail while four processes share a budget."""

from __future__ import annotations

import asyncio
import resource
import signal
import time
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from zenovay_async.sandbox.limits import LimiterKind

from .matrix import KINDS
from .messages import Access, Batch, Done, Setting, StoreName
from .processes import Worker, WorkerEnded, redis_running, warm_up, workers

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from redis_server import RedisServer

    from .processes import Server

PROCESSES = 4
LIMIT, WINDOW = 30, 3.0
# Seconds for which a store is away.
AWAY = 20.0
# Windows after a fault until the full rate is expected, and before the end of the calls, where some have none left.
_SETTLES, _ENDS = 2, 1

Fault: TypeAlias = Literal[
    "none",
    "Redis away at first",
    "Redis killed, back empty",
    "Redis frozen",
    "FLUSHALL",
    "file not writable",
    "process killed",
    "process stopped",
]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a run with a fault.

    Attributes:
        fault: What failed.
        store: Where the budget was shared.
        kind: How the server counted.
        calls: Calls of the processes that were not killed.
        ok: Those of them with a result.
        requests: Requests that the server counted.
        rate_limited: Those that got a 429.
        meanwhile: Requests that it admitted while the fault lasted.
        longest_gap: Seconds between two admitted requests, at most.
        afterwards: Requests admitted in the whole windows from two windows after the fault until one before the end,
            in shares of what is allowed; ``None`` if there are none.
        seconds: From the first call to the last result.
        ideal: Seconds that all calls take at least, at the allowed rate.
        errors: What calls failed with.
        events: How often each event came, in all processes.
    """

    fault: Fault
    store: StoreName
    kind: LimiterKind
    calls: int
    ok: int
    requests: int
    rate_limited: int
    meanwhile: int
    longest_gap: float
    afterwards: float | None
    seconds: float
    ideal: float
    errors: dict[str, int]
    events: dict[str, int]


class Case(msgspec.Struct, frozen=True):
    """A fault.

    Attributes:
        fault: What fails.
        store: Where the budget is shared.
        seconds: How long it lasts.
        calls: Calls that the processes make.
        begins: When it begins, in seconds after the first call.
    """

    fault: Fault
    store: StoreName
    seconds: float
    calls: int
    begins: float = 7.0


async def measure_all(server: Server, *, has_redis: bool) -> list[Row]:
    """Measure all faults, some of them at the same time; those of Redis only if there is one.

    Args:
        server: The server.
        has_redis: Whether there is one.
    """
    cases = [
        Case("Redis killed, back empty", "redis", AWAY, 480),
        Case("Redis frozen", "redis", AWAY, 480),
        Case("file not writable", "machine", AWAY, 480),
    ]
    short = [
        Case("none", "machine", 0.0, 360),
        Case("Redis away at first", "redis", 10.0, 360, begins=-0.3),
        Case("FLUSHALL", "redis", 0.0, 360),
        Case("process killed", "machine", 0.0, 360),
        Case("process killed", "redis", 0.0, 360),
        Case("process stopped", "machine", 5.0, 360),
        Case("process stopped", "redis", 5.0, 360),
    ]
    rows: list[Row] = []
    for group in (cases, short):
        possible = [case for case in group if has_redis or case.store != "redis"]
        found = await asyncio.gather(*(measure(case, server) for case in possible))
        rows += [row for each in found for row in each]
    return rows


async def measure(case: Case, server: Server) -> list[Row]:
    """Run a case against each kind of server at the same time, with processes and a Redis of its own."""
    async with workers(PROCESSES) as processes:
        if case.store == "machine":
            return await _measure(case, server, processes, None)
        async with redis_running() as running:
            return await _measure(case, server, processes, running)


async def _measure(case: Case, server: Server, processes: Sequence[Worker], redis: RedisServer | None) -> list[Row]:
    store = "machine" if redis is None else redis.url
    await warm_up(server, processes, [store])
    accesses = [
        Access(
            key=await server.add_key(Setting(kind=kind, limit=LIMIT, window=WINDOW, latency=0.1)),
            url=server.url,
            window=WINDOW,
            store=store,
            headroom=0,
        )
        for kind in KINDS
    ]
    share = case.calls // PROCESSES
    start_at = time.monotonic() + 0.5
    runs = [
        asyncio.gather(
            *(
                process.do(Batch(access=access, start_at=start_at, calls=share, concurrency=16))
                for process in processes
            ),
            return_exceptions=True,
        )
        for access in accesses
    ]
    await asyncio.sleep(start_at + case.begins - time.monotonic())
    began = time.monotonic()
    await _ACTS[case.fault](case, processes, redis)
    ended = time.monotonic()
    return [
        await _row(case, kind, access, await run, server, (began, ended))
        for kind, access, run in zip(KINDS, accesses, runs, strict=True)
    ]


async def _row(
    case: Case,
    kind: LimiterKind,
    access: Access,
    results: Sequence[Done | BaseException],
    server: Server,
    fault: tuple[float, float],
) -> Row:
    done: list[Done] = []
    for result in results:
        if isinstance(result, Done):
            done.append(result)
        elif not isinstance(result, WorkerEnded):
            raise result
    counted = await server.counted(access.key)
    began = min(each.began for each in done)
    ended = max(each.ended for each in done)
    times = sorted(counted.admitted)
    settled = fault[1] + _SETTLES * WINDOW
    windows = int((ended - settled) / WINDOW) - _ENDS
    afterwards = sum(0 <= at - settled < windows * WINDOW for at in times)
    return Row(
        fault=case.fault,
        store=case.store,
        kind=kind,
        calls=sum(len(each.calls) for each in done),
        ok=sum(each.ok for each in done),
        requests=counted.requests,
        rate_limited=len(counted.rejected),
        meanwhile=sum(fault[0] <= at < fault[1] for at in times),
        longest_gap=max(later - earlier for earlier, later in pairwise(times)),
        afterwards=afterwards / LIMIT / windows if windows > 0 else None,
        seconds=ended - began,
        ideal=(len(counted.admitted) / LIMIT - 1) * WINDOW,
        errors=dict(Counter(call.error for each in done for call in each.calls if call.error)),
        events=dict(Counter(name for each in done for name, _ in each.events)),
    )


async def _do_nothing(_: Case, __: Sequence[Worker], ___: RedisServer | None) -> None:
    """What the others are compared with."""


async def _kill_redis(case: Case, _: Sequence[Worker], redis: RedisServer | None) -> None:
    assert redis is not None
    redis.kill()
    await asyncio.sleep(case.seconds)
    await asyncio.to_thread(redis.start)


async def _freeze_redis(case: Case, _: Sequence[Worker], redis: RedisServer | None) -> None:
    assert redis is not None
    redis.stop()
    await asyncio.sleep(case.seconds)
    redis.cont()


async def _flush_redis(_: Case, __: Sequence[Worker], redis: RedisServer | None) -> None:
    assert redis is not None
    redis.command("FLUSHALL")


async def _stop_writes(case: Case, processes: Sequence[Worker], _: RedisServer | None) -> None:
    # As on a full disk, each write fails; pipes and sockets are not concerned.
    limits = [resource.prlimit(process.pid, resource.RLIMIT_FSIZE) for process in processes]
    for process, (_soft, hard) in zip(processes, limits, strict=True):
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, hard))
    await asyncio.sleep(case.seconds)
    for process, limit in zip(processes, limits, strict=True):
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limit)


async def _kill_process(_: Case, processes: Sequence[Worker], __: RedisServer | None) -> None:
    processes[-1].signal(signal.SIGKILL)


async def _stop_process(case: Case, processes: Sequence[Worker], _: RedisServer | None) -> None:
    processes[-1].signal(signal.SIGSTOP)
    await asyncio.sleep(case.seconds)
    processes[-1].signal(signal.SIGCONT)


_ACTS: dict[Fault, Callable[[Case, Sequence[Worker], RedisServer | None], Coroutine[None, None, None]]] = {
    "none": _do_nothing,
    "Redis away at first": _kill_redis,
    "Redis killed, back empty": _kill_redis,
    "Redis frozen": _freeze_redis,
    "FLUSHALL": _flush_redis,
    "file not writable": _stop_writes,
    "process killed": _kill_process,
    "process stopped": _stop_process,
}
