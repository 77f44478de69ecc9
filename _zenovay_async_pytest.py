"""The pytest plugin of zenovay-async, loaded by its entry point.

Nothing here is done for a test that does not ask for it. The module is beside the package, and imports the package only
where it is needed: pytest loads it in every run, before coverage is measured.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from aioresponses import aioresponses

    from zenovay_async import Zenovay
    from zenovay_async.sandbox import Sandbox
    from zenovay_async.testing import NoWaits

_BLOCK_LIVE = "zenovay_block_live"
_MARKER = (
    "zenovay(**options): the sandbox of this test: any argument of zenovay_async.sandbox.Sandbox, such as websites=3; "
    'faults=["500:0.1"]; unused_faults="ok" for faults that need not strike'
)
_SESSION_FIXTURE = "zenovay_sandbox_session"
_SECTION = "zenovay: requests the sandbox received"

_sandbox_key = pytest.StashKey["Sandbox"]()
_passes_key = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the setting ``zenovay_block_live``."""
    parser.addini(_BLOCK_LIVE, "let no Zenovay client send a request to another machine", type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Add the marker ``zenovay``."""
    config.addinivalue_line("markers", _MARKER)


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Block live requests, if the setting says so; after coverage has begun."""
    if session.config.getini(_BLOCK_LIVE):
        from zenovay_async.testing import block_live  # noqa: PLC0415 - only where it is needed

        block = ExitStack()
        block.enter_context(block_live())
        session.config.add_cleanup(block.close)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the requests that the sandbox of a test received, if the test failed."""
    report = yield
    if not report.passed:
        item.stash[_passes_key] = False
    if report.failed:
        sandbox = item.stash.get(_sandbox_key, None)
        if sandbox is None and _SESSION_FIXTURE in getattr(item, "fixturenames", ()):
            sandbox = item.config.stash.get(_sandbox_key, None)
        if sandbox is not None:
            from zenovay_async.sandbox.recording import describe  # noqa: PLC0415

            report.sections.append((_SECTION, describe(sandbox.requests)))
    return report


@pytest.fixture
def zenovay_sandbox(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A sandbox of this test, on a thread of its own; ``ZENOVAY_API_KEY`` and ``ZENOVAY_BASE_URL`` lead there.

    ``@pytest.mark.zenovay(websites=3, rate_limit=30, faults=["500:0.1"])`` says what it is like.
    """
    from zenovay_async.testing.fixtures import make_sandbox, read_markers, serving  # noqa: PLC0415

    node: pytest.Item = request.node
    try:
        marker = read_markers((mark.args, mark.kwargs) for mark in reversed(list(node.iter_markers("zenovay"))))
        sandbox = make_sandbox(marker)
    except ValueError as error:
        pytest.fail(f"@pytest.mark.zenovay: {error}", pytrace=False)
    node.stash[_sandbox_key], node.stash[_passes_key] = sandbox, True
    with serving(sandbox, monkeypatch):
        yield sandbox
    if not marker.may_leave_faults and node.stash[_passes_key]:
        unused = sandbox.unused_faults
        if unused:
            pytest.fail(
                f"faults that no request met: {'; '.join(unused)}. "
                'If that is meant: @pytest.mark.zenovay(unused_faults="ok")',
                pytrace=False,
            )


@pytest.fixture(scope="session")
def zenovay_sandbox_session(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """One sandbox for all tests that use it, as for an application that is started once; markers do not concern it.

    What one test leaves is there in the next: call its ``reset()``, and ``zenovay_async.testing.forget_limits()``, in a
    fixture of your own.
    """
    from zenovay_async.sandbox import Sandbox  # noqa: PLC0415
    from zenovay_async.testing.fixtures import serving  # noqa: PLC0415

    with pytest.MonkeyPatch.context() as environment, serving(Sandbox(), environment) as sandbox:
        request.config.stash[_sandbox_key] = sandbox
        yield sandbox


@pytest.fixture
def zenovay(request: pytest.FixtureRequest) -> Zenovay:
    """A client of the sandbox of this test, for any kind of test; its connections close with the event loop."""
    from zenovay_async import Zenovay  # noqa: PLC0415

    names = request.fixturenames
    of_session = _SESSION_FIXTURE in names and "zenovay_sandbox" not in names
    sandbox: Sandbox = request.getfixturevalue(_SESSION_FIXTURE if of_session else "zenovay_sandbox")
    return Zenovay(sandbox.api_key, base_url=sandbox.url)


@pytest.fixture
def zenovay_no_waits() -> Iterator[NoWaits]:
    """The waits of clients take no real time in this test."""
    from zenovay_async.testing import no_waits  # noqa: PLC0415

    with no_waits() as waits:
        yield waits


@pytest.fixture
def zenovay_aioresponses() -> Iterator[aioresponses]:
    """Mocked responses of aiohttp, those of clients among them."""
    from zenovay_async.testing import aioresponses  # noqa: PLC0415

    with aioresponses() as mocked:
        yield mocked
