"""The options of the commands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations
from typing import Annotated, TypeAlias

from cyclopts import Parameter, validators

from zenovay_async.cli.output import Format  # noqa: TC001 - cyclopts reads the annotations

_AT_LEAST_ONE = validators.Number(gte=1)

Ids: TypeAlias = Annotated[str, Parameter(help="IDs of websites.")]
Take: TypeAlias = Annotated[
    int | None, Parameter(validator=_AT_LEAST_ONE, help="Request pages until there are this many items.")
]
All: TypeAlias = Annotated[bool | None, Parameter(negative=(), help="Request every page.")]
Params: TypeAlias = Annotated[
    tuple[str, ...], Parameter(name="--param", negative=(), help="NAME=VALUE, sent as given; may be repeated.")
]


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    """Options of every command."""

    format: Annotated[Format, Parameter(help="Format of the results.")] = "table"
    output: Annotated[
        Path | None, Parameter(name=["--output", "-o"], help="File to write; replaced when the run completes.")
    ] = None
    timeout: Annotated[float, Parameter(help="Seconds for each call, retries included.")] = 30.0
    base_url: Annotated[
        str | None, Parameter(help="Base URL of the API; omitted, ZENOVAY_BASE_URL, else the public API.")
    ] = None
    sandbox: Annotated[
        int | None, Parameter(validator=_AT_LEAST_ONE, help="Use a sandbox with this many websites; needs no key.")
    ] = None


@Parameter(name="*")
@dataclass(frozen=True)
class PerWebsite(Common):
    """Options of every command that takes IDs of websites."""

    ids_from: Annotated[
        Path | None,
        Parameter(allow_leading_hyphen=True, help="File with further IDs, one per line; - for standard input."),
    ] = None
    concurrency: Annotated[int, Parameter(validator=_AT_LEAST_ONE, help="Calls in flight at once.")] = 8
