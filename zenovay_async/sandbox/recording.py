"""The requests that a sandbox received, and what tests assert about them.

The server's thread adds requests while the test's thread reads: a lock guards both, and readers get a copy.
"""

from __future__ import annotations

import re
import threading
from collections import Counter, deque
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_KEPT = 10_000
_LISTED = 20
_OK, _RATE_LIMITED = 200, 429
# A key has no business in a URL; where one is, it is not shown.
_KEY = re.compile(r"zv_[\w-]+")


def printable(text: str) -> str:
    """Replace what would control a terminal."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


class RecordedRequest(msgspec.Struct, frozen=True):
    """A request that the sandbox received.

    ``str()`` of it is one line, such as ``GET /heatmaps/6f1c.../pages?limit=10 -> 200``.

    Attributes:
        method: HTTP method.
        path: Path below the base URL, with a leading slash; outside of it, ``""``.
        query: Query string as received.
        status: Status of the response; 0 if a fault or the client closed the connection.
        at: Time of receipt, in seconds of the sandbox's clock: the time of the event loop that serves, and the seconds
            of ``Sandbox.advance``.
        request_id: The response's ``x-request-id``; faults that start the body themselves do not send it.
        operation: Name of the operation, such as ``heatmaps.pages``; ``""`` if there is none.
        website_id: ID of the requested website, whether it exists or not; ``None`` if the operation concerns none.
        fault: Name of the fault that the request met; ``None`` if it met none.
        error: Message of the error response; of a 404 it names what comes near. ``""`` if there was none.
    """

    method: str
    path: str
    query: str
    status: int
    at: float
    request_id: str
    operation: str = ""
    website_id: str | None = None
    fault: str | None = None
    error: str = ""

    def __str__(self) -> str:
        query = f"?{self.query}" if self.query else ""
        fault = f" (fault {self.fault})" if self.fault else ""
        error = f": {self.error}" if self.error else ""
        line = f"{self.method} {self.path}{query} -> {self.status or 'no response'}{fault}{error}"
        return printable(_KEY.sub("zv_...", line))

    def __repr__(self) -> str:
        return f"<RecordedRequest {self}>"


class Recorder:
    """Records requests: all are counted, and the newest are kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: deque[RecordedRequest] = deque(maxlen=_KEPT)
        self._counts: Counter[tuple[str, int]] = Counter()
        self.failure: BaseException | None = None
        """Why an own response could not be sent; the first one."""

    def add(self, request: RecordedRequest) -> None:
        """Record a request."""
        with self._lock:
            self._counts[request.operation, request.status] += 1
            self._requests.append(request)

    def fail(self, failure: BaseException) -> None:
        """Record that an own response could not be sent."""
        with self._lock:
            self.failure = self.failure or failure

    def requests(self) -> tuple[RecordedRequest, ...]:
        """Return the newest requests, oldest first."""
        with self._lock:
            return tuple(self._requests)

    def count(self, operation: str | None, status: int | None) -> int:
        """Return the number of requests; ``None`` for those of any operation, or any status."""
        with self._lock:
            counts = list(self._counts.items())
        return sum(
            number
            for (name, code), number in counts
            if (operation is None or name == operation) and (status is None or code == status)
        )

    def repeats(self) -> list[RecordedRequest]:
        """Return each GET request that got the same 200 as an earlier one."""
        seen: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
        found: list[RecordedRequest] = []
        for request in self.requests():
            if request.method == "GET" and request.status == _OK and request.operation:
                question = (request.path, tuple(sorted(parse_qsl(request.query, keep_blank_values=True))))
                if question in seen:
                    found.append(request)
                seen.add(question)
        return found

    def rate_limited(self) -> list[RecordedRequest]:
        """Return each request with the status 429."""
        return [request for request in self.requests() if request.status == _RATE_LIMITED]


def describe(requests: Iterable[RecordedRequest]) -> str:
    """Return one line for each of the last 20 requests."""
    lines: Sequence[str] = [f"  {request}" for request in requests]
    left_out = [f"  ... {len(lines) - _LISTED} before"] if len(lines) > _LISTED else []
    return "\n".join([*left_out, *lines[-_LISTED:]]) or "  none"
