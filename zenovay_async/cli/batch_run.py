"""One batch of a run: every ID of a source, its results to a writer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from zenovay_async import ConfigurationError, ZenovayError
from zenovay_async.cli.exit_codes import FAILED, OK
from zenovay_async.cli.ids import is_valid_id, validate_id
from zenovay_async.cli.output import plain_values
from zenovay_async.cli.shown import redact_keys

if TYPE_CHECKING:
    from zenovay_async import Zenovay
    from zenovay_async.cli.ids import StreamedIds
    from zenovay_async.cli.log_lines import LogLines
    from zenovay_async.cli.messages import MessageReporter
    from zenovay_async.cli.operations import Request
    from zenovay_async.cli.options import PerWebsite
    from zenovay_async.cli.progress import ProgressReporter
    from zenovay_async.cli.report_file import ReportFile
    from zenovay_async.cli.resumable import Resumable
    from zenovay_async.cli.writer import Writer

# Seconds between two looks at the rate limit.
_TICK = 0.5


class BatchRun:
    """Fetches every ID of a source.

    Args:
        request: What to request of each website.
        options: The options of the command.
        zenovay: The client.
        source: The IDs.
        writer: Writes the results.
        reporter: Shows the progress and the failures.
        messages: Reports waits.
        lines: Where to say what is kept.
        resumable: The files that keep what is done; ``None`` if nothing does.
        report_file: Reports what the run did.
    """

    def __init__(
        self,
        request: Request,
        options: PerWebsite,
        zenovay: Zenovay,
        *,
        source: list[str] | StreamedIds,
        writer: Writer,
        reporter: ProgressReporter,
        messages: MessageReporter,
        lines: LogLines,
        resumable: Resumable | None,
        report_file: ReportFile,
    ) -> None:
        self._request = request
        self._options = options
        self._zenovay = zenovay
        self._source = source
        self._writer = writer
        self._reporter = reporter
        self._messages = messages
        self._lines = lines
        self._resumable = resumable
        self._report_file = report_file
        self._kept = 0 if resumable is None else resumable.journal.done
        self._running = 0
        self._has_estimate = False

    async def fetch(self) -> int:
        """Fetch all; returns the exit code.

        Raises:
            ZenovayError: An error that ends the run; what came until then is written, and reported.
            OSError: A result cannot be written.
        """
        watch = asyncio.create_task(self._watch_rate_limit())
        try:
            await self._fetch()
        except (asyncio.CancelledError, ZenovayError, OSError) as error:
            self._end_early(error)
            raise
        finally:
            watch.cancel()
        self._reporter.clear()
        self._writer.close()
        if self._resumable is not None:
            self._resumable.is_complete, self._resumable.has_failures = True, self._reporter.failed > 0
        self._reporter.summarize(self._skipped)
        return FAILED if self._reporter.failed else OK

    async def _fetch(self) -> None:
        options, reporter, writer = self._options, self._reporter, self._writer
        batch = self._zenovay.batch(
            self._source,
            self._send,
            concurrency=options.concurrency,
            max_outage=options.max_outage,
            journal=None if self._resumable is None else self._resumable.journal,
            # What is no ID may be a key, which no file has.
            key=str if self._resumable is None else redact_keys,
            max_failures=options.max_failures,
            max_requests=options.max_requests,
        )
        self._report_file.report = lambda: batch.report
        async with batch as results:
            async for result in results:
                if result.error is None:
                    writer.add(result.item, result.value)
                    reporter.advance(replayed=result.replayed)
                elif isinstance(result.error, ConfigurationError):
                    # An argument, which is invalid for every website.
                    raise result.error
                else:
                    writer.add_failure(reporter.record_failure(result.item, result.error))
                if not self._has_estimate:
                    await self._show_estimate()

    async def _send(self, website_id: str) -> Any:
        validate_id(website_id)
        self._running += 1
        try:
            # Plain, so that a result from the journal is the same.
            return plain_values(await self._request.send(self._zenovay, website_id))
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
        requests = max(0, sum(map(is_valid_id, set(self._source))) - self._kept) * cost
        if self._options.max_requests is not None:
            requests = min(requests, self._options.max_requests)
        fetched = self._reporter.done - self._reporter.replayed
        seconds = self._zenovay.estimate(max(0, requests // cost - fetched), cost=cost).seconds
        self._reporter.show_estimate(seconds, requests, limit.limit * 60 / limit.window)

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

    def _end_early(self, error: BaseException) -> None:
        """Write the results so far, which were paid for, and say where they are."""
        reporter, writer, resumable = self._reporter, self._writer, self._resumable
        reporter.clear()
        if isinstance(error, ConfigurationError) and reporter.done == reporter.failed:
            # Nothing was requested.
            return
        writer.record_early_end()
        # What could not be written once is not written now.
        if reporter.done and not isinstance(error, OSError):
            writer.close()
        if not isinstance(error, BrokenPipeError):
            reason = "interrupted" if isinstance(error, asyncio.CancelledError) else "stopped"
            reporter.summarize_early_end(reason, self._skipped)
        if resumable is not None:
            kept, source = resumable.journal.done, self._source
            # Of IDs that occur twice, the journal has one.
            of = f" of {len(set(source)):,}" if isinstance(source, list) else ""
            text = f"kept {kept:,}{of} in {resumable.kept_in}; go on with --resume"
            self._lines.write(text if kept else f"nothing was written to {self._options.output}", kept=kept)
