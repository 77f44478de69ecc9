"""Metrics of calls and requests; no attribute of them is particular to one call or one website."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from opentelemetry.metrics import get_meter

from zenovay_async._version import __version__
from zenovay_async.telemetry.attributes import (
    CACHE,
    ERROR_TYPE,
    METHOD,
    OPERATION,
    OUTCOME,
    SCOPE,
    SERVER_ADDRESS,
    SERVER_PORT,
    STATUS,
    URL_TEMPLATE,
    WAIT_REASON,
    error_type,
    error_type_of,
    error_type_of_call,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.metrics import MeterProvider

    from zenovay_async.events import AttemptEnded, AttemptStarted, CacheResult, CallEnded, EndOutcome
    from zenovay_async.history import Wait, WaitReason

# Seconds; the boundaries that the conventions ask for.
_REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
# A call may wait for windows of the rate limit.
_CALL_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The metrics of clients.

    Args:
        provider: Makes their instruments; ``None`` for the global one.
    """

    def __init__(self, provider: MeterProvider | None) -> None:
        meter = get_meter(SCOPE, __version__, provider)
        self._request_duration = meter.create_histogram(
            "http.client.request.duration",
            unit="s",
            description="Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=_REQUEST_BUCKETS,
        )
        self._call_duration = meter.create_histogram(
            "zenovay.client.call.duration",
            unit="s",
            description="Duration of calls, with all that they waited for.",
            explicit_bucket_boundaries_advisory=_CALL_BUCKETS,
        )
        self._wait_duration = meter.create_histogram(
            "zenovay.client.wait.duration",
            unit="s",
            description="Duration of the waits of calls, by what they waited for.",
            explicit_bucket_boundaries_advisory=_CALL_BUCKETS,
        )
        self._retries = meter.create_counter(
            "zenovay.client.retries", unit="{request}", description="Requests that repeat one that failed."
        )
        self._cache = meter.create_counter(
            "zenovay.client.cache", unit="{call}", description="Calls, by where their response came from."
        )
        self._rate_limit = meter.create_gauge(
            "zenovay.client.rate_limit.remaining",
            unit="{request}",
            description="Requests left in the window of the rate limit, after the last one.",
        )
        self._quota = meter.create_gauge(
            "zenovay.client.quota.remaining",
            unit="{request}",
            description="Requests left of the monthly quota, after the last one.",
        )

    def start_attempt(self, event: AttemptStarted) -> None:
        """Record what a request waited for, and that it is a retry."""
        self._record_waits(event.waits)
        if event.previous is not None:
            self._retries.add(1, {ERROR_TYPE: error_type(event.previous)})

    def end_attempt(self, event: AttemptEnded) -> None:
        """Record a request, and what is left of the limits."""
        attributes = _request_attributes(
            event.method, event.template, event.server_address, event.server_port, event.status, error_type_of(event)
        )
        self._request_duration.record(event.seconds, attributes)
        if event.rate_limit_remaining is not None:
            self._rate_limit.set(event.rate_limit_remaining)
        if event.quota_remaining is not None:
            self._quota.set(event.quota_remaining)

    def end_call(self, event: CallEnded) -> None:
        """Record a call."""
        if event.cache is not None:
            self._cache.add(1, {CACHE: event.cache})
        if event.cache != "joined":
            # The call that sends the request records its waits.
            self._record_waits(event.waits)
        attributes = _call_attributes(event.operation, event.outcome, event.cache, error_type_of_call(event))
        self._call_duration.record(event.seconds, attributes)

    def _record_waits(self, waits: tuple[Wait, ...]) -> None:
        for wait in waits:
            self._wait_duration.record(wait.seconds, _wait_attributes(wait.reason))


# What is recorded with each call is made once.


@lru_cache(maxsize=512)
def _request_attributes(
    method: str, template: str, address: str, port: int, status: int | None, failure: str | None
) -> Mapping[str, str | int]:
    attributes: dict[str, str | int] = {
        METHOD: method,
        SERVER_ADDRESS: address,
        SERVER_PORT: port,
        URL_TEMPLATE: template,
    }
    if status is not None:
        attributes[STATUS] = status
    if failure is not None:
        attributes[ERROR_TYPE] = failure
    return attributes


@lru_cache(maxsize=512)
def _call_attributes(
    operation: str, outcome: EndOutcome, cache: CacheResult | None, failure: str | None
) -> Mapping[str, str]:
    attributes = {OPERATION: operation, OUTCOME: str(outcome)}
    if cache is not None:
        attributes[CACHE] = cache
    if failure is not None:
        attributes[ERROR_TYPE] = failure
    return attributes


@lru_cache(maxsize=8)
def _wait_attributes(reason: WaitReason) -> Mapping[str, str]:
    return {WAIT_REASON: reason}
