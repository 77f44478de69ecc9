"""The tables of the documentation have a row for each endpoint, command and event."""

from __future__ import annotations

import re

import pytest
from endpoints import ENDPOINTS, Endpoint
from helpers import ROOT

from zenovay_async import Event, events

EVENTS = [event.__name__ for event in Event.__subclasses__() if event.__module__ == events.__name__]


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
