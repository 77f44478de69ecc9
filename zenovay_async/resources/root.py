"""What a client does for no website in particular, and for endpoints that have no method yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from zenovay_async._protocol.call import NOT_GIVEN, Call, Timeout, custom_call
from zenovay_async.resources.base import Resource
from zenovay_async.resources.query import question_call
from zenovay_async.resources.usage import USAGE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zenovay_async._protocol.call import Caller
    from zenovay_async.resources.base import ShortRange
    from zenovay_async.resources.query import Comparison, QueryAnswer
    from zenovay_async.resources.usage import Usage

T = TypeVar("T")


class ClientMethods(Resource):
    """The methods of the client itself."""

    __slots__ = ()

    def _bind(self, session: Caller) -> Resource:
        """These methods alone, their calls carried out by another session."""
        return ClientMethods(session)

    async def usage(self, *, timeout: Timeout = NOT_GIVEN) -> Usage:
        """Get what the key has used of its month, what it may, and its plan.

        Args:
            timeout: Seconds for the whole call, ``None`` for no deadline; left out, the client's own.

        Raises:
            ZenovayError: Whatever went wrong; see ``zenovay_async.exceptions``.

        Source: docs "GET /usage".
        """
        return await self._session.fetch(USAGE, timeout)

    async def query(
        self,
        website_id: str,
        question: str,
        *,
        time_range: ShortRange | None = None,
        compare_to: Comparison | None = None,
        timeout: Timeout = NOT_GIVEN,
    ) -> QueryAnswer:
        """Ask a question about a website in plain words; takes 3 requests of the month, and the Scale plan.

        It is sent again only if the first request surely did not run.

        Args:
            website_id: Id of the website.
            question: The question, up to 500 characters.
            time_range: ``24h``, ``7d``, ``30d`` or ``90d``.
            compare_to: ``previous_period`` or ``previous_year``.
            timeout: Seconds for the whole call, ``None`` for no deadline; left out, the client's own.

        Raises:
            ConfigurationError: An argument cannot be right; no request was sent.
            PermissionDeniedError: The plan does not include it, or the key has no access to the website.
            ZenovayError: Anything else that went wrong; see ``zenovay_async.exceptions``.

        Source: docs "POST /query/:websiteId".
        """
        return await self._session.fetch(question_call(website_id, question, time_range, compare_to), timeout)

    @overload
    async def request(
        self,
        method: Literal["GET", "POST"],
        path: str,
        *,
        params: Mapping[str, str | float | bool | None] | None = None,
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
        params: Mapping[str, str | float | bool | None] | None = None,
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
        params: Mapping[str, str | float | bool | None] | None = None,
        json: Any = None,
        result_type: Any = None,
        cost: int = 1,
        timeout: Timeout = NOT_GIVEN,
    ) -> Any:
        """Call an endpoint that has no method here yet, through the same key, budget, retries and errors.

        Args:
            method: ``"GET"``, or ``"POST"``, which is sent again only if the first request surely did not run.
            path: Path below the base URL, such as ``"heatmaps/{id}/pages"``; quoted, where it needs to be.
            params: Query parameters; those that are ``None`` are left out.
            json: Body of a ``POST``: anything that msgspec encodes.
            result_type: Type of the answer's ``data``: a Struct, a TypedDict, a dataclass, or a list of them; left
                out, plain values. An answer that strays from it is read all the same only where it is made of Structs.
            cost: Requests that it takes from the quota, 1 or more.
            timeout: Seconds for the whole call, ``None`` for no deadline; left out, the client's own.

        Raises:
            ConfigurationError: An argument cannot be right; no request was sent.
            ZenovayError: Whatever went wrong; see ``zenovay_async.exceptions``.
        """
        call: Call[Any] = custom_call(method, path, params, json, result_type, cost)
        return await self._session.fetch(call, timeout)
