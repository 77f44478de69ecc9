"""One command, carried out: the client, the ids, the batch, the results."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from zenovay_async import ConfigurationError, Zenovay, ZenovayError, is_fatal
from zenovay_async.cli.destination import destination, is_whole
from zenovay_async.cli.ids import checked, count, opened, website_ids
from zenovay_async.cli.output import Format, make_writer
from zenovay_async.cli.progress import Report

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from io import FileIO
    from pathlib import Path

    from zenovay_async.cli.writer import Writer
    from zenovay_async.tables import Endpoint

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
        with opened(job.ids_from) as listed, destination(job.output) as file:
            return asyncio.run(_run(job, listed, file))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever reads has seen enough.
        _give_up_stdout()
        return FINE
    except ConfigurationError as error:
        return complain(error, USAGE)
    except ZenovayError as error:
        return complain(error, REFUSED if is_fatal(error) else FAILED)
    except OSError as error:
        # A full disk, most likely.
        _give_up_stdout()
        return complain(error, FAILED)


def complain(error: Exception, code: int) -> int:
    """Say on standard error what is wrong; returns the exit code."""
    sys.stderr.write(f"zenovay-async: {error}\n")
    return code


def _give_up_stdout() -> None:
    """Drop what standard output does not take, as Python would complain about it on its way out."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def _run(job: Job, listed: FileIO | None, file: IO[str]) -> int:
    async with contextlib.AsyncExitStack() as stack:
        named = job.ids
        if job.sandbox is None:
            zenovay = Zenovay(base_url=job.base_url, timeout=job.timeout)
        else:
            from zenovay_async.sandbox import Sandbox  # noqa: PLC0415 - a web server, which few runs need

            sandbox = await stack.enter_async_context(Sandbox(websites=job.sandbox))
            zenovay = Zenovay(sandbox.api_key, base_url=sandbox.url, timeout=job.timeout)
            if not named and listed is None:
                named = tuple(sandbox.website_ids)
        if job.endpoint.of_a_website and not named and listed is None:
            raise ConfigurationError("no website ids: name them, or give --ids-from FILE, or try --sandbox 200")
        await stack.enter_async_context(zenovay)
        writer = make_writer(job.format, job.endpoint, file)
        given = {name: value for name, value in job.parameters.items() if value is not None}
        if not job.endpoint.of_a_website:
            writer.add("", await job.endpoint.call(zenovay, "", given))
            writer.close()
            return FINE
        in_file = 0 if listed is None else count(listed)
        total = None if in_file is None else len(named) + in_file
        typed = listed is not None and listed.isatty()
        with Report(total, bar=not typed and not (writer.streams and file.isatty())) as report:
            return await _fetch(job, zenovay, website_ids(named, listed), given, writer, report)


async def _fetch(
    job: Job,
    zenovay: Zenovay,
    ids: AsyncIterator[str],
    given: dict[str, Any],
    writer: Writer,
    report: Report,
) -> int:
    async def fetch(website_id: str) -> Any:
        return await job.endpoint.call(zenovay, checked(website_id), given)

    try:
        async with zenovay.batch(ids, fetch, concurrency=job.concurrency) as results:
            async for result in results:
                if result.error is None:
                    writer.add(result.item, result.value)
                    report.advance()
                elif isinstance(result.error, ConfigurationError):
                    # A parameter, which is wrong for every website.
                    raise result.error
                else:
                    writer.miss()
                    report.fail(result.item, result.error)
                if report.done == 1:
                    _foretell(job, zenovay, given, report)
    except ConfigurationError:
        raise
    except (asyncio.CancelledError, ZenovayError) as error:
        _cut_short(job, writer, report, "stopped" if isinstance(error, ZenovayError) else "interrupted")
        raise
    report.clear()
    writer.close()
    report.conclude()
    return FAILED if report.failed else FINE


def _foretell(job: Job, zenovay: Zenovay, given: dict[str, Any], report: Report) -> None:
    """Say what the run takes, now that the first answer has told the rate limit."""
    limit = zenovay.rate_limit
    if report.total is None or limit is None or "take" in given or given.get("all"):
        # Nobody knows how many requests it takes.
        return
    cost = job.endpoint.cost
    seconds = zenovay.estimate(report.total - 1, cost=cost).seconds
    report.foretell(seconds, report.total * cost, limit.limit * 60 / limit.window)


def _cut_short(job: Job, writer: Writer, report: Report, how: str) -> None:
    """The run ends early: what is there was paid for, and is written unless a file is whole or not at all."""
    report.clear()
    writer.miss()
    kept = is_whole(job.output)
    if report.done and not kept:
        writer.close()
    report.cut_short(how)
    if kept:
        report.say(f"nothing was written to {job.output}")
