"""The commands and their options; what they do is in the modules beside this one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter, validators

from zenovay_async._version import __version__
from zenovay_async.cli.endpoints import HEATMAP_PAGES, Endpoint
from zenovay_async.cli.output import Format  # noqa: TC001 - as above
from zenovay_async.cli.run import Job, run

_AT_LEAST_ONE = validators.Number(gte=1)

app = App(
    name="zenovay-async",
    version=__version__,
    help=(
        "Web analytics of Zenovay, from a terminal or a script. The API key is taken from ZENOVAY_API_KEY.\n\n"
        "Data goes to standard output, everything else to standard error. "
        "Exit codes: 0 all fine, 1 something failed, 2 wrong usage or configuration, "
        "3 refused for every item (key, plan or month), 130 interrupted."
    ),
    help_on_error=False,
)
_heatmaps = App(name="heatmaps", help="Heatmap data.")
app.command(_heatmaps)


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    """Options of every command."""

    ids_from: Annotated[
        Path | None, Parameter(allow_leading_hyphen=True, help="File with one website id a line; - for standard input.")
    ] = None
    concurrency: Annotated[int, Parameter(validator=_AT_LEAST_ONE, help="Calls on their way at once.")] = 8
    format: Annotated[Format, Parameter(help="How to print the results.")] = "table"
    output: Annotated[Path | None, Parameter(name=["--output", "-o"], help="File to write, whole or not at all.")] = (
        None
    )
    timeout: Annotated[float, Parameter(help="Seconds for each call, from its turn on.")] = 30.0
    base_url: Annotated[str | None, Parameter(help="Where the API is; else ZENOVAY_BASE_URL, else the public API.")] = (
        None
    )
    sandbox: Annotated[
        int | None, Parameter(validator=_AT_LEAST_ONE, help="Use a sandbox with so many made-up websites, and no key.")
    ] = None


@_heatmaps.command(name="pages")
def heatmaps_pages(
    *ids: str,
    limit: Annotated[int | None, Parameter(help="Pages of each website, 1 to 100; else the server's 20.")] = None,
    common: Common = Common(),
) -> int:
    """List the pages of websites that have heatmap data, most interactions first.

    Parameters
    ----------
    ids
        Website ids; with --sandbox, all of its websites if none are given.
    """
    return _start(HEATMAP_PAGES, ids, common, limit=limit)


def _start(endpoint: Endpoint, ids: tuple[str, ...], common: Common, **parameters: object) -> int:
    job = Job(
        endpoint=endpoint,
        ids=ids,
        ids_from=common.ids_from,
        parameters=parameters,
        concurrency=common.concurrency,
        format=common.format,
        output=common.output,
        timeout=common.timeout,
        base_url=common.base_url,
        sandbox=common.sandbox,
    )
    return run(job)


def run_app(argv: list[str]) -> int:
    """Parse the arguments and run the command; returns the exit code."""
    try:
        result = app(argv, exit_on_error=False, print_error=True, result_action="return_value")
    except CycloptsError:
        return 2
    except KeyboardInterrupt:
        return 130
    return result if isinstance(result, int) else 0
