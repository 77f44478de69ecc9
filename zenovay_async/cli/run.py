"""Runs one command: opens the client, reads the IDs, sends the batch, writes the results."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from zenovay_async import ConfigurationError, ZenovayError
from zenovay_async._protocol.base_url import DEFAULT_BASE_URL
from zenovay_async.cli.batch_run import BatchRun, Outputs
from zenovay_async.cli.batches import Batches
from zenovay_async.cli.clients import open_clients, server_of
from zenovay_async.cli.destination import can_write_beside, is_replaced, open_destination
from zenovay_async.cli.distinct_files import check_distinct
from zenovay_async.cli.exit_codes import (
    FAILED,
    INTERRUPTED,
    OF_SIGNALS,
    OK,
    STOPPED,
    USAGE,
    end_output,
    exit_code_of,
    print_error,
)
from zenovay_async.cli.failures import open_failures
from zenovay_async.cli.ids import open_ids
from zenovay_async.cli.keys import open_keys
from zenovay_async.cli.log_lines import LogLines
from zenovay_async.cli.messages import MessageReporter
from zenovay_async.cli.output import is_data, make_writer, plain_values
from zenovay_async.cli.progress import ProgressReporter
from zenovay_async.cli.report_file import ReportFile
from zenovay_async.cli.resumable import files_beside, is_in_use, open_resumable
from zenovay_async.cli.shown import redact_keys
from zenovay_async.cli.signals import ended_by_signals, restored_signals
from zenovay_async.cli.websites import check_websites, find_websites

if TYPE_CHECKING:
    from collections.abc import Generator
    from io import FileIO

    from zenovay_async.cli.keys import NamedKey
    from zenovay_async.cli.operations import Request
    from zenovay_async.cli.options import PerWebsite
    from zenovay_async.cli.resumable import Resumable, Start
    from zenovay_async.cli.signals import Ended


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


@dataclass(frozen=True)
class Opened:
    """What a run has open before its clients.

    Attributes:
        keys: The keys; empty for that of the environment, or of a sandbox.
        listed: A file with further IDs.
        file: Where the results go.
        resumable: What keeps those of many websites if the run ends early; ``None`` if nothing does.
        lines: Where to say what happens.
        report_file: Reports what the run did.
    """

    keys: list[NamedKey]
    listed: FileIO | None
    file: IO[str]
    resumable: Resumable | None
    lines: LogLines
    report_file: ReportFile


def run(job: Job) -> int:
    """Run a job and write its report; returns the exit code."""
    options, lines = job.options, LogLines(job.options.log_format)
    with contextlib.ExitStack() as stack:
        stack.enter_context(restored_signals())
        try:
            check_distinct(options, _kept_in(job))
            if job.request.operation.is_per_website:
                check_websites(options, job.ids)
            keys = stack.enter_context(open_keys(options.keys_from))
            report_file = ReportFile(options.report, [key.name for key in keys])
        except ConfigurationError as error:
            return print_error(error, USAGE, lines)
        code = FAILED
        try:
            code = _run_to_end(job, keys, lines, report_file)
        finally:
            try:
                report_file.write(code)
            except OSError as error:
                code = print_error(error, code or FAILED, lines)
        return code


def _run_to_end(job: Job, keys: list[NamedKey], lines: LogLines, report_file: ReportFile) -> int:
    options = job.options
    is_resumable = False
    try:
        is_resumable = _is_resumable(job)
        with (
            open_ids(options.ids_from) as listed,
            _open_output(job, is_resumable=is_resumable) as (file, resumable),
        ):
            report_file.begin()
            return asyncio.run(_run(job, Opened(keys, listed, file, resumable, lines, report_file)))
    except KeyboardInterrupt:
        return INTERRUPTED
    except ZenovayError as error:
        if is_in_use(error):
            report_file.leave()
        report_file.record_error(error)
        return print_error(error, exit_code_of(error, is_batch=job.request.operation.is_per_website), lines)
    except OSError as error:
        report_file.record_error(error)
        return end_output(error, options.output, STOPPED if is_resumable else FAILED, lines)


def _is_resumable(job: Job) -> bool:
    """Whether results go to a file that a later run can go on with."""
    output = job.options.output
    if output is None or not job.request.operation.is_per_website:
        return False
    try:
        return is_replaced(output) and can_write_beside(output)
    except OSError as error:
        # A name that is too long, or a folder that cannot be searched.
        raise ConfigurationError(f"--output {output}: {error.strerror}") from error


@contextlib.contextmanager
def _open_output(job: Job, *, is_resumable: bool) -> Generator[tuple[IO[str], Resumable | None]]:
    """Open where the results go, and what keeps those of many websites if the run ends early."""
    options, request = job.options, job.request
    if options.resume and options.restart:
        raise ConfigurationError("--resume --restart: expected one of them")
    start: Start = "resume" if options.resume else "restart" if options.restart else "new"
    if is_resumable and options.output is not None:
        with open_resumable(options.output, _description(job), start, table=_table(job)) as resumable:
            yield resumable.file, resumable
        return
    if start != "new":
        raise ConfigurationError(f"--{start}: needs -o FILE, in a folder that can be written")
    if options.format == "sqlite" and options.output is not None:
        # The writer opens it.
        yield io.StringIO(), None
        return
    with open_destination(options.output, is_data=is_data(options.format, request.operation.result)) as file:
        yield file, None


def _kept_in(job: Job) -> tuple[Path, ...]:
    """Where results are until the run is whole, beside the file of them all."""
    output = job.options.output
    if output is None:
        return ()
    try:
        return files_beside(Path(os.path.realpath(output)), _table(job))
    except OSError as error:
        # A working directory that is gone.
        raise ConfigurationError(f"--output {output}: {error.strerror}") from error


def _table(job: Job) -> str | None:
    """Name of what is written to the output as it comes; ``None`` if nothing is."""
    return _name(job.request) if job.options.format == "sqlite" else None


def _name(request: Request) -> str:
    return ".".join(request.operation.path)


def _description(job: Job) -> str:
    """What a run requests, by which it is told from another: results of two servers are not mixed."""
    server = server_of(job.options)
    described = job.request.description if job.options.keys_from is None else f"{job.request.description} for each key"
    return described if server == DEFAULT_BASE_URL else f"{described} from {redact_keys(server)}"


async def _run(job: Job, opened: Opened) -> int:
    with ended_by_signals() as ended:
        try:
            return await _send(job, opened, ended)
        except asyncio.CancelledError:
            if ended.by is None:
                raise
            return OF_SIGNALS + ended.by


async def _send(job: Job, opened: Opened, ended: Ended) -> int:
    options, operation, lines = job.options, job.request.operation, opened.lines
    async with contextlib.AsyncExitStack() as stack:
        # A command without IDs, as the list of websites, is a direct call.
        messages = stack.enter_context(MessageReporter(options.timeout, lines))
        clients = await stack.enter_async_context(open_clients(options, opened.keys, lines, messages))
        writer = make_writer(
            options.format,
            operation.result,
            opened.file,
            per_website=operation.is_per_website,
            name=_name(job.request),
            path=options.output,
            csv_safe=options.csv_safe,
        )
        if not operation.is_per_website:
            (client,) = clients.all
            writer.add("", plain_values(await job.request.send(client.zenovay, *clients.sandbox_ids[:1])))
            writer.close()
            return OK
        sources = await find_websites(options, job.ids, opened.listed, clients)
        writer.record_domains(sources.domains)
        messages.max_wait = options.max_outage
        typed = opened.listed is not None and opened.listed.isatty()
        fits = not typed and not (writer.streams and opened.file.isatty())
        failures = stack.enter_context(open_failures(options.failures, lines))
        reporter = stack.enter_context(
            ProgressReporter(sources.total, kind=options.progress, bar=fits, lines=lines, failures=failures)
        )
        outputs = Outputs(writer, reporter, lines, opened.report_file, opened.resumable)
        runs = [BatchRun(job.request, options, client, source, outputs) for client, source in sources.of.items()]
        code = await Batches(runs, sources.errors, outputs, options.output).fetch()
        ended.complete()
        return code
