"""Each fault of a connection or server gives the caller one error of the tree, with the true number of attempts."""

from __future__ import annotations

import pytest
from helpers import until

from zenovay_async import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    PermissionDeniedError,
    QuotaExceededError,
    RateLimitError,
    ResponseDecodeError,
    ServerError,
    Zenovay,
    ZenovayError,
)
from zenovay_async.sandbox import Fault, Sandbox

Row = tuple[Fault, type[ZenovayError], int | None]
RETRIED: list[Row] = [
    (Fault.rate_limited(retry_after="0"), RateLimitError, 429),
    (Fault.status(500), ServerError, 500),
    (Fault.status(503), ServerError, 503),
    (Fault.bad_gateway(), ServerError, 502),
    (Fault.reset(), APIConnectionError, None),
    (Fault.cut_body(), APIConnectionError, None),
    (Fault.cut_json(), ResponseDecodeError, 200),
    (Fault.slow_body(), APITimeoutError, None),
    (Fault.latency(60), APITimeoutError, None),
]
FINAL: list[Row] = [
    (Fault.monthly_limit(), QuotaExceededError, 429),
    (Fault.html(), ResponseDecodeError, 200),
    (Fault.garbage_json(), ResponseDecodeError, 200),
    (Fault.not_success(), APIStatusError, 200),
    (Fault.redirect(), APIStatusError, 302),
]


def names(faults: list[Row]) -> list[str]:
    return [fault.name for fault, _, _ in faults]


def client(sandbox: Sandbox, fault: Fault) -> Zenovay:
    # A short window, as pacing after a 429 would only take time here. An attempt has a short timeout only where the
    # fault is slow, as any other may take long on a busy machine.
    seconds = 0.4 if fault.name in {"slow-body", "latency"} else 15.0
    return Zenovay(
        sandbox.api_key, base_url=sandbox.url, attempt_timeout=seconds, max_attempts=3, rate_limit_window=0.05
    )


async def failure(sandbox: Sandbox, fault: Fault) -> ZenovayError:
    """The error of a call that meets a fault in every attempt."""
    sandbox.fault(fault)
    async with client(sandbox, fault) as zenovay:
        with pytest.raises(ZenovayError) as caught:
            await zenovay.heatmaps.pages(sandbox.website_ids[0])
    return caught.value


@pytest.fixture
def _quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backoff is tested in virtual time elsewhere; here it would only take time."""
    monkeypatch.setattr("zenovay_async._session.retry.BACKOFF_FIRST", 0.002)


@pytest.mark.usefixtures("_quick_backoff")
@pytest.mark.parametrize(("fault", "cls", "status"), RETRIED, ids=names(RETRIED))
async def test_a_lasting_fault_gives_one_error_after_all_attempts(
    sandbox: Sandbox, fault: Fault, cls: type[ZenovayError], status: int | None
) -> None:
    error = await failure(sandbox, fault)
    assert (type(error), error.status, error.attempts) == (cls, status, 3)
    await until(lambda: sandbox.count() == 3)


@pytest.mark.usefixtures("_quick_backoff")
@pytest.mark.parametrize("fault", [fault for fault, _, _ in RETRIED], ids=names(RETRIED))
async def test_a_transient_fault_is_not_seen_by_the_caller(sandbox: Sandbox, fault: Fault) -> None:
    sandbox.fault(fault, times=1)
    async with client(sandbox, fault) as zenovay:
        response = await zenovay.with_raw_response(zenovay.heatmaps.pages)(sandbox.website_ids[0], limit=1)
    assert len(response.data.pages) == 1
    assert response.attempts == 2


@pytest.mark.parametrize(("fault", "cls", "status"), FINAL, ids=names(FINAL))
async def test_a_permanent_fault_is_met_once(
    sandbox: Sandbox, fault: Fault, cls: type[ZenovayError], status: int | None
) -> None:
    error = await failure(sandbox, fault)
    assert (type(error), error.status, error.attempts) == (cls, status, 1)
    assert sandbox.count() == 1


async def test_a_refused_connection_costs_nothing(unused_tcp_port: int) -> None:
    """A port without a server is one error, and no request was sent."""
    async with Zenovay("zv_x", base_url=f"http://127.0.0.1:{unused_tcp_port}", max_attempts=1) as zenovay:
        with pytest.raises(APIConnectionError, match="No connection could be made") as caught:
            await zenovay.heatmaps.pages("x")
    assert caught.value.sent is False


async def test_an_exhausted_quota_costs_one_request(sandbox: Sandbox) -> None:
    """An exhausted quota costs one request, and is known from then on."""
    key = sandbox.add_key("spent", monthly_limit=2, monthly_used=2)
    async with Zenovay(key, base_url=sandbox.url) as zenovay:
        for _ in range(3):
            with pytest.raises(QuotaExceededError) as caught:
                await zenovay.heatmaps.pages(sandbox.website_ids[0])
            assert caught.value.retry_after is not None
    assert sandbox.count() == 1


async def test_keys_without_rights_are_distinguished(sandbox: Sandbox) -> None:
    free = sandbox.add_key("free", plan="free")
    scoped = sandbox.add_key("scoped", website_id=sandbox.website_ids[0])
    async with Zenovay("zv_unknown", base_url=sandbox.url) as zenovay:
        with pytest.raises(AuthenticationError):
            await zenovay.heatmaps.pages(sandbox.website_ids[0])
    async with Zenovay(free, base_url=sandbox.url) as zenovay:
        with pytest.raises(PermissionDeniedError, match="paid plan") as caught:
            await zenovay.heatmaps.pages(sandbox.website_ids[0])
        assert caught.value.code == "API_PAID_PLAN_REQUIRED"
    async with Zenovay(scoped, base_url=sandbox.url) as zenovay:
        assert (await zenovay.heatmaps.pages(sandbox.website_ids[0])).pages
        with pytest.raises(PermissionDeniedError, match="Access denied"):
            await zenovay.heatmaps.pages(sandbox.website_ids[1])
