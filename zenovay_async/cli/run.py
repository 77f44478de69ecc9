"""One command, carried out: the client, the ids, the batch, the results."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zenovay_async import ConfigurationError, Zenovay, ZenovayError
from zenovay_async.batch import holds_for_every_item
from zenovay_async.cli.output import Format, Writer, destination, make_writer
from zenovay_async.cli.progress import Report

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from zenovay_async.cli.endpoints import Endpoint

FINE, FAILED, USAGE, REFUSED, INTERRUPTED = 0, 1, 2, 3, 130


@dataclass(frozen=True)
class Job:
    """What a command was asked to do."""

    endpoint: Endpoint
    ids: tuple[str, ...]
    ids_from: Path | None
    parameters: dict[str, Any]
    concurrency: int
    format: Format
    output: Path | None
    timeout: float
    base_url: str | None
    sandbox: int | None


def run(job: Job) -> int:
    """Carry a job out; returns the exit code."""
    try:
        return asyncio.run(_run(job))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever reads has seen enough. Python would complain about it when it flushes on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FINE
    except (ConfigurationError, OSError) as error:
        return complain(error, USAGE)
    except ZenovayError as error:
        return complain(error, REFUSED if holds_for_every_item(error) else FAILED)


def complain(error: Exception, code: int) -> int:
    """Say on standard error what is wrong; returns the exit code."""
    sys.stderr.write(f"zenovay-async: {error}\n")
    return code


async def _run(job: Job) -> int:
    async with contextlib.AsyncExitStack() as stack:
        named = job.ids
        if job.sandbox is None:
            zenovay = Zenovay(base_url=job.base_url, timeout=job.timeout)
        else:
            from zenovay_async.sandbox import Sandbox  # noqa: PLC0415 - a web server, which few runs need

            sandbox = await stack.enter_async_context(Sandbox(websites=job.sandbox))
            zenovay = Zenovay(sandbox.api_key, base_url=sandbox.url, timeout=job.timeout)
            named = named or tuple(sandbox.website_ids)
        if job.endpoint.of_a_website and not named and job.ids_from is None:
            raise ConfigurationError("no website ids: name them, or give --ids-from FILE, or try --sandbox 200")
        await stack.enter_async_context(zenovay)
        file = stack.enter_context(destination(job.output))
        writer = make_writer(job.format, job.endpoint, file)
        given = {name: value for name, value in job.parameters.items() if value is not None}
        if not job.endpoint.of_a_website:
            writer.add("", await job.endpoint.call(zenovay, "", given))
            writer.close()
            return FINE
        ids = named if job.ids_from is None else _ids_from(job.ids_from)
        with Report(len(named) if job.ids_from is None else None) as report:
            return await _fetch(job, zenovay, ids, given, writer, report)


async def _fetch(
    job: Job,
    zenovay: Zenovay,
    ids: Iterable[str] | AsyncIterator[str],
    given: dict[str, Any],
    writer: Writer,
    report: Report,
) -> int:
    try:
        async with zenovay.batch(
            ids, lambda website_id: job.endpoint.call(zenovay, website_id, given), concurrency=job.concurrency
        ) as results:
            async for result in results:
                if result.error is None:
                    writer.add(result.item, result.value)
                    report.advance()
                elif isinstance(result.error, ConfigurationError):
                    raise result.error
                else:
                    report.fail(result.item, result.error)
    except asyncio.CancelledError:
        if job.output is None:
            writer.close()
        report.interrupted()
        raise
    writer.close()
    report.conclude()
    return FAILED if report.failed else FINE


async def _ids_from(path: Path) -> AsyncIterator[str]:
    """Website ids, one a line, as they come; blank lines and comments are left out."""
    async for line in _lines(path):
        website_id = line.partition("#")[0].strip()
        if website_id:
            yield website_id


async def _lines(path: Path) -> AsyncIterator[str]:
    if str(path) != "-":
        with path.open(encoding="utf-8") as file:
            for line in file:
                yield line
    elif stat.S_ISREG(os.fstat(sys.stdin.fileno()).st_mode):
        for line in sys.stdin:
            yield line
    else:
        # A pipe or a terminal is slow to speak; the calls on their way must not wait for it.
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        try:
            while raw := await reader.readline():
                yield raw.decode("utf-8", "replace")
        finally:
            transport.close()
