"""The sandbox as a server: options, address, and no code of the client."""

from __future__ import annotations

import asyncio
import inspect
import re
import socket
import textwrap
from pathlib import Path
from typing import Any

import pytest
from sandbox_calls import get
from yarl import URL

import zenovay_async.sandbox
from zenovay_async.sandbox import Sandbox


def test_it_imports_nothing_of_the_client_but_to_check_what_users_give_it() -> None:
    folder = Path(zenovay_async.sandbox.__file__).parent
    imported = {
        name
        for file in folder.glob("*.py")
        if file.name != "own_responses.py"
        for name in re.findall(r"^(?:from|import) (zenovay_async\S*)", file.read_text(), re.MULTILINE)
    }
    assert all(name.startswith("zenovay_async.sandbox") for name in imported)


@pytest.mark.parametrize(
    "options",
    [
        {"websites": -1},
        {"websites": 1_000_001},
        {"api_key": "x"},
        {"plan": "gold"},
        {"rate_limit": 0},
        {"rate_limiter": "magic"},
        {"rate_limit_headers": "draft-99"},
        {"rate_limit_window": 0},
    ],
)
def test_options_out_of_range_are_rejected(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Sandbox(**options)


async def test_it_listens_on_an_ipv6_address() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 on this machine")
    async with Sandbox(websites=1, host="::1") as sandbox:
        assert sandbox.url.startswith("http://[::1]:")
        assert (await get(sandbox, "/usage"))[0] == 200


async def test_a_block_that_is_canceled_while_it_ends_is_closed() -> None:
    sandbox = Sandbox()
    await sandbox.__aenter__()
    port = URL(sandbox.url).port
    leaving = asyncio.ensure_future(sandbox.__aexit__(None, None, None))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_port_in_use_leaves_nothing_running(sandbox: Sandbox) -> None:
    port = int(sandbox.url.split(":")[2].partition("/")[0])
    other = Sandbox(websites=1, port=port)
    with pytest.raises(OSError, match="in use"):
        await other.__aenter__()
    with pytest.raises(RuntimeError, match="not running"):
        _ = other.url


def test_the_example_in_its_help_runs() -> None:
    documentation = inspect.getdoc(Sandbox)
    assert documentation is not None
    example = documentation.partition("::\n")[2].partition("\nArgs:")[0]
    exec(compile(textwrap.dedent(example), "help(Sandbox)", "exec"), {"__name__": "example"})  # noqa: S102 - our own
