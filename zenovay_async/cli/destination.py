"""Where results go: standard output, a device, or a file that is replaced as a whole."""

from __future__ import annotations

import contextlib
import locale
import os
import secrets
import shutil
import stat
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from zenovay_async import ConfigurationError
from zenovay_async.cli.streams import ENCODING_ERRORS, standard_output

if TYPE_CHECKING:
    from collections.abc import Generator
    from io import TextIOWrapper


def is_replaced(path: Path | None) -> bool:
    """Whether the destination is a file, replaced at the end, and not a stream, written to at once."""
    return path is not None and (path.is_file() or not path.exists())


def can_write_beside(path: Path) -> bool:
    """Whether another file can be written beside a file."""
    return os.access(Path(os.path.realpath(path)).parent, os.W_OK)


@contextlib.contextmanager
def open_destination(path: Path | None, *, is_data: bool) -> Generator[IO[str]]:
    """Open standard output, a stream, or a temporary file that replaces ``path`` once all is written.

    A FIFO or a device is written to directly. A link is followed, and a replaced file keeps its mode. A file that
    cannot be replaced, such as a mounted one, is written in place.

    Args:
        path: The destination; ``None`` for standard output.
        is_data: Whether the results are for programs, and not for people.

    Raises:
        ConfigurationError: It cannot be written.
        OSError: It could neither be replaced nor written at the end; the error says where the results are.
    """
    if path is None:
        with standard_output(is_data=is_data) as file:
            yield file
        return
    try:
        replaced, target = is_replaced(path), Path(os.path.realpath(path))
    except OSError as error:
        # A name that is too long, a directory that cannot be searched, or a working directory that is gone.
        raise ConfigurationError(f"--output {path}: {error.strerror}") from error
    if not replaced:
        with open_text(path, path, "w") as file:
            if file.isatty():
                file.reconfigure(encoding=locale.getpreferredencoding(do_setlocale=False))
            yield file
    else:
        draft, file = _open_draft(target, path)
        try:
            with file:
                yield file
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        try:
            publish(draft, target)
        except OSError as error:
            kept = _make_visible(draft, target)
            raise OSError(f"--output {path}: {error.strerror}; the results are in {kept}") from error


def open_text(path: Path, given: Path, mode: str) -> TextIOWrapper:
    """Open a file for results in UTF-8.

    Args:
        path: The file.
        given: The file that the user named, for an error.
        mode: As for ``open``.

    Raises:
        ConfigurationError: It cannot be opened.
    """
    try:
        return cast("TextIOWrapper", path.open(mode, encoding="utf-8", errors=ENCODING_ERRORS, newline=""))
    except OSError as error:
        raise ConfigurationError(f"--output {given}: {error.strerror}") from error


def draft_beside(target: Path) -> Path:
    """A name that no file has, for one that is to replace the target."""
    return target.with_name(f".zenovay-async-{secrets.token_hex(8)}")


def keep_private(draft: Path, target: Path) -> None:
    """Let nobody read a draft who may not read the file that it replaces; its owner goes on to write it."""
    # There may be none, and some file systems have no modes.
    with contextlib.suppress(OSError):
        draft.chmod(stat.S_IMODE(target.stat().st_mode) | stat.S_IWUSR)


def _open_draft(target: Path, given: Path) -> tuple[Path, TextIOWrapper]:
    draft = draft_beside(target)
    try:
        file = open_text(draft, given, "x")
    except ConfigurationError:
        # The file may be one that can be written, in a directory that cannot.
        if not (target.exists() and os.access(target, os.W_OK)):
            raise
    else:
        keep_private(draft, target)
        return draft, file
    handle, name = tempfile.mkstemp(prefix="zenovay-async-")
    os.close(handle)
    return Path(name), open_text(Path(name), given, "w")


def publish(draft: Path, target: Path) -> None:
    """Let the draft replace the target, or else copy it there.

    Raises:
        OSError: Neither works; the draft is as it was.
    """
    try:
        if target.exists():
            # Some file systems have no modes.
            with contextlib.suppress(OSError):
                shutil.copymode(target, draft)
        draft.replace(target)
    except OSError as error:
        try:
            shutil.copyfile(draft, target)
        except OSError:
            raise error from None
        draft.unlink(missing_ok=True)


def _make_visible(draft: Path, target: Path) -> Path:
    """Give a draft a name like the target's, beside it if possible; returns where it is."""
    visible = target.with_name(f"{target.stem}.kept-{secrets.token_hex(4)}{target.suffix}")
    try:
        return draft.rename(visible)
    except OSError:
        return draft
