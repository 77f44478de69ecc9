"""Methods of the client itself: ``usage``, ``query``, and ``request`` for endpoints that have no method yet."""

from __future__ import annotations

from typing import Any, Literal, TypeVar, overload

from zenovay_async._protocol.call import Caller, custom_call
from zenovay_async._protocol.parameters import NOT_GIVEN, Timeout
from zenovay_async.resources.base import QueryParameters, Resource, ShortRange
from zenovay_async.resources.query import Comparison, QueryAnswer, query_call
from zenovay_async.resources.usage import USAGE, Usage

T = TypeVar("T")


class ClientMethods(Resource):
    """The methods of the client itself."""

    def _bind(self, caller: Caller) -> Resource:
        # The constructor of a client takes options, not a caller.
        return ClientMethods(caller)

    async def usage(self, *, extra_query: QueryParameters | None = None, timeout: Timeout = NOT_GIVEN) -> Usage:
        """Get the key's monthly usage, its limits and its plan.

        Args:
            extra_query: Further query parameters, by name, which the API has and this version does not know.
            timeout: Seconds for the whole call; omitted, the client's.

        Source: docs "GET /usage".
        """
        return (await self._caller.send(USAGE.call(extra_query=extra_query), timeout)).data

    async def query(
        self,
        website_id: str,
        question: str,
        *,
        time_range: ShortRange | None = None,
        compare_to: Comparison | None = None,
        extra_query: QueryParameters | None = None,
        timeout: Timeout = NOT_GIVEN,
    ) -> QueryAnswer:
        """Ask a question about a website in plain words; costs 3 requests and needs the Scale plan.

        It is not idempotent: it is retried only if the first request never reached the server, or was rejected
        before it ran.

        Args:
            website_id: ID of the website.
            question: The question, up to 500 characters.
            time_range: ``24h``, ``7d``, ``30d`` or ``90d``.
            compare_to: ``previous_period`` or ``previous_year``.
            extra_query: Further query parameters, by name, which the API has and this version does not know.
            timeout: Seconds for the whole call; omitted, the client's.

        Source: docs "POST /query/:websiteId".
        """
        call = query_call(website_id, question, time_range, compare_to, extra_query)
        return (await self._caller.send(call, timeout)).data

    @overload
    async def request(
        self,
        method: Literal["GET", "POST"],
        path: str,
        *,
        params: QueryParameters | None = None,
        json: Any = None,
        result_type: type[T],
        cost: int = 1,
        timeout: Timeout = NOT_GIVEN,
    ) -> T: ...
    @overload
    async def request(
        self,
        method: Literal["GET", "POST"],
        path: str,
        *,
        params: QueryParameters | None = None,
        json: Any = None,
        result_type: None = None,
        cost: int = 1,
        timeout: Timeout = NOT_GIVEN,
    ) -> Any: ...
    async def request(
        self,
        method: Literal["GET", "POST"],
        path: str,
        *,
        params: QueryParameters | None = None,
        json: Any = None,
        result_type: Any = None,
        cost: int = 1,
        timeout: Timeout = NOT_GIVEN,
    ) -> Any:
        """Call an endpoint that has no method yet, with the same key, limits, retries and errors.

        Args:
            method: ``GET``, or ``POST``, which is retried only if the first request did not run.
            path: Path below the base URL, such as ``heatmaps/{id}/pages``; quoted where needed.
            params: Query parameters, sent sorted by name; those that are ``None`` are omitted.
            json: Body: anything that msgspec encodes; ``None`` for none.
            result_type: Type of the response's ``data``, such as a Struct or a list of Structs; omitted, plain values.
            cost: Requests that it takes from the monthly quota, 1 or more.
            timeout: Seconds for the whole call; omitted, the client's.

        Returns:
            The ``data`` of the response, as ``result_type``. Dataclasses and TypedDicts are decoded as well, but schema
            drift is coerced in Structs only.
        """
        return (await self._caller.send(custom_call(method, path, params, json, result_type, cost), timeout)).data
