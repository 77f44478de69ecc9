"""The application: its help, its commands, its exit code."""

from __future__ import annotations

from cyclopts import App, CycloptsError

from zenovay_async import ConfigurationError, __version__
from zenovay_async.cli.commands import add_commands
from zenovay_async.cli.exit_codes import INTERRUPTED, USAGE
from zenovay_async.cli.run import end_output, print_error
from zenovay_async.cli.streams import OutputConsole, prepared_streams

_HELP = """Zenovay web analytics from a terminal or a script. The API key comes from ZENOVAY_API_KEY.

Data goes to standard output, everything else to standard error. Exit codes: 0 success, 1 something failed, 2 invalid
usage or configuration, 3 rejected for every website (key or plan), 4 stopped early (quota, outage, disk, a bound of the
run), which --resume goes on from, 130 interrupted, 129 and 143 ended by SIGHUP and SIGTERM."""


def make_app() -> App:
    """Make the application, with a command for each operation of the client."""
    app = App(name="zenovay-async", version=__version__, help=_HELP, help_on_error=False, console=OutputConsole())
    add_commands(app)
    return app


def run_app(argv: list[str]) -> int:
    """Parse the arguments and run the command; returns the exit code."""
    with prepared_streams():
        try:
            result = make_app()(argv, exit_on_error=False, print_error=False, result_action="return_value")
        except (CycloptsError, ConfigurationError) as error:
            return print_error(error, USAGE)
        except KeyboardInterrupt:
            return INTERRUPTED
        except OSError as error:
            # Help that cannot be written.
            return end_output(error)
        return result if isinstance(result, int) else 0
