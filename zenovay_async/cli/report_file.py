"""``--report FILE``: what a run did, for programs; written at its beginning and at its end, each time whole."""

from __future__ import annotations

import contextlib
import errno
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from zenovay_async import BatchReport, ConfigurationError
from zenovay_async._protocol.json_text import encode_json
from zenovay_async.cli.destination import draft_beside, is_replaced, publish
from zenovay_async.cli.shown import describe_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS}


class ReportFile:
    """The report of a run; of one with several keys, a report for each.

    A run that is killed leaves the report of its beginning, which has neither an end nor an exit code.

    Args:
        path: The file; ``None`` for none.
        names: Names of the keys; empty for a single one without a name.
    """

    def __init__(self, path: Path | None, names: Sequence[str] = ()) -> None:
        started = datetime.now(UTC)
        self._reports: dict[str | None, Callable[[], BatchReport]] = {
            name: lambda: BatchReport(started=started) for name in names or (None,)
        }
        self._errors: dict[str | None, Exception] = {}
        self._path = path

    def begin(self) -> None:
        """Write the report of the beginning.

        Raises:
            ConfigurationError: It cannot be written.
        """
        path = self._path
        if path is None:
            return
        try:
            # A FIFO or a device gets the report of the end alone.
            if is_replaced(path):
                self._write(path, None)
            elif path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        except OSError as error:
            self.leave()
            raise ConfigurationError(f"--report {path}: {error.strerror}") from error

    def leave(self) -> None:
        """Leave the file as it is, such as for another run that goes on."""
        self._path = None

    def watch(self, name: str | None, report: Callable[[], BatchReport]) -> None:
        """Report what a batch did.

        Args:
            name: Name of its key; ``None`` for the only one.
            report: Returns what was done so far.
        """
        self._reports[name] = report

    def record_error(self, error: Exception, name: str | None = None) -> None:
        """Report what ended the run, or the batch of one key of several.

        Args:
            error: The error.
            name: Name of the key; ``None`` for the run.
        """
        self._errors[name] = error

    def write(self, exit_code: int) -> None:
        """Write the report of the end.

        Raises:
            OSError: It cannot be written.
        """
        if self._path is None:
            return
        try:
            self._write(self._path, exit_code)
        except OSError as error:
            raise OSError(f"--report {self._path}: {error.strerror}") from error

    def _write(self, path: Path, exit_code: int | None) -> None:
        document = encode_json(self._values(exit_code))
        text = msgspec.json.format(document, indent=2) + "\n"
        if is_replaced(path):
            _replace(Path(os.path.realpath(path)), text)
        else:
            path.write_text(text, encoding="utf-8")

    def _values(self, exit_code: int | None) -> dict[str, Any]:
        reports: dict[str | None, dict[str, Any]] = {}
        for name, make in self._reports.items():
            report = make()
            if exit_code is not None and report.ended is None:
                # It ended before the first request.
                report = msgspec.structs.replace(report, ended=datetime.now(UTC))
            reports[name] = report.to_dict() | self._end_of(name)
        whole = reports.get(None) or {"keys": reports} | self._end_of(None)
        return whole | {"exit_code": exit_code}

    def _end_of(self, name: str | None) -> dict[str, str | None]:
        """What ended a run early, as its last line on standard error has it."""
        error = self._errors.get(name)
        if error is None:
            return {"error": None, "message": None}
        return {"error": type(error).__name__, "message": describe_error(error)}


def _replace(target: Path, text: str) -> None:
    draft = draft_beside(target)
    try:
        with draft.open("x", encoding="utf-8") as file:
            file.write(text)
        publish(draft, target)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        # The file may be one that can be written, in a folder that cannot.
        if error.errno not in _READ_ONLY or not target.exists():
            raise
        target.write_text(text, encoding="utf-8")
