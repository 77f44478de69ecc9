"""Every block of docs/web-backend.md runs, and does what the page says."""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import json
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from aiohttp import ClientSession, web
from helpers import python_blocks, until

from zenovay_async import Zenovay
from zenovay_async.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from zenovay_async.sandbox import Sandbox

BLOCKS = python_blocks("web-backend.md")

PAGES = 9
"""The pages of the first website of the sandbox."""


@pytest.fixture(autouse=True)
def _environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    # Litestar looks for the module of a function.
    monkeypatch.setitem(sys.modules, "guide", ModuleType("guide"))
    monkeypatch.setenv("ZENOVAY_API_KEY", sandbox.api_key)
    monkeypatch.setenv("ZENOVAY_BASE_URL", sandbox.url)


@pytest.fixture
def site(sandbox: Sandbox) -> str:
    return sandbox.website_ids[0]


async def run(title: str, **names: Any) -> dict[str, Any]:
    """Run the blocks of a section as a notebook would; returns the names that they define."""
    namespace = vars(sys.modules["guide"])
    namespace |= names
    for source in BLOCKS[title]:
        code = compile(
            source, f"docs/web-backend.md: {title}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
        )
        done = eval(code, namespace)  # noqa: S307 - our own page
        if inspect.iscoroutine(done):
            await done
    return namespace


def test_every_block_of_the_page_is_run_here() -> None:
    source = inspect.getsource(importlib.import_module(__name__))
    assert len(BLOCKS) > 5
    assert not [title for title in BLOCKS if f'run("{title}"' not in source]


async def test_json(zenovay: Zenovay, site: str) -> None:
    names = await run("Return a result as JSON", zenovay=zenovay, website_id=site)
    assert json.loads(names["report"].to_json()) == names["report"].to_dict()


@pytest.fixture
async def fastapi_app(sandbox: Sandbox) -> AsyncIterator[Any]:  # noqa: ARG001 - the app asks it
    await run("FastAPI")
    await run("Errors mapped to HTTP statuses")
    app = (await run("A visitor who leaves"))["app"]
    async with app.router.lifespan_context(app):
        yield app


async def get(app: Any, path: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app.example") as client:
        return await client.get(path)


async def test_fastapi(fastapi_app: Any, sandbox: Sandbox, site: str) -> None:
    response = await get(fastapi_app, f"/top-pages/{site}")
    assert (response.status_code, len(response.json()["pages"])) == (200, PAGES)
    assert len((await get(fastapi_app, f"/countries/{site}")).json()["countries"]) > 1
    operation = (await get(fastapi_app, "/openapi.json")).json()["paths"]["/top-pages/{website_id}"]["get"]
    assert "HeatmapPages" in str(operation["responses"]["200"])
    assert [parameter["name"] for parameter in operation["parameters"]] == ["website_id"]
    sandbox.clear_faults()


@pytest.mark.parametrize(
    ("fault", "path", "status"),
    [
        (None, "/top-pages/nobody", 404),
        (None, "/top-pages/%20", 404),
        (Fault.monthly_limit(), "/top-pages/x", 503),
        (Fault.status(403), "/top-pages/x", 502),
    ],
)
async def test_errors_in_fastapi(
    fastapi_app: Any, sandbox: Sandbox, fault: Fault | None, path: str, status: int
) -> None:
    if fault is not None:
        sandbox.fault(fault)
    response = await get(fastapi_app, path)
    assert response.status_code == status
    if status == 503:
        assert int(response.headers["Retry-After"]) >= 1


async def test_a_visitor_of_fastapi_who_leaves_frees_the_call(fastapi_app: Any, sandbox: Sandbox, site: str) -> None:
    sandbox.fault(Fault.latency(60))
    left = asyncio.Event()
    messages = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, Any]:
        for message in messages:
            return message
        await left.wait()
        return {"type": "http.disconnect"}

    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    path = f"/countries/{site}"
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
    scope |= {"headers": [], "http_version": "1.1", "scheme": "http", "server": ("app.example", 80), "root_path": ""}
    zenovay = fastapi_app.state.zenovay
    request = asyncio.create_task(fastapi_app(scope, receive, send))
    await until(lambda: zenovay._budget.statistics().in_flight == 1)
    left.set()
    await request
    await until(lambda: zenovay._budget.statistics().in_flight == 0)
    assert sent[0]["status"] == 499


async def test_aiohttp_web(sandbox: Sandbox, site: str) -> None:
    runner: web.AppRunner = (await run("aiohttp.web"))["runner"]
    await runner.setup()
    try:
        server = web.TCPSite(runner, "127.0.0.1", 0)
        await server.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/top-pages/"
        async with ClientSession() as session:
            async with session.get(url + site) as response:
                assert response.content_type == "application/json"
                assert len((await response.json())["pages"]) == PAGES
            async with session.get(url + "nobody") as response:
                assert response.status == 404
            sandbox.fault(Fault.latency(60))
            request = asyncio.create_task(session.get(url + site))
            (zenovay,) = [value for value in runner.app.values() if isinstance(value, Zenovay)]
            await until(lambda: zenovay._budget.statistics().in_flight == 1)
            request.cancel()
            await until(lambda: zenovay._budget.statistics().in_flight == 0)
    finally:
        await runner.cleanup()


async def test_litestar(site: str) -> None:
    app = (await run("Litestar"))["app"]
    async with app.lifespan():
        response = await get(app, f"/top-pages/{site}")
        assert (response.status_code, len(response.json()["pages"])) == (200, PAGES)
        assert (await get(app, "/top-pages/nobody")).status_code == 404
        assert "HeatmapPages" in (await get(app, "/schema/openapi.json")).json()["components"]["schemas"]


async def test_django(site: str) -> None:
    # Django has no types.
    settings: Any = importlib.import_module("django.conf").settings
    http: Any = importlib.import_module("django.http")
    if not settings.configured:
        settings.configure()
    names = await run("Django")
    response = await names["top_pages"](http.HttpRequest(), site)
    assert response.headers["Content-Type"] == "application/json"
    assert len(json.loads(response.content)["pages"]) == PAGES
    with pytest.raises(http.Http404):
        await names["top_pages"](http.HttpRequest(), "nobody")
    await names["zenovay"].close()


async def test_code_that_is_not_asynchronous(sandbox: Sandbox) -> None:
    nightly = (await run("Code that is not asynchronous"))["nightly"]
    rows = await asyncio.to_thread(nightly, sandbox.website_ids)
    assert {row["website_id"] for row in rows} == set(sandbox.website_ids)
    assert set(rows[0]) == {"website_id", "url", "total_interactions", "last_updated"}
