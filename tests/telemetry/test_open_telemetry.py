"""What OpenTelemetry is given, and when it looks for the providers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.metrics import _internal as internal
from opentelemetry.util._once import Once
from otel_helpers import Exported

from zenovay_async import ConfigurationError, Zenovay
from zenovay_async.telemetry import OpenTelemetry

if TYPE_CHECKING:
    from zenovay_async.sandbox import Sandbox


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tracer_provider": "x"}, "tracer_provider='x': expected an object with get_tracer()"),
        ({"tracer_provider": trace.NoOpTracerProvider}, "tracer_provider=<class"),
        ({"meter_provider": 1}, "meter_provider=1: expected an object with get_meter(), or None for the global one"),
        ({"propagate": "no"}, "propagate='no': expected True or False"),
    ],
)
def test_what_is_none_of_its_options_is_rejected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        OpenTelemetry(**options)
    assert str(raised.value).startswith(message)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("opentelemetry", "zenovay_async.telemetry."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(
        ConfigurationError, match=r"^OpenTelemetry\(\) needs an extra: pip install 'zenovay-async\[otel\]'$"
    ):
        OpenTelemetry()


def test_another_module_that_is_missing_is_not_taken_for_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "zenovay_async.telemetry.spans", raising=False)
    monkeypatch.setitem(sys.modules, "zenovay_async.telemetry.attributes", None)
    with pytest.raises(ModuleNotFoundError, match="attributes"):
        OpenTelemetry()


async def test_global_providers_may_be_set_after_the_client_was_made(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As applications configure them after their modules were imported."""
    exported = Exported()
    # They can be set once in a process.
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())
    monkeypatch.setattr(internal, "_METER_PROVIDER", None)
    monkeypatch.setattr(internal, "_METER_PROVIDER_SET_ONCE", Once())
    monkeypatch.setattr(internal, "_PROXY_METER_PROVIDER", internal._ProxyMeterProvider())
    async with Zenovay(sandbox.api_key, base_url=sandbox.url, telemetry=OpenTelemetry()) as zenovay:
        await zenovay.heatmaps.pages(sandbox.website_ids[0])
        trace.set_tracer_provider(exported.tracer_provider)
        metrics.set_meter_provider(exported.meter_provider)
        await zenovay.heatmaps.pages(sandbox.website_ids[0])
    assert [span.name for span in exported.spans] == ["GET heatmaps/{website_id}/pages", "zenovay.heatmaps.pages"]
    ((_, (count, _)),) = exported.metrics()["zenovay.client.call.duration"]
    assert count == 1
