"""No file that a run writes is another one of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from zenovay_async import ConfigurationError

if TYPE_CHECKING:
    from zenovay_async.cli.options import PerWebsite

_STDIN, _STDOUT, _STDERR = Path("/dev/stdin"), Path("/dev/stdout"), Path("/dev/stderr")


def check_distinct(options: PerWebsite, kept: tuple[Path, ...]) -> None:
    """Check that no file that the run writes is another one of it.

    Args:
        options: The options.
        kept: Files beside the output, in which the run keeps what came.

    Raises:
        ConfigurationError: One is, also through a link.
    """
    ids, keys = (_STDIN if str(path) == "-" else path for path in (options.ids_from, options.keys_from))
    taken = [(name, path) for name, path in (("--ids-from", ids), ("--keys-from", keys)) if path is not None]
    output = options.output or _STDOUT
    # IDs are read before the results replace their file, as with sort -o.
    _check("--output", output, [("--keys-from", path) for name, path in taken if name == "--keys-from"])
    for path in kept:
        _check("--output", path, taken)
    taken += [("--output", path) for path in (output, *kept)]
    taken.append(("standard error", _STDERR))
    for name, written in (("--failures", options.failures), ("--report", options.report)):
        if written is not None:
            _check(name, written, taken)
            taken.append((name, written))


def _check(name: str, path: Path, taken: list[tuple[str, Path]]) -> None:
    for other_name, other in taken:
        if _is_same_file(path, other):
            raise ConfigurationError(f"{name} {path}: this is the file of {other_name}; expected another one")


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        if one.is_file() and other.is_file():
            return one.samefile(other)
        # A terminal or a device may be written by all of them.
        return not one.exists() and not other.exists() and os.path.realpath(one) == os.path.realpath(other)
    except OSError:
        # To open it fails with a reason.
        return False
