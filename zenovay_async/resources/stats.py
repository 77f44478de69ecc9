"""The Stats API: figures by any dimension, for those who come from Plausible.

Sources: help "Stats API" and "REST API reference". Only the three paths, what each is for, and the names of four
metrics (``visitors``, ``pageviews``, ``bounce_rate``, ``visit_duration``) are known here. So parameters are sent as
they are given, and answers come as plain values.
"""

from __future__ import annotations

from typing import Any

from zenovay_async._protocol.call import NOT_GIVEN, Call, Timeout, query
from zenovay_async._protocol.decoding import UNTYPED
from zenovay_async.resources.base import Resource


class Stats(Resource):
    """``zenovay.stats``: figures by any dimension, as plain values.

    The names of the parameters are not documented. The API is said to take those of Plausible's Stats API, which
    are ``site_id``, ``period``, ``date``, ``metrics`` (with commas between), ``filters``, ``interval``, ``property``,
    ``limit`` and ``page``. Without the website the API answers 400 with the code ``MISSING_SITE_ID``.
    """

    __slots__ = ()

    async def aggregate(self, *, timeout: Timeout = NOT_GIVEN, **parameters: str | float | None) -> Any:
        """Get totals over a period: visitors, page views, bounce rate, visit duration.

        Args:
            timeout: Seconds for the whole call, ``None`` for no deadline; left out, the client's own.
            parameters: Query parameters, sent as they are; see the class.

        Returns:
            The ``data`` of the answer as plain values; its shape is not documented.

        Raises:
            ZenovayError: Whatever went wrong; see ``zenovay_async.exceptions``.

        Source: help "Stats API".
        """
        return await self._get("aggregate", parameters, timeout)

    async def timeseries(self, *, timeout: Timeout = NOT_GIVEN, **parameters: str | float | None) -> Any:
        """Get one point per hour, day or month.

        Args:
            timeout: Seconds for the whole call, ``None`` for no deadline; left out, the client's own.
            parameters: Query parameters, sent as they are; see the class.

        Returns:
            The ``data`` of the answer as plain values; its shape is not documented.

        Raises:
            ZenovayError: Whatever went wrong; see ``zenovay_async.exceptions``.

        Source: help "Stats API".
        """
        return await self._get("timeseries", parameters, timeout)

    async def breakdown(self, *, timeout: Timeout = NOT_GIVEN, **parameters: str | float | None) -> Any:
        """Get the top values of one dimension, such as page, country or browser, most visitors first.

        Args:
            timeout: Seconds for the whole call, ``None`` for no deadline; left out, the client's own.
            parameters: Query parameters, sent as they are; see the class.

        Returns:
            The ``data`` of the answer as plain values; its shape is not documented.

        Raises:
            ZenovayError: Whatever went wrong; see ``zenovay_async.exceptions``.

        Source: help "Stats API".
        """
        return await self._get("breakdown", parameters, timeout)

    async def _get(self, what: str, parameters: dict[str, Any], timeout: Timeout) -> Any:
        return await self._session.fetch(Call("GET", f"stats/{what}", UNTYPED, query(**parameters)), timeout)
