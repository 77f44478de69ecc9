"""Questions in plain words about a website.

Source: docs "POST /query/:websiteId", whose example answer is known in part only.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from zenovay_async._protocol.call import Call, json_body, optional_str, quote_segment, require_str
from zenovay_async._protocol.decoding import Decoder
from zenovay_async._protocol.leniency import ExtraFields
from zenovay_async.exceptions import ConfigurationError

Comparison: TypeAlias = Literal["previous_period", "previous_year"] | str
"""What an answer compares with."""

_COST = 3
_LONGEST = 500


class QueryResults(ExtraFields, frozen=True):
    """What was found.

    Attributes:
        type: How it is laid out; ``table`` is the only value seen.
        columns: Names of the columns.
        rows: The rows, each with a text or a number per column.
        extra: What else there is, which is not documented, as plain values.
    """

    type: str | None = None
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()


class QueryAnswer(ExtraFields, frozen=True):
    """The answer to a question.

    Attributes:
        question: The question.
        results: What was found.
        intent: What the question was taken for, such as ``traffic_sources_breakdown``.
        confidence: How sure of that the API is, 0 to 1.
        time_range: The time range that the answer is about.
        extra: What else there is, such as a summary in words whose name is not documented, as plain values.
    """

    question: str | None = None
    results: QueryResults = QueryResults()
    intent: str | None = None
    confidence: float | None = None
    time_range: str | None = None


_ANSWER = Decoder(QueryAnswer)


def question_call(website_id: str, question: str, time_range: str | None, compare_to: str | None) -> Call[QueryAnswer]:
    """The call of ``Zenovay.query``; its arguments are told there."""
    if len(require_str("question", question)) > _LONGEST:
        raise ConfigurationError(f"question has {len(question)} characters; the API takes {_LONGEST} at most")
    asked: dict[str, Any] = {"question": question}
    context = {
        name: value
        for name, value in {"time_range": time_range, "compare_to": compare_to}.items()
        if optional_str(name, value) is not None
    }
    if context:
        asked["context"] = context
    return Call(
        "POST",
        f"query/{quote_segment(website_id)}",
        _ANSWER,
        body=json_body("question", asked),
        idempotent=False,
        cost=_COST,
    )
