"""The command line, ``zenovay-async``: the API from a terminal or a script. Needs the extra ``cli``."""

from __future__ import annotations

import sys

_NEEDED = {"cyclopts", "rich"}


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments; left out, those of the process.

    Returns:
        The exit code: 0 all fine, 1 something failed, 2 wrong usage or configuration, 3 refused for every item
        (the key, the plan, or the month), 130 interrupted.
    """
    try:
        from zenovay_async.cli.app import run_app  # noqa: PLC0415 - what is missing is explained
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _NEEDED:
            raise
        print("The command line needs more packages: pip install 'zenovay-async[cli]'", file=sys.stderr)  # noqa: T201 - nothing better is there
        return 2
    return run_app(sys.argv[1:] if argv is None else argv)
