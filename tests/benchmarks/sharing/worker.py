"""A process that uses the key of a run; run as ``python -m tests.benchmarks.sharing.worker``.

It reads tasks from its standard input, carries them out at the same time, and writes what became of each. Runs that go
on at the same time have keys of their own, and so budgets of their own.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec

from zenovay_async import Zenovay, ZenovayError
from zenovay_async._limits.stores import make_store

from .counting import CountingStore
from .messages import AnyTask, Batch, DirectCalls, Done, EndlessBatch, Order, Report, Visits, Wait

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zenovay_async import Event
    from zenovay_async.rate_limits import Store

_TICK = 0.02


class Watch:
    """Notes how late the event loop is: a machine too busy for it would distort all the rest."""

    def __init__(self) -> None:
        self._late: list[tuple[float, float]] = []

    async def run(self) -> None:
        while True:
            due = time.monotonic() + _TICK
            await asyncio.sleep(_TICK)
            now = time.monotonic()
            self._late.append((now, now - due))

    def worst(self, since: float) -> float:
        return max((late for at, late in self._late if at >= since), default=0.0)


class Run:
    """One task with a client of its own."""

    def __init__(self, task: AnyTask) -> None:
        self.task = task
        self.calls: list[Wait] = []
        self.events: list[tuple[str, float]] = []
        self.store: CountingStore | None = None

    async def carry_out(self, watch: Watch) -> Done:
        access = self.task.access
        store: Store | str | None = access.store
        if access.counts and access.store is not None:
            store = self.store = CountingStore(make_store(access.store))
        zenovay = Zenovay(
            access.key,
            base_url=access.url,
            rate_limit_window=access.window,
            rate_limit_store=store,
            batch_headroom=access.headroom,
            timeout=None,
            trust_env=False,
            on_event=self._note,
        )
        async with zenovay:
            await asyncio.sleep(self.task.start_at - time.monotonic())
            began = time.monotonic()
            await self._work(zenovay)
            ended = max((call.at for call in self.calls), default=began)
        if self.store is not None:
            await self.store.aclose()
        return Done(
            calls=self.calls,
            began=began,
            ended=ended,
            operations=self.store.operations if self.store else 0,
            worst_update=self.store.worst_update if self.store else 0,
            events=self.events,
            late=watch.worst(began),
        )

    async def _work(self, zenovay: Zenovay) -> None:
        match self.task:
            case Batch(calls=calls, concurrency=concurrency):
                await self._batch(zenovay, range(calls), concurrency)
            case EndlessBatch(end_at=end_at):
                try:
                    async with asyncio.timeout(end_at - time.monotonic()):
                        await self._batch(zenovay, itertools.count(), 8)
                except TimeoutError:
                    pass
            case DirectCalls(start_at=start_at, end_at=end_at, every=every, timeout=timeout):
                async with asyncio.TaskGroup() as group:
                    for number in range(int((end_at - start_at) / every)):
                        await asyncio.sleep(start_at + number * every - time.monotonic())
                        group.create_task(self._call(zenovay, number, timeout=timeout))
            case Visits(visitors=visitors, dashboards=dashboards, questions=questions, timeout=timeout):
                numbers = range(visitors * dashboards * questions)
                await asyncio.gather(*(self._call(zenovay, number, timeout=timeout) for number in numbers))

    async def _batch(self, zenovay: Zenovay, items: Iterable[int], concurrency: int) -> None:
        async def fetch(number: int) -> None:
            await self._call(zenovay, number)

        async with zenovay.batch(items, fetch, concurrency=concurrency, max_outage=None) as results:
            async for _ in results:
                pass

    async def _call(self, zenovay: Zenovay, number: int, **options: Any) -> None:
        began, failed = time.monotonic(), ""
        try:
            await zenovay.heatmaps.pages(f"site-{number}", **options)
        except ZenovayError as error:
            failed = type(error).__name__
        now = time.monotonic()
        self.calls.append(Wait(now, now - began, failed))

    def _note(self, event: Event) -> None:
        self.events.append((type(event).__name__, time.monotonic()))


async def main() -> None:
    """Carry out tasks until the input ends."""
    # Events say what is logged.
    logging.getLogger("zenovay_async").addHandler(logging.NullHandler())
    loop, watch = asyncio.get_running_loop(), Watch()
    reader = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def carry_out(order: Order) -> None:
        done = await Run(order.task).carry_out(watch)
        sys.stdout.buffer.write(msgspec.json.encode(Report(order.number, done)) + b"\n")
        sys.stdout.buffer.flush()

    watching = asyncio.create_task(watch.run())
    async with asyncio.TaskGroup() as group:
        while line := await reader.readline():
            group.create_task(carry_out(msgspec.json.decode(line, type=Order)))
    watching.cancel()


if __name__ == "__main__":
    asyncio.run(main())
