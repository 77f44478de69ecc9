"""Where results go: standard output, a device, or a file that is written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

from zenovay_async import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Generator


def is_whole(path: Path | None) -> bool:
    """Whether the destination is a file that takes its place at the end, rather than one that is written to at once."""
    return path is not None and (path.is_file() or not path.exists())


@contextlib.contextmanager
def destination(path: Path | None) -> Generator[IO[str]]:
    """Where to write: standard output, or a file that takes its place only when all of it is written.

    A FIFO or a device is written to directly. A link stays one, and a file that is replaced keeps its mode.

    Raises:
        ConfigurationError: It cannot be written.
    """
    if path is None:
        yield sys.stdout
        sys.stdout.flush()
    elif is_whole(path):
        with _replaced(path) as file:
            yield file
    else:
        with _opened(path, path, "w") as file:
            yield file


@contextlib.contextmanager
def _replaced(path: Path) -> Generator[IO[str]]:
    target = Path(os.path.realpath(path))
    draft = target.with_name(f".zenovay-async-{secrets.token_hex(8)}")
    file = _opened(draft, path, "x")
    try:
        with file:
            yield file
        if target.exists():
            shutil.copymode(target, draft)
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _opened(path: Path, given: Path, mode: str) -> IO[str]:
    try:
        return path.open(mode, encoding="utf-8", newline="")
    except OSError as error:
        raise ConfigurationError(f"--output {given}: {error.strerror}") from error
