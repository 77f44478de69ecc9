"""Every error of this package, in one closed tree.

    ZenovayError
    ├── ConfigurationError          invalid input; no request was sent
    ├── ClientClosedError           the client is closed
    ├── APIConnectionError          no complete response
    │   └── APITimeoutError         ... within the time allowed
    ├── ResponseDecodeError         a response that is not what the API documents
    ├── BatchStoppedError           a batch reached a bound of its own
    ├── JournalError                the journal of a batch cannot be read or written
    └── APIStatusError              an error response
        ├── BadRequestError         400, 422
        ├── AuthenticationError     401
        ├── PermissionDeniedError   403
        ├── NotFoundError           404
        ├── RateLimitError          429: too many requests this minute
        ├── QuotaExceededError      429: the monthly quota is exhausted
        └── ServerError             5xx

Every error carries what is known of its call, pickles and copies, and never shows the API key.
"""

from __future__ import annotations

import copy
import re
import sys
import traceback
from types import TracebackType
from typing import Any, Literal, Self, cast

from zenovay_async.history import Attempt, Wait, explain

MAX_BODY_CHARS = 4096
# An API key gets into an argument's message where two arguments or variables are swapped.
_KEY = re.compile(r"zv_\w{4,}", re.ASCII | re.IGNORECASE)

# Error codes of the API (help "API errors"), as far as this package acts on them.
MONTHLY_LIMIT_EXCEEDED = "MONTHLY_LIMIT_EXCEEDED"
API_PAID_PLAN_REQUIRED = "API_PAID_PLAN_REQUIRED"


class ZenovayError(Exception):
    """Base of all errors of this package.

    Attributes:
        message: What happened, in one sentence.
        operation: Name of the operation, such as ``heatmaps.pages``; ``""`` where there was no call.
        call: Method and path of the call, such as ``GET heatmaps/{id}/pages``; ``""`` where there was none.
        status: HTTP status of the last response; ``None`` where none came.
        code: The API's error code in upper case, such as ``RATE_LIMIT_EXCEEDED``; ``None`` where it gave none.
        request_id: The server's ``x-request-id``, for its support; ``None`` where it gave none.
        body: The body of the last response as text, cut at 4096 characters; ``None`` where none came.
        retry_after: Seconds after which the same call may succeed; ``None`` where that is not known.
        attempts: Number of attempts: requests sent, and connections that failed.
        waits: Seconds waited before each attempt after the first.
        outage: Seconds for which the server had been unavailable when a batch gave up on it (``max_outage``); ``None``
            for every other error.
        history: The attempts of the call, with their times and causes, and what it waited for before each; of more
            than 100, those in the middle are omitted.
        last_waits: What it waited for after the last attempt, if it failed then.
    """

    outage: float | None = None
    history: tuple[Attempt, ...] = ()
    last_waits: tuple[Wait, ...] = ()

    def __init__(
        self,
        message: str,
        *,
        operation: str = "",
        call: str = "",
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        body: str | None = None,
        retry_after: float | None = None,
        attempts: int = 0,
        waits: tuple[float, ...] = (),
    ) -> None:
        message = _KEY.sub("<secret>", message)
        super().__init__(message)
        self.message = message
        self.operation = operation
        self.call = call
        self.status = status
        self.code = code
        self.request_id = request_id
        self.body = None if body is None else body[:MAX_BODY_CHARS]
        self.retry_after = retry_after
        self.attempts = attempts
        self.waits = waits

    def __str__(self) -> str:
        facts = [
            f"{self.call}" if self.call else "",
            f"HTTP {self.status}" if self.status is not None else "",
            self.code or "",
            f"{self.attempts} attempts" if self.attempts > 1 else "",
            f"request {self.request_id}" if self.request_id else "",
        ]
        known = ", ".join(fact for fact in facts if fact)
        return f"{self.message} ({known})" if known else self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def explain(self) -> str:
        """What the call went through, in words.

        Returns:
            One line, such as ``0.0 s queued 12.3 s for the rate limit; attempt 1: 502 in 0.4 s; waited 0.8 s; attempt
            2: timeout after 15.0 s``.
        """
        return explain(self.history, self.last_waits)

    def __reduce__(self) -> tuple[Any, ...]:
        # BaseException would call the class with `args` alone and so lose every keyword.
        return (_rebuild, (type(self), self.message, self.__dict__.copy()))

    def _render_traceback_(self) -> list[str]:
        """The traceback in a notebook, which IPython asks for: the caller's code alone, without that of this package.

        ``%xmode Verbose`` shows all of it, as every other traceback does.
        """
        shown, frames = self, self.__traceback__
        ipython: Any = sys.modules.get("IPython")
        shell = None if ipython is None else ipython.get_ipython()
        if shell is None:
            return traceback.format_exception(self)
        if shell.InteractiveTB.mode != "Verbose":
            frames = _callers_frames(self.__traceback__) or frames
            if self.__cause__ is not None and _callers_frames(self.__cause__.__traceback__) is None:
                # The message has what it says.
                shown = copy.copy(self)
                shown.__cause__ = None
        lines: list[str] = shell.InteractiveTB.structured_traceback(type(shown), shown, frames, tb_offset=1)
        return lines

    def __copy__(self) -> Self:
        twin = type(self).__new__(type(self), self.message)
        twin.__dict__.update(self.__dict__)
        if hasattr(self, "__notes__"):
            # Or a note that is added to one is added to all.
            twin.__notes__ = list(self.__notes__)
        twin.__cause__ = self.__cause__
        twin.__suppress_context__ = self.__suppress_context__
        return twin


def _callers_frames(frames: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames of this package; ``None`` if it has no others."""
    package = __name__.partition(".")[0]
    found: list[TracebackType] = []
    while frames is not None:
        # Code that is run by exec() may have no name.
        if str(frames.tb_frame.f_globals.get("__name__")).partition(".")[0] != package:
            found.append(frames)
        frames = frames.tb_next
    outer: TracebackType | None = None
    for each in reversed(found):
        outer = TracebackType(outer, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return outer


def forget_call(error: ZenovayError) -> None:
    """Remove the attempts and the waits of its call from an error that others get later."""
    error.attempts, error.waits, error.history, error.last_waits = 0, (), (), ()
    error.__dict__.pop("__notes__", None)


def _rebuild(cls: type[ZenovayError], message: str, state: dict[str, Any]) -> ZenovayError:
    error = cls.__new__(cls, message)
    error.__dict__.update(state)
    return error


class ConfigurationError(ZenovayError, ValueError):
    """An argument, option or environment variable is invalid; no request was sent."""


class ClientClosedError(ZenovayError, RuntimeError):
    """The client was closed before or during this call, or is used on an event loop that is not its own.

    Attributes:
        sent: True if a request was in flight, whose response is lost.
    """

    sent: bool = False


class APIConnectionError(ZenovayError):
    """No complete response: no connection could be made, or it broke before the body was whole.

    Attributes:
        sent: False if the request never reached the server, so that repeating it is safe.
        final: True if a retry can only fail alike, as with an untrusted certificate.
        stale: True if a kept-alive connection turned out to be dead: the request went out on one that had served
            before, and no part of a response came.
        unreachable: True if no connection could be made.
    """

    sent: bool = True
    final: bool = False
    stale: bool = False
    unreachable: bool = False


class APITimeoutError(APIConnectionError, TimeoutError):
    """The call, or one attempt, exceeded its timeout."""


class ResponseDecodeError(ZenovayError):
    """The response is not what the API documents: no JSON, cut short, or a required field is missing or wrong.

    Attributes:
        path: Where in the response, such as ``$.data.pages[0].url``; ``None`` where the whole of it is wrong.
        truncated: True if the body ends early, as after a broken connection.
    """

    path: str | None = None
    truncated: bool = False


class BatchStoppedError(ZenovayError):
    """A batch reached a bound of its own: ``max_failures`` or ``max_requests``. Its results until then are whole.

    Attributes:
        reason: The bound: ``"max_failures"`` or ``"max_requests"``.
    """

    reason: Literal["max_failures", "max_requests"] = "max_failures"


class JournalError(ZenovayError):
    """The journal of a batch cannot be read or written: the disk is full, or the file is damaged."""


class APIStatusError(ZenovayError):
    """The API responded with an error; the subclasses name the usual ones."""


class BadRequestError(APIStatusError):
    """400 or 422: a parameter is missing or invalid."""


class AuthenticationError(APIStatusError):
    """401: the API key is missing, wrong, expired or revoked."""


class PermissionDeniedError(APIStatusError):
    """403: the key lacks access, or the plan does not include it (code ``API_PAID_PLAN_REQUIRED``)."""


class NotFoundError(APIStatusError):
    """404: no such website or endpoint."""


class RateLimitError(APIStatusError):
    """429, or a wait for the rate limit longer than the timeout (no request was sent then).

    Also another status that means the same: the code ``RATE_LIMIT_EXCEEDED``, Cloudflare's error 1015, or a 403 or 503
    that says when to retry (``Retry-After``) and names no other cause. ``retry_after`` is the seconds after which the
    call may succeed.
    """


class QuotaExceededError(APIStatusError):
    """The monthly quota is exhausted, or ``quota_reserve`` holds back the rest of it.

    Not a :class:`RateLimitError`: waiting a minute does not help. ``retry_after`` runs to the monthly reset
    where that is known.
    """


class ServerError(APIStatusError):
    """5xx: the server, or a proxy in front of it, failed."""


def is_fatal(error: BaseException) -> bool:
    """Whether every further call would fail alike.

    True for a bad key, no plan, no quota, a closed client, a connection that can never be made (an untrusted
    certificate), and a server that is away for longer than a batch waits; also for a group with such an error in it,
    and for another error that was raised from one.
    """
    return any(map(is_fatal_itself, parts_and_causes(error)))


def parts_and_causes(error: BaseException) -> list[BaseException]:
    """The errors of a group, also of groups in it; of another error, itself and what it was raised from.

    An error of this package is judged by itself: its cause may be an earlier attempt.
    """
    found: list[BaseException] = []
    pending, seen = [error], {id(error)}
    while pending:
        part = pending.pop()
        inner: list[BaseException] = []
        if isinstance(part, BaseExceptionGroup):
            inner += cast("BaseExceptionGroup[BaseException]", part).exceptions
        else:
            found.append(part)
        if part.__cause__ is not None and not isinstance(part, ZenovayError):
            inner.append(part.__cause__)
        # An error may be its own cause, in a circle.
        pending += [one for one in reversed(inner) if id(one) not in seen]
        seen.update(map(id, inner))
    return found


def is_fatal_itself(error: BaseException) -> bool:
    """As :func:`is_fatal`, of this error alone."""
    if isinstance(error, PermissionDeniedError):
        return error.code == API_PAID_PLAN_REQUIRED
    if isinstance(error, APIConnectionError) and error.final and not error.sent:
        return True
    if isinstance(error, ZenovayError) and error.outage is not None:
        return True
    return isinstance(error, (AuthenticationError, QuotaExceededError, ClientClosedError))
