"""Each error names the operation that failed. Time is virtual here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from endpoints import ENDPOINTS, Endpoint, named
from helpers import URL, make_client

from zenovay_async import ConfigurationError, ServerError, ZenovayError
from zenovay_async._protocol.base_url import DEFAULT_BASE_URL

if TYPE_CHECKING:
    from aioresponses import aioresponses

pytestmark = pytest.mark.looptime


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=named)
async def test_an_error_names_its_operation(canned: aioresponses, endpoint: Endpoint) -> None:
    """An error names the operation that failed, and the call."""
    path = endpoint.path_of("x")
    canned.add(re.compile(f"{re.escape(DEFAULT_BASE_URL + path)}(\\?.*)?"), endpoint.method, status=404)
    async with make_client() as zenovay:
        with pytest.raises(ZenovayError) as caught:
            await endpoint.call(zenovay, "x")
    assert caught.value.operation == endpoint.name
    assert caught.value.call.endswith(path.removeprefix("/"))


async def test_an_error_of_a_custom_call_names_its_operation(canned: aioresponses) -> None:
    """An endpoint without a method is the operation ``request``; without a call there is none."""
    canned.get(f"{DEFAULT_BASE_URL}/new/thing", status=404)
    async with make_client() as zenovay:
        with pytest.raises(ZenovayError) as caught:
            await zenovay.request("GET", "new/thing")
        assert (caught.value.operation, caught.value.call) == ("request", "GET new/thing")
        with pytest.raises(ConfigurationError) as invalid:
            await zenovay.heatmaps.pages("x", limit=0)
    assert (invalid.value.operation, invalid.value.call) == ("", "")


@pytest.mark.parametrize("timeout", [5.0, 0.5], ids=["after all attempts", "where a wait does not fit"])
async def test_the_error_after_retries_names_its_operation(canned: aioresponses, timeout: float) -> None:
    canned.get(URL, status=500, headers={"Retry-After": "1"}, repeat=True)
    async with make_client(max_attempts=2) as zenovay:
        with pytest.raises(ServerError) as caught:
            await zenovay.heatmaps.pages("x", timeout=timeout)
    assert (caught.value.operation, caught.value.call) == ("heatmaps.pages", "GET heatmaps/x/pages")
