"""What one attempt tells the limits, by its response and its error."""

from __future__ import annotations

import asyncio
import json
import pickle
from datetime import UTC, datetime
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from zenovay_async import Outcome, UsageHeaders, ZenovayError
from zenovay_async import exceptions as errors
from zenovay_async._limits.outcome import is_sent, outcome_of
from zenovay_async._protocol.call import Endpoint
from zenovay_async._protocol.decoding import UNTYPED
from zenovay_async._protocol.parsing import parse_response
from zenovay_async._protocol.response import RawResponse
from zenovay_async.rate_limits import OutcomeKind

JULY = datetime(2026, 7, 1, tzinfo=UTC)
AUGUST = datetime(2026, 8, 1, tzinfo=UTC)
NOW = 1_780_000_000.0
CALL = Endpoint("test.endpoint", "x", UNTYPED).call()


def response(status: int = 200, body: bytes = b"", **headers: str) -> RawResponse:
    return RawResponse(status, CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()}), body)


def unsent(error: errors.APIConnectionError, *, stale: bool = False, final: bool = False) -> errors.APIConnectionError:
    error.sent, error.stale, error.final = False, stale, final
    return error


def unreachable(error: errors.APIConnectionError) -> errors.APIConnectionError:
    error.sent, error.unreachable = False, True
    return error


# The error, and the kind of outcome without a response and with one.
KINDS: list[tuple[BaseException, OutcomeKind, OutcomeKind]] = [
    (errors.ZenovayError("m"), "no_response", "failed"),
    (errors.ConfigurationError("m"), "unsent", "failed"),
    (errors.ClientClosedError("m"), "unsent", "failed"),
    (errors.APIConnectionError("m"), "no_response", "failed"),
    (unreachable(errors.APIConnectionError("m")), "unreachable", "failed"),
    # A connection was there, but the request did not leave whole.
    (unsent(errors.APIConnectionError("m")), "no_response", "failed"),
    (unsent(errors.APIConnectionError("m"), stale=True), "unsent", "failed"),
    (unsent(errors.APIConnectionError("m"), final=True), "unsent", "failed"),
    (errors.APITimeoutError("m"), "no_response", "failed"),
    (unreachable(errors.APITimeoutError("m")), "unreachable", "failed"),
    (errors.ResponseDecodeError("m"), "no_response", "failed"),
    (errors.BatchStoppedError("m"), "no_response", "failed"),
    (errors.JournalError("m"), "no_response", "failed"),
    (errors.APIStatusError("m"), "no_response", "failed"),
    (errors.BadRequestError("m"), "no_response", "failed"),
    (errors.AuthenticationError("m"), "no_response", "failed"),
    (errors.PermissionDeniedError("m"), "no_response", "failed"),
    (errors.NotFoundError("m"), "no_response", "failed"),
    (errors.RateLimitError("m"), "no_response", "rate_limited"),
    (errors.QuotaExceededError("m"), "no_response", "quota_exhausted"),
    (errors.ServerError("m"), "no_response", "failed"),
    (asyncio.CancelledError(), "no_response", "failed"),
    (KeyboardInterrupt(), "no_response", "failed"),
    # A class of the caller's may raise anything while a response is decoded to it.
    (LookupError("m"), "no_response", "failed"),
]


@pytest.mark.parametrize(("error", "without", "with_response"), KINDS, ids=lambda value: repr(value)[:24])
def test_the_error_and_whether_a_response_came_decide_the_kind(
    error: BaseException, without: OutcomeKind, with_response: OutcomeKind
) -> None:
    reason = "m" if isinstance(error, ZenovayError) else None
    assert outcome_of(None, error) == Outcome(kind=without, reason=None if without == "unsent" else reason)
    outcome = outcome_of(response(), error)
    assert (outcome.kind, outcome.status, outcome.reason) == (with_response, 200, reason)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.APIConnectionError("m"), True),
        (errors.APITimeoutError("m"), True),
        (asyncio.CancelledError(), True),
        (unreachable(errors.APIConnectionError("m")), False),
        (unsent(errors.APIConnectionError("m")), False),
        (unsent(errors.APIConnectionError("m"), stale=True), False),
        (unsent(errors.APIConnectionError("m"), final=True), False),
        (errors.ConfigurationError("m"), False),
        (errors.ClientClosedError("m"), False),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_a_request_that_may_have_left_counts_as_sent(error: BaseException, expected: bool) -> None:  # noqa: FBT001 - a table's column
    """Without a response, the error says so; with one, the request was sent."""
    assert is_sent(outcome_of(None, error), error) is expected
    assert is_sent(outcome_of(response(), error), error)


def test_the_table_has_every_class_of_the_tree() -> None:
    classes = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, ZenovayError)}
    assert classes <= {type(error) for error, _, _ in KINDS}


@pytest.mark.parametrize("status", [200, 403, 429, 503])
def test_a_rate_limit_is_one_under_any_status(status: int) -> None:
    """The status of the response does not count, only what its error means."""
    error = errors.RateLimitError("m", status=status, retry_after=5.0)
    outcome = outcome_of(response(status), error)
    assert (outcome.kind, outcome.retry_after) == ("rate_limited", 5.0)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (429, "RATE_LIMIT_EXCEEDED", "rate_limited"),
        (429, "MONTHLY_LIMIT_EXCEEDED", "quota_exhausted"),
        (402, "MONTHLY_LIMIT_EXCEEDED", "quota_exhausted"),
        (403, "MONTHLY_LIMIT_EXCEEDED", "quota_exhausted"),
        (500, "MONTHLY_LIMIT_EXCEEDED", "failed"),
        (200, "RATE_LIMIT_EXCEEDED", "rate_limited"),
        (200, "MONTHLY_LIMIT_EXCEEDED", "quota_exhausted"),
        (200, "NOT_FOUND", "failed"),
        (503, "RATE_LIMIT_EXCEEDED", "rate_limited"),
        (503, "GENERIC_ERROR", "failed"),
    ],
)
def test_a_parsed_error_has_the_kind_of_its_status_and_code(status: int, code: str, kind: OutcomeKind) -> None:
    body = json.dumps({"success": False, "error": {"message": "m", "code": code}}).encode()
    raw = response(status, body, Retry_After="7")
    with pytest.raises(ZenovayError) as caught:
        parse_response(CALL, raw, NOW)
    outcome = outcome_of(raw, caught.value)
    assert outcome.kind == kind
    assert outcome.retry_after == (None if kind == "failed" and status == 200 else 7.0)


def test_a_success_carries_the_limits_that_its_headers_state() -> None:
    raw = response(
        X_RateLimit_Limit="60",
        X_RateLimit_Remaining="0",
        X_Usage_Monthly="5",
        X_Usage_Limit="10",
        X_Usage_Reset="2026-07-01T00:00:00.000Z",
        X_Usage_Total="12",
    )
    assert outcome_of(raw, None) == Outcome(
        kind="succeeded", limit=60, remaining=0, usage=UsageHeaders(5, 10, JULY, 12), status=200
    )


@pytest.mark.parametrize(
    ("headers", "limit", "remaining", "window"),
    [
        ({"X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "5"}, 60, 5, None),
        ({"X-RateLimit-Limit": "30, 30;w=6", "X-RateLimit-Remaining": "29"}, 30, 29, 6),
        ({"RateLimit": '"a";r=5;t=30', "RateLimit-Policy": '"a";q=60;w=60'}, 60, 5, 60),
    ],
)
def test_the_limit_comes_with_the_window_that_it_is_for(
    headers: dict[str, str], limit: int, remaining: int, window: float | None
) -> None:
    outcome = outcome_of(RawResponse(200, CIMultiDict(headers), b""), None)
    assert (outcome.limit, outcome.remaining, outcome.limit_window) == (limit, remaining, window)


def test_a_response_knows_when_its_request_left() -> None:
    raw = RawResponse(200, {}, b"", sent_at=7.5)
    assert outcome_of(raw, None).sent_at == 7.5


def test_a_failure_carries_them_too() -> None:
    raw = response(503, X_RateLimit_Limit="60", X_RateLimit_Remaining="59", X_Usage_Monthly="5")
    error = errors.ServerError("m", retry_after=2.0)
    assert outcome_of(raw, error) == Outcome(
        kind="failed", limit=60, remaining=59, retry_after=2.0, usage=UsageHeaders(5), status=503, reason="m"
    )


@pytest.mark.parametrize("garbage", ["", "-1", "many", "1.5", "9" * 30])
def test_invalid_headers_are_ignored(garbage: str) -> None:
    raw = response(X_RateLimit_Limit=garbage, X_RateLimit_Remaining=garbage, X_Usage_Monthly=garbage)
    assert outcome_of(raw, None) == Outcome(kind="succeeded", usage=UsageHeaders(), status=200)


@pytest.mark.parametrize(
    ("in_result", "merged"),
    [
        (UsageHeaders(), UsageHeaders(5, 10, JULY, 12)),
        (UsageHeaders(6, 20, AUGUST, 13), UsageHeaders(6, 20, AUGUST, 13)),
        (UsageHeaders(6), UsageHeaders(6, 10, JULY, 12)),
        (UsageHeaders(0), UsageHeaders(0, 10, JULY, 12)),
        (UsageHeaders(limit=20), UsageHeaders(5, 20, JULY, 12)),
        (UsageHeaders(reset=AUGUST), UsageHeaders(5, 10, AUGUST, 12)),
        (UsageHeaders(total=13), UsageHeaders(5, 10, JULY, 13)),
    ],
)
def test_the_quota_in_a_result_takes_precedence_and_headers_fill_the_rest(
    in_result: UsageHeaders, merged: UsageHeaders
) -> None:
    raw = response(
        X_Usage_Monthly="5", X_Usage_Limit="10", X_Usage_Reset="2026-07-01T00:00:00.000Z", X_Usage_Total="12"
    )
    assert outcome_of(raw, None, in_result).usage == merged


@pytest.mark.parametrize("kind", get_args(OutcomeKind))
def test_an_outcome_crosses_processes(kind: OutcomeKind) -> None:
    outcome = Outcome(
        kind=kind,
        limit=60,
        limit_window=60.0,
        remaining=5,
        retry_after=1.5,
        usage=UsageHeaders(5, 10, JULY, 12),
        status=429,
        reason="m",
        sent_at=0.5,
    )
    assert msgspec.json.decode(msgspec.json.encode(outcome), type=Outcome) == outcome
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(outcome), type=Outcome) == outcome
    assert pickle.loads(pickle.dumps(outcome)) == outcome  # noqa: S301 - our own bytes


_HEADERS: Any = st.dictionaries(
    st.sampled_from(
        [
            *("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-Usage-Monthly", "X-Usage-Limit", "X-Usage-Reset"),
            *("RateLimit", "RateLimit-Policy", "RateLimit-Limit", "RateLimit-Remaining", "Other"),
        ]
    ),
    st.one_of(
        st.text(),
        st.integers(0, 10**20).map(str),
        st.sampled_from(["2026-07-01T00:00:00.000Z", "60, 60;w=60", '"a";r=5;t=30', '"a";q=60;w=60']),
    ),
)


@given(_HEADERS, st.sampled_from([error for error, _, _ in KINDS]), st.booleans())
def test_any_attempt_has_an_outcome_with_figures_of_at_least_0(
    headers: dict[str, str],
    error: BaseException,
    succeeds: bool,  # noqa: FBT001 - drawn
) -> None:
    outcome = outcome_of(RawResponse(200, CIMultiDict(headers), b""), None if succeeds else error)
    assert (outcome.kind == "succeeded") == succeeds
    assert outcome.usage is not None
    figures = (outcome.limit, outcome.remaining, outcome.limit_window, outcome.usage.monthly, outcome.usage.limit)
    for figure in figures:
        assert figure is None or figure >= 0
