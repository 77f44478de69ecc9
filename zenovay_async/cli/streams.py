"""The standard streams of a run: open, in an encoding that fits, and never the cause of a traceback."""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from rich.console import Console

from zenovay_async import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import TextIO

ENCODING_ERRORS = "zenovay_async.cli"
"""Name of the handler that replaces what an encoding lacks: bars by ASCII, other characters by a mark."""

_LOOKALIKES = {**dict.fromkeys("█▉▊▋▌▍▎▏", "#"), "…": "~"}
# The width of a table that goes to no terminal, in characters.
_PIPE_WIDTH = 160
_REPLACEMENT = "\ufffd".encode()
_STDERR = 2


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    if error.encoding == "utf-8":
        # Half surrogates. The codec takes text in their place only if it is ASCII.
        return _REPLACEMENT * len(missing), error.end
    return "".join(_LOOKALIKES.get(character, "?") for character in missing), error.end


codecs.register_error(ENCODING_ERRORS, _replace)


class OutputConsole(Console):
    """A console for standard output: a reader that has read enough is no failure, as it is for ``rich``."""

    def on_broken_pipe(self) -> None:
        """Raise the error that led here."""
        raise BrokenPipeError


def console_of(file: IO[str]) -> OutputConsole:
    """A console for the results: as wide as the terminal, and in a pipe as wide as a table may be."""
    return OutputConsole(file=file, width=None if file.isatty() else _PIPE_WIDTH, highlight=False)


@contextlib.contextmanager
def prepared_streams() -> Generator[None]:
    """Make standard output and standard error take any text, and standard error survive that it cannot be written."""
    _fill_descriptors()
    with contextlib.ExitStack() as stack:
        if is_open(sys.stdout):
            stack.enter_context(_reconfigured(sys.stdout))
        stderr = (
            sys.stderr if is_open(sys.stderr) else stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
        )
        stack.enter_context(_reconfigured(stderr))
        stack.enter_context(contextlib.redirect_stderr(cast("TextIO", _Unfailing(stderr))))
        yield


@contextlib.contextmanager
def standard_output(*, is_data: bool) -> Generator[TextIO]:
    """Standard output: in UTF-8 for data, unless that goes to a terminal, else in its own encoding.

    Raises:
        ConfigurationError: It is closed.
    """
    if not is_open(sys.stdout):
        raise ConfigurationError("standard output is closed; write to a file with --output FILE")
    encoding = "utf-8" if is_data and not sys.stdout.isatty() else None
    with _reconfigured(sys.stdout, encoding):
        yield sys.stdout
        sys.stdout.flush()


def discard_stdout() -> None:
    """Discard what standard output does not take, as Python would report it at exit."""
    if not is_open(sys.stdout):
        return
    try:
        sys.stdout.flush()
    except OSError:
        _discard(sys.stdout)


def is_open(stream: TextIO | None) -> bool:
    """Whether a standard stream is there; Python has ``None`` for one that was closed when it started."""
    return stream is not None and not stream.closed


class _Unfailing:
    """A stream that ignores that it cannot be written, as there is nowhere to say so."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            _discard(self._stream)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            _discard(self._stream)


def _discard(stream: TextIO) -> None:
    """Let a stream go to nowhere, with what it holds already."""
    with contextlib.suppress(OSError, ValueError):
        descriptor = stream.fileno()
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, descriptor)
        finally:
            os.close(null)


@contextlib.contextmanager
def _reconfigured(stream: TextIO, encoding: str | None = None) -> Generator[None]:
    # A program that calls main() may have put anything in the place of a standard stream.
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is None:
        yield
        return
    before = {"encoding": stream.encoding, "errors": stream.errors}
    reconfigure(encoding=encoding, errors=ENCODING_ERRORS)
    try:
        yield
    finally:
        # It flushes, and what cannot be written is reported elsewhere.
        with contextlib.suppress(OSError, ValueError):
            reconfigure(**before)


def _fill_descriptors() -> None:
    """Open the standard descriptors that are closed, lest a file or a socket becomes standard output."""
    for descriptor in range(_STDERR + 1):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
