"""A file of results that survives the end of its run: ``FILE.partial``, and ``FILE.journal`` to go on from."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, TypeAlias

from zenovay_async import ConfigurationError, Journal
from zenovay_async.cli.destination import keep_private, open_text, publish

if TYPE_CHECKING:
    from collections.abc import Generator

_OTHER = re.compile(r"is of a run with describes=(.+), and this one has describes=(.+); .*")

Start: TypeAlias = Literal["new", "resume", "restart"]
"""How a run begins: where none was interrupted, from where one was, or anew all the same."""


@dataclass
class Resumable:
    """The files of a run.

    Attributes:
        file: The partial file.
        kept_in: The name of the file that has what came so far, for messages.
        journal: What is done; the partial file is made of it.
        journal_name: The name of its file, for messages.
        is_complete: Whether every website was tried, so that the partial file becomes the whole one.
        keeps_journal: Whether the journal is kept all the same: some of them failed, or it has others.
    """

    file: IO[str]
    kept_in: Path
    journal: Journal
    journal_name: Path
    is_complete: bool = False
    keeps_journal: bool = False

    def begin(self) -> None:
        """Empty the partial file, which is made again from the journal.

        Raises:
            OSError: It cannot be emptied.
        """
        if os.fstat(self.file.fileno()).st_size:
            self.file.truncate(0)

    def complete(self, *, keeps_journal: bool) -> None:
        """Record that every website was tried."""
        self.is_complete, self.keeps_journal = True, keeps_journal


@contextlib.contextmanager
def open_resumable(path: Path, describes: str, start: Start, *, table: str | None) -> Generator[Resumable]:
    """Open the files of a run; at its end they become ``path``, or are kept for the next run.

    Args:
        path: The file of the results.
        describes: What is requested, which has to be the same in the next run.
        start: How the run begins.
        table: Name of what is written to ``path`` itself as it comes, so that the partial file only marks that some
            lacks; ``None`` if nothing is. Other commands may write something else there.

    Raises:
        ConfigurationError: A run was interrupted, and ``start`` says neither to go on nor to begin anew; or it was
            another one; or it is going on; or a file cannot be written.
        OSError: The file could neither be replaced nor written at the end; the error says where the results are.
    """
    target = Path(os.path.realpath(path))
    # What is beside a link is not beside its target.
    given = target if path.is_symlink() else path
    partial, kept = files_beside(target, table)
    shown, shown_journal = files_beside(given, table)
    try:
        if start == "new" and partial.exists() and kept.exists() and kept.stat().st_size:
            _check_not_in_use(Journal(kept, result_type=Any, describes=describes), path)
        _check_start(start, partial, kept, shown)
    except OSError as error:
        # A name that is too long, although that of the results is not.
        raise ConfigurationError(f"--output {path}: {shown}: {error.strerror}") from error
    journal = Journal(kept, result_type=Any, describes=describes, restart=start != "resume")
    keeps_journal = True
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: None if keeps_journal else _remove_journal(kept))
        _enter(stack, journal, path)
        # What an earlier run wrote stays until the first result comes.
        file = open_text(partial, shown, "a")
        keep_private(partial, target)
        kept_in = shown if table is None else path
        run = Resumable(file, kept_in, journal, shown_journal)
        is_published = False
        try:
            with file:
                yield run
            if run.is_complete and table is None:
                _publish(partial, target, path, shown)
            is_published = run.is_complete
        finally:
            keeps_journal = run.keeps_journal if is_published else run.is_complete or journal.done > 0
            if is_published or not keeps_journal:
                partial.unlink(missing_ok=True)


def is_in_use(error: BaseException) -> bool:
    """Whether a run was refused because another one, which goes on, writes the same file."""
    return isinstance(error, ConfigurationError) and getattr(error.__cause__, "sqlite_errorname", "") == "SQLITE_BUSY"


def _check_not_in_use(journal: Journal, path: Path) -> None:
    try:
        with contextlib.ExitStack() as stack:
            _enter(stack, journal, path)
    except ConfigurationError as error:
        if is_in_use(error):
            raise


def files_beside(path: Path, table: str | None) -> tuple[Path, Path]:
    """The partial file and the journal of a file of results, which is no link."""
    name = path if table is None else f"{path}.{table}"
    return Path(f"{name}.partial"), Path(f"{name}.journal")


def _remove_journal(kept: Path) -> None:
    kept.unlink(missing_ok=True)
    # It stays where a full disk had no room for what it would add to the other.
    Path(f"{kept}-wal").unlink(missing_ok=True)


def _enter(stack: contextlib.ExitStack, journal: Journal, path: Path) -> None:
    """Open a journal; errors are in the words of the command line."""
    try:
        stack.enter_context(journal)
    except ConfigurationError as error:
        if is_in_use(error):
            raise ConfigurationError(
                f"{path} is in use by another run; wait for its end, or choose another file with -o"
            ) from error.__cause__
        text = r"is of another run, of \1, and this one is of \2; "
        advice = "go on with the same options, or begin anew with --restart"
        raise ConfigurationError(_OTHER.sub(text + advice, error.message)) from error


def _check_start(start: Start, partial: Path, kept: Path, shown: Path) -> None:
    if start == "restart" or not partial.exists():
        return
    if start == "new" and (kept.exists() or partial.stat().st_size):
        raise ConfigurationError(
            f"{shown} is of a run that ended early: go on with --resume, or discard it and begin anew with --restart"
        )
    if partial.stat().st_size and not (kept.exists() and kept.stat().st_size):
        raise ConfigurationError(
            f"{shown.with_suffix('.journal')} is missing or empty, without which --resume cannot go on: move {shown} "
            "away, or discard it with --restart"
        )


def _publish(partial: Path, target: Path, given: Path, shown: Path) -> None:
    try:
        publish(partial, target)
    except OSError as error:
        raise OSError(f"--output {given}: {error.strerror}; the results are in {shown}") from error
