"""The batches of a run: one, or one for each key, all at once; what becomes of what came, and the exit code."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from zenovay_async import ConfigurationError, JournalError, ZenovayError
from zenovay_async.cli.exit_codes import FAILED, OK, exit_code_of

if TYPE_CHECKING:
    from pathlib import Path

    from zenovay_async.cli.batch_run import BatchRun, Outputs
    from zenovay_async.cli.resumable import Resumable


class Batches:
    """Fetches all websites of a run.

    Args:
        runs: A batch for each key.
        errors: What ended a key before its batch began, by its name; ``None`` is the only key.
        outputs: Where to write.
        path: The file of the results, for messages.
    """

    def __init__(
        self, runs: list[BatchRun], errors: dict[str | None, ZenovayError], outputs: Outputs, path: Path | None
    ) -> None:
        self._runs = runs
        self._errors: dict[str | None, ZenovayError] = {}
        self._report_file = outputs.report_file
        for name, error in errors.items():
            self._record_error(name, error)
        self._number_of_keys = len(runs) + len(errors)
        self._writer = outputs.writer
        self._reporter = outputs.reporter
        self._lines = outputs.lines
        self._resumable = outputs.resumable
        self._path = path
        self._is_closed = False

    async def fetch(self) -> int:
        """Fetch all; returns the exit code.

        An error that ends the batch of one key of several ends no other: the run goes on, and has ended early.

        Raises:
            ZenovayError: An error that ends the run; what came until then is written, and reported.
            OSError: A result cannot be written.
        """
        try:
            await self._fetch_together()
            if not self._errors:
                self._reporter.clear()
                self._close()
        except (asyncio.CancelledError, ZenovayError, OSError) as error:
            self._end_early(error)
            raise
        if self._errors:
            self._end_early(None)
            codes = {exit_code_of(error, is_batch=True) for error in self._errors.values()}
            return codes.pop() if len(self._errors) == self._number_of_keys and len(codes) == 1 else FAILED
        self._reporter.summarize(self._duplicates)
        if self._resumable is not None:
            self._complete(self._resumable)
        return FAILED if self._reporter.failed else OK

    async def _fetch_together(self) -> None:
        if None in self._errors:
            raise self._errors[None]
        if self._resumable is not None:
            self._resumable.begin()
        try:
            async with asyncio.TaskGroup() as group:
                for run in self._runs:
                    group.create_task(self._fetch_one(run))
        except BaseExceptionGroup as errors:
            first = errors.exceptions[0]
            raise first from first.__cause__

    async def _fetch_one(self, run: BatchRun) -> None:
        try:
            await run.fetch()
        except (ConfigurationError, JournalError):
            # Those of every key.
            raise
        except ZenovayError as error:
            if run.name is None:
                raise
            self._record_error(run.name, error)
            run.lines.write_error(error)

    def _record_error(self, name: str | None, error: ZenovayError) -> None:
        self._errors[name] = error
        self._report_file.record_error(error, name)

    @property
    def _duplicates(self) -> int:
        return sum(run.duplicates for run in self._runs)

    @property
    def _total(self) -> int | None:
        """How many websites the journal would have; ``None`` if that is unknown."""
        sizes = [run.distinct for run in self._runs if run.distinct is not None]
        return sum(sizes) if len(sizes) == self._number_of_keys else None

    @property
    def _written(self) -> int:
        """How many results of the journal are written."""
        return sum(run.written for run in self._runs)

    def _complete(self, resumable: Resumable) -> None:
        others = resumable.journal.done - self._written
        if others > 0:
            results = f"{others:,} {'result' if others == 1 else 'results'}"
            self._lines.write(f"{results} of other websites kept in {resumable.journal_name}", kept=others)
        resumable.complete(keeps_journal=self._reporter.failed > 0 or others > 0)

    def _end_early(self, error: BaseException | None) -> None:
        """Write the results so far, which were paid for, and say where they are."""
        reporter, writer, resumable = self._reporter, self._writer, self._resumable
        reporter.clear()
        if isinstance(error, ConfigurationError) and reporter.done == reporter.failed:
            # Nothing was requested.
            return
        writer.record_early_end()
        # What could not be written once is not written now.
        is_written = not isinstance(error, OSError) and self._write_rest()
        if not isinstance(error, BrokenPipeError):
            reason = "interrupted" if isinstance(error, asyncio.CancelledError) else "stopped"
            if error is None:
                reason = f"{len(self._errors)} of {self._number_of_keys} keys failed"
            reporter.summarize_early_end(reason, self._duplicates)
        if resumable is not None:
            total, kept, file = self._total, self._written, resumable.kept_in
            # The next run goes on from the journal, which may lack what was in flight as it failed. Of IDs that are not
            # known, of a pipe or a key, what an earlier run kept is in the journal alone.
            is_journaled = not isinstance(error, JournalError)
            if not (is_written and is_journaled) or (total is None and kept < resumable.journal.done):
                kept, file = resumable.journal.done, resumable.journal_name
            of = "" if total is None or total < kept else f" of {total:,}"
            text = f"kept {kept:,}{of} in {file}; go on with --resume"
            self._lines.write(text if kept else f"nothing was written to {self._path}", kept=kept)

    def _write_rest(self) -> bool:
        """Write what is left of the results so far; returns whether the file has all of them."""
        try:
            for run in self._runs:
                run.write_rest()
            if self._reporter.done:
                self._close()
        except (JournalError, OSError):
            if self._resumable is None:
                raise
            return False
        return True

    def _close(self) -> None:
        """Write the results that are not written yet, now that it can be said if there is no room for them."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._writer.close()
        finally:
            if self._resumable is not None:
                self._resumable.file.flush()
