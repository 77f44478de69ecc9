"""What the pacer learns from the outcome of one attempt. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from zenovay_async._limits.pacing import Pacer
    from zenovay_async._limits.request_log import PermitRecord
    from zenovay_async.rate_limits import Outcome

# A window stated as 1 minute, 60 or 59 s is the same; one of an hour is another limit.
_SAME_WINDOW = 0.1


class Settled(NamedTuple):
    """What a returned permit changed.

    Attributes:
        pause: Seconds for which a 429 closed the gate; ``None`` if it did not.
        is_delayed: Whether waits may now be longer than expected.
    """

    pause: float | None
    is_delayed: bool


_SETTLED, _DELAYED = Settled(None, is_delayed=False), Settled(None, is_delayed=True)


def settle(
    pacer: Pacer, permit: PermitRecord, outcome: Outcome, now: float, *, sent_at: float | None, jitter: float
) -> Settled:
    """Return a permit to the pacer, with the outcome of its request.

    Args:
        pacer: The pacer.
        permit: The permit.
        outcome: How the request ended.
        now: When it ended.
        sent_at: When it left, by the clock of ``now``; ``None`` if that is not known.
        jitter: Share of a backoff to wait, drawn evenly from [0, 1).
    """
    kind, limit, remaining = outcome.kind, outcome.limit, outcome.remaining
    if outcome.limit_window is not None and _is_other_limit(outcome.limit_window, pacer.window):
        limit = remaining = None
    is_delayed = pacer.is_default_limit
    if kind in {"succeeded", "failed"}:
        pacer.on_response(permit, now, limit=limit, remaining=remaining, sent_at=sent_at)
        return _DELAYED if is_delayed else _SETTLED
    if kind == "rate_limited":
        closed_until = pacer.gate.closed_until
        pause = pacer.on_rate_limited(
            permit, now, retry_after=outcome.retry_after, limit=limit, jitter=jitter, sent_at=sent_at
        )
        return Settled(pause, is_delayed or pause is not None or pacer.gate.closed_until > closed_until)
    if kind in {"unsent", "unreachable"}:
        pacer.refund(permit)
        return _SETTLED
    pacer.on_no_response(permit, now, sent_at)
    return Settled(None, is_delayed)


def _is_other_limit(stated: float, window: float) -> bool:
    """Whether what a response states is about another window than the one that is paced, such as an hour."""
    # Stated in whole seconds.
    return not math.isclose(stated, window, rel_tol=_SAME_WINDOW) and stated != math.ceil(window)
