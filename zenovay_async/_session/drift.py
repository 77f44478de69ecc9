"""Reports schema drift, and endpoints that will end: to the log and to one client's listener, each once."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

from zenovay_async._protocol.deprecation import find_deprecation
from zenovay_async._protocol.log_fields import event_fields
from zenovay_async._protocol.text import one_line
from zenovay_async.events import EndpointDeprecated, SchemaDrift, emit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from zenovay_async._protocol.auth import Auth
    from zenovay_async._protocol.call import Call
    from zenovay_async._protocol.decoding import Decoder
    from zenovay_async._protocol.deprecation import Deprecation
    from zenovay_async._protocol.leniency import Drift
    from zenovay_async.events import OnEvent

# A server that sends ever new fields must not fill the memory with what was reported.
_MAX_REPORTED = 1000
# More than the API has endpoints. zenovay.request() makes a decoder for each result_type, and a program may make a new
# type for each call.
_MAX_DECODERS = 256
# Seconds between two checks of one decoder: at the API's rate limits nearly every response is checked, and thousands a
# second cost no more than one.
_CHECK_INTERVAL = 1.0

_logger = logging.getLogger("zenovay_async.drift")


class DriftReporter:
    """Decides which responses are compared with the schema, and reports each drift of a client once.

    Deprecations as well, once for each operation.

    Args:
        on_event: Called with each drift and each deprecation.
    """

    __slots__ = ("_deprecated", "_next_check", "_on_event", "_reported")

    def __init__(self, on_event: OnEvent | None) -> None:
        self._on_event = on_event
        self._next_check: dict[Decoder[Any], float] = {}
        self._reported: set[tuple[Decoder[Any], Drift]] = set()
        self._deprecated: set[tuple[str, str]] = set()

    def is_due(self, decoder: Decoder[Any], now: float) -> bool:
        """Whether to compare a response that decodes with the schema; True once a second for each decoder.

        Args:
            decoder: Decoder of the response.
            now: Seconds of any clock.
        """
        if now < self._next_check.get(decoder, -math.inf):
            return False
        if len(self._next_check) >= _MAX_DECODERS:
            self._next_check.clear()
        self._next_check[decoder] = now + _CHECK_INTERVAL
        return True

    def report(self, call: Call[Any], drifts: Iterable[Drift], auth: Auth) -> None:
        """Log and emit the drifts that were not reported before.

        Args:
            call: The call.
            drifts: The differences between its response and the schema.
            auth: Redacts the key, which the server may have echoed.
        """
        decoder = call.endpoint.decoder
        for drift in drifts:
            if (decoder, drift) in self._reported or len(self._reported) >= _MAX_REPORTED:
                continue
            self._reported.add((decoder, drift))
            # A path has field names of the response in it.
            path, problem = (auth.redact_text(one_line(text)) for text in (drift.path, drift.problem))
            event = SchemaDrift(operation=call.operation, call=str(call), path=path, problem=problem)
            _logger.warning(
                "%s: response does not match the documented schema: %s: %s",
                event.call,
                path,
                problem,
                extra=event_fields(event),
            )
            emit(self._on_event, event)

    def report_deprecation(self, call: Call[Any], headers: Mapping[str, str], auth: Auth) -> None:
        """Log and emit what a response says about the end of its endpoint, unless that was reported before.

        Args:
            call: The call.
            headers: Headers of its response.
            auth: Redacts the key, which the server may have echoed.
        """
        if "Deprecation" not in headers and "Sunset" not in headers:
            return
        # Calls of Zenovay.request have one operation; the start of the path tells their endpoints apart, without IDs.
        endpoint = call.operation, call.path.partition("/")[0]
        if endpoint in self._deprecated or len(self._deprecated) >= _MAX_REPORTED:
            return
        found = find_deprecation(headers)
        if found is None:
            return
        self._deprecated.add(endpoint)
        link = None if found.link is None else auth.redact_text(found.link)
        event = EndpointDeprecated(
            operation=call.operation,
            call=str(call),
            deprecated_at=found.deprecated_at,
            sunset_at=found.sunset_at,
            link=link,
        )
        _logger.warning(
            "%s: the API announces that this endpoint %s; update zenovay-async, or ask the support of the API what "
            "replaces it%s",
            *(event.call, _end_of(found), "" if link is None else f": {link}"),
            extra=event_fields(event),
        )
        emit(self._on_event, event)


def _end_of(deprecation: Deprecation) -> str:
    """What happens to an endpoint, and when, as a log has it."""
    deprecated_at, sunset_at = deprecation.deprecated_at, deprecation.sunset_at
    parts = [
        "is deprecated" if deprecated_at is None else f"is deprecated from {deprecated_at:%Y-%m-%d} on",
        "" if sunset_at is None else f"ends on {sunset_at:%Y-%m-%d %H:%M} UTC",
    ]
    return " and ".join(part for part in parts if part)
