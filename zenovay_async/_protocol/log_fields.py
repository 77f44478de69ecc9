"""The fields of log lines, their ``extra``: plain values under names that no attribute of a ``LogRecord`` has.

A field is there where it is known, and means the same in each line; docs/observability.md has them all.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from zenovay_async._protocol.call import Call
    from zenovay_async.events import Event
    from zenovay_async.history import Attempt


def call_fields(call: Call[Any], **fields: Any) -> dict[str, Any]:
    """The fields of a line about a call.

    Args:
        call: The call.
        **fields: Further ones; those that are ``None`` are omitted.
    """
    return _known({"operation": call.operation, "call": str(call), **fields})


def attempt_fields(call: Call[Any], attempt: Attempt, **fields: Any) -> dict[str, Any]:
    """The fields of a line about an attempt that ended.

    Args:
        call: The call.
        attempt: The attempt, redacted.
        **fields: Further ones.
    """
    return call_fields(
        call,
        attempt=attempt.number,
        status=attempt.status,
        error=attempt.error,
        request_id=attempt.request_id,
        seconds=attempt.seconds,
        **fields,
    )


def event_fields(event: Event) -> dict[str, Any]:
    """The fields of a line that says what an event says: those of the event, a time in ISO 8601, and its name."""
    return _known({"event_type": type(event).__name__, **msgspec.structs.asdict(event)})


def _known(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in fields.items()
        if value is not None
    }
