"""Where results go: standard output, a device, or a file that is replaced as a whole."""

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


def is_replaced(path: Path | None) -> bool:
    """Whether the destination is a file, replaced at the end, and not a stream, written to at once."""
    return path is not None and (path.is_file() or not path.exists())


@contextlib.contextmanager
def open_destination(path: Path | None) -> Generator[IO[str]]:
    """Open standard output, a stream, or a temporary file that replaces ``path`` once all is written.

    A FIFO or a device is written to directly. A link is followed, and a replaced file keeps its mode.

    Raises:
        ConfigurationError: It cannot be written.
    """
    if path is None:
        yield sys.stdout
        sys.stdout.flush()
    elif not is_replaced(path):
        with _open(path, path, "w") as file:
            yield file
    else:
        target = Path(os.path.realpath(path))
        temporary = target.with_name(f".zenovay-async-{secrets.token_hex(8)}")
        file = _open(temporary, path, "x")
        try:
            with file:
                yield file
            if target.exists():
                shutil.copymode(target, temporary)
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _open(path: Path, given: Path, mode: str) -> IO[str]:
    try:
        return path.open(mode, encoding="utf-8", newline="")
    except OSError as error:
        raise ConfigurationError(f"--output {given}: {error.strerror}") from error
