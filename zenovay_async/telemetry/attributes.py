"""Names and values that spans and metrics have in common.

Source: OpenTelemetry semantic conventions, HTTP, stable since 1.23. What was canceled is no error there, and has no
attribute of theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zenovay_async.events import AttemptEnded, CallEnded
    from zenovay_async.history import Attempt

SCOPE = "zenovay_async"

METHOD = "http.request.method"
STATUS = "http.response.status_code"
RESEND_COUNT = "http.request.resend_count"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
URL_FULL = "url.full"
URL_TEMPLATE = "url.template"
ERROR_TYPE = "error.type"

OPERATION = "zenovay.operation"
OUTCOME = "zenovay.outcome"
ATTEMPTS = "zenovay.attempts"
COST = "zenovay.cost"
CACHE = "zenovay.cache"
BACKGROUND = "zenovay.background"
REQUEST_ID = "zenovay.request_id"
WAIT = "zenovay.wait"
WAIT_REASON = "zenovay.wait.reason"
WAIT_SECONDS = "zenovay.wait.seconds"

_FIRST_ERROR = 400
_OTHER = "_OTHER"


def error_type(attempt: Attempt) -> str:
    """The ``error.type`` of an attempt that failed: the status that says so, else the error's class."""
    return _error_type(attempt.status, attempt.error)


def error_type_of(event: AttemptEnded) -> str | None:
    """The ``error.type`` of an attempt; ``None`` if it did not fail."""
    if event.outcome != "failed":
        return None
    return _error_type(event.status, None if event.error is None else type(event.error).__name__)


def error_type_of_call(event: CallEnded) -> str | None:
    """The ``error.type`` of a call, the class of its error; ``None`` if it did not fail."""
    if event.outcome != "failed":
        return None
    # An error of the user's own code, such as a limiter, is none of ours.
    return _OTHER if event.error is None else type(event.error).__name__


def _error_type(status: int | None, name: str | None) -> str:
    if status is not None and status >= _FIRST_ERROR:
        return str(status)
    return name or _OTHER
