"""Resources are attributes of the client: the same object each time, patched as any other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import create_autospec

import pytest
from endpoints import ENDPOINTS

from zenovay_async import HeatmapPages, Heatmaps, Zenovay

if TYPE_CHECKING:
    from zenovay_async.sandbox import Sandbox

RESOURCES = sorted({endpoint.name.partition(".")[0] for endpoint in ENDPOINTS if "." in endpoint.name})


@pytest.mark.parametrize("name", RESOURCES)
def test_a_resource_is_the_same_object_on_each_access(name: str) -> None:
    zenovay = Zenovay("zv_resources")
    resource = getattr(zenovay, name)
    assert getattr(zenovay, name) is resource
    assert type(resource) is getattr(Zenovay, name)
    assert getattr(zenovay.with_options(timeout=5), name) is not resource


async def test_a_patched_method_is_used(zenovay: Zenovay, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A method patched on a resource is the one that calls and batches use, and no request is sent."""
    canned = HeatmapPages(pages=())

    async def pages(_: str, **__: Any) -> HeatmapPages:
        return canned

    with monkeypatch.context() as patched:
        patched.setattr(zenovay.heatmaps, "pages", pages)
        assert await zenovay.heatmaps.pages("x") is canned
        async with zenovay.batch(["x"], lambda site: zenovay.heatmaps.pages(site, limit=1)) as results:
            assert [result.value async for result in results] == [canned]
        assert sandbox.count() == 0
    assert await zenovay.heatmaps.pages(sandbox.website_ids[0]) is not canned
    assert sandbox.count() == 1


async def test_an_autospec_of_a_client_has_its_resources() -> None:
    mocked: Any = create_autospec(Zenovay, instance=True)
    mocked.heatmaps.pages.return_value = HeatmapPages(pages=())
    assert (await mocked.heatmaps.pages("x", limit=1)).pages == ()
    with pytest.raises(TypeError):
        mocked.heatmaps.pages("x", unknown=1)
    assert isinstance(mocked.heatmaps, Heatmaps)
