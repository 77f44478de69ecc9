"""A process that uses a key: ``python budget_worker.py``, with an :class:`Order` as a line of its standard input.

It writes a line once its first call has succeeded, reads another one, makes its other calls, and writes a
:class:`Report`.
"""

from __future__ import annotations

import asyncio
import sys

import msgspec

from zenovay_async import Event, SharedBudgetBack, SharedBudgetLost, Zenovay, ZenovayError

CONCURRENCY = 8


class Order(msgspec.Struct):
    """What to do: so many calls with one client, eight at a time."""

    key: str
    url: str
    website_id: str
    store: str
    window: float
    calls: int


class Report(msgspec.Struct):
    """What became of the calls: those with a result, the errors of the others, and the store."""

    succeeded: int
    errors: list[str]
    lost: int
    back: int


async def carry_out(order: Order) -> Report:
    events: list[Event] = []
    errors: list[str] = []
    left = order.calls
    zenovay = Zenovay(
        order.key,
        base_url=order.url,
        rate_limit_store=order.store,
        rate_limit_window=order.window,
        timeout=60,
        trust_env=False,
        on_event=events.append,
        coalesce=False,
    )

    async def work() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            try:
                await zenovay.heatmaps.pages(order.website_id)
            except ZenovayError as error:
                errors.append(repr(error))

    async with zenovay:
        left -= 1
        await zenovay.heatmaps.pages(order.website_id)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENCY):
                group.create_task(work())
    lost, back = (sum(isinstance(event, kind) for event in events) for kind in (SharedBudgetLost, SharedBudgetBack))
    return Report(order.calls - len(errors), errors, lost, back)


if __name__ == "__main__":
    report = asyncio.run(carry_out(msgspec.json.decode(sys.stdin.readline(), type=Order)))
    sys.stdout.buffer.write(msgspec.json.encode(report))
