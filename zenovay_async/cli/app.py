"""The commands and their options; what they do is in the modules beside this one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations
from typing import Annotated, TypeAlias

from cyclopts import App, CycloptsError, Parameter, validators

from zenovay_async import ConfigurationError, __version__
from zenovay_async import tables as on
from zenovay_async.cli.output import Format  # noqa: TC001 - as above
from zenovay_async.cli.run import INTERRUPTED, USAGE, Job, complain, run

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


def _group(name: str, text: str) -> App:
    group = App(name=name, help=text)
    app.command(group)
    return group


_websites = _group("websites", "The websites that the key can reach.")
_analytics = _group("analytics", "Who came, from where, and what they saw.")
_heatmaps = _group("heatmaps", "Heatmap data.")
_replays = _group("replays", "Recorded sessions.")
_errors = _group("errors", "JavaScript errors that visitors ran into.")
_insights = _group("insights", "What was noticed about websites.")
_anomalies = _group("anomalies", "Metrics that were far from what was expected.")
_retention = _group("retention", "How many visitors come back.")
_revenue = _group("revenue", "What customers bring in over time.")
_stats = _group("stats", "Figures by any dimension; parameters are sent as they are given.")

Limit: TypeAlias = Annotated[int | None, Parameter(help="How many to return; else the server's default.")]
Offset: TypeAlias = Annotated[int | None, Parameter(help="How many to leave out.")]
Take: TypeAlias = Annotated[
    int | None, Parameter(validator=_AT_LEAST_ONE, help="Ask for further pages until there are so many.")
]
All: TypeAlias = Annotated[bool | None, Parameter(negative=(), help="Ask for further pages until there are no more.")]
Range: TypeAlias = Annotated[str | None, Parameter(help="Time range: 24h, 7d, 30d, 90d or 1y.")]
ShortRange: TypeAlias = Annotated[str | None, Parameter(help="Time range: 24h, 7d, 30d or 90d.")]
Severity: TypeAlias = Annotated[str | None, Parameter(help="info, warning or critical; else all.")]
Params: TypeAlias = Annotated[
    tuple[str, ...], Parameter(name="--param", negative=(), help="NAME=VALUE, sent as it is; may be repeated.")
]


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    """Options of every command."""

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


@Parameter(name="*")
@dataclass(frozen=True)
class Many(Common):
    """Options of every command that takes website ids; with --sandbox and no ids, it takes all of its websites."""

    ids_from: Annotated[
        Path | None,
        Parameter(allow_leading_hyphen=True, help="File with further website ids, one a line; - for standard input."),
    ] = None
    concurrency: Annotated[int, Parameter(validator=_AT_LEAST_ONE, help="Calls on their way at once.")] = 8


@app.command
def usage(common: Common = Common()) -> int:
    """Show the plan, the rate limit and the month at a glance."""
    return _start(on.USAGE, (), common)


@_websites.command(name="list")
def websites_list(common: Common = Common()) -> int:
    """List the websites that the key can reach."""
    return _start(on.WEBSITES, (), common)


@_websites.command(name="get")
def websites_get(*ids: str, common: Many = Many()) -> int:
    """Get websites with their settings."""
    return _start(on.WEBSITE, ids, common)


@_analytics.command
def overview(*ids: str, range: Range = None, common: Many = Many()) -> int:
    """Get the totals and the days of websites."""
    return _start(on.OVERVIEW, ids, common, range=range)


@_analytics.command
def visitors(
    *ids: str,
    range: Range = None,
    limit: Limit = None,
    offset: Offset = None,
    take: Take = None,
    all: All = None,
    common: Many = Many(),
) -> int:
    """List single visits, newest first; a page of up to 1000, or more with --take or --all."""
    return _start(on.VISITORS, ids, common, range=range, limit=limit, offset=offset, take=take, all=all)


@_analytics.command(name="pages")
def analytics_pages(*ids: str, param: Params = (), common: Many = Many()) -> int:
    """Get the statistics of pages; only the path of this endpoint is documented."""
    return _start(on.ANALYTICS_PAGES, ids, common, **_free(param))


@_analytics.command
def countries(*ids: str, range: Range = None, limit: Limit = None, common: Many = Many()) -> int:
    """List visitors by country, most visitors first; up to 100 countries."""
    return _start(on.COUNTRIES, ids, common, range=range, limit=limit)


@_analytics.command
def technology(*ids: str, param: Params = (), common: Many = Many()) -> int:
    """Get browsers, operating systems and devices; only the path of this endpoint is documented."""
    return _start(on.TECHNOLOGY, ids, common, **_free(param))


@_heatmaps.command(name="pages")
def heatmaps_pages(*ids: str, limit: Limit = None, common: Many = Many()) -> int:
    """List the pages of websites that have heatmap data, most interactions first; up to 100 of each website."""
    return _start(on.HEATMAP_PAGES, ids, common, limit=limit)


@_replays.command
def sessions(
    *ids: str, limit: Limit = None, offset: Offset = None, take: Take = None, all: All = None, common: Many = Many()
) -> int:
    """List recorded sessions, newest first; a page of up to 200, or more with --take or --all."""
    return _start(on.SESSIONS, ids, common, limit=limit, offset=offset, take=take, all=all)


@_errors.command
def groups(
    *ids: str,
    status: Annotated[str | None, Parameter(help="unresolved, resolved or ignored; else all.")] = None,
    limit: Limit = None,
    common: Many = Many(),
) -> int:
    """List groups of JavaScript errors; up to 200 of each website."""
    return _start(on.ERROR_GROUPS, ids, common, status=status, limit=limit)


@_insights.command(name="list")
def insights_list(
    *ids: str,
    range: ShortRange = None,
    type: Annotated[str | None, Parameter(help="anomaly, trend, recommendation or prediction; else all.")] = None,
    severity: Severity = None,
    limit: Limit = None,
    offset: Offset = None,
    take: Take = None,
    all: All = None,
    common: Many = Many(),
) -> int:
    """List insights; a page of up to 200, or more with --take or --all."""
    chosen: dict[str, object] = {"range": range, "type": type, "severity": severity}
    return _start(on.INSIGHTS, ids, common, **chosen, limit=limit, offset=offset, take=take, all=all)


@_anomalies.command(name="list")
def anomalies_list(
    *ids: str,
    range: ShortRange = None,
    severity: Severity = None,
    metric: Annotated[str | None, Parameter(help="A metric, such as visitors or bounce_rate; else all.")] = None,
    resolved: Annotated[bool | None, Parameter(help="Whether they are over; else all.")] = None,
    limit: Limit = None,
    offset: Offset = None,
    take: Take = None,
    all: All = None,
    common: Many = Many(),
) -> int:
    """List anomalies; a page of up to 200, or more with --take or --all."""
    chosen: dict[str, object] = {"range": range, "severity": severity, "metric": metric, "resolved": resolved}
    return _start(on.ANOMALIES, ids, common, **chosen, limit=limit, offset=offset, take=take, all=all)


@_retention.command
def cohorts(
    *ids: str,
    range: ShortRange = None,
    granularity: Annotated[str | None, Parameter(help="daily, weekly or monthly.")] = None,
    periods: Annotated[int | None, Parameter(help="Periods of each cohort, 1 to 12.")] = None,
    common: Many = Many(),
) -> int:
    """Get how many visitors of each cohort came back in each period."""
    return _start(on.COHORTS, ids, common, range=range, granularity=granularity, periods=periods)


@_revenue.command
def ltv(
    *ids: str,
    range: ShortRange = None,
    granularity: Annotated[str | None, Parameter(help="weekly or monthly.")] = None,
    common: Many = Many(),
) -> int:
    """Get the lifetime value of customers by cohort."""
    return _start(on.LTV, ids, common, range=range, granularity=granularity)


@app.command
def query(
    question: str,
    *ids: str,
    time_range: ShortRange = None,
    compare_to: Annotated[str | None, Parameter(help="previous_period or previous_year.")] = None,
    common: Many = Many(),
) -> int:
    """Ask a question about websites in plain words; takes 3 requests of the month for each, and the Scale plan."""
    return _start(on.QUERY, ids, common, question=question, time_range=time_range, compare_to=compare_to)


@_stats.command
def aggregate(*, param: Params = (), common: Common = Common()) -> int:
    """Get totals over a period."""
    return _start(on.AGGREGATE, (), common, **_free(param))


@_stats.command
def timeseries(*, param: Params = (), common: Common = Common()) -> int:
    """Get one point per hour, day or month."""
    return _start(on.TIMESERIES, (), common, **_free(param))


@_stats.command
def breakdown(*, param: Params = (), common: Common = Common()) -> int:
    """Get the top values of one dimension."""
    return _start(on.BREAKDOWN, (), common, **_free(param))


def _free(param: tuple[str, ...]) -> dict[str, str]:
    named = {name: value for name, equals, value in (text.partition("=") for text in param) if name and equals}
    if len(named) < len(param):
        raise ConfigurationError(f"--param {' '.join(param)}: expected NAME=VALUE, each name once")
    return named


def _start(endpoint: on.Endpoint, ids: tuple[str, ...], common: Common, /, **parameters: object) -> int:
    many = common if isinstance(common, Many) else Many()
    job = Job(
        endpoint=endpoint,
        ids=ids,
        ids_from=many.ids_from,
        parameters=parameters,
        concurrency=many.concurrency,
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
        return USAGE
    except ConfigurationError as error:
        return complain(error, USAGE)
    except KeyboardInterrupt:
        return INTERRUPTED
    return result if isinstance(result, int) else 0
