"""The sandbox as a block: on a thread of its own or on the test's loop, with a clock that may be moved, and reset."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
import pytest
from helpers import now
from sandbox_calls import get

from zenovay_async import Zenovay
from zenovay_async.sandbox import Fault, Sandbox
from zenovay_async.sandbox.server import running_sandboxes

if TYPE_CHECKING:
    from zenovay_async.sandbox import LimiterKind

# A window that ends in no test, in seconds.
WIDE = 1e6


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "zenovay-sandbox"]


def status_of(sandbox: Sandbox, path: str = "/usage", key: str | None = None) -> int:
    """The status of a response, received without an event loop."""
    request = urllib.request.Request(f"{sandbox.url}{path}", headers={"X-API-Key": key or sandbox.api_key})  # noqa: S310 - our own
    try:
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_a_test_without_an_event_loop_uses_it_on_a_thread_of_its_own() -> None:
    with Sandbox(websites=1) as sandbox:
        assert threads() == ["zenovay-sandbox"]
        assert status_of(sandbox) == 200
        assert [request.path for request in sandbox.requests] == ["/usage"]
    assert threads() == []


def test_code_that_starts_event_loops_of_its_own_is_served() -> None:
    async def pages(sandbox: Sandbox) -> int:
        async with Zenovay(sandbox.api_key, base_url=sandbox.url) as zenovay:
            return len((await zenovay.heatmaps.pages(sandbox.website_ids[0], limit=2)).pages)

    with Sandbox(websites=1) as sandbox:
        assert [asyncio.run(pages(sandbox)), anyio.run(pages, sandbox)] == [2, 2]


async def test_it_serves_on_its_thread_while_an_event_loop_runs_here() -> None:
    with Sandbox(websites=1) as sandbox:
        assert (await get(sandbox, "/usage"))[0] == 200
        # Even a loop that is blocked is no matter.
        assert status_of(sandbox) == 200


def test_another_process_is_served() -> None:
    script = (
        "import sys; from urllib.request import Request, urlopen; "
        "print(urlopen(Request(sys.argv[1], headers={'X-API-Key': sys.argv[2]})).status)"
    )
    with Sandbox(websites=1) as sandbox:
        command = [sys.executable, "-c", script, f"{sandbox.url}/usage", sandbox.api_key]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "200\n"  # noqa: S603 - our own


def test_a_port_in_use_is_an_error_in_the_callers_thread_and_leaves_nothing_running() -> None:
    with Sandbox(websites=1) as sandbox:
        other = Sandbox(websites=1, port=int(sandbox.url.split(":")[2].partition("/")[0]))
        for _ in range(2):
            with pytest.raises(OSError, match="in use"), other:
                pytest.fail("it was entered")
        assert threads() == ["zenovay-sandbox"]
        with pytest.raises(RuntimeError, match="not running"):
            _ = other.url


def test_a_machine_without_another_thread_is_an_error_that_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="can't start"), Sandbox():
        pytest.fail("it was entered")
    # A loop that is left open is a ResourceWarning, which is an error.
    gc.collect()


def test_an_interrupt_while_it_starts_stops_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def result(_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("zenovay_async.sandbox.server_thread.Future.result", result)
    sandbox = Sandbox()
    with pytest.raises(KeyboardInterrupt):
        sandbox.__enter__()
    assert (threads(), running_sandboxes()) == ([], [])


def test_an_interrupt_in_the_block_stops_the_thread() -> None:
    with pytest.raises(KeyboardInterrupt), Sandbox():
        raise KeyboardInterrupt
    assert (threads(), running_sandboxes()) == ([], [])


async def test_it_cannot_be_entered_twice_at_once() -> None:
    sandbox = Sandbox()
    with sandbox:
        with pytest.raises(RuntimeError, match="already running"), sandbox:
            pytest.fail("it was entered")
        with pytest.raises(RuntimeError, match="already running"):
            await sandbox.__aenter__()
        assert status_of(sandbox) == 200
    async with sandbox:
        with pytest.raises(RuntimeError, match="already running"), sandbox:
            pytest.fail("it was entered")
    with sandbox:
        assert status_of(sandbox) == 200


def test_there_is_no_url_outside_the_block() -> None:
    sandbox = Sandbox()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="inside 'with sandbox:'"):
            _ = sandbox.url
        with sandbox:
            assert sandbox.url.startswith("http://127.0.0.1:")


def test_a_test_reads_and_changes_it_while_it_serves() -> None:
    with Sandbox(websites=1) as sandbox, ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(status_of, sandbox) for _ in range(200)]
        while wait(calls, timeout=0.001).not_done:
            sandbox.fault(Fault.latency(0), times=1)
            sandbox.clear_faults()
            sandbox.add_key("other")
            assert all(request.status == 200 for request in sandbox.requests)
            assert sandbox.count() >= sandbox.count(status=200) - 1
        assert {call.result() for call in calls} == {200}
        assert (len(sandbox.requests), sandbox.count(), sandbox.count(status=200)) == (200, 200, 200)


def test_what_was_read_of_the_requests_stays_as_it_is() -> None:
    with Sandbox(websites=1) as sandbox:
        before = sandbox.requests
        assert status_of(sandbox) == 200
        assert (len(before), len(sandbox.requests)) == (0, 1)


def test_after_a_reset_it_is_as_at_the_start_of_the_block() -> None:
    sandbox = Sandbox(websites=1, rate_limit=3, rate_limit_window=WIDE, monthly_used=5)
    before = sandbox.add_key("added before", rate_limit=None)
    sandbox.fault(Fault.status(503), times=1, path="/websites")
    with sandbox:

        def run() -> list[int]:
            sandbox.fault(Fault.status(500), share=0.5, path="/nothing")
            paths = ("/websites", *["/nothing"] * 9, *["/usage"] * 4)
            return [status_of(sandbox, path, before if path == "/nothing" else None) for path in paths]

        first = run()
        assert (first[0], first[10:]) == (503, [200, 200, 200, 429])
        inside = sandbox.add_key("added inside")
        assert status_of(sandbox, key=inside) == 200
        sandbox.reset()
        assert (sandbox.requests, sandbox.count()) == ((), 0)
        assert status_of(sandbox, key=inside) == 401
        sandbox.reset()
        assert run() == first
        sandbox.reset()
        assert status_of(sandbox, key=before) == 200


async def test_a_request_that_is_served_during_a_reset_is_not_recorded(sandbox: Sandbox) -> None:
    async def respond(_: Any) -> None:
        sandbox.reset()

    sandbox.fault(Fault("reset", respond))
    assert (await get(sandbox, "/usage"))[0] == 200
    assert sandbox.count() == 0


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("limit", "window", "retry_after", "at_least"), [(5, 1.0, "1", 2.0), (10, 3600.0, "1800", 5400.0)]
)
@pytest.mark.parametrize("kind", ["fixed", "sliding"])
async def test_on_a_virtual_clock_waits_take_no_real_time_and_no_more_requests(
    kind: LimiterKind, limit: int, window: float, retry_after: str, at_least: float
) -> None:
    limits: dict[str, Any] = {"rate_limit": limit, "rate_limit_window": window}
    async with Sandbox(websites=2 * limit + 2, rate_limiter=kind, latency=0.1, **limits) as sandbox:
        start = now()
        sandbox.fault(Fault.rate_limited(retry_after), times=1)
        sandbox.fault(Fault.status(500), times=3)
        async with Zenovay(sandbox.api_key, base_url=sandbox.url, timeout=None, **limits) as zenovay:
            await asyncio.gather(*[zenovay.heatmaps.pages(website) for website in sandbox.website_ids])
        assert [sandbox.count(status=status) for status in (429, 500, 200)] == [1, 3, 2 * limit + 2]
        assert now() - start >= at_least
        assert sandbox.requests[0].at == start
        assert sandbox.requests[-1].at - start >= at_least - 1


@pytest.mark.parametrize("kind", ["fixed", "sliding", "bucket", "counter"])
def test_a_clock_that_is_advanced_ends_the_window(kind: Any) -> None:
    with Sandbox(websites=1, rate_limit=2, rate_limit_window=WIDE, rate_limiter=kind) as sandbox:
        assert [status_of(sandbox) for _ in range(3)] == [200, 200, 429]
        sandbox.advance(2 * WIDE)
        assert [status_of(sandbox) for _ in range(3)] == [200, 200, 429]
        first, *_, last = sandbox.requests
        assert last.at - first.at >= 2 * WIDE


async def test_headers_state_the_time_until_the_reset_on_the_advanced_clock() -> None:
    options: dict[str, Any] = {"rate_limit_headers": "draft-6", "rate_limiter": "sliding"}
    async with Sandbox(websites=1, rate_limit=1, rate_limit_window=WIDE, **options) as sandbox:
        assert (await get(sandbox, "/usage"))[0] == 200
        sandbox.advance(WIDE - 100)
        status, body, headers = await get(sandbox, "/usage")
        assert status == 429
        assert 0 < int(headers["RateLimit-Reset"]) <= 100
        assert headers["Retry-After"] == headers["RateLimit-Reset"]
        assert body["error"]["message"].endswith(f"Try again in {headers['Retry-After']} seconds")


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_a_clock_only_goes_forward(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"^seconds=.*: expected a number >= 0"):
        Sandbox().advance(seconds)


def test_a_window_goes_on_when_it_is_started_again_on_a_clock_that_is_behind() -> None:
    sandbox = Sandbox(websites=1, rate_limit=1, rate_limit_window=WIDE, rate_limiter="sliding")
    with sandbox:
        sandbox.advance(WIDE)
        assert [status_of(sandbox), status_of(sandbox)] == [200, 429]
    with sandbox:
        assert status_of(sandbox) == 429
        sandbox.advance(WIDE)
        assert status_of(sandbox) == 200
        times = [request.at for request in sandbox.requests]
    assert times == sorted(times)


async def test_the_sandboxes_that_run_are_known_and_which_of_them_count_on_a_loop() -> None:
    assert running_sandboxes() == []
    with Sandbox() as other:
        async with Sandbox() as own:
            assert sorted(map(id, running_sandboxes())) == sorted(map(id, [own, other]))
            assert running_sandboxes(on_other_loops_than=asyncio.get_running_loop()) == [other]
        assert running_sandboxes() == [other]
    assert running_sandboxes() == []


def test_a_connection_that_was_just_accepted_is_closed_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a warning about it would fail another test."""
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    for _ in range(20):
        with Sandbox() as sandbox:
            url = urlsplit(sandbox.url)
            clients = [socket.create_connection((str(url.hostname), url.port or 0), timeout=5) for _ in range(5)]
        for client in clients:
            client.close()
    gc.collect()
    assert unraisable == []


def test_a_fork_that_leaves_the_block_leaves_the_server_of_its_parent_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox() as sandbox:
        thread = sandbox._thread
        assert thread is not None
        with monkeypatch.context() as child:
            child.setattr(os, "getpid", lambda: -1)
            thread.stop()
        assert thread._thread.is_alive()
