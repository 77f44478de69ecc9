"""Websites that failed: as lines on standard error, and as data in a file."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any

from zenovay_async import ConfigurationError, ZenovayError
from zenovay_async._protocol.json_text import encode_json
from zenovay_async._tables.layout import KEY_NAME, WEBSITE_ID
from zenovay_async.cli.shown import redact_keys

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from zenovay_async.cli.log_lines import LogLines

_NAMED = 3
_SHOWN_LENGTH = 60
# More than any valid ID has, so that a part of a line is no ID either.
_KEPT_LENGTH = 1000


def describe_failure(website_id: str, error: Exception, key_name: str | None = None) -> dict[str, Any]:
    """A failed website and its error as plain values, without an API key.

    Args:
        website_id: The ID, which may be any text; a long one is cut.
        error: The error.
        key_name: Name of the key, of a run with several.
    """
    known = error if isinstance(error, ZenovayError) else ZenovayError(str(error))
    return {
        **({} if key_name is None else {KEY_NAME: key_name}),
        WEBSITE_ID: redact_keys(website_id)[:_KEPT_LENGTH],
        "error": type(error).__name__,
        "status": known.status,
        "code": known.code,
        "request_id": known.request_id,
        "attempts": known.attempts,
        "message": redact_keys(known.message),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


class FailureReporter:
    """Names websites that failed on standard error, and keeps all in a file.

    Each is named as it fails; on a terminal, where a bar may be, the first three at the end.

    Args:
        lines: Where to name them.
        file: The file; ``None`` for none.
        path: Its name.

    Attributes:
        count: Number of websites that failed.
    """

    def __init__(self, lines: LogLines, file: IO[str] | None = None, path: Path | None = None) -> None:
        self.count = 0
        self._lines = lines
        self._file = file
        self._path = path
        self._at_once = not lines.on_terminal
        self._first: list[tuple[str, dict[str, Any]]] = []
        self._named = 0

    def add(self, website_id: str, error: Exception, key_name: str | None = None) -> dict[str, Any]:
        """Count a website as failed; returns its failure as plain values."""
        failure = describe_failure(website_id, error, key_name)
        line = _line(website_id, error, key_name)
        self.count += 1
        self._keep(failure)
        if self._at_once:
            self._name(line, failure)
        elif len(self._first) < _NAMED:
            self._first.append((line, failure))
        return failure

    def summarize(self) -> None:
        """Name the first failures, unless they were named as they came; and count the rest."""
        for line, failure in self._first:
            self._name(line, failure)
        self._first.clear()
        if self.count > self._named:
            where = "" if self._file is None else f" in {self._path}"
            self._lines.write(f"... and {self.count - self._named:,} more{where}", "error", failed=self.count)

    def _name(self, line: str, failure: dict[str, Any]) -> None:
        self._named += 1
        fields = {name: value for name, value in failure.items() if name not in {"at", "message"}}
        self._lines.write(line, "error", **fields)

    def _keep(self, failure: dict[str, Any]) -> None:
        if self._file is None:
            return
        try:
            self._file.write(f"{encode_json(failure)}\n")
            self._file.flush()
        except OSError as error:
            # The results matter more.
            self._lines.write(f"--failures {self._path}: {error.strerror}", "error")
            self._file = None


@contextlib.contextmanager
def open_failures(path: Path | None, lines: LogLines) -> Generator[FailureReporter]:
    """Open the file of failures, which is emptied, and stays empty if none fails.

    Args:
        path: The file; ``None`` for none.
        lines: Where to name them.

    Raises:
        ConfigurationError: It cannot be written.
    """
    if path is None:
        yield FailureReporter(lines)
        return
    try:
        file = path.open("w", encoding="utf-8", newline="\n")
    except OSError as error:
        raise ConfigurationError(f"--failures {path}: {error.strerror}") from error
    try:
        yield FailureReporter(lines, file, path)
    finally:
        # What could not be written was reported.
        with contextlib.suppress(OSError):
            file.close()


def _line(website_id: str, error: Exception, key_name: str | None) -> str:
    # Redacted before it is cut, as nobody recognizes half a key.
    short = redact_keys(website_id)
    if len(short) > _SHOWN_LENGTH:
        short = f"{short[:_SHOWN_LENGTH]}..."
    # On one line, as an ID may have line breaks, and so may an error that is not of this package.
    named = "" if key_name is None else f"{key_name}: "
    return " ".join(f"{named}{short if short.strip() else repr(short)}: {error}".splitlines())
