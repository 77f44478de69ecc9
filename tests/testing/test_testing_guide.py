"""Every block of docs/testing.md runs, and those of docs/examples are the same files."""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING

import pytest
from helpers import ROOT
from inner_pytest import PLUGINS

from zenovay_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
EXAMPLES = ROOT / "docs" / "examples" / "testing"
BLOCKS: dict[str, str] = dict(re.findall(r'```\w+ title="(.+?)"\n(.+?)```', PAGE, re.DOTALL))
SITE = "a1b2c3d4-e5f6-7890-abcd-ef1234567890"

# Starlette asks for a successor of httpx, which FastAPI does not install yet.
SETTINGS = """
[pytest]
filterwarnings =
    error
    ignore:Using .httpx. with
"""


@pytest.fixture
def run(pytester: pytest.Pytester) -> Callable[..., pytest.RunResult]:
    """Run files of the page in an empty folder, in this process."""

    def run_files(*names: str) -> pytest.RunResult:
        for name in names:
            (pytester.path / name).write_text(BLOCKS[name], encoding="utf-8")
        if "pyproject.toml" not in names:
            (pytester.path / "pytest.ini").write_text(SETTINGS, encoding="utf-8")
        pytester.syspathinsert()
        return pytester.runpytest_inprocess(
            *("-p", "no:randomly", "-o", "asyncio_default_fixture_loop_scope=function"), plugins=PLUGINS
        )

    return run_files


def test_each_block_has_a_name_and_is_run_here() -> None:
    assert len(re.findall(r"^```\w+", PAGE, re.MULTILINE)) == len(BLOCKS)
    source = (ROOT / "tests" / "testing" / "test_testing_guide.py").read_text(encoding="utf-8")
    assert not [name for name in BLOCKS if f'"{name}"' not in source]


def test_the_examples_are_those_of_the_page() -> None:
    files = {path.name: path.read_text(encoding="utf-8") for path in EXAMPLES.glob("*.py")}
    assert len(files) == 4
    assert files == {name: text for name, text in BLOCKS.items() if name in files}
    assert max(len(files[name].splitlines()) for name in ("dashboard_app.py", "flask_app.py")) <= 35


def test_an_application_of_fastapi_is_tested_as_it_is(run: Callable[..., pytest.RunResult]) -> None:
    run("dashboard_app.py", "test_dashboard_app.py").assert_outcomes(passed=5)


def test_an_application_of_flask_is_tested_as_it_is(run: Callable[..., pytest.RunResult]) -> None:
    run("flask_app.py", "test_flask_app.py").assert_outcomes(passed=3)


@pytest.mark.parametrize(
    ("name", "tests"),
    [
        ("test_first.py", 1),
        ("test_sandbox.py", 1),
        ("test_marker.py", 2),
        ("test_session.py", 2),
        ("test_report.py", 1),
        ("test_mock.py", 1),
        ("test_mocked.py", 1),
    ],
)
def test_the_other_files_pass(run: Callable[..., pytest.RunResult], name: str, tests: int) -> None:
    run(name).assert_outcomes(passed=tests)


def test_live_requests_are_blocked(run: Callable[..., pytest.RunResult], pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
import asyncio, pytest
from zenovay_async import ConfigurationError, Zenovay

def test_it():
    with pytest.raises(ConfigurationError, match="Live requests are blocked"):
        asyncio.run(Zenovay("zv_live", base_url="https://api.zenovay.example").usage())
"""
    )
    run("pyproject.toml", "test_mocked.py").assert_outcomes(passed=2)


def test_a_cassette_is_recorded_once_without_the_key(
    run: Callable[..., pytest.RunResult], pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Here, or each run would load it anew, and the part of PyYAML that is written in C does not bear that.
    import_module("vcr")
    (pytester.path / "cassettes").mkdir()
    with Sandbox(api_key="zv_of_the_recording") as sandbox:
        monkeypatch.setenv("ZENOVAY_BASE_URL", sandbox.url)
        monkeypatch.setenv("ZENOVAY_API_KEY", sandbox.api_key)
        # The figures of the sandbox are those of today.
        recorded = BLOCKS["test_cassette.py"].replace(SITE, sandbox.website_ids[0]).replace("== 41_203", "> 0")
        monkeypatch.setitem(BLOCKS, "test_cassette.py", recorded)
        run("test_cassette.py").assert_outcomes(passed=1)
        sandbox.assert_requests(1)
    monkeypatch.setenv("ZENOVAY_API_KEY", "zv_another")
    run("test_cassette.py").assert_outcomes(passed=1)
    (cassette,) = (pytester.path / "cassettes").iterdir()
    text = cassette.read_text(encoding="utf-8")
    assert "unique_visitors" in text
    assert "zv_" not in text
