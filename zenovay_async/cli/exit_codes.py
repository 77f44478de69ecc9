"""What a run ends with, for schedulers to act on."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from zenovay_async import (
    APIConnectionError,
    APIStatusError,
    BadRequestError,
    BatchStoppedError,
    ConfigurationError,
    JournalError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
    ZenovayError,
    is_fatal,
)
from zenovay_async.cli.log_lines import LogLines
from zenovay_async.cli.streams import discard_stdout

if TYPE_CHECKING:
    from pathlib import Path

OK, FAILED, USAGE, REJECTED, STOPPED, INTERRUPTED = 0, 1, 2, 3, 4, 130

OF_SIGNALS = 128
"""What the number of the signal that ended a run is added to, as shells do."""

# Of a disk that is full, or fails, and of a database that another program writes: a later run may go on.
PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBUSY}


def exit_code_of(error: ZenovayError, *, is_batch: bool = False) -> int:
    """The exit code of a run that an error ended.

    Args:
        error: The error.
        is_batch: Whether the run is over websites, and may go on later.
    """
    # The server rejects what is invalid as well. A journal that is damaged stays so, and is an error of this kind, too,
    # if that is found when it is opened.
    if isinstance(error, (ConfigurationError, BadRequestError)) or _is_damage(error):
        return USAGE
    # What time, or room on a disk, will mend.
    if isinstance(error, (QuotaExceededError, BatchStoppedError, JournalError)) or error.outage is not None:
        return STOPPED
    # That of one website ends no run, so it is that of their list.
    passes = isinstance(error, (APIConnectionError, RateLimitError, ServerError)) and not is_fatal(error)
    if is_batch and passes:
        return STOPPED
    return REJECTED if isinstance(error, APIStatusError) and is_fatal(error) else FAILED


def print_error(error: Exception, code: int, lines: LogLines | None = None) -> int:
    """Print an error to standard error; returns the exit code."""
    (lines or LogLines()).write_error(error, exit_code=code)
    return code


def end_output(error: OSError, output: Path | None = None, code: int = FAILED, lines: LogLines | None = None) -> int:
    """Print why the output ended; returns the exit code, which is ``code`` if that may pass."""
    discard_stdout()
    if isinstance(error, BrokenPipeError):
        # The reader, such as head, has read enough.
        return OK
    if error.errno not in PASSING:
        return print_error(error, FAILED, lines)
    where = "standard output" if output is None else f"--output {output}"
    return print_error(OSError(f"{where}: {error.strerror}"), code, lines)


def _is_damage(error: ZenovayError) -> bool:
    cause = getattr(error.__cause__, "sqlite_errorname", "")
    return isinstance(error, JournalError) and cause.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))
