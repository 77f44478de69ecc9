"""Plain HTTP calls to a sandbox, without the client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from zenovay_async.sandbox import Sandbox


async def get(sandbox: Sandbox, path: str, key: str | None = None) -> tuple[int, Any, Any]:
    """Return status, body and headers of a response."""
    url, headers = f"{sandbox.url}{path}", {"X-API-Key": key or sandbox.api_key}
    async with aiohttp.request("GET", url, headers=headers, allow_redirects=False) as response:
        return response.status, await response.json(), response.headers


async def data(sandbox: Sandbox, path: str) -> Any:
    """Return the data of a successful response."""
    status, body, _ = await get(sandbox, path)
    assert status == 200, body
    return body["data"]


async def all_visitors(sandbox: Sandbox, site: str, range_: str) -> list[Any]:
    """Return every visitor of a range, fetched page by page."""
    found: list[Any] = []
    more = True
    while more:
        path = f"/analytics/{site}/visitors?range={range_}&limit=1000&offset={len(found)}"
        page = await data(sandbox, path)
        found += page["visitors"]
        more = page["pagination"]["has_more"]
    return found


async def ask(sandbox: Sandbox, body: Any, key: str | None = None) -> tuple[int, Any, Any]:
    """Return status, body and headers of the response to ``POST /query``."""
    url, headers = f"{sandbox.url}/query/{sandbox.website_ids[0]}", {"X-API-Key": key or sandbox.api_key}
    async with aiohttp.request("POST", url, headers=headers, json=body) as response:
        return response.status, await response.json(), response.headers
