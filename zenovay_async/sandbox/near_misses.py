"""What a request may have meant that was not found."""

from __future__ import annotations

from difflib import SequenceMatcher, get_close_matches
from typing import TYPE_CHECKING

from zenovay_async.sandbox.recording import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from zenovay_async.sandbox.routing import Route, Router

_LONGEST = 100
# To compare with more IDs takes longer than a test should wait.
_COMPARED = 1000
_PATH_LIKENESS, _ID_LIKENESS = 0.6, 0.8


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return ``", did you mean 'pages'?"`` of the nearest name; ``""`` if none is near."""
    near = get_close_matches(name, names, n=1)
    return f", did you mean {near[0]!r}?" if near else ""


def explain_path(method: str, path: str, base_path: str, router: Router) -> str:
    """Return which route comes near to a request that matches none.

    Args:
        method: HTTP method.
        path: The whole path.
        base_path: Path that all paths begin with.
        router: The routes.
    """
    given = f"{method} {_short(path)}"
    if not path.startswith(f"{base_path}/"):
        return f"{given}: paths begin with {base_path}, as in the url of the sandbox"
    below = path.removeprefix(base_path)
    if below.startswith(f"{base_path}/"):
        return f"{given}: it has {base_path} twice"
    methods = router.methods(below)
    if methods:
        return f"{given}: the method is {' or '.join(methods)}"
    nearest = max(router.routes, key=lambda route: _likeness(below, route))
    if _likeness(below, nearest) < _PATH_LIKENESS:
        return f"{given}: {base_path}/openapi.json lists all paths"
    return f"{given}: did you mean {nearest.method} {base_path}{nearest.path}?"


def explain_website(website_id: str, ids: Sequence[str]) -> str:
    """Return which website comes near to one that does not exist, or how many there are."""
    near = get_close_matches(website_id, ids[:_COMPARED], n=1, cutoff=_ID_LIKENESS)
    if near:
        return f"{_short(website_id)!r}: did you mean {near[0]!r}?"
    example = f", such as {ids[0]}" if ids else ""
    return f"{_short(website_id)!r}: the sandbox has {len(ids):,} website{'s' * (len(ids) != 1)}{example}"


def _likeness(path: str, route: Route) -> float:
    """How much of a path is that of a route, from 0 to 1, whatever stands where a placeholder is."""
    template, parts = route.path.split("/"), path.split("/")
    for index, part in enumerate(template):
        if part.startswith("{") and index < len(parts):
            parts[index] = part
    return SequenceMatcher(None, "/".join(parts), route.path).ratio()


def _short(text: str) -> str:
    return printable(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")
