"""One batch of a run: every ID of a source, its results to a writer."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

from zenovay_async import ConfigurationError, ZenovayError
from zenovay_async.cli.exit_codes import FAILED, OK
from zenovay_async.cli.failures import describe_failure
from zenovay_async.cli.ids import is_valid_id, validate_id
from zenovay_async.cli.output import plain_values

if TYPE_CHECKING:
    from zenovay_async import Zenovay
    from zenovay_async.cli.ids import StreamedIds
    from zenovay_async.cli.messages import MessageReporter
    from zenovay_async.cli.operations import Request
    from zenovay_async.cli.options import PerWebsite
    from zenovay_async.cli.progress import ProgressReporter
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
        resumable: The files that keep what is done; ``None`` if nothing does.
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
        resumable: Resumable | None,
    ) -> None:
        self._request = request
        self._options = options
        self._zenovay = zenovay
        self._source = source
        self._writer = writer
        self._reporter = reporter
        self._messages = messages
        self._resumable = resumable
        self._running = 0
        self._written: Counter[str] = Counter()
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
            self._reporter.clear()
            self._writer.close()
        except (asyncio.CancelledError, ZenovayError, OSError) as error:
            self._end_early(error)
            raise
        finally:
            watch.cancel()
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
            max_failures=options.max_failures,
            max_requests=options.max_requests,
        )
        async with batch as results:
            async for result in results:
                if result.error is None:
                    self._write(result.item, result.value)
                elif isinstance(result.error, ConfigurationError):
                    # An argument, which is invalid for every website.
                    raise result.error
                else:
                    writer.add_failure(describe_failure(result.item, result.error))
                    reporter.record_failure(result.item, result.error)
                if not self._has_estimate:
                    await self._show_estimate()

    def _write(self, website_id: str, value: Any) -> None:
        self._writer.add(website_id, value)
        self._written[website_id] += 1
        self._reporter.advance()

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

    def _end_early(self, error: BaseException) -> None:
        """Write the results so far, which were paid for, and say where they are."""
        reporter, resumable = self._reporter, self._resumable
        reporter.clear()
        self._writer.record_early_end()
        # What could not be written once is not written now.
        is_written = not isinstance(error, OSError) and self._write_rest()
        if isinstance(error, ConfigurationError) and not reporter.done:
            return
        if not isinstance(error, BrokenPipeError):
            reason = "interrupted" if isinstance(error, asyncio.CancelledError) else "stopped"
            reporter.summarize_early_end(reason, self._skipped)
        if resumable is not None:
            kept, file = (
                (self._written.total(), resumable.kept_in)
                if is_written
                else (resumable.journal.done, resumable.journal_name)
            )
            of = "" if reporter.total is None else f" of {reporter.total:,}"
            reporter.print(
                f"kept {kept:,}{of} in {file}; go on with --resume"
                if kept
                else f"nothing was written to {self._options.output}"
            )

    def _write_rest(self) -> bool:
        """Write what is left of the results so far; returns whether the file has all of them."""
        try:
            if self._resumable is not None and isinstance(self._source, list):
                # What was fetched and not handed out, or not replayed yet.
                for website_id, times in (Counter(self._source) - self._written).items():
                    entry = self._resumable.journal.find(website_id)
                    for _ in range(times if entry is not None and entry.state == "done" else 0):
                        self._write(website_id, entry.value)
            if self._reporter.done:
                self._writer.close()
        except (ZenovayError, OSError):
            if self._resumable is None:
                raise
            return False
        return True
