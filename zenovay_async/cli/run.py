"""Runs one command: opens the client, reads the IDs, sends the batch, writes the results."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import sys
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from zenovay_async import APIStatusError, BadRequestError, ConfigurationError, Zenovay, ZenovayError, is_fatal
from zenovay_async._limits.options import STORE_VARIABLE
from zenovay_async._protocol.auth import KEY_VARIABLE
from zenovay_async._protocol.base_url import OR_ALLOW_HTTP
from zenovay_async._protocol.parameters import NOT_GIVEN
from zenovay_async.cli.destination import is_replaced, open_destination
from zenovay_async.cli.ids import StreamedIds, is_file, is_valid_id, open_ids, read_ids, validate_id
from zenovay_async.cli.messages import MessageReporter
from zenovay_async.cli.output import is_data, make_writer, plain_values
from zenovay_async.cli.progress import ProgressReporter
from zenovay_async.cli.shown import shown
from zenovay_async.cli.streams import discard_stdout

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

    from zenovay_async import OnEvent
    from zenovay_async.cli.operations import Request
    from zenovay_async.cli.options import PerWebsite
    from zenovay_async.cli.writer import Writer

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

# Seconds between two looks at the rate limit.
_TICK = 0.5

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
    options = job.options
    data = is_data(options.format, job.request.operation.result)
    try:
        with open_ids(options.ids_from) as listed, open_destination(options.output, is_data=data) as file:
            return asyncio.run(_run(job, listed, file))
    except KeyboardInterrupt:
        return INTERRUPTED
    except (ConfigurationError, BadRequestError) as error:
        # The server rejects what is invalid as well.
        return print_error(error, USAGE)
    except ZenovayError as error:
        is_rejected = isinstance(error, APIStatusError) and error.outage is None and is_fatal(error)
        return print_error(error, REJECTED if is_rejected else FAILED)
    except OSError as error:
        return end_output(error, options.output)


def print_error(error: Exception, code: int) -> int:
    """Print an error to standard error; returns the exit code."""
    # On one line, and otherwise as it is: spaces may belong to the name of a file.
    line = " ".join(str(error).splitlines())
    sys.stderr.write(f"zenovay-async: {shown(line)}\n")
    return code


def end_output(error: OSError, output: Path | None = None) -> int:
    """Print why the output ended; returns the exit code."""
    discard_stdout()
    if isinstance(error, BrokenPipeError):
        # The reader, such as head, has read enough.
        return OK
    if error.errno in _FULL:
        error = OSError(f"{'standard output' if output is None else f'--output {output}'}: {error.strerror}")
    return print_error(error, FAILED)


async def _run(job: Job, listed: FileIO | None, file: IO[str]) -> int:
    options, operation = job.options, job.request.operation
    async with contextlib.AsyncExitStack() as stack:
        ids = list(job.ids)
        max_wait = options.max_outage if operation.is_per_website else options.timeout
        messages = stack.enter_context(MessageReporter(max_wait))
        if options.sandbox is None:
            zenovay = _make_client(options, messages.on_event)
        else:
            from zenovay_async.sandbox import Sandbox  # noqa: PLC0415 - slow to import, and few runs need it

            sandbox = await stack.enter_async_context(Sandbox(websites=options.sandbox))
            zenovay = Zenovay(
                sandbox.api_key,
                base_url=sandbox.url,
                timeout=options.timeout,
                on_event=messages.on_event,
                rate_limit_store=None,
                batch_headroom=0,
            )
            if not ids and listed is None:
                ids = list(sandbox.website_ids)
        if operation.is_per_website and not ids and listed is None:
            raise ConfigurationError("no website IDs: pass IDs or --ids-from FILE, or try --sandbox 200")
        await stack.enter_async_context(zenovay)
        writer = make_writer(
            options.format,
            operation.result,
            file,
            per_website=operation.is_per_website,
            name=".".join(operation.path),
            path=options.output,
            csv_safe=options.csv_safe,
        )
        if not operation.is_per_website:
            writer.add("", plain_values(await job.request.send(zenovay)))
            writer.close()
            return OK
        # A pipe is read as it comes; of a list, the batch requests each ID once.
        source: list[str] | StreamedIds = ids
        if listed is not None:
            source = ids + read_ids(listed) if is_file(listed) else StreamedIds(ids, listed)
        typed = listed is not None and listed.isatty()
        total = len(source) if isinstance(source, list) else None
        with ProgressReporter(total, bar=not typed and not (writer.streams and file.isatty())) as reporter:
            messages.print = reporter.print
            return await _Run(job, zenovay, source, writer, reporter, messages).fetch()


def _make_client(options: PerWebsite, on_event: OnEvent) -> Zenovay:
    if not os.environ.get(KEY_VARIABLE):
        raise ConfigurationError(f"{KEY_VARIABLE} is not set; export {KEY_VARIABLE}=zv_..., or try --sandbox 3")
    store = options.rate_limit_store
    is_shared = bool(os.environ.get(STORE_VARIABLE) if store is None else store)
    try:
        return Zenovay(
            base_url=options.base_url,
            timeout=options.timeout,
            on_event=on_event,
            proxy=options.proxy,
            allow_http=options.allow_http,
            rate_limit_store=NOT_GIVEN if store is None else store,
            # A run alone has no direct calls beside its batch.
            batch_headroom="auto" if is_shared else 0,
        )
    except ConfigurationError as error:
        # The command line has them as options.
        message = error.message.replace(OR_ALLOW_HTTP, OR_ALLOW_HTTP.replace("allow_http=True", "--allow-http"))
        raise ConfigurationError(re.sub("^rate_limit_store", "--rate-limit-store", message)) from error


class _Run:
    """One batch: every ID of a source, its results to a writer."""

    def __init__(
        self,
        job: Job,
        zenovay: Zenovay,
        source: list[str] | StreamedIds,
        writer: Writer,
        reporter: ProgressReporter,
        messages: MessageReporter,
    ) -> None:
        self._job = job
        self._request = job.request
        self._zenovay = zenovay
        self._source = source
        self._writer = writer
        self._reporter = reporter
        self._messages = messages
        self._running = 0
        self._has_estimate = False

    async def fetch(self) -> int:
        """Fetch all; returns the exit code."""
        watch = asyncio.create_task(self._watch_rate_limit())
        try:
            await self._fetch()
        except ConfigurationError:
            raise
        except (asyncio.CancelledError, ZenovayError) as error:
            self._end_early("stopped" if isinstance(error, ZenovayError) else "interrupted")
            raise
        finally:
            watch.cancel()
        self._reporter.clear()
        self._writer.close()
        self._reporter.summarize(self._skipped)
        return FAILED if self._reporter.failed else OK

    async def _fetch(self) -> None:
        options, reporter, writer = self._job.options, self._reporter, self._writer
        batch = self._zenovay.batch(
            self._source, self._send, concurrency=options.concurrency, max_outage=options.max_outage
        )
        async with batch as results:
            async for result in results:
                if result.error is None:
                    writer.add(result.item, plain_values(result.value))
                    reporter.advance()
                elif isinstance(result.error, ConfigurationError):
                    # An argument, which is invalid for every website.
                    raise result.error
                else:
                    writer.add_failure({"website_id": result.item, "error": type(result.error).__name__})
                    reporter.record_failure(result.item, result.error)
                if not self._has_estimate:
                    await self._show_estimate()

    async def _send(self, website_id: str) -> Any:
        validate_id(website_id)
        self._running += 1
        try:
            return await self._request.send(self._zenovay, website_id)
        finally:
            self._running -= 1

    @property
    def _skipped(self) -> int:
        return 0 if isinstance(self._source, list) else self._source.skipped

    async def _show_estimate(self) -> None:
        """Show how long the run takes, once a response has stated the rate limit."""
        limit = self._zenovay.rate_limit
        if limit is None or not limit.learned or not isinstance(self._source, list) or not self._request.is_one_call:
            # The number of requests is unknown.
            return
        self._has_estimate = True
        cost = await self._request.cost()
        distinct = sum(map(is_valid_id, set(self._source)))
        seconds = self._zenovay.estimate(max(0, distinct - self._reporter.done), cost=cost).seconds
        self._reporter.show_estimate(seconds, distinct * cost, limit.limit * 60 / limit.window)

    async def _watch_rate_limit(self) -> None:
        """Say once that calls wait for the rate limit, of which no event tells."""
        budget = self._zenovay._budget  # noqa: SLF001 - private to users alone
        while True:
            await asyncio.sleep(_TICK)
            limit = self._zenovay.rate_limit
            # While a call runs, the arguments are known to be valid.
            if self._running and limit is not None:
                cost = await self._request.cost()
                is_waiting = self._running * cost > budget.statistics().in_flight
                if is_waiting and self._messages.report_pacing(limit):
                    return

    def _end_early(self, reason: str) -> None:
        """Write the results so far, which were paid for, unless the destination is a file that is replaced."""
        reporter, writer, output = self._reporter, self._writer, self._job.options.output
        reporter.clear()
        writer.record_early_end()
        replaced = is_replaced(output)
        if reporter.done and not replaced:
            writer.close()
        reporter.summarize_early_end(reason, self._skipped)
        if replaced:
            reporter.print(f"nothing was written to {output}")
