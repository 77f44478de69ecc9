"""Routes as data: the server looks requests up in them, and ``/openapi.json`` lists them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import msgspec

from zenovay_async.sandbox.data import FakeData
from zenovay_async.sandbox.keys import ApiKey, Plan

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class ApiError(Exception):
    """An error response.

    Args:
        status: HTTP status.
        code: Error code of the API.
        message: Message in the body.
        headers: Additional response headers.
    """

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers or {}


class ApiRequest(msgspec.Struct, frozen=True):
    """A request that passed authentication, limits and access checks.

    Attributes:
        data: The websites of the sandbox.
        key: The API key of the request.
        arguments: Values of the path's placeholders.
        website_id: The requested website; empty for a route without one.
        query: Query parameters.
        body: Request body.
    """

    data: FakeData
    key: ApiKey
    arguments: Mapping[str, str]
    website_id: str
    query: Mapping[str, str]
    body: bytes


Handler: TypeAlias = Callable[[ApiRequest], dict[str, Any]]
"""Return the ``data`` of a response, or raise :class:`ApiError`."""


class Route(msgspec.Struct, frozen=True):
    """One endpoint.

    Attributes:
        method: HTTP method.
        path: Path template below the base URL, such as ``"/insights/{website_id}"``.
        handler: Function that returns the response's data.
        operation: Name of the operation, such as ``"insights.list"``: the client's attribute and method.
        cost: Requests that one call is charged for.
        plan: Lowest plan that may call it.
        website_parameter: Query parameter with the website's ID, for a path without ``{website_id}``.
    """

    method: str
    path: str
    handler: Handler
    operation: str
    cost: int = 1
    plan: Plan = "pro"
    website_parameter: str = ""

    @property
    def has_website(self) -> bool:
        """Whether a request names a website."""
        return bool(self.website_parameter) or "{website_id}" in self.path

    def website_id(self, arguments: Mapping[str, str], query: Mapping[str, str]) -> str | None:
        """Return the ID of the requested website; ``None`` for a route without one.

        Raises:
            ApiError: The query parameter is missing (400).
        """
        name = self.website_parameter
        if not name:
            return arguments.get("website_id")
        if not query.get(name):
            raise ApiError(400, f"MISSING_{name.upper()}", f"Missing {name}")
        return query[name]


class Match(NamedTuple):
    """A route and the values of its path's placeholders."""

    route: Route
    arguments: Mapping[str, str]

    def requested_website(self, query: Mapping[str, str]) -> str | None:
        """Return the website's ID as requested; ``None`` if there is none."""
        return self.arguments.get("website_id") or query.get(self.route.website_parameter) or None


class Router:
    """The routes of an API, in the order of their declaration."""

    def __init__(self) -> None:
        self._routes: list[tuple[re.Pattern[str], Route]] = []

    def route(
        self,
        path: str,
        *,
        operation: str,
        method: str = "GET",
        cost: int = 1,
        plan: Plan = "pro",
        website_parameter: str = "",
    ) -> Callable[[Handler], Handler]:
        """Declare the decorated handler as a route; see :class:`Route`."""

        def declare(handler: Handler) -> Handler:
            self.add(Route(method, path, handler, operation, cost, plan, website_parameter))
            return handler

        return declare

    def add(self, route: Route) -> None:
        """Add a route."""
        self._routes.append((re.compile(_PLACEHOLDER.sub(r"(?P<\1>[^/]+)", route.path)), route))

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        return [route for _, route in self._routes]

    def methods(self, path: str) -> list[str]:
        """Return the methods that a path has."""
        return [route.method for pattern, route in self._routes if pattern.fullmatch(path)]

    def match(self, method: str, path: str) -> Match | None:
        """Return the route of a request, or ``None``."""
        for pattern, route in self._routes:
            if route.method == method and (found := pattern.fullmatch(path)):
                return Match(route, found.groupdict())
        return None

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document: paths and methods."""
        paths: dict[str, dict[str, Any]] = {}
        for route in self.routes:
            paths.setdefault(route.path, {})[route.method.lower()] = {}
        info = {"title": "Zenovay External API (sandbox)", "version": "1.0.0"}
        return {"openapi": "3.1.0", "info": info, "paths": paths}
