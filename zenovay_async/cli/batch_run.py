"""One batch of a run: every ID of a source, its results to a writer."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zenovay_async import ConfigurationError
from zenovay_async.cli.ids import is_valid_id, validate_id
from zenovay_async.cli.output import plain_values
from zenovay_async.cli.shown import redact_keys

if TYPE_CHECKING:
    from zenovay_async.cli.clients import Client
    from zenovay_async.cli.ids import StreamedIds
    from zenovay_async.cli.log_lines import LogLines
    from zenovay_async.cli.operations import Request
    from zenovay_async.cli.options import PerWebsite
    from zenovay_async.cli.progress import ProgressReporter
    from zenovay_async.cli.report_file import ReportFile
    from zenovay_async.cli.resumable import Resumable
    from zenovay_async.cli.writer import Writer

# Seconds between two looks at the rate limit.
_TICK = 0.5


@dataclass(frozen=True)
class Outputs:
    """Where the batches of a run write.

    Attributes:
        writer: The results.
        reporter: The progress and the failures.
        lines: What else they say.
        report_file: What they did.
        resumable: What keeps the results if the run ends early; ``None`` if nothing does.
    """

    writer: Writer
    reporter: ProgressReporter
    lines: LogLines
    report_file: ReportFile
    resumable: Resumable | None


class BatchRun:
    """Fetches every ID of a source.

    Args:
        request: What to request of each website.
        options: The options of the command.
        client: The client.
        source: The IDs.
        outputs: Where to write.

    Attributes:
        name: Name of the key, which the results carry; ``None`` for the only one.
        lines: What is said of it.
    """

    def __init__(
        self,
        request: Request,
        options: PerWebsite,
        client: Client,
        source: list[str] | StreamedIds,
        outputs: Outputs,
    ) -> None:
        self._request = request
        self._options = options
        self.name, self._zenovay, self.lines, self._messages = client
        self._source = source
        self._writer = outputs.writer
        self._reporter = outputs.reporter
        self._report_file = outputs.report_file
        self._journal = None if outputs.resumable is None else outputs.resumable.journal
        self._kept = 0 if self._journal is None else self._journal.done
        self._running = 0
        self._written: Counter[str] = Counter()
        # One for each of many keys would be no help.
        self._has_estimate = self.name is not None

    @property
    def distinct(self) -> int | None:
        """Number of distinct IDs; ``None`` if that is unknown."""
        return len(set(self._source)) if isinstance(self._source, list) else None

    @property
    def duplicates(self) -> int:
        """IDs of a pipe that were left out, as they came before."""
        return 0 if isinstance(self._source, list) else self._source.duplicates

    @property
    def written(self) -> int:
        """Number of distinct IDs whose result was written."""
        return len(self._written)

    async def fetch(self) -> None:
        """Fetch all.

        Raises:
            ZenovayError: An error that ends the batch.
            OSError: A result cannot be written.
        """
        watch = asyncio.create_task(self._watch_rate_limit())
        try:
            await self._fetch()
        finally:
            watch.cancel()

    async def _fetch(self) -> None:
        options, journal = self._options, self._journal
        batch = self._zenovay.batch(
            self._source,
            self._send,
            concurrency=options.concurrency,
            max_outage=options.max_outage,
            journal=journal,
            key=str if journal is None else self._journal_key,
            max_failures=options.max_failures,
            max_requests=options.max_requests,
        )
        self._report_file.watch(self.name, lambda: batch.report)
        async with batch as results:
            async for result in results:
                if result.error is None:
                    self._write(result.item, result.value, replayed=result.replayed)
                elif isinstance(result.error, ConfigurationError):
                    # An argument, which is invalid for every website.
                    raise result.error
                else:
                    self._writer.add_failure(self._reporter.record_failure(result.item, result.error, self.name))
                if not self._has_estimate:
                    await self._show_estimate()

    def write_rest(self) -> None:
        """Write what is done and was not handed out: the batch ended before, or had not replayed it yet.

        Raises:
            JournalError: It cannot be read.
            OSError: It cannot be written.
        """
        if self._journal is None or not isinstance(self._source, list):
            return
        for website_id, times in (Counter(self._source) - self._written).items():
            entry = self._journal.find(self._journal_key(website_id))
            if entry is not None and entry.state == "done":
                for _ in range(times):
                    self._write(website_id, entry.value, replayed=True)

    def _write(self, website_id: str, value: Any, *, replayed: bool) -> None:
        self._writer.add(website_id, value, self.name)
        self._written[website_id] += 1
        self._reporter.advance(replayed=replayed)

    async def _send(self, website_id: str) -> Any:
        validate_id(website_id)
        self._running += 1
        try:
            # Plain, so that a result from the journal is the same.
            return plain_values(await self._request.send(self._zenovay, website_id))
        finally:
            self._running -= 1

    def _journal_key(self, website_id: str) -> str:
        # A name has no comma. What is no ID may be a key, which no file has.
        return redact_keys(website_id if self.name is None else f"{self.name},{website_id}")

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
