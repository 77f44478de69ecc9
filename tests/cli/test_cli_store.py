"""The command line beside other processes: ``--rate-limit-store``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from zenovay_async import SharedBudgetBack, SharedBudgetLost
from zenovay_async.cli import main
from zenovay_async.cli.clients import _make_client
from zenovay_async.cli.log_lines import LogLines
from zenovay_async.cli.messages import MessageReporter
from zenovay_async.cli.options import PerWebsite

if TYPE_CHECKING:
    from zenovay_async._limits.options import Limits

URL = "redis://:s3cret@localhost"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", "zv_x")


def limits(**options: Any) -> Limits:
    return _make_client(PerWebsite(**options), None, lambda _event: None)._limits


def test_a_run_alone_leaves_nothing_to_direct_calls_as_it_has_none() -> None:
    assert limits().shared_store is None
    assert limits().batch_headroom == 0


@pytest.mark.parametrize("store", ["machine", URL])
def test_a_run_that_shares_its_rate_limit_leaves_room_for_the_direct_calls_of_others(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        found = limits(rate_limit_store=store)
        assert (found.shared_store, found.batch_headroom) == (store, "auto")
        monkeypatch.setenv("ZENOVAY_RATE_LIMIT_STORE", "redis://elsewhere")
    monkeypatch.setenv("ZENOVAY_RATE_LIMIT_STORE", store)
    assert (limits().shared_store, limits().batch_headroom) == (store, "auto")


@pytest.mark.parametrize("store", ["s3cret", "http://s3cret", "redis://:s3cret/x@h"])
def test_another_store_is_rejected_by_the_name_of_the_option(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without what may be a password."""
    assert main(["heatmaps", "pages", "x", "--rate-limit-store", store]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("zenovay-async: --rate-limit-store: ")
    assert "s3cret" not in printed


def test_a_store_that_is_lost_and_back_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = MessageReporter(5.0, LogLines())
    reporter.on_event(SharedBudgetLost(reason="Redis: Connection refused", members=4, limit=7))
    reporter.on_event(SharedBudgetBack(seconds=12.3))
    assert capsys.readouterr().err.splitlines() == [
        "Store of the shared rate limit lost: Redis: Connection refused; continuing with 7 requests per window",
        "Store of the shared rate limit reachable again after 12 s",
    ]
