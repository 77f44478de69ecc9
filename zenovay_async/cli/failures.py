"""Websites that failed, as data: one object for each."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from zenovay_async import ZenovayError
from zenovay_async.cli.shown import redact_keys
from zenovay_async.tables import KEY_NAME, WEBSITE_ID


def describe_failure(website_id: str, error: Exception, key_name: str | None = None) -> dict[str, Any]:
    """A failed website and its error as plain values, without an API key.

    Args:
        website_id: The ID, which may be any text.
        error: The error.
        key_name: Name of the key, of a run with several.
    """
    known = error if isinstance(error, ZenovayError) else ZenovayError(str(error))
    return {
        **({} if key_name is None else {KEY_NAME: key_name}),
        WEBSITE_ID: redact_keys(website_id),
        "error": type(error).__name__,
        "status": known.status,
        "code": known.code,
        "request_id": known.request_id,
        "attempts": known.attempts,
        "message": redact_keys(known.message),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
