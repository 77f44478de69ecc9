"""The documentation has a row for each endpoint, command, event and error, and its advice on mocks holds."""

from __future__ import annotations

import re
from typing import Any
from unittest.mock import AsyncMock, create_autospec

import pytest
from endpoints import ENDPOINTS, Endpoint
from helpers import ROOT

from zenovay_async import CallEvent, ConfigurationError, Event, Zenovay, ZenovayError, events

KINDS = [*Event.__subclasses__(), *CallEvent.__subclasses__()]
EVENTS = [event.__name__ for event in KINDS if event.__module__ == events.__name__ and event is not CallEvent]


def subclasses(cls: type[ZenovayError]) -> list[type[ZenovayError]]:
    return [found for sub in cls.__subclasses__() for found in (sub, *subclasses(sub))]


ERRORS = [cls.__name__ for cls in subclasses(ZenovayError) if cls.__module__ == ZenovayError.__module__]


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=[endpoint.name for endpoint in ENDPOINTS])
def test_every_endpoint_is_documented_with_its_method(endpoint: Endpoint) -> None:
    path = re.escape(endpoint.path_of("{id}"))
    method = re.escape(f"zenovay.{endpoint.name}(")
    found = re.search(rf"(?m)^\| `(GET|POST) {path}` \| `{method}", page("endpoints.md"))
    assert found, f"docs/endpoints.md has no row of {endpoint.name}"


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=[endpoint.name for endpoint in ENDPOINTS])
def test_every_command_is_documented(endpoint: Endpoint) -> None:
    command = endpoint.name.replace(".", " ")
    assert re.search(rf"(?m)^\| .*`{command}[ `]", page("cli.md")), f"docs/cli.md has no row of {command}"


@pytest.mark.parametrize("name", EVENTS)
def test_every_event_is_documented(name: str) -> None:
    assert re.search(rf"(?m)^\| `{name}` \|", page("errors.md")), f"docs/errors.md has no row of {name}"


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_is_documented(name: str) -> None:
    assert re.search(rf"(?m)^\| `{name}` \|", page("errors.md")), f"docs/errors.md has no row of {name}"


async def test_an_autospec_of_the_client_is_mocked_as_documented() -> None:
    zenovay: Any = create_autospec(Zenovay, instance=True)
    with pytest.raises(TypeError, match="await"):
        await zenovay.analytics.visitors("x")
    zenovay.analytics.visitors.return_value.__aiter__.return_value = [1]
    assert [visitor async for visitor in zenovay.analytics.visitors("x")] == [1]
    zenovay.analytics.visitors.return_value.take.return_value.__aiter__.return_value = [1, 2]
    assert [visitor async for visitor in zenovay.analytics.visitors("x").take(2)] == [1, 2]
    zenovay.analytics.visitors = AsyncMock(return_value="page")
    assert await zenovay.analytics.visitors("x") == "page"
    zenovay.__aenter__.return_value = zenovay
    async with zenovay as entered:
        assert entered is zenovay


async def test_a_mocked_method_is_mocked_in_one_client_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    zenovay = Zenovay("zv_test")
    mock = AsyncMock(return_value="mocked")
    monkeypatch.setattr(zenovay.heatmaps, "pages", mock)
    assert zenovay.with_options(timeout=1).heatmaps.pages is not mock
    with pytest.raises(ConfigurationError, match=r"with_raw_response\(<AsyncMock"):
        zenovay.with_raw_response(mock)
