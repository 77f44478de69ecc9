"""The pytest plugin: what its fixtures, its marker and its setting do in a test run of a user's."""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from inner_pytest import PLUGINS

from zenovay_async.testing.fixtures import make_sandbox, read_markers

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def run(pytester: pytest.Pytester) -> Callable[..., pytest.RunResult]:
    """Run tests in this process."""

    def run_tests(source: str, *arguments: str, ini: str = "") -> pytest.RunResult:
        pytester.makeini(f"[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n{ini}\n")
        pytester.makepyfile(f"import asyncio, os\nimport pytest\nfrom zenovay_async import Zenovay\n\n{source}")
        return pytester.runpytest_inprocess("-p", "no:randomly", *arguments, plugins=PLUGINS)

    return run_tests


def test_the_own_client_of_an_application_meets_the_sandbox(run: Callable[..., pytest.RunResult]) -> None:
    """Whatever the environment said before; and afterwards it says the same again."""
    result = run(
        """
async def application():
    async with Zenovay() as zenovay:
        return len((await zenovay.websites.list()).websites)

@pytest.fixture(autouse=True, scope="module")
def environment():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZENOVAY_API_KEY", "zv_of_the_developer")
        patch.setenv("ZENOVAY_BASE_URL", "https://api.zenovay.com")
        patch.setenv("ZENOVAY_RATE_LIMIT_STORE", "redis://nowhere.example")
        patch.setenv("http_proxy", "http://proxy.example:3128")
        yield

@pytest.mark.zenovay(websites=5)
def test_sync(zenovay_sandbox):
    assert asyncio.run(application()) == 5
    assert zenovay_sandbox.count() == 1

@pytest.mark.asyncio
@pytest.mark.usefixtures("zenovay_sandbox")
async def test_async():
    assert await application() == 3
    assert "http_proxy" not in os.environ

def test_afterwards():
    assert os.environ["ZENOVAY_API_KEY"] == "zv_of_the_developer"
    assert os.environ["http_proxy"] == "http://proxy.example:3128"
    assert "ZENOVAY_RATE_LIMIT_STORE" in os.environ
"""
    )
    result.assert_outcomes(passed=3)


def test_one_client_fixture_serves_all_kinds_of_tests(run: Callable[..., pytest.RunResult]) -> None:
    result = run(
        """
def test_sync(zenovay, zenovay_sandbox):
    for _ in range(2):
        asyncio.run(zenovay.usage())
    zenovay_sandbox.assert_requests(2)

@pytest.mark.asyncio
async def test_asyncio(zenovay):
    assert (await zenovay.websites.list()).websites

@pytest.mark.asyncio
async def test_in_a_block(zenovay):
    async with zenovay:
        await zenovay.usage()

@pytest.mark.asyncio(loop_scope="module")
async def test_on_a_loop_that_lives_longer(zenovay):
    await zenovay.usage()

@pytest.mark.asyncio(loop_scope="module")
async def test_on_that_loop_again(zenovay):
    await zenovay.usage()

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_anyio(zenovay):
    await zenovay.usage()
"""
    )
    result.assert_outcomes(passed=6)


def test_markers_of_class_and_test_add_up(run: Callable[..., pytest.RunResult]) -> None:
    result = run(
        """
@pytest.mark.zenovay(websites=7, plan="pro")
class TestPlan:
    @pytest.mark.zenovay(rate_limit=9, websites=1)
    def test_it(self, zenovay, zenovay_sandbox):
        asyncio.run(zenovay.usage())
        assert (zenovay.rate_limit.limit, len(zenovay_sandbox.website_ids)) == (9, 1)
        assert zenovay.quota.limit == 10_000
"""
    )
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ({"zzz": 3}, "zzz: unknown argument; expected one of websites, "),
        ({"key": "zv_secret"}, "key: unknown argument; did you mean api_key?"),
        ({"plan": "gold"}, "plan='gold': expected one of free, pro"),
        ({"faults": None}, "faults=None: expected a list"),
        ({"faults": {"500": 0.1}}, "faults={'500': 0.1}: expected a list"),
        ({"unused_faults": ["ok"]}, "unused_faults=['ok']: expected \"ok\""),
        ({"api_key": 5}, "api_key: 'int'"),
        ({"latency": -1}, "latency=-1: expected seconds >= 0"),
        ({"latency": "x"}, "latency: '<"),
        ({"monthly_limit": -1}, "monthly_limit=-1: expected an int >= 0"),
        ({"monthly_used": "1"}, "monthly_used: '<"),
        ({"rate_limit_window": math.nan}, "rate_limit_window=nan: expected seconds > 0"),
        ({"now": datetime(2026, 1, 1)}, "now=datetime.datetime(2026, 1, 1, 0, 0): expected an aware datetime"),  # noqa: DTZ001 - it is wrong
        ({"websites": "x"}, "websites='x': expected an int from 0 to "),
        ({"faults": ["500:2"]}, "fault 500:2: expected NAME:SHARE with a share from 0 to 1"),
        ({"faults": ["nope"]}, "fault nope: expected NAME:SHARE with a name of 429"),
        ({"faults": "500"}, "faults='500': expected a list such as"),
        ({"unused_faults": "yes"}, "unused_faults='yes': expected \"ok\""),
    ],
)
def test_an_argument_that_is_wrong_is_named(marker: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make_sandbox(read_markers([((), marker)]))


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("website=3", "website: unknown argument; did you mean websites?"),
        ("3", "1 without a name: expected arguments by name, such as websites=3"),
    ],
)
def test_a_marker_that_is_wrong_is_an_error_of_its_test(
    run: Callable[..., pytest.RunResult], marker: str, message: str
) -> None:
    result = run(f"@pytest.mark.zenovay({marker})\ndef test_it(zenovay_sandbox): pass\n")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"@pytest.mark.zenovay: {message}*"])


def test_faults_of_the_marker_strike(run: Callable[..., pytest.RunResult]) -> None:
    result = run(
        """
from zenovay_async import ServerError

@pytest.mark.zenovay(faults=["500"])
def test_it(zenovay, zenovay_no_waits):
    with pytest.raises(ServerError):
        asyncio.run(zenovay.usage())
    assert zenovay_no_waits.skipped > 0
"""
    )
    result.assert_outcomes(passed=1)


def test_a_wrong_response_is_shown_where_the_test_gives_it(run: Callable[..., pytest.RunResult]) -> None:
    result = run('def test_it(zenovay_sandbox): zenovay_sandbox.respond("heatmaps.pages", {})')
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*required field is missing: 'pages'*", "test_*.py:*: ValueError"])
    result.stdout.no_fnmatch_line("*own_responses.py*")


def test_a_failure_shows_the_requests_of_the_sandbox(run: Callable[..., pytest.RunResult]) -> None:
    """Of the last 20, with status, fault and what comes near."""
    result = run(
        """
@pytest.mark.zenovay(faults=["429:0"])
def test_it(zenovay, zenovay_sandbox):
    async def main():
        for number in range(22):
            await zenovay.heatmaps.pages(zenovay_sandbox.website_ids[0], limit=number + 1)
        await zenovay.heatmaps.pages("nobody")
    asyncio.run(main())

def test_passes(zenovay_sandbox):
    print("no section here")
"""
    )
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "*zenovay: requests the sandbox received*",
            "* 3 before",
            "*GET /heatmaps/*/pages?limit=22 -> 200*",
            "*-> 404*",
        ]
    )
    text = result.stdout.str()
    assert text.count("requests the sandbox received") == 1
    assert "limit=4 " in text
    assert "limit=3 " not in text
    assert "zv_" not in text.split("requests the sandbox received")[1]


def test_a_fault_that_never_strikes_fails_the_test(run: Callable[..., pytest.RunResult]) -> None:
    result = run(
        """
from zenovay_async.sandbox import Fault

def test_forgotten(zenovay_sandbox):
    zenovay_sandbox.fault(Fault.status(503), times=2)

@pytest.mark.zenovay(unused_faults="ok")
def test_meant(zenovay_sandbox):
    zenovay_sandbox.fault(Fault.status(503), times=2)

def test_fails_anyway(zenovay_sandbox):
    zenovay_sandbox.fault(Fault.status(503), times=2)
    assert False

def test_is_skipped_midway(zenovay_sandbox):
    zenovay_sandbox.fault(Fault.status(503), times=2)
    pytest.skip()

@pytest.mark.xfail(strict=True, reason="fails on purpose, and its fault is not missed")
def test_fails_as_expected(zenovay_sandbox):
    zenovay_sandbox.fault(Fault.status(503), times=2)
    assert False

def test_struck(zenovay_sandbox, zenovay, zenovay_no_waits):
    zenovay_sandbox.fault(Fault.status(503), times=2)
    asyncio.run(zenovay.usage())
"""
    )
    result.assert_outcomes(passed=3, failed=1, errors=1, skipped=1, xfailed=1)
    result.stdout.fnmatch_lines(["*faults that no request met: *503*"])


def test_one_sandbox_may_serve_a_whole_session(run: Callable[..., pytest.RunResult]) -> None:
    result = run(
        """
@pytest.fixture(autouse=True)
def sandbox(zenovay_sandbox_session):
    zenovay_sandbox_session.reset()
    return zenovay_sandbox_session

@pytest.mark.parametrize("number", [1, 2])
def test_it(number, zenovay, sandbox):
    asyncio.run(zenovay.usage())
    asyncio.run(Zenovay().usage())
    sandbox.assert_requests(2)

def test_own(sandbox, zenovay_sandbox, zenovay):
    asyncio.run(zenovay.usage())
    assert (sandbox.count(), zenovay_sandbox.count()) == (0, 1)
    assert os.environ["ZENOVAY_BASE_URL"] == zenovay_sandbox.url

def test_again(sandbox):
    assert os.environ["ZENOVAY_BASE_URL"] == sandbox.url

def test_fails(sandbox, zenovay):
    asyncio.run(zenovay.websites.list())
    assert False
"""
    )
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(["*zenovay: requests the sandbox received*", "  GET /websites -> 200"])


def test_live_requests_are_blocked_if_the_setting_says_so(run: Callable[..., pytest.RunResult]) -> None:
    result = run(
        """
from zenovay_async import ConfigurationError

def test_live():
    with pytest.raises(ConfigurationError, match="Live requests are blocked.*api.zenovay.example.*zenovay_sandbox"):
        asyncio.run(Zenovay("zv_live", base_url="https://api.zenovay.example").usage())

def test_sandbox(zenovay):
    asyncio.run(zenovay.usage())

def test_mocked(zenovay_aioresponses):
    url = "https://api.zenovay.example"
    zenovay_aioresponses.get(f"{url}/websites", payload={"success": True, "data": {"websites": []}})
    zenovay = Zenovay("zv_live", base_url=url)
    assert not asyncio.run(zenovay.websites.list()).websites
""",
        ini="zenovay_block_live = true",
    )
    result.assert_outcomes(passed=3)


def test_two_tests_with_one_key_do_not_wait_for_each_other(
    run: Callable[..., pytest.RunResult], monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    """The key and the port are the same, and each test spends the whole limit."""
    monkeypatch.setenv("PORT", str(unused_tcp_port))
    result = run(
        """
@pytest.mark.zenovay(api_key="zv_fixed", port=int(os.environ["PORT"]), rate_limit=5)
@pytest.mark.parametrize("number", range(3))
def test_it(number, zenovay_sandbox):
    async def main():
        async with Zenovay(timeout=5) as zenovay:
            for _ in range(5):
                await zenovay.usage()
    asyncio.run(main())
    zenovay_sandbox.assert_no_429()
"""
    )
    result.assert_outcomes(passed=3)


def test_a_run_that_does_not_use_it_does_not_import_the_package(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor aiohttp; without the fixtures nothing is set."""
    pytester.makepyfile(
        """
import os, sys

def test_it():
    assert "_zenovay_async_pytest" in sys.modules
    assert not [name for name in sys.modules if name.partition(".")[0] in {"zenovay_async", "aiohttp", "aioresponses"}]
    assert "ZENOVAY_API_KEY" not in os.environ
"""
    )
    # The other plugins of this environment take seconds, and may import what they like.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.runpytest_subprocess("-p", "_zenovay_async_pytest").assert_outcomes(passed=1)
