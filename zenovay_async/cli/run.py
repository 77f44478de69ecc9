"""Runs one command: opens the client, reads the IDs, sends the batch, writes the results."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from zenovay_async import ConfigurationError, Zenovay, ZenovayError
from zenovay_async._limits.options import STORE_VARIABLE
from zenovay_async._protocol.auth import KEY_VARIABLE
from zenovay_async._protocol.base_url import BASE_URL_VARIABLE, OR_ALLOW_HTTP
from zenovay_async._protocol.parameters import NOT_GIVEN
from zenovay_async.cli.batch_run import BatchRun
from zenovay_async.cli.destination import can_write_beside, is_replaced, open_destination
from zenovay_async.cli.distinct_files import check_distinct
from zenovay_async.cli.exit_codes import FAILED, INTERRUPTED, OF_SIGNALS, OK, STOPPED, USAGE, exit_code_of
from zenovay_async.cli.failures import open_failures
from zenovay_async.cli.ids import StreamedIds, is_file, open_ids, read_ids
from zenovay_async.cli.log_lines import LogLines
from zenovay_async.cli.messages import MessageReporter
from zenovay_async.cli.output import is_data, make_writer, plain_values
from zenovay_async.cli.progress import ProgressReporter
from zenovay_async.cli.report_file import ReportFile
from zenovay_async.cli.resumable import open_resumable
from zenovay_async.cli.shown import redact_keys
from zenovay_async.cli.signals import ended_by_signals
from zenovay_async.cli.streams import discard_stdout

if TYPE_CHECKING:
    from collections.abc import Generator
    from io import FileIO
    from pathlib import Path

    from zenovay_async import OnEvent
    from zenovay_async.cli.operations import Request
    from zenovay_async.cli.options import PerWebsite
    from zenovay_async.cli.resumable import Resumable, Start

# Arguments of the library that are options here.
_BOUND = re.compile(r"\b(max_failures|max_requests|quota_reserve)=([\d.]+)")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


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
    """Run a job and write its report; returns the exit code."""
    options = job.options
    lines = LogLines(options.log_format)
    try:
        check_distinct(options)
        report_file = ReportFile(options.report)
    except ConfigurationError as error:
        return print_error(error, USAGE, lines)
    code = FAILED
    try:
        code = _run_job(job, lines, report_file)
    finally:
        try:
            report_file.write(code)
        except OSError as error:
            code = print_error(error, code or FAILED, lines)
    return code


def _run_job(job: Job, lines: LogLines, report_file: ReportFile) -> int:
    options = job.options
    is_resumable = False
    try:
        is_resumable = _is_resumable(job)
        with open_ids(options.ids_from) as listed, _open_output(job, is_resumable=is_resumable) as output:
            return asyncio.run(_run(job, lines, report_file, listed, *output))
    except KeyboardInterrupt:
        return INTERRUPTED
    except ZenovayError as error:
        return print_error(error, exit_code_of(error), lines)
    except OSError as error:
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
        with open_resumable(options.output, _description(job), start, in_place=False) as resumable:
            yield resumable.file, resumable
        return
    if start != "new":
        raise ConfigurationError(f"--{start}: needs -o FILE, in a folder that can be written")
    with open_destination(options.output, is_data=is_data(options.format, request.operation.result)) as file:
        yield file, None


def _description(job: Job) -> str:
    """What a run requests, by which it is told from another: results of two servers are not mixed."""
    base_url = job.options.base_url or os.environ.get(BASE_URL_VARIABLE)
    server = "sandbox" if job.options.sandbox is not None else base_url
    return job.request.description if server is None else f"{job.request.description} from {redact_keys(server)}"


def print_error(error: Exception, code: int, lines: LogLines | None = None) -> int:
    """Print an error to standard error; returns the exit code."""
    known = error if isinstance(error, ZenovayError) else ZenovayError("")
    (lines or LogLines()).write_error(
        _BOUND.sub(_as_option, str(error)),
        error=type(error).__name__,
        status=known.status,
        code=known.code,
        request_id=known.request_id,
        exit_code=code,
    )
    return code


def _as_option(bound: re.Match[str]) -> str:
    name, value = bound[1].replace("_", "-"), bound[2]
    return f"--{name} {float(value) * 100:.4g}%" if "." in value else f"--{name} {value}"


def end_output(error: OSError, output: Path | None = None, code: int = FAILED, lines: LogLines | None = None) -> int:
    """Print why the output ended; returns the exit code, which is ``code`` if the disk is full."""
    discard_stdout()
    if isinstance(error, BrokenPipeError):
        # The reader, such as head, has read enough.
        return OK
    if error.errno not in _FULL:
        return print_error(error, FAILED, lines)
    where = "standard output" if output is None else f"--output {output}"
    return print_error(OSError(f"{where}: {error.strerror}"), code, lines)


async def _run(
    job: Job,
    lines: LogLines,
    report_file: ReportFile,
    listed: FileIO | None,
    file: IO[str],
    resumable: Resumable | None,
) -> int:
    with ended_by_signals() as ended:
        try:
            return await _send(job, lines, report_file, listed, file, resumable)
        except asyncio.CancelledError:
            if ended.by is None:
                raise
            return OF_SIGNALS + ended.by


async def _send(
    job: Job,
    lines: LogLines,
    report_file: ReportFile,
    listed: FileIO | None,
    file: IO[str],
    resumable: Resumable | None,
) -> int:
    options, operation = job.options, job.request.operation
    async with contextlib.AsyncExitStack() as stack:
        ids = list(job.ids)
        max_wait = options.max_outage if operation.is_per_website else options.timeout
        messages = stack.enter_context(MessageReporter(max_wait, lines))
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
                rate_limit="auto" if options.rate_limit is None else options.rate_limit,
                rate_limit_store=None,
                batch_headroom=0,
                quota_reserve=options.quota_reserve,
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
        fits = not typed and not (writer.streams and file.isatty())
        with (
            open_failures(options.failures, lines) as failures,
            ProgressReporter(total, kind=options.progress, bar=fits, lines=lines, failures=failures) as reporter,
        ):
            run = BatchRun(
                job.request,
                options,
                zenovay,
                source=source,
                writer=writer,
                reporter=reporter,
                messages=messages,
                lines=lines,
                resumable=resumable,
                report_file=report_file,
            )
            return await run.fetch()


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
            rate_limit="auto" if options.rate_limit is None else options.rate_limit,
            quota_reserve=options.quota_reserve,
            rate_limit_store=NOT_GIVEN if store is None else store,
            # A run alone has no direct calls beside its batch.
            batch_headroom="auto" if is_shared else 0,
        )
    except ConfigurationError as error:
        # The command line has them as options.
        message = error.message.replace(OR_ALLOW_HTTP, OR_ALLOW_HTTP.replace("allow_http=True", "--allow-http"))
        raise ConfigurationError(re.sub("^rate_limit_store", "--rate-limit-store", message)) from error
