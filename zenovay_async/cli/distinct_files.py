"""Files that a run writes beside its results: none is another file of the run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from zenovay_async import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zenovay_async.cli.options import PerWebsite

_STDIN, _STDOUT, _STDERR = Path("/dev/stdin"), Path("/dev/stdout"), Path("/dev/stderr")


def check_distinct(options: PerWebsite, kept: Sequence[Path]) -> None:
    """Check that no file that the run writes is another one of it, but results may replace the file of the IDs.

    Args:
        options: The options.
        kept: Where results are until the run is whole.

    Raises:
        ConfigurationError: They would, also through a link.
    """
    ids, keys = (_STDIN if str(path) == "-" else path for path in (options.ids_from, options.keys_from))
    output = options.output or _STDOUT
    taken = [
        ("--ids-from", ids),
        ("--keys-from", keys),
        ("--output", output),
        *(("--output", path) for path in kept),
        ("standard error", _STDERR),
    ]
    # The IDs are read before the results replace anything, but after what is kept is opened.
    for name, path, written in (("--ids-from", ids, kept), ("--keys-from", keys, [output, *kept])):
        for other in written:
            if path is not None and _is_same_file(path, other):
                raise ConfigurationError(f"--output {other}: this is the file of {name}; expected another one")
    for name, path in (("--failures", options.failures), ("--report", options.report)):
        if path is None:
            continue
        for other_name, other in taken:
            if other is not None and _is_same_file(path, other):
                raise ConfigurationError(f"{name} {path}: this is the file of {other_name}; expected another one")
        taken.append((name, path))


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        if one.is_file() and other.is_file():
            return one.samefile(other)
        # A terminal or a device may be written by all of them.
        return not one.exists() and not other.exists() and os.path.realpath(one) == os.path.realpath(other)
    except OSError:
        # To open it fails with a reason.
        return False
