"""Runs against failures of a network: a server that goes away, connections that die, responses that stay the same."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from zenovay_async import Zenovay, ZenovayError

from .limiters import Limiter
from .runs import unique_key
from .servers import free_port, local_url, stop

if TYPE_CHECKING:
    from pathlib import Path

    from .servers import Servers

NO_SUCH_HOST = "no-such-host.invalid"


class OutageCase(msgspec.Struct, frozen=True, kw_only=True):
    """A batch during which the server is away.

    Attributes:
        limiter: What is behind the server.
        away: Seconds.
        items: Items of the batch.
        concurrency: How many at a time.
        broken: Whether the server itself stays, and responds with 502 meanwhile.
    """

    limiter: Limiter
    away: float
    items: int
    concurrency: int
    broken: bool = False


class Outage(msgspec.Struct, frozen=True, kw_only=True):
    """Results of a batch.

    ``tried`` counts the connections tried while the server was away, or its responses with 502; ``rejected`` counts
    those with 429. ``lost`` is the time in seconds beyond the least without an outage.
    """

    away: float
    window: float
    items: int
    concurrency: int
    broken: bool
    ok: int
    tried: int
    rejected: int
    seconds: float
    lost: float
    errors: dict[str, int]


class NoSuchHost(msgspec.Struct, frozen=True, kw_only=True):
    """Results of a direct call and of a batch with a wrong host name."""

    direct_seconds: float
    direct_attempts: int
    direct_error: str
    batch_seconds: float
    batch_items: int
    batch_failed: int
    batch_lookups: int
    batch_error: str


class KeepAliveCase(msgspec.Struct, frozen=True, kw_only=True):
    """Waves of calls about as far apart as the server keeps idle connections.

    Attributes:
        name: What it is.
        scheme: ``http`` or ``https``.
        waves: How many.
        calls: Calls of each wave.
        gap: Seconds between them, give or take 50 ms.
        post: Whether the calls are questions, which must not be repeated.
        delay: Seconds that bytes take from one side to the other.
        blocked: Whether the program computes in the gap, so that the event loop does not run.
    """

    name: str
    scheme: str
    waves: int
    calls: int
    gap: float
    post: bool = False
    delay: float = 0.0
    blocked: bool = False


class KeepAlive(msgspec.Struct, frozen=True, kw_only=True):
    """Results of the waves; the server counted ``received`` and ``repeated`` (beyond the first of each call)."""

    name: str
    calls: int
    ok: int
    received: int
    repeated: int
    slowest_ms: float
    errors: dict[str, int]


class Odd(msgspec.Struct, frozen=True, kw_only=True):
    """Results of one call."""

    name: str
    requests: int
    outcome: str


KEEP_ALIVE_CASES = [
    KeepAliveCase(name="TLS", scheme="https", waves=40, calls=50, gap=1.0),
    KeepAliveCase(name="TLS, 20 ms each way", scheme="https", waves=40, calls=50, gap=1.0, delay=0.02),
    KeepAliveCase(name="clear, 20 ms each way", scheme="http", waves=40, calls=50, gap=1.0, delay=0.02),
    KeepAliveCase(
        name="clear, 20 ms each way, POST", scheme="http", waves=40, calls=50, gap=1.0, delay=0.02, post=True
    ),
    KeepAliveCase(name="computing 1.5 s, waves of 1", scheme="http", waves=8, calls=1, gap=1.5, blocked=True),
    KeepAliveCase(name="computing 1.5 s, waves of 8", scheme="http", waves=8, calls=8, gap=1.5, blocked=True),
    KeepAliveCase(name="computing 1.5 s, waves of 50", scheme="http", waves=8, calls=50, gap=1.5, blocked=True),
    KeepAliveCase(name="computing 1.5 s, 50, TLS", scheme="https", waves=8, calls=50, gap=1.5, blocked=True),
    KeepAliveCase(name="computing 1.5 s, 4, POST", scheme="http", waves=8, calls=4, gap=1.5, blocked=True, post=True),
]

ODD_SERVERS = [
    "gzip",
    "deflate",
    "early-hints",
    "trickle",
    "br",
    "zstd",
    "huge-header",
    "h2-clear",
    "h2-tls",
    "proxy-407",
]


class Watch:
    """Counts connections that this process tries to make, and look-ups of names, from an audit hook."""

    def __init__(self) -> None:
        self._counts = Counter[object]()
        sys.addaudithook(self._see)

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect" and isinstance(arguments[1], tuple):
            self._counts[arguments[1][1]] += 1
        elif event == "socket.getaddrinfo":
            self._counts[arguments[0]] += 1

    def __getitem__(self, port_or_host: int | str) -> int:
        return self._counts[port_or_host]


async def run_outage(servers: Servers, watch: Watch, case: OutageCase) -> Outage:
    """Stop the server as the third burst begins, or the second one of a minute, and start it again."""
    limiter, front, between = case.limiter, free_port(), free_port()
    behind = int(servers.url(limiter).split("/")[2].partition(":")[2])
    process = await servers.start_nginx("nginx_front.conf", front=between, behind=behind)
    edge = None
    if case.broken:
        edge = await servers.start_nginx("nginx_front.conf", front=front, behind=between)
    port = front if case.broken else between
    tried = 0

    async def go_away() -> None:
        nonlocal process, tried
        await asyncio.sleep(limiter.window * (1 if limiter.window > 30 else 2) - 0.2)
        await stop(process)
        before = watch[port]
        await asyncio.sleep(case.away)
        tried = watch[port] - before
        process = await servers.start_nginx("nginx_front.conf", front=between, behind=behind)

    key, errors = unique_key(), Counter[str]()
    began = time.monotonic()
    async with Zenovay(key, base_url=local_url(port), rate_limit_window=limiter.window) as zenovay:
        going = asyncio.create_task(go_away())
        calls = zenovay.batch(
            range(case.items), lambda number: zenovay.heatmaps.pages(f"site-{number}"), concurrency=case.concurrency
        )
        try:
            async with calls as results:
                async for result in results:
                    if result.error is not None:
                        errors[f"{type(result.error).__name__}, {getattr(result.error, 'attempts', 0)} attempts"] += 1
        except ZenovayError as error:
            errors[f"the batch ended: {error}"] = 1
        seconds = time.monotonic() - began
        await going
    counted = servers.counted(key, "node")
    ok = len({path for status, _, path in counted if status == "200"})
    await stop(process)
    if edge is not None:
        await stop(edge)
    return Outage(
        away=case.away,
        window=limiter.window,
        items=case.items,
        concurrency=case.concurrency,
        broken=case.broken,
        ok=ok,
        tried=servers.counted(key, "nginx_front").with_status(502) if case.broken else tried,
        rejected=counted.rejected,
        seconds=seconds,
        lost=seconds - limiter.ideal(case.items),
        errors=dict(errors),
    )


async def run_no_such_host(watch: Watch, items: int = 1000, max_outage: float = 60.0) -> NoSuchHost:
    """Make a direct call, then a batch that ends after ``max_outage`` seconds."""
    base_url = f"https://{NO_SUCH_HOST}/api/external/v1"
    async with Zenovay(unique_key(), base_url=base_url) as zenovay:
        began, attempts, direct = time.monotonic(), 0, "no error"
        try:
            await zenovay.heatmaps.pages("site")
        except ZenovayError as error:
            attempts, direct = error.attempts, str(error)
        direct_seconds = time.monotonic() - began
    async with Zenovay(unique_key(), base_url=base_url) as zenovay:
        began, before, taken, failed, last = time.monotonic(), watch[NO_SUCH_HOST], 0, 0, "none"

        def fetch(number: int) -> Any:
            nonlocal taken
            taken += 1
            return zenovay.heatmaps.pages(f"site-{number}")

        try:
            async with zenovay.batch(range(items), fetch, max_outage=max_outage) as results:
                async for result in results:
                    failed += result.error is not None
        except ZenovayError as error:
            last = str(error)
        return NoSuchHost(
            direct_seconds=direct_seconds,
            direct_attempts=attempts,
            direct_error=direct,
            batch_seconds=time.monotonic() - began,
            batch_items=taken,
            batch_failed=failed,
            batch_lookups=watch[NO_SUCH_HOST] - before,
            batch_error=last,
        )


async def run_keep_alive(servers: Servers, certificates: Path, ports: dict[str, int], case: KeepAliveCase) -> KeepAlive:
    """Run the waves in a process of their own."""
    key = unique_key()
    port = ports["tls" if case.scheme == "https" else "clear"]
    options = msgspec.to_builtins(case) | {"key": key, "port": port}
    del options["name"]
    result = await _in_own_process("waves", options, certificates)
    counted = servers.counted(key)
    return KeepAlive(
        name=case.name,
        calls=case.waves * case.calls,
        received=counted.total(),
        repeated=counted.repeated,
        **result,
    )


async def run_odd(servers: Servers, certificates: Path, name: str, port: int) -> Odd:
    """Make one call in a process of its own."""
    options: dict[str, Any] = {"url": local_url(port, "https" if name == "h2-tls" else "http")}
    if name == "proxy-407":
        options = {"url": f"https://{NO_SUCH_HOST}/api/external/v1", "proxy": f"http://127.0.0.1:{port}"}
    # Where connections are counted, so was the one that showed that the server listens.
    before = servers.counted(name, "odd").total()
    result = await _in_own_process("call", options, certificates)
    return Odd(name=name, requests=servers.counted(name, "odd").total() - before, outcome=result["outcome"])


async def _in_own_process(what: str, options: dict[str, Any], certificates: Path) -> Any:
    # aiohttp reads the certificates to trust when it is imported.
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"{__package__}.client",
        what,
        json.dumps(options),
        env=os.environ | {"SSL_CERT_FILE": str(certificates / "ca.pem")},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    return json.loads(output)
