"""What all resources share: the base class, and the types that recur in them.

Parameters with documented values are typed as those values or any other text: editors offer the known values, and a new
value works as soon as the server accepts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from zenovay_async._protocol.call import Call, Caller, Endpoint
from zenovay_async._protocol.parameters import encode_extra_query, encode_sorted_query, join_query
from zenovay_async._protocol.results import Result

Range: TypeAlias = Literal["24h", "7d", "30d", "90d", "1y"] | str
"""A time range of ``analytics``."""

ShortRange: TypeAlias = Literal["24h", "7d", "30d", "90d"] | str
"""A time range of the other endpoints: the same without a year."""

Severity: TypeAlias = Literal["info", "warning", "critical"] | str
"""Severity of an insight or an anomaly."""

QueryParameters: TypeAlias = Mapping[str, str | float | bool | None]
"""Query parameters of a request by name; those that are ``None`` are omitted."""


class Pagination(Result, frozen=True, kw_only=True, gc=False):
    """Position of a page in its list.

    Attributes:
        has_more: Whether the list continues after this page.
        limit: Items requested.
        offset: Items before this page.
    """

    has_more: bool
    limit: int | None = None
    offset: int | None = None


class Resource:
    """A group of endpoints: each method makes one call and returns the data of its response.

    Every method takes ``timeout``: seconds for the whole call, which includes waits and retries; ``None`` for no
    deadline; omitted, the client's own. It takes ``extra_query`` as well: query parameters that the API has and this
    version does not know, sorted by name. Every method raises a ``ZenovayError``; see ``zenovay_async.exceptions``:

    - ``ConfigurationError``: an argument is invalid; no request was sent.
    - ``NotFoundError``: the website does not exist.
    - ``PermissionDeniedError``: the key has no access to the website, or the plan does not include the endpoint.
    - other errors, as for any call.

    Args:
        caller: Carries out the calls.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def _bind(self, caller: Caller) -> Resource:
        """Make the same resource with another caller."""
        return type(self)(caller)

    def _is_bound_to(self, caller: Caller) -> bool:
        """Whether this caller carries out the calls."""
        return self._caller is caller


def free_call(
    endpoint: Endpoint[Any], parameters: Mapping[str, Any], extra_query: Mapping[str, Any] | None, website_id: str = ""
) -> Call[Any]:
    """Describe a call with query parameters of any name, as none is documented.

    Args:
        endpoint: The endpoint.
        parameters: Query parameters; those that are ``None`` are omitted.
        extra_query: Further ones, such as a ``timeout``, which is an argument of the method; ``None`` for none.
        website_id: ID of the website, for a template that has one.

    Raises:
        ConfigurationError: The ID or a value is not valid in a URL, or ``extra_query`` is invalid.
    """
    extra = "" if extra_query is None else encode_extra_query(extra_query, parameters)
    return Call(endpoint, endpoint.call(website_id).path, join_query(encode_sorted_query(parameters), extra))
