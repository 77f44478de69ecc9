"""Commands: one for each public method of the client, with its arguments as options."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import msgspec
import pytest
from cli_helpers import FREE, IDS, PER_WEBSITE, SINGLE, STATS, freeze_sandbox
from endpoints import ENDPOINTS, OPERATIONS
from helpers import sample

from zenovay_async import NOT_GIVEN, HeatmapPages, Heatmaps, Paged, Pagination, QueryParameters, Timeout, Visitor
from zenovay_async._protocol.call import Endpoint
from zenovay_async._protocol.decoding import Decoder
from zenovay_async.cli import main
from zenovay_async.cli.app import make_app
from zenovay_async.cli.operations import Request, operations
from zenovay_async.resources.paging import PagedEndpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cyclopts import App

    from zenovay_async.sandbox import Sandbox

COMMON = (
    "--param --format --output/-o --columns --sort --tz --csv-safe --timeout --base-url --allow-http --proxy "
    "--rate-limit-store --rate-limit --log-format --trace --sandbox"
)
MANY = (
    f"{COMMON} --ids-from --all-websites --keys-from --concurrency --max-outage --max-failures --max-requests "
    "--quota-reserve --resume --restart --failures --report --progress"
)
COMMANDS = f"""
analytics countries IDS --range --limit {MANY}
analytics overview IDS --range {MANY}
analytics pages IDS {MANY}
analytics technology IDS {MANY}
analytics visitors IDS --range --limit --offset --take --all {MANY}
anomalies list IDS --range --severity --metric --resolved/--no-resolved --limit --offset --take --all \
{MANY}
errors groups IDS --status --limit {MANY}
heatmaps pages IDS --limit {MANY}
help COMMAND
insights list IDS --range --type --severity --limit --offset --take --all {MANY}
query --question! IDS --time-range --compare-to {MANY}
replays sessions IDS --limit --offset --take --all {MANY}
retention cohorts IDS --range --granularity --periods {MANY}
revenue ltv IDS --range --granularity {MANY}
stats aggregate {COMMON}
stats breakdown {COMMON}
stats timeseries {COMMON}
usage {COMMON}
websites get IDS {MANY}
websites list {COMMON}
"""
"""Every command with its arguments; ``!`` marks a required one."""


def listed(app: App, *path: str) -> Iterator[str]:
    for name in app:
        command = app[name]
        if name.startswith("-"):
            continue
        if command.default_command is None:
            yield from listed(command, *path, name)
            continue
        shown = [argument for argument in command.assemble_argument_collection() if argument.show]
        yield " ".join([*path, name, *("/".join(argument.names) + "!" * argument.required for argument in shown)])


def help_of(*command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The help of a command, without its frames and line breaks."""
    assert main([*command, "--help"]) == 0
    return " ".join(capsys.readouterr().out.replace("\u2502", " ").split())


def test_commands_and_their_options_are_these() -> None:
    assert sorted(listed(make_app())) == COMMANDS.strip().splitlines()


def test_every_endpoint_has_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert {".".join(operation.path) for operation in operations()} == {endpoint.name for endpoint in ENDPOINTS}
    for endpoint in ENDPOINTS:
        assert main([*endpoint.name.split("."), "--help"]) == 0
        assert "--sandbox" in capsys.readouterr().out


def test_help_is_that_of_the_method_without_markup(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of("heatmaps", "pages", capsys=capsys)
    assert "List the pages of a website that have heatmap data, of all time, most interactions first." in text
    assert "Pages to return, 1 to 100; the server's default is 20." in text
    text = help_of("analytics", "visitors", capsys=capsys)
    assert "24h, 7d, 30d, 90d or 1y; the server's default is 7d." in text
    assert "One page; more with --take or --all." in text
    assert "`" not in text
    assert "Heatmap data of websites." in help_of(capsys=capsys)


class Funnel(msgspec.Struct, frozen=True, kw_only=True):
    visits: tuple[Visitor, ...]
    pagination: Pagination | None = None


CLICKS = Endpoint("heatmaps.click_pages", "heatmaps/{website_id}/pages", Decoder(HeatmapPages), cost=2)
FUNNEL = PagedEndpoint(
    "heatmaps.funnel",
    "analytics/{website_id}/visitors",
    Decoder(Funnel),
    items=lambda page: page.visits,
    join=lambda items: Funnel(visits=tuple(items)),
    max_limit=100,
)


async def click_pages(
    self: Heatmaps,
    website_id: str,
    kind: str,
    *,
    max_pages: int | None = None,
    extra_query: QueryParameters | None = None,
    timeout: Timeout = NOT_GIVEN,
) -> HeatmapPages:
    """List pages by clicks.

    Args:
        website_id: ID of the website.
        kind: Kind of click, such as ``rage``.
        max_pages: Pages to return; the text goes on
            in a second line.
        extra_query: Further query parameters, by name, which the API has and this version does not know.
        timeout: Seconds for the whole call; omitted, the client's.
    """
    call = CLICKS.call(website_id, extra_query=extra_query, kind=kind, limit=max_pages)
    return (await self._caller.send(call, timeout)).data


def funnel(
    self: Heatmaps,
    website_id: str,
    *,
    limit: int | None = None,
    offset: int | None = None,
    extra_query: QueryParameters | None = None,
    timeout: Timeout = NOT_GIVEN,
) -> Paged[Funnel, Visitor]:
    """List the visits of a funnel."""
    return Paged(self._caller, FUNNEL, website_id, timeout, extra_query, limit=limit, offset=offset)


async def test_a_new_method_is_a_new_command(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", sandbox.api_key)
    monkeypatch.setenv("ZENOVAY_BASE_URL", sandbox.url)
    monkeypatch.setattr(Heatmaps, "click_pages", click_pages, raising=False)
    assert f"heatmaps click-pages --kind! IDS --max-pages {MANY}" in listed(make_app())
    text = help_of("heatmaps", "click-pages", capsys=capsys)
    assert "List pages by clicks." in text
    assert "Kind of click, such as rage." in text
    assert "Pages to return; the text goes on in a second line." in text
    command = ["heatmaps", "click-pages", "rage", IDS[0], "--max-pages", "2", "--format", "csv"]
    assert await asyncio.to_thread(main, command) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 2
    assert sandbox.requests[-1].query == "kind=rage&limit=2"


def test_a_new_list_in_pages_has_take_and_all_and_is_json_until_it_has_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Heatmaps, "funnel", funnel, raising=False)
    options = f"IDS --limit --offset --take --all {MANY}"
    assert f"heatmaps funnel {options}" in listed(make_app())
    assert main(["heatmaps", "funnel", IDS[0], "--sandbox", "1", "--format", "csv"]) == 2
    assert "--format csv: this result has no documented columns" in capsys.readouterr().err


def test_private_methods_and_request_are_no_commands() -> None:
    paths = {operation.path for operation in operations()}
    assert ("usage",) in paths
    assert ("request",) not in paths
    assert not any(path[-1].startswith("_") for path in paths)


async def test_the_cost_of_a_call_is_known_without_a_request() -> None:
    found = {operation.path: operation for operation in operations()}
    arguments: dict[tuple[str, ...], dict[str, Any]] = {("query",): {"question": "Where from?"}}
    costs = {path: await Request(operation, arguments.get(path, {}), {}).cost() for path, operation in found.items()}
    assert costs.pop(("query",)) == 3
    assert set(costs.values()) == {1}


def test_take_requests_pages_until_there_are_enough_items(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["analytics", "visitors", IDS[0], "--sandbox", "3", "--take", "1200"]
    assert main([*command, "--format", "csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 1200
    assert main([*command, "--format", "ndjson"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["website_id", "visitors"]
    assert len(found["visitors"]) == 1200


def test_all_requests_every_page(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    freeze_sandbox(monkeypatch)
    command = ["anomalies", "list", IDS[0], "--sandbox", "3", "--range", "90d", "--format", "csv"]
    assert main([*command, "--limit", "5"]) == 0
    one_page = capsys.readouterr().out.splitlines()
    assert main([*command, "--limit", "5", "--all"]) == 0
    every_page = capsys.readouterr().out.splitlines()
    assert len(one_page) == 1 + 5 < len(every_page)
    assert every_page[:6] == one_page


@pytest.mark.parametrize("param", ["site_id", "=x", ""])
def test_a_free_parameter_has_a_name_and_a_value(param: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", "aggregate", "--sandbox", "1", "--param", param]) == 2
    assert "NAME=VALUE" in capsys.readouterr().err


@pytest.mark.parametrize("command", sample([*SINGLE, *PER_WEBSITE]))
async def test_every_command_sends_parameters_that_have_no_option(
    command: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", sandbox.api_key)
    monkeypatch.setenv("ZENOVAY_BASE_URL", sandbox.url)
    ids = sandbox.website_ids[:2] if command in PER_WEBSITE else []
    words = [*command.split(), *ids, "--param", "take=5", "--param", "segment=mobile"]
    assert await asyncio.to_thread(main, words) == 0
    assert all({"segment=mobile", "take=5"} <= {*request.query.split("&")} for request in sandbox.requests)
    assert sandbox.count(status=200) == len(ids or [""])


async def test_every_page_has_the_parameters_that_have_no_option(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", sandbox.api_key)
    monkeypatch.setenv("ZENOVAY_BASE_URL", sandbox.url)
    command = ["analytics", "visitors", sandbox.website_ids[0], "--take", "1200", "--param", "segment=mobile"]
    assert await asyncio.to_thread(main, command) == 0
    assert [request.query for request in sandbox.requests] == [
        "segment=mobile&limit=1000",
        "segment=mobile&limit=1000&offset=1000",
    ]


@pytest.mark.parametrize("name", [name for name, operation in OPERATIONS.items() if operation.arguments])
def test_a_parameter_that_has_an_option_is_rejected_with_its_name(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    operation = OPERATIONS[name]
    for argument in operation.arguments:
        words = [*operation.command.split(), *("x" for _ in operation.required), "--param", f"{argument.name}=1"]
        assert main([*words, "--sandbox", "1"]) == 2
        option = f"--{argument.name.replace('_', '-')}"
        assert f"--param {argument.name}: this command has an option for it; pass {option}" in capsys.readouterr().err


@pytest.mark.parametrize("command", [*FREE, *STATS])
async def test_a_free_parameter_is_sent_whatever_its_name(
    command: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", sandbox.api_key)
    monkeypatch.setenv("ZENOVAY_BASE_URL", sandbox.url)
    names = ["self", "website_id", "timeout", "endpoint", "ids", "common", "params", "path", "job", "zenovay", "a b"]
    words = [*command.split(), *(word for name in names for word in ("--param", f"{name}=5"))]
    ids = [sandbox.website_ids[0]] if command in FREE else []
    assert await asyncio.to_thread(main, [*words, *ids]) == 0
    assert set(parse_qsl(sandbox.requests[-1].query)) >= {(name, "5") for name in names}


def test_without_the_extra_the_command_says_what_to_install() -> None:
    script = "import sys; sys.modules['cyclopts'] = None; from zenovay_async.cli import main; sys.exit(main([]))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert done.returncode == 2
    assert "pip install 'zenovay-async[cli]'" in done.stderr


def test_the_package_alone_needs_no_extra() -> None:
    script = """
from zenovay_async import *
import sys, zenovay_async.sandbox, zenovay_async.tables
assert "aiohttp" in sys.modules
assert not {"rich", "cyclopts"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)  # noqa: S603 - our own
