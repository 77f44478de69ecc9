"""The options of the commands."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from cyclopts import CycloptsError, Group, Parameter, validators

from zenovay_async._limits.patience import MAX_OUTAGE
from zenovay_async.cli.log_lines import LogFormat  # noqa: TC001 - cyclopts reads the annotations
from zenovay_async.cli.writer import Format  # noqa: TC001 - same

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cyclopts import Token

# As --help shows them, after the arguments of the method.
_WEBSITES = Group("Websites", sort_key=1)
_OUTPUT = Group("Output", sort_key=2)
_RESUME = Group("A run that ended early", sort_key=3)
_BOUNDS = Group("Limits", sort_key=4)
_NETWORK = Group("Server", sort_key=5)

_AT_LEAST_ONE = validators.Number(gte=1)
# A sandbox makes the IDs of its websites in advance.
_SANDBOX_WEBSITES = validators.Number(gte=1, lte=1_000_000)

ProgressKind: TypeAlias = Literal["auto", "bar", "log", "none"]


def whole_number(_type: Any, tokens: Sequence[Token]) -> int:
    """Convert the value of an option that is a whole number; cyclopts would round it."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise CycloptsError(msg=f"{tokens[0].keyword} {tokens[0].value}: expected a whole number") from None


def _flag(text: str, group: Group | None = None) -> Parameter:
    """An option without a value."""
    return Parameter(group=group, negative=(), show_default=False, help=text)


def _number(text: str, group: Group | None = None, validator: validators.Number = _AT_LEAST_ONE) -> Parameter:
    """An option that is a whole number, at least 1 unless another validator is given."""
    return Parameter(group=group, converter=whole_number, validator=validator, help=text)


Ids: TypeAlias = Annotated[str, Parameter(help="IDs of websites, as websites list shows them.")]
Take: TypeAlias = Annotated[int | None, _number("Request pages until there are this many items.")]
All: TypeAlias = Annotated[bool | None, _flag("Request every page.")]
Params: TypeAlias = Annotated[
    tuple[str, ...],
    Parameter(
        name="--param",
        negative=(),
        show_default=False,
        help="NAME=VALUE: a query parameter that has no option here, sent as given; may be repeated.",
    ),
]


def _file(_type: Any, tokens: Sequence[Token]) -> Path | None:
    """Convert the value of ``--output``; an empty one, as of an unset variable, would be the working directory."""
    name = tokens[0].value
    if name == "-":
        return None
    if not name or name.startswith("-"):
        raise CycloptsError(msg=f"--output {name!r}: expected a file, or - for standard output")
    return Path(name)


def _path(_type: Any, tokens: Sequence[Token]) -> Path:
    """Convert the name of a file, which is never a standard stream."""
    name = tokens[0].value
    if not name or name.startswith("-"):
        raise CycloptsError(msg=f"--{tokens[0].keyword} {name!r}: expected a file".replace("----", "--"))
    return Path(name)


def _bound(_type: Any, tokens: Sequence[Token]) -> float:
    """Convert the value of ``--max-failures``."""
    text = tokens[0].value
    with contextlib.suppress(ValueError):
        if not text.endswith("%") and (count := int(text)) >= 0:
            return count
        if text.endswith("%") and 0 < (share := float(text[:-1]) / 100) < 1:
            return share
    raise CycloptsError(msg=f"--max-failures {text}: expected a number, 0 or more, or a share below 100%, such as 5%")


# Their fields are keywords alone, as cyclopts takes others from positions as well.
@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Common:
    """Options of every command."""

    format: Annotated[Format, Parameter(group=_OUTPUT, help="Format of the results.")] = "table"
    output: Annotated[
        Path | None,
        Parameter(
            group=_OUTPUT,
            name=["--output", "-o"],
            converter=_file,
            allow_leading_hyphen=True,
            help="File to write, replaced when the run is whole; - for standard output.",
        ),
    ] = None
    columns: Annotated[
        str | None, Parameter(group=_OUTPUT, help="Columns to show, in this order, such as url,last_updated.")
    ] = None
    sort: Annotated[
        str | None,
        Parameter(
            group=_OUTPUT,
            allow_leading_hyphen=True,
            help="Column to sort the rows by; the greatest first with - before it, as in --sort -last_updated.",
        ),
    ] = None
    tz: Annotated[
        str | None,
        Parameter(group=_OUTPUT, help="Time zone of tables: UTC, local, or a name such as Europe/Zurich."),
    ] = None
    csv_safe: Annotated[
        bool,
        _flag("In CSV, start cells that a spreadsheet would run with an apostrophe.", _OUTPUT),
    ] = False
    timeout: Annotated[float, Parameter(group=_BOUNDS, help="Seconds for each call, retries included.")] = 30.0
    base_url: Annotated[
        str | None,
        Parameter(group=_NETWORK, help="Base URL of the API; omitted, ZENOVAY_BASE_URL, else the public API."),
    ] = None
    allow_http: Annotated[
        bool,
        _flag("Send the key unencrypted to an http base URL of another machine.", _NETWORK),
    ] = False
    proxy: Annotated[
        str | None,
        Parameter(group=_NETWORK, help="URL of an HTTP proxy; omitted, HTTPS_PROXY and the like, or the system's."),
    ] = None
    rate_limit_store: Annotated[
        str | None,
        Parameter(
            group=_BOUNDS,
            help="Where to share the rate limit: machine, or the URL of a Redis; omitted, ZENOVAY_RATE_LIMIT_STORE.",
        ),
    ] = None
    rate_limit: Annotated[
        int | None,
        _number("Requests a minute at most; omitted, what the API allows.", _BOUNDS),
    ] = None
    log_format: Annotated[
        LogFormat, Parameter(group=_OUTPUT, help="Format of the lines on standard error; json has no bar.")
    ] = "text"
    trace: Annotated[
        bool,
        _flag("After each call, say on standard error what it waited for and how each attempt ended.", _OUTPUT),
    ] = False
    sandbox: Annotated[
        int | None,
        _number("Use a sandbox with this many websites; needs no key.", _NETWORK, _SANDBOX_WEBSITES),
    ] = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PerWebsite(Common):
    """Options of every command that takes IDs of websites."""

    ids_from: Annotated[
        Path | None,
        Parameter(
            group=_WEBSITES,
            allow_leading_hyphen=True,
            help="File with further IDs, one per line; - for standard input.",
        ),
    ] = None
    all_websites: Annotated[
        bool,
        _flag("All websites of the key, in place of IDs; they are listed once.", _WEBSITES),
    ] = False
    keys_from: Annotated[
        Path | None,
        Parameter(
            group=_WEBSITES,
            allow_leading_hyphen=True,
            help="File with several keys, a line of NAME,KEY for each; - for standard input. Results carry the name.",
        ),
    ] = None
    concurrency: Annotated[int, _number("Calls in flight at once.", _BOUNDS)] = 8
    max_outage: Annotated[
        float,
        Parameter(group=_BOUNDS, validator=validators.Number(gte=0), help="Seconds to wait for a server that is away."),
    ] = MAX_OUTAGE
    max_failures: Annotated[
        int | float | None,
        Parameter(
            group=_BOUNDS,
            converter=_bound,
            help="Stop when more websites than these failed: a number, or a share such as 5%.",
        ),
    ] = None
    max_requests: Annotated[
        int | None,
        _number("Stop before the run takes more of the monthly quota.", _BOUNDS),
    ] = None
    quota_reserve: Annotated[
        int,
        _number("Requests of the monthly quota to leave to others.", _BOUNDS, validators.Number(gte=0)),
    ] = 0
    resume: Annotated[
        bool,
        _flag("Go on where the run that wrote FILE.partial ended; anew if none did.", _RESUME),
    ] = False
    restart: Annotated[bool, _flag("Discard what such a run kept, and begin anew.", _RESUME)] = False
    failures: Annotated[
        Path | None,
        Parameter(
            group=_OUTPUT,
            converter=_path,
            allow_leading_hyphen=True,
            help="File for the websites that failed, fit for --ids-from.",
        ),
    ] = None
    report: Annotated[
        Path | None,
        Parameter(
            group=_OUTPUT, converter=_path, allow_leading_hyphen=True, help="File for what the run did, in JSON."
        ),
    ] = None
    progress: Annotated[
        ProgressKind,
        Parameter(group=_OUTPUT, help="How to show the progress; auto is a bar on a terminal, and a log elsewhere."),
    ] = "auto"
