"""``--version``, which needs no command."""

from __future__ import annotations

from zenovay_async import __version__
from zenovay_async.cli.exit_codes import OK, end_output
from zenovay_async.cli.streams import prepared_streams


def print_version() -> int:
    """Print the version; returns the exit code."""
    with prepared_streams():
        try:
            print(__version__, flush=True)  # noqa: T201 - to whom asked for it
        except OSError as error:
            return end_output(error)
    return OK
