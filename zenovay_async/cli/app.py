"""The application: its help, its commands, its exit code."""

from __future__ import annotations

from cyclopts import App, CycloptsError, UnusedCliTokensError

from zenovay_async import ConfigurationError, __version__
from zenovay_async.cli.commands import add_commands
from zenovay_async.cli.exit_codes import USAGE, end_output, print_error
from zenovay_async.cli.streams import OutputConsole, prepared_streams

_HELP = """Zenovay web analytics from a terminal or a script.

For example:

  zenovay-async heatmaps pages --sandbox 3
  zenovay-async usage
  zenovay-async analytics overview ID --range 30d
  zenovay-async help analytics overview

The API key comes from ZENOVAY_API_KEY, which --sandbox does not need. ZENOVAY_BASE_URL names another server.

Data goes to standard output, everything else to standard error. Exit codes: 0 success, 1 something failed, 2 invalid \
usage or configuration, 3 rejected for every website (key or plan), 4 stopped early (quota, outage, disk, a bound of \
the run), which --resume goes on from, 130 interrupted, 129 and 143 ended by SIGHUP and SIGTERM."""


def make_app() -> App:
    """Make the application, with a command for each operation of the client."""
    app = App(
        name="zenovay-async",
        version=__version__,
        help=_HELP,
        help_format="plaintext",
        help_on_error=False,
        console=OutputConsole(),
        suppress_keyboard_interrupt=False,
    )
    add_commands(app)

    def show_help(*command: str) -> None:
        _, apps, rest = app.parse_commands(command)
        # cyclopts before 5.3 shows the help of all for a command that is unknown; without --help, it is an error.
        is_unknown = rest and apps[-1].default_command is None
        arguments = command if is_unknown else (*command, "--help")
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")

    app.command(show_help, name="help", help="Show the help of a command, as --help does.")
    app.register_install_completion_command(  # pyright: ignore[reportUnknownMemberType] - its **kwargs have no type
        help="Install completion for a shell."
    )
    return app


def run_app(argv: list[str]) -> int:
    """Parse the arguments and run the command; returns the exit code."""
    with prepared_streams():
        app = make_app()
        try:
            result = app(argv, exit_on_error=False, print_error=False, result_action="return_value")
        except UnusedCliTokensError as error:
            return print_error(ConfigurationError(_describe_unexpected(app, error)), USAGE)
        except (CycloptsError, ConfigurationError) as error:
            return print_error(error, USAGE)
        except SystemExit:
            # cyclopts said that it cannot detect the shell for which to install completion.
            return USAGE
        except OSError as error:
            # Help that cannot be written.
            return end_output(error)
        return result if isinstance(result, int) else 0


def _describe_unexpected(app: App, error: UnusedCliTokensError) -> str:
    """What a command expects in place of arguments that it does not take."""
    words, command = list(error.command_chain or ()), app
    for word in words:
        command = command[word]
    unexpected = (error.unused_tokens or [""])[0]
    options = [argument for argument in command.assemble_argument_collection() if argument.show]
    meant = [option.name for option in options if unexpected in (option.get_choices() or ())]
    advice = f"did you mean {meant[0]} {unexpected}?" if meant else f"see zenovay-async {' '.join(words)} --help"
    return f"{' '.join(words)} takes options alone, not {unexpected!r}; {advice}"
