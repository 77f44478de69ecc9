"""The Stats API: figures by any dimension, for users who come from Plausible.

Sources: help "Stats API" and "REST API reference". Only the three paths, their purpose, and the names of four metrics
(``visitors``, ``pageviews``, ``bounce_rate``, ``visit_duration``) are documented. So parameters are sent as given, and
results are plain values.
"""

from __future__ import annotations

from typing import Any

from zenovay_async._protocol.call import Endpoint
from zenovay_async._protocol.decoding import UNTYPED
from zenovay_async._protocol.parameters import NOT_GIVEN, Timeout
from zenovay_async.resources.base import QueryParameters, Resource, free_call

_AGGREGATE = Endpoint("stats.aggregate", "stats/aggregate", UNTYPED)
_TIMESERIES = Endpoint("stats.timeseries", "stats/timeseries", UNTYPED)
_BREAKDOWN = Endpoint("stats.breakdown", "stats/breakdown", UNTYPED)


class Stats(Resource):
    """``zenovay.stats``: figures by any dimension, as plain values.

    The names of the parameters are not documented. The API is said to take those of Plausible's Stats API, which
    are ``site_id``, ``period``, ``date``, ``metrics`` (separated by commas), ``filters``, ``interval``, ``property``,
    ``limit`` and ``page``. Without the website the API responds with 400 and the code ``MISSING_SITE_ID``.
    """

    async def aggregate(
        self,
        *,
        extra_query: QueryParameters | None = None,
        timeout: Timeout = NOT_GIVEN,
        **parameters: str | float | None,
    ) -> Any:
        """Get totals over a period: visitors, page views, bounce rate, visit duration.

        Args:
            extra_query: Further query parameters, by name, which the API has and this version does not know.
            timeout: Seconds for the whole call; omitted, the client's.
            parameters: Query parameters, sent as given, such as ``site_id`` and ``period``; see the class.

        Returns:
            The ``data`` of the response as plain values; its shape is not documented.

        Source: help "Stats API".
        """
        return (await self._caller.send(free_call(_AGGREGATE, parameters, extra_query), timeout)).data

    async def timeseries(
        self,
        *,
        extra_query: QueryParameters | None = None,
        timeout: Timeout = NOT_GIVEN,
        **parameters: str | float | None,
    ) -> Any:
        """Get one point per hour, day or month.

        Args:
            extra_query: Further query parameters, by name, which the API has and this version does not know.
            timeout: Seconds for the whole call; omitted, the client's.
            parameters: Query parameters, sent as given, such as ``site_id`` and ``period``; see the class.

        Returns:
            The ``data`` of the response as plain values; its shape is not documented.

        Source: help "Stats API".
        """
        return (await self._caller.send(free_call(_TIMESERIES, parameters, extra_query), timeout)).data

    async def breakdown(
        self,
        *,
        extra_query: QueryParameters | None = None,
        timeout: Timeout = NOT_GIVEN,
        **parameters: str | float | None,
    ) -> Any:
        """Get the top values of one dimension, such as page, country or browser, most visitors first.

        Args:
            extra_query: Further query parameters, by name, which the API has and this version does not know.
            timeout: Seconds for the whole call; omitted, the client's.
            parameters: Query parameters, sent as given, such as ``site_id`` and ``property``; see the class.

        Returns:
            The ``data`` of the response as plain values; its shape is not documented.

        Source: help "Stats API".
        """
        return (await self._caller.send(free_call(_BREAKDOWN, parameters, extra_query), timeout)).data
