"""Runs one command: opens the client, reads the IDs, sends the batch, writes the results."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sys
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from zenovay_async import APIStatusError, ConfigurationError, Zenovay, ZenovayError, is_fatal
from zenovay_async._protocol.auth import KEY_VARIABLE
from zenovay_async._protocol.base_url import OR_ALLOW_HTTP
from zenovay_async._protocol.text import printable
from zenovay_async.cli.destination import is_replaced, open_destination
from zenovay_async.cli.ids import count_ids, open_ids, validate_id, website_ids
from zenovay_async.cli.output import make_writer
from zenovay_async.cli.progress import MessageReporter, ProgressReporter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from io import FileIO
    from pathlib import Path

    from zenovay_async import OnEvent
    from zenovay_async.cli.operations import Request
    from zenovay_async.cli.options import PerWebsite
    from zenovay_async.cli.writer import Writer

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

OK, FAILED, USAGE, REJECTED, INTERRUPTED = 0, 1, 2, 3, 130


@dataclass(frozen=True)
class Job:
    """One run of a command.

    Attributes:
        request: The operation and its arguments.
        ids: IDs of websites from the command line.
        options: The options.
    """

    request: Request
    ids: tuple[str, ...]
    options: PerWebsite


def run(job: Job) -> int:
    """Run a job; returns the exit code."""
    try:
        with open_ids(job.options.ids_from) as listed, open_destination(job.options.output) as file:
            return asyncio.run(_run(job, listed, file))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, such as head, has closed the pipe.
        _discard_stdout()
        return OK
    except ConfigurationError as error:
        return print_error(error, USAGE)
    except ZenovayError as error:
        is_rejected = isinstance(error, APIStatusError) and error.outage is None and is_fatal(error)
        return print_error(error, REJECTED if is_rejected else FAILED)
    except OSError as error:
        _discard_stdout()
        return print_error(_named(error, job.options.output) if error.errno in _FULL else error, FAILED)


def print_error(error: Exception, code: int) -> int:
    """Print an error to standard error; returns the exit code."""
    sys.stderr.write(f"zenovay-async: {printable(str(error))}\n")
    return code


def _named(error: OSError, output: Path | None) -> OSError:
    """The error of a write, with the file that it was to."""
    return OSError(f"{'standard output' if output is None else f'--output {output}'}: {error.strerror}")


def _discard_stdout() -> None:
    """Discard what standard output does not take, as Python would report it at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def _run(job: Job, listed: FileIO | None, file: IO[str]) -> int:
    options, operation = job.options, job.request.operation
    async with contextlib.AsyncExitStack() as stack:
        ids = job.ids
        max_wait = options.max_outage if operation.is_per_website else options.timeout
        messages = stack.enter_context(MessageReporter(max_wait))
        if options.sandbox is None:
            zenovay = _make_client(options, messages.on_event)
        else:
            from zenovay_async.sandbox import Sandbox  # noqa: PLC0415 - slow to import, and few runs need it

            sandbox = await stack.enter_async_context(Sandbox(websites=options.sandbox))
            zenovay = Zenovay(
                sandbox.api_key, base_url=sandbox.url, timeout=options.timeout, on_event=messages.on_event
            )
            if not ids and listed is None:
                ids = tuple(sandbox.website_ids)
        if operation.is_per_website and not ids and listed is None:
            raise ConfigurationError("no website IDs: pass IDs or --ids-from FILE, or try --sandbox 200")
        await stack.enter_async_context(zenovay)
        writer = make_writer(options.format, operation.result, file, per_website=operation.is_per_website)
        if not operation.is_per_website:
            writer.add("", await job.request.send(zenovay))
            writer.close()
            return OK
        in_file = 0 if listed is None else count_ids(listed)
        total = None if in_file is None else len(ids) + in_file
        typed = listed is not None and listed.isatty()
        with ProgressReporter(total, bar=not typed and not (writer.streams and file.isatty())) as reporter:
            messages.print = reporter.print
            return await _fetch(job, zenovay, website_ids(ids, listed), writer, reporter)


def _make_client(options: PerWebsite, on_event: OnEvent) -> Zenovay:
    if not os.environ.get(KEY_VARIABLE):
        raise ConfigurationError(f"{KEY_VARIABLE} is not set; set it, or try --sandbox 3")
    try:
        return Zenovay(base_url=options.base_url, timeout=options.timeout, on_event=on_event)
    except ConfigurationError as error:
        # The command line has no such option.
        raise ConfigurationError(error.message.removesuffix(OR_ALLOW_HTTP)) from error


async def _fetch(
    job: Job, zenovay: Zenovay, ids: AsyncIterator[str], writer: Writer, reporter: ProgressReporter
) -> int:
    async def fetch(website_id: str) -> Any:
        return await job.request.send(zenovay, validate_id(website_id))

    try:
        options = job.options
        batch = zenovay.batch(ids, fetch, concurrency=options.concurrency, max_outage=options.max_outage)
        async with batch as results:
            async for result in results:
                if result.error is None:
                    writer.add(result.item, result.value)
                    reporter.advance()
                elif isinstance(result.error, ConfigurationError):
                    # An argument, which is invalid for every website.
                    raise result.error
                else:
                    writer.record_missing()
                    reporter.record_failure(result.item, result.error)
                if reporter.done == 1:
                    await _show_estimate(job.request, zenovay, reporter)
    except ConfigurationError:
        raise
    except (asyncio.CancelledError, ZenovayError) as error:
        _end_early(job, writer, reporter, "stopped" if isinstance(error, ZenovayError) else "interrupted")
        raise
    reporter.clear()
    writer.close()
    reporter.summarize()
    return FAILED if reporter.failed else OK


async def _show_estimate(request: Request, zenovay: Zenovay, reporter: ProgressReporter) -> None:
    """Show how long the run takes, now that the first response has stated the rate limit."""
    limit = zenovay.rate_limit
    if reporter.total is None or limit is None or not request.is_one_call:
        # The number of requests is unknown.
        return
    cost = await request.cost()
    seconds = zenovay.estimate(reporter.total - 1, cost=cost).seconds
    reporter.show_estimate(seconds, reporter.total * cost, limit.limit * 60 / limit.window)


def _end_early(job: Job, writer: Writer, reporter: ProgressReporter, reason: str) -> None:
    """Write the results so far, which were paid for, unless the destination is a file that is replaced as a whole."""
    reporter.clear()
    writer.record_missing()
    output = job.options.output
    replaced = is_replaced(output)
    if reporter.done and not replaced:
        writer.close()
    reporter.summarize_early_end(reason)
    if replaced:
        reporter.print(f"nothing was written to {output}")
