"""How far one call has come."""

from __future__ import annotations

import asyncio
import copy
import math
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from zenovay_async._limits.event_loop import no_running_loop
from zenovay_async._limits.outage import PROXY_NOT_FOUND
from zenovay_async._limits.patience import MAX_OUTAGE, Patience
from zenovay_async._limits.queue import deadline_error
from zenovay_async._protocol.parameters import NOT_GIVEN, NotGiven
from zenovay_async._session.background import SCOPE
from zenovay_async._session.deadlines import Bounds
from zenovay_async._session.trail import Trail
from zenovay_async.exceptions import (
    APIConnectionError,
    APITimeoutError,
    ServerError,
    ZenovayError,
    is_fatal_itself,
)

if TYPE_CHECKING:
    from zenovay_async._limits.patience import ServerUnavailable
    from zenovay_async._protocol.call import Call
    from zenovay_async._session.background import Background
    from zenovay_async.rate_limits import OutcomeKind

T = TypeVar("T")

# Seconds that must be left for an attempt: less is not enough for a round trip to the API.
MIN_ATTEMPT = 0.01
# Seconds. A connection that takes longer shows a server that is away; one that had less time says little of it. The
# timeout of connecting is up to a tenth shorter than the call's.
_MIN_CONNECT = 1.0
_CONNECT_MARGIN = 0.15
# Iterations of the event loop that it takes from the end of one call to the cancellation of another one: its caller
# learns of it, stops the batch, and so the other caller, and so the other call.
_STOPPING = 4
# Share of a call's timeout: so much of it is said to have passed before the request was sent.
_NOTICEABLE = 0.05


class Observer(Protocol):
    """Who has to know of the waits of a call, as several callers wait for it."""

    def on_wait(self, seconds: float, outage: ServerUnavailable | None = None) -> None:
        """Note that the call begins to wait for so long, for a permit, a retry or a server that is away."""
        ...

    def on_acquire(self) -> None:
        """Note that the call begins to wait for a permit."""
        ...

    def on_permit(self, began_at: float) -> None:
        """Note that the call has a permit, for which it had waited since then, in the time of the loop."""
        ...

    def on_restart(self) -> None:
        """Note that the time of a background call counts from now again."""
        ...


class CallState(Trail, Bounds, Generic[T]):
    """Attempts, waits and deadline of one call, and the error that it ends with; its ``Trail`` has the first two.

    Args:
        call: The call.
        timeout: Seconds for the whole call; ``None`` for no deadline.

    Attributes:
        call: As given.
        timeout: As given.
        deadline: Time of the loop by which the call must be done; ``None`` for none.
        background: Whether direct calls overtake it, as it belongs to a batch.
        uncounted: Attempts that are not counted against ``max_attempts``, as the server was away.
        discounted: Those of them that may have reached a server.
        attempt: The deadline of the attempt in flight; ``None`` if there is none.
        is_patient: Whether the call waits for a permit as long as it takes, and its deadline starts afterwards.
        is_acquiring: Whether it waits for a permit.
        expected_at: When the permit was expected as that wait began; 0.0 if that is not known.
        extensions: How often the call was given more time, or made more urgent, by another that joined it.
        is_shared: Whether several callers may wait for it, each of whom records what it gets.
        scope: The batch that the call belongs to; ``None`` for none.
        observer: Who has to know of its waits, as others joined it; ``None`` for nobody.
        waits: Seconds waited before each attempt after the first.
        last_error: Error of the last attempt.
        excess_wait: Seconds of the wait that did not fit the deadline; ``None`` if there was none.
        gave_up: Whether the call ended while it waited for an attempt.
        no_connection: Whether the last attempt made no connection.
        resends: Whether the last attempt, and not the one before it, met a connection that was dead.
        reserved: Requests that the attempt in progress is charged for, of those of its batch.
        has_sent: Whether it sent a request, if it belongs to a batch.
    """

    # Class attributes, which cost no assignment in a call that succeeds at once.
    uncounted = 0
    discounted = 0
    waits: tuple[float, ...] = ()
    last_error: ZenovayError | None = None
    excess_wait: float | None = None
    gave_up = False
    no_connection = False
    resends = False
    reserved = 0
    has_sent = False
    is_acquiring = False
    expected_at = 0.0
    extensions = 0
    observer: Observer | None = None
    is_shared = False
    _interrupts = 0
    _longest_outage: float | NotGiven | None = NOT_GIVEN
    _failed_at = 0.0
    _was_stale = False
    _waits_since: float | None = None

    def __init__(self, call: Call[T], timeout: float | None) -> None:
        self.call = call
        try:
            # As running_loop() does, without a call on the path of every call.
            self.loop = asyncio.get_running_loop()
        except RuntimeError:
            raise no_running_loop() from None
        self.started_at = now = self.loop.time()
        self.deadline = None if timeout is None else now + timeout
        # As current_scope() does.
        scope = SCOPE.get()
        self.scope = None if scope is None or scope.ended else scope
        self.background = self.is_patient = self.scope is not None
        self.timeout = timeout

    @property
    def requests(self) -> int:
        """Attempts that count against ``max_attempts``."""
        return self.attempts - self.uncounted

    def remaining(self) -> float:
        """Seconds until the deadline; ``math.inf`` if there is none."""
        return math.inf if self.deadline is None else self.deadline - self.loop.time()

    def max_wait(self) -> float | None:
        """Seconds to wait for a permit at most; ``None`` for no bound, as for every background call."""
        return None if self.is_patient or self.deadline is None else max(0.0, self.remaining())

    def put_off(self, deadline: float, timeout: float | None) -> None:
        """Let the call take until a later deadline, if it is one; also the attempt in flight.

        Args:
            deadline: Time of the loop; ``math.inf`` for no deadline.
            timeout: The seconds for a whole call that it comes from, which an error names.
        """
        if self.deadline is None or deadline <= self.deadline:
            return
        self.extensions += 1
        self.deadline, self.timeout = None if math.isinf(deadline) else deadline, timeout
        if self.attempt is not None:
            self.attempt.put_off(deadline)

    def make_patient(self, max_outage: float | None) -> None:
        """Let the call wait as long for a permit, and for a server that is away, as one of a batch that joins it.

        Args:
            max_outage: Seconds of an outage after which that gives up; ``None`` for no bound.
        """
        if self.is_patient:
            known = self._max_outage
            max_outage = None if known is None or max_outage is None else max(known, max_outage)
            if max_outage == known:
                return
        self.is_patient, self._longest_outage = True, max_outage
        self.extensions += 1

    @property
    def _max_outage(self) -> float | None:
        """Seconds of an outage after which a background call gives up; ``None`` for no bound."""
        if isinstance(self._longest_outage, NotGiven):
            return MAX_OUTAGE if self.scope is None else self.scope.background.max_outage
        return self._longest_outage

    def promote(self, task: asyncio.Task[None]) -> None:
        """Make a background call a direct one; if it waits for a permit, it waits anew, among the direct calls.

        Args:
            task: The task of the call.
        """
        self.background = False
        self.extensions += 1
        if self.is_acquiring:
            self._interrupts += 1
            task.cancel()

    def take_interrupt(self) -> bool:
        """Whether a cancellation was only to make the call wait anew."""
        task = asyncio.current_task(self.loop)
        if not self._interrupts or task is None:
            return False
        interrupts, self._interrupts = self._interrupts, 0
        for _ in range(interrupts):
            task.uncancel()
        return not task.cancelling()

    def check_deadline(self) -> None:
        """Check that time is left for an attempt; the deadline of a background call starts after this.

        Raises:
            ZenovayError: No time is left. It is the error of the last attempt, else an ``APITimeoutError``.
        """
        if not self.is_patient and self.remaining() < MIN_ATTEMPT:
            self.gave_up = True
            raise self.last_error or APITimeoutError("The deadline passed before the request was sent")

    def too_late(self, fastest: float) -> ZenovayError:
        """The error of a call whose next request has no time to come back.

        Args:
            fastest: Seconds that the fastest recent response took.
        """
        self.gave_up = True
        left = max(0.0, self.remaining())
        why = f"{left:.2g} s of {self._bound} are left, and the fastest recent response took {fastest:.2g} s"
        error = self.last_error
        if error is None:
            error = APITimeoutError(f"{why}; no request was sent")
            error.sent = False
        else:
            error.message += f"; {why}"
            error.args = (error.message,)
        return error

    @property
    def _bound(self) -> str:
        return "the deadline" if self.timeout is None else f"timeout={self.timeout:g}"

    def begin_attempt(self, now: float) -> None:
        """Count an attempt, and record the wait before it."""
        if self.attempts:
            self.waits += (now - self._failed_at,)
            self.attempt_waits = ()
        if self.pending_waits:
            self.attempt_waits, self.pending_waits = self.pending_waits, ()
        self.began_at = now
        self.attempts += 1

    async def let_batch_stop(self) -> None:
        """Let the batch of the call stop first, if it is about to, as another one of its calls failed just now."""
        if self.background and self.scope is not None and self.scope.background.has_failed:
            for _ in range(_STOPPING):
                await asyncio.sleep(0)

    def report_wait(self, seconds: float, outage: ServerUnavailable | None = None) -> None:
        """Report that the call begins to wait, for a permit, a retry or a server that is away."""
        if self.observer is not None:
            self.observer.on_wait(seconds, outage)

    def record_failure(self, error: ZenovayError) -> None:
        """Keep the error of an attempt; one of a wait that did not fit does not replace it."""
        _drop_frames(error)
        if self.excess_wait is None and not self.gave_up:
            self._failed_at = self.loop.time()
            self.last_error = error
            stale = isinstance(error, APIConnectionError) and error.stale
            self.resends = stale and not self._was_stale
            self._was_stale = stale

    def record_attempt(self, error: BaseException, *, no_connection: bool) -> str:
        """Record how an attempt failed.

        Args:
            error: Its error.
            no_connection: Whether no connection could be made.

        Returns:
            The path of the failure, by which those of one website are told from an outage; ``""`` if the failure says
            nothing about the server.
        """
        self.no_connection = no_connection
        if no_connection:
            self.discount_attempt()
        out_of_time = isinstance(error, APITimeoutError) and self.remaining() <= 0
        if isinstance(error, APITimeoutError):
            self._name_timeout(error)
        if no_connection and isinstance(error, APITimeoutError) and not self.background:
            connecting = self.loop.time() - self.began_at
            out_of_time = self.gave_up = connecting < _MIN_CONNECT and self.remaining() < _CONNECT_MARGIN
        stale = isinstance(error, APIConnectionError) and error.stale
        if out_of_time or stale:
            return ""
        call = self.call
        # One website may be asked with several queries. Without its ID in the path, it may be in the query.
        return call.path if "{website_id}" in call.endpoint.template else f"{call.path}?{call.query}"

    def record_request(self, background: Background, kind: OutcomeKind, *, has_response: bool) -> None:
        """Record a request that was sent, for the batch of the call.

        Args:
            background: The batch.
            kind: How the request ended.
            has_response: Whether a response came, whole and just now.
        """
        tally = background.tally
        tally.record_request(kind, is_retry=self.has_sent)
        self.has_sent, self.reserved = True, 0
        if has_response:
            tally.record_response(self.loop.time() - self.began_at)

    def release(self, background: Background) -> None:
        """Release what was reserved for an attempt, unless it sent its request."""
        if self.reserved:
            background.tally.charge(-self.reserved)
            self.reserved = 0

    def _name_timeout(self, error: APITimeoutError) -> None:
        """Say in the error how long the timeout was, if it was the call's own, and what was left of it."""
        if self.deadline is None or self.timeout is None or not error.message.endswith("within timeout"):
            return
        error.message += f"={self.timeout:g}"
        waited = self.timeout - (self.deadline - self.began_at)
        if waited > _NOTICEABLE * self.timeout:
            error.message += f"; {waited:.2g} s of it had passed before the request was sent"
        error.args = (error.message,)

    def discount_attempt(self) -> None:
        """Do not count the last attempt, as the server was away; a background call gets its time again."""
        self.uncounted += 1
        if self.is_patient and self.timeout is not None:
            self.deadline = self.loop.time() + self.timeout
            if self.observer is not None:
                self.observer.on_restart()

    def patience(self, *, single: bool) -> Patience:
        """How long the call waits for a server that is away.

        Args:
            single: Whether calls make one attempt only; those of a batch wait for it all the same.
        """
        if self.background and self.scope is not None:
            batch = self.scope.background
            # A call that fails is followed by another, which does not begin to count anew.
            if batch.waits_since is None:
                batch.waits_since = self.loop.time()
            return Patience(since=batch.waits_since, max_outage=self._max_outage, attempts=self.attempts)
        if self._waits_since is None:
            self._waits_since = self.loop.time()
        return Patience(since=self._waits_since, attempts=self.attempts, single=single, attempt_time=MIN_ATTEMPT)

    def give_up(self, outage: ServerUnavailable) -> ZenovayError:
        """The error of a call that does not wait for the server any longer: that of its last attempt, if it has one."""
        self.gave_up = True
        error = self.last_error
        if not isinstance(error, (APIConnectionError, ServerError)):
            if outage.status is None:
                error = APIConnectionError(outage.reason)
                error.sent, error.unreachable = False, outage.kind == "unreachable"
            else:
                error = ServerError(outage.reason, status=outage.status)
        error.message += f"; the server has been {outage.kind} for {outage.seconds:.1f} s"
        if outage.unknown_host:
            what = "the proxy" if outage.reason.startswith(PROXY_NOT_FOUND) else "base_url"
            error.message += f"; check {what} and the network"
        error.args = (error.message,)
        error.retry_after = outage.retry_after
        if self.background:
            error.outage = outage.seconds
        return error

    def final_error(self, error: ZenovayError) -> ZenovayError:
        """Complete the error for the caller with the operation, attempts and waits of the call.

        If a retry's wait did not fit the deadline, it is the error of the attempt before it that the caller gets.
        """
        if self.excess_wait is not None and self.last_error is not None:
            error = self.last_error
            error.retry_after = self.excess_wait
            error.message += f"; a retry in {self.excess_wait:.1f} s does not fit {self._bound}"
            error.args = (error.message,)
        self.last_error = None
        _drop_frames(error)
        error.operation = self.call.operation
        error.call = str(self.call)
        error.attempts = self.attempts
        error.waits = self.waits
        error.history, error.last_waits = self.history, self.waits_until_now()
        if len(self.history) > 1:
            error.add_note(error.explain())
        if self.scope is not None:
            self.scope.background.has_failed |= is_fatal_itself(error)
            if not self.is_shared:
                self.scope.record_rejection(self.call, error)
        return error

    def expire(
        self,
        deadline: float,
        timeout: float | None,
        *,
        outage: ServerUnavailable | None = None,
        wait: float | None = None,
    ) -> ZenovayError:
        """The error of one of several callers, whose time is over or will not suffice; the call itself goes on.

        Args:
            deadline: When that caller's time is over, in the time of the loop.
            timeout: Its seconds for the whole call.
            outage: Why the call waits for the server; ``None`` if it does not.
            wait: Seconds that the call is expected to wait for a permit, or for a retry; ``None`` if it does not.
        """
        twin = copy.copy(self)
        twin.deadline, twin.timeout, twin.excess_wait = deadline, timeout, None
        twin.last_error = error = copy.copy(self.last_error)
        if outage is not None:
            error = twin.give_up(outage)
        elif wait is not None:
            twin.excess_wait = wait
            error = deadline_error(wait)
        elif self.attempt is not None:
            error = APITimeoutError("No complete response within timeout")
            twin._name_timeout(error)  # noqa: SLF001 - of the same class
            twin.end_attempt(self.loop.time(), None, error, None)
        elif error is None:
            error = APITimeoutError("The deadline passed before the request was sent")
            error.sent = False
        return twin.final_error(error)


def _drop_frames(error: ZenovayError) -> None:
    """Let an error forget the frames it went through: they refer to it, and hold what the server sent.

    A server may have echoed the key, and tracebacks may show variables.
    """
    error.__traceback__ = None
    if error.__suppress_context__:
        error.__context__ = None
