"""Whatever goes wrong is an error of one closed tree, which pickles, copies, and carries what is known of its call."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from typing import TYPE_CHECKING, Any

import pytest

import zenovay_async
from zenovay_async import (
    APIConnectionError,
    QuotaExceededError,
    RateLimitError,
    ResponseDecodeError,
    ServerError,
    Zenovay,
    ZenovayError,
    is_fatal,
)
from zenovay_async import exceptions as errors
from zenovay_async.sandbox.faults import NAMED

if TYPE_CHECKING:
    from zenovay_async.sandbox import Sandbox

ALL: list[type[ZenovayError]] = [
    value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, ZenovayError)
]


def _full(cls: type[ZenovayError]) -> ZenovayError:
    return cls(
        "It broke",
        operation="websites.list",
        call="GET websites",
        status=503,
        code="GENERIC_ERROR",
        request_id="r-1",
        body="{}",
        retry_after=1.5,
        attempts=3,
        waits=(0.5, 1.0),
    )


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("clone", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])  # noqa: S301 - our own bytes
def test_every_error_pickles_and_copies_with_all_attributes(cls: type[ZenovayError], clone: Any) -> None:
    error = _full(cls)
    twin = clone(error)
    assert type(twin) is cls
    assert vars(twin) == vars(error)
    assert str(twin) == str(error)


def test_attributes_of_single_classes_are_pickled_too() -> None:
    unsent, cut = APIConnectionError("No route"), ResponseDecodeError("Cut")
    unsent.sent, unsent.final, cut.path, cut.truncated = False, True, "$.data", True
    for error in (unsent, cut):
        assert vars(pickle.loads(pickle.dumps(error))) == vars(error)  # noqa: S301 - our own bytes


@pytest.mark.parametrize("cls", ALL)
def test_every_error_is_public_documented_and_under_the_root(cls: type[ZenovayError]) -> None:
    assert getattr(zenovay_async, cls.__name__) is cls
    assert cls.__doc__
    assert cls.__name__ in (errors.__doc__ or "")


def test_an_exhausted_quota_is_no_rate_limit_error() -> None:
    """A caller that waits a minute after a rate limit must not wait a minute for the monthly quota."""
    assert not issubclass(QuotaExceededError, RateLimitError)


def test_an_error_says_what_where_and_how_often_in_one_line() -> None:
    assert str(_full(ZenovayError)) == "It broke (GET websites, HTTP 503, GENERIC_ERROR, 3 attempts, request r-1)"
    assert str(ZenovayError("It broke")) == "It broke"


def test_a_long_body_is_cut() -> None:
    assert len(ZenovayError("It broke", body="x" * 100_000).body or "") == 4096


def test_usual_except_clauses_fit() -> None:
    assert issubclass(zenovay_async.APITimeoutError, TimeoutError)
    assert issubclass(zenovay_async.ConfigurationError, ValueError)


@pytest.mark.parametrize("fault", ["500", "html", "reset", "cut-body"])
async def test_an_error_is_freed_with_its_last_reference(sandbox: Sandbox, fault: str) -> None:
    """A cycle of error, traceback and variables would stay in memory until the next collection."""
    sandbox.fault(NAMED[fault]())

    async def call(zenovay: Zenovay) -> weakref.ref[ZenovayError]:
        with pytest.raises(ZenovayError) as caught:
            await zenovay.heatmaps.pages("x")
        reference = weakref.ref(caught.value)
        del caught
        return reference

    async with Zenovay(sandbox.api_key, base_url=sandbox.url, max_attempts=1, rate_limit=None) as zenovay:
        gc.collect()
        gc.disable()
        try:
            reference = await call(zenovay)
            assert reference() is None
        finally:
            gc.enable()


def test_what_every_further_call_would_meet_is_fatal() -> None:
    gone, untrusted, refused = ServerError("m"), APIConnectionError("m"), APIConnectionError("m")
    gone.outage = 0.0
    untrusted.final, untrusted.sent, refused.sent = True, False, False
    unreadable = APIConnectionError("m")
    unreadable.final = True
    assert [is_fatal(error) for error in (gone, untrusted, refused, unreadable)] == [True, True, False, False]
    assert is_fatal(pickle.loads(pickle.dumps(gone)))  # noqa: S301 - our own bytes
