"""Questions in plain words about a website.

Source: docs "POST /query/:websiteId", whose example response is known in part only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, cast

import msgspec

from zenovay_async._protocol.call import Call, Endpoint
from zenovay_async._protocol.decoding import Decoder
from zenovay_async._protocol.extra_fields import ExtraFields
from zenovay_async._protocol.parameters import json_body, optional_str, require_str
from zenovay_async._protocol.results import Result
from zenovay_async._tables.layout import KEY_NAME, WEBSITE_ID, Layout, Row, unique_names
from zenovay_async.exceptions import ConfigurationError
from zenovay_async.tables import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Comparison: TypeAlias = Literal["previous_period", "previous_year"] | str
"""What an answer compares with."""

_MAX_LENGTH = 500


class QueryResults(Result, ExtraFields, frozen=True, kw_only=True):
    """The figures of an answer.

    Attributes:
        type: Layout; ``table`` is the only value seen.
        columns: Names of the columns.
        rows: The rows, each with a text or a number per column.
        extra: Undocumented fields, as plain values.
    """

    type: str | None = None
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    extra: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])


def _query_columns(result: Any) -> tuple[str, ...]:
    rows = _query_values(result)
    return tuple(_column_names(result["results"]["columns"], rows).values())


def _query_rows(result: Any) -> list[Row]:
    rows = _query_values(result)
    names = _column_names(result["results"]["columns"], rows)
    return [{names[key]: value for key, value in row.items()} for row in rows]


def _query_values(result: Any) -> list[dict[int | str, Any]]:
    """The values of each row, by the position of their column or, in a row that is an object, by their names.

    Rows of another shape than documented are in ``extra``.
    """
    results = result["results"]
    columns = list(results["columns"])
    rows: Any = results["rows"] or results.get("extra", {}).get("rows", result.get("extra", {}).get("results"))
    values: list[dict[int | str, Any]] = []
    for row in cast("Any", rows if isinstance(rows, (list, tuple)) else ()):
        if isinstance(row, dict):
            named = cast("dict[str, Any]", row)
            values.append({columns.index(name) if name in columns else name: named[name] for name in named})
        else:
            values.append(dict(enumerate(cast("list[Any]", row) if isinstance(row, (list, tuple)) else [row])))
    return values


def _column_names(columns: Sequence[str], rows: list[dict[int | str, Any]]) -> dict[int | str, str]:
    """A name of its own for each column: two sources may both be called ``visitors``."""
    names: dict[int | str, str] = dict(enumerate(columns))
    for row in rows:
        for key in row:
            names.setdefault(key, key if isinstance(key, str) else "")
    given = [name or f"column_{number}" for number, name in enumerate(names.values(), 1)]
    return dict(zip(names, unique_names(given, (WEBSITE_ID, KEY_NAME)), strict=True))


class QueryAnswer(Table, Result, ExtraFields, frozen=True, kw_only=True):
    """The answer to a question.

    Attributes:
        question: The question.
        results: The figures.
        intent: How the API understood the question, such as ``traffic_sources_breakdown``.
        confidence: Confidence in that intent, 0 to 1.
        time_range: Time range of the answer.
        extra: Undocumented fields, such as a summary in words, as plain values.
    """

    _layout: ClassVar[Layout] = Layout(rows=_query_rows, own_columns=_query_columns)

    question: str | None = None
    results: QueryResults = QueryResults()
    intent: str | None = None
    confidence: float | None = None
    time_range: str | None = None
    extra: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])


QUERY = Endpoint("query", "query/{website_id}", Decoder(QueryAnswer), method="POST", idempotent=False, cost=3)
"""The endpoint of ``Zenovay.query``."""


def query_call(
    website_id: str,
    question: str,
    time_range: str | None,
    compare_to: str | None,
    extra_query: Mapping[str, Any] | None,
) -> Call[QueryAnswer]:
    """Describe a call of ``Zenovay.query``, which explains the arguments.

    Raises:
        ConfigurationError: An argument is invalid.
    """
    if len(require_str("question", question)) > _MAX_LENGTH:
        raise ConfigurationError(f"question: {len(question)} characters; expected {_MAX_LENGTH} at most")
    body: dict[str, Any] = {"question": question}
    context = {
        name: value
        for name, value in {"time_range": time_range, "compare_to": compare_to}.items()
        if optional_str(name, value) is not None
    }
    if context:
        body["context"] = context
    # Omitted from the URL, and rejected in extra_query, as they are arguments that are sent in the body.
    own = dict.fromkeys(("question", "time_range", "compare_to"))
    return QUERY.call(website_id, extra_query=extra_query, body=json_body("question", body), **own)
