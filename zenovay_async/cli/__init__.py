"""The command line, ``zenovay-async``: the API from a terminal or a script. Needs the extra ``cli``."""

from __future__ import annotations

import sys

_EXTRA = {"cyclopts", "rich"}
_INTERRUPTED = 130


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments; omitted, those of the process.

    Returns:
        The exit code: 0 success, 1 something failed, 2 invalid usage or configuration, 3 rejected for every website
        (key or plan), 4 stopped early (quota, outage, disk or a bound of the run), 129 ended by SIGHUP, 130
        interrupted, 143 ended by SIGTERM.
    """
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        # Outside of a run, as while modules are imported.
        return _INTERRUPTED


def _run(arguments: list[str]) -> int:
    try:
        if arguments == ["--version"]:
            from zenovay_async.cli.version import print_version  # noqa: PLC0415 - without the commands, in less time

            return print_version()
        from zenovay_async.cli.app import run_app  # noqa: PLC0415 - a missing package is explained
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _EXTRA:
            raise
        sys.stderr.write("zenovay-async: the command line needs an extra: pip install 'zenovay-async[cli]'\n")
        return 2
    return run_app(arguments)
