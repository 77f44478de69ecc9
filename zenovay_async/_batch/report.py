"""BatchReport: what a batch has done."""

from __future__ import annotations

from datetime import datetime

import msgspec

from zenovay_async._protocol.results import Result


class BatchReport(Result, frozen=True, kw_only=True):
    """What a batch has done so far: ``batch.report``.

    Requests are those that the calls of the batch sent, also in batches inside of ``fetch``. One that joined an equal
    call in flight, of the program or of another batch, sent none; nor does it count when a cache refreshes a response
    in the background.

    Attributes:
        started: When the batch began; aware.
        ended: When it ended; aware. ``None`` while it runs.
        done: Items done, with or without an error.
        succeeded: Items done without an error.
        failed: Items done with an error, by the name of its class.
        replayed: Items whose result came from the journal; part of ``succeeded``.
        skipped: Items that the journal has as done, without a result.
        requests: Requests sent, those without a response included, and those of calls that were canceled; not attempts
            that made no connection.
        retries: Requests that a call sent after its first one.
        rate_limited: Requests that were rate limited (429).
        waited: Seconds in which at least one call waited for a permit: for the rate limit, or for a server that was
            away.
        p50: Seconds from the beginning of a request to its whole response, of the median request, within three percent;
            ``None`` as long as there was no response.
        p95: The same of the request that was slower than 95 percent of all.
        quota_remaining: Requests left this month, as the newest response stated it; ``None`` if none did.
    """

    started: datetime
    ended: datetime | None = None
    done: int = 0
    succeeded: int = 0
    failed: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    replayed: int = 0
    skipped: int = 0
    requests: int = 0
    retries: int = 0
    rate_limited: int = 0
    waited: float = 0.0
    p50: float | None = None
    p95: float | None = None
    quota_remaining: int | None = None
