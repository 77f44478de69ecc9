"""The sandbox fails on demand, and records each request."""

from __future__ import annotations

import asyncio
import math
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from sandbox_calls import ask, get

from zenovay_async.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from aiohttp import web


@pytest.mark.parametrize(
    "fault",
    [
        Fault.status(500),
        Fault.rate_limited(),
        Fault.monthly_limit(),
        Fault.bad_gateway(),
        Fault.html(),
        Fault.garbage_json(),
        Fault.cut_json(),
        Fault.not_success(),
        Fault.redirect(),
        Fault.latency(0),
    ],
    ids=lambda fault: fault.name,
)
async def test_a_faulty_response_has_a_request_id(sandbox: Sandbox, fault: Fault) -> None:
    sandbox.fault(fault)
    headers = {"X-API-Key": sandbox.api_key}
    async with aiohttp.request("GET", f"{sandbox.url}/usage", headers=headers, allow_redirects=False) as response:
        assert response.headers["x-request-id"] == sandbox.requests[-1].request_id


@pytest.mark.parametrize("fault", [Fault.reset(), Fault.cut_body(), Fault.slow_body(0)], ids=lambda fault: fault.name)
async def test_a_closed_connection_is_counted_without_a_status(sandbox: Sandbox, fault: Fault) -> None:
    sandbox.fault(fault)
    # aiohttp resends a GET.
    with pytest.raises(aiohttp.ClientError):
        await ask(sandbox, {"question": "Who?"})
    assert (sandbox.count(), sandbox.count(status=0), sandbox.requests[-1].status) == (1, 1, 0)


async def test_an_endpoint_that_will_end_says_so_in_headers_of_its_normal_response(sandbox: Sandbox) -> None:
    zone = timezone(timedelta(hours=2))
    sandbox.fault(
        Fault.deprecated(
            datetime(2026, 7, 1, 2, tzinfo=zone), datetime(2028, 1, 1, 2, tzinfo=zone), "https://a.example/"
        ),
        times=1,
    )
    sandbox.fault(Fault.deprecated())
    found: list[tuple[int, list[str | None]]] = []
    for _ in range(2):
        async with aiohttp.request("GET", f"{sandbox.url}/usage", headers={"X-API-Key": sandbox.api_key}) as response:
            headers = [response.headers.get(name) for name in ("Deprecation", "Sunset", "Link")]
            found.append((response.status, headers))
    assert found == [
        (200, ["@1782864000", "Sat, 01 Jan 2028 00:00:00 GMT", '<https://a.example/>; rel="deprecation"']),
        (200, ["@1767225600", None, None]),
    ]
    assert sandbox.requests[-1].fault == "deprecated"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"deprecated_at": "2026-01-01"}, "deprecated_at="),
        ({"sunset_at": 1767225600}, "sunset_at="),
        ({"link": b"https://docs.example"}, "link="),
        ({"deprecated_at": datetime(2026, 1, 1)}, "deprecated_at="),  # noqa: DTZ001 - naive on purpose
        ({"sunset_at": datetime(2026, 1, 1)}, "sunset_at="),  # noqa: DTZ001 - same
        ({"link": "https://a.example/>\r\nX: y"}, "link="),
        ({"link": "https://a.example/ü"}, "link="),
    ],
)
def test_an_end_that_cannot_be_announced_is_rejected(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}.*: expected "):
        Fault.deprecated(**arguments)


async def test_a_request_canceled_by_the_client_is_counted(sandbox: Sandbox) -> None:
    received, canceled = asyncio.Event(), asyncio.Event()

    async def respond(_: web.Request) -> None:
        received.set()
        try:
            await asyncio.Event().wait()
        finally:
            canceled.set()

    sandbox.fault(Fault("never", respond))
    call = asyncio.create_task(get(sandbox, "/usage"))
    await received.wait()
    call.cancel()
    await canceled.wait()
    assert (sandbox.count(), sandbox.count(status=0), sandbox.requests[-1].status) == (1, 1, 0)
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_latency_and_jitter_delay_each_response(monkeypatch: pytest.MonkeyPatch) -> None:
    delays: list[float] = []

    async def sleep(seconds: float) -> None:
        delays.append(seconds)

    monkeypatch.setattr("zenovay_async.sandbox.server.asyncio.sleep", sleep)
    async with Sandbox(websites=1, latency=60, jitter=5) as sandbox:
        for _ in range(2):
            assert (await get(sandbox, "/usage"))[0] == 200
    slow = [seconds for seconds in delays if seconds]
    assert len(set(slow)) == 2
    assert all(60 <= seconds <= 65 for seconds in slow)


async def test_a_fault_applies_to_the_requests_that_it_names(sandbox: Sandbox) -> None:
    sandbox.fault(Fault.status(500), times=2, path="/usage")
    statuses = [(await get(sandbox, path))[0] for path in ("/websites", "/usage", "/usage", "/usage")]
    assert statuses == [200, 500, 500, 200]
    sandbox.fault(Fault.status(503))
    sandbox.clear_faults()
    assert (await get(sandbox, "/usage"))[0] == 200


@pytest.mark.parametrize("given", [{"times": -1}, {"share": 2}, {"share": math.nan}])
def test_a_fault_for_an_impossible_number_of_requests_is_rejected(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(given))}=.*: expected"):
        Sandbox().fault(Fault.status(500), **given)


async def test_a_share_of_the_requests_is_faulty_and_the_same_for_the_same_seed() -> None:
    runs: list[list[int]] = []
    for _ in range(2):
        async with Sandbox(websites=1) as sandbox:
            sandbox.fault(Fault.status(500), share=0.5)
            runs.append([(await get(sandbox, "/usage"))[0] for _ in range(20)])
    assert runs[0] == runs[1]
    assert set(runs[0]) == {200, 500}
