"""What a run ends with, for schedulers to act on."""

from __future__ import annotations

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

OK, FAILED, USAGE, REJECTED, STOPPED, INTERRUPTED = 0, 1, 2, 3, 4, 130

OF_SIGNALS = 128
"""What the number of the signal that ended a run is added to, as shells do."""


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


def _is_damage(error: ZenovayError) -> bool:
    cause = getattr(error.__cause__, "sqlite_errorname", "")
    return isinstance(error, JournalError) and cause.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))
