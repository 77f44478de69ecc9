"""In a notebook an error shows the caller's code and ends with what is wrong; IPython asks it for its traceback."""

from __future__ import annotations

import sys
import traceback
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

import pytest

from zenovay_async import (
    APIConnectionError,
    APITimeoutError,
    ConfigurationError,
    HeatmapPages,
    NotFoundError,
    Zenovay,
    ZenovayError,
)
from zenovay_async.sandbox import Fault

if TYPE_CHECKING:
    from zenovay_async.sandbox import Sandbox


class Shell:
    """What a notebook shows an error with; as IPython's does, it leaves out the first frame, its own."""

    def __init__(self) -> None:
        self.InteractiveTB = self
        self.mode = "Context"

    def structured_traceback(
        self, kind: type[BaseException], error: BaseException, frames: TracebackType | None, *, tb_offset: int
    ) -> list[str]:
        assert (kind, tb_offset) == (type(error), 1)
        return traceback.format_exception(kind, error, frames)


@pytest.fixture(autouse=True)
def shell(monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A notebook."""
    module, shell = ModuleType("IPython"), Shell()
    vars(module)["get_ipython"] = lambda: shell
    monkeypatch.setitem(sys.modules, "IPython", module)
    return shell


def lines(error: ZenovayError) -> list[str]:
    return "".join(error._render_traceback_()).splitlines()


def files(error: ZenovayError) -> list[str]:
    """The files of the frames that are shown."""
    return [line.split('"')[1].rpartition("/")[2] for line in lines(error) if line.startswith("  File ")]


async def raised(call: Any) -> ZenovayError:
    with pytest.raises(ZenovayError) as caught:
        await call
    return caught.value


HERE = "test_notebook_errors.py"


async def test_only_the_callers_code_is_shown_and_the_message_is_last(zenovay: Zenovay, sandbox: Sandbox) -> None:
    error = await raised(zenovay.heatmaps.pages("nope"))
    assert files(error) == [HERE]
    assert lines(error)[-1] == f"zenovay_async.exceptions.NotFoundError: {error}"
    sandbox.fault(Fault.reset())
    error = await raised(zenovay.with_options(max_attempts=1).heatmaps.pages(sandbox.website_ids[0]))
    assert isinstance(error, APIConnectionError)
    assert error.__cause__ is not None
    assert files(error) == [HERE]
    assert "direct cause" not in "\n".join(lines(error))
    assert isinstance(await raised(zenovay.usage(timeout=1e-9)), APITimeoutError)


def test_a_missing_key_is_an_error_of_a_few_lines() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Zenovay()
    assert files(caught.value) == [HERE]
    assert len(lines(caught.value)) < 10


async def test_code_of_the_callers_that_the_package_called_is_shown(zenovay: Zenovay) -> None:
    async def fetch(site: str) -> HeatmapPages:
        return await zenovay.heatmaps.pages(site)

    async with zenovay.batch(["nope"], fetch) as results:
        error = await raised(results.table())
    assert isinstance(error, NotFoundError)
    assert set(files(error)) == {HERE}
    assert "in fetch" in "\n".join(lines(error))


async def test_what_the_caller_was_handling_and_causes_of_the_callers_stay(zenovay: Zenovay) -> None:
    missing = KeyError("site")
    try:
        raise missing
    except KeyError:
        error = await raised(zenovay.heatmaps.pages("nope"))
    assert "KeyError: 'site'" in "\n".join(lines(error))
    error.__cause__ = missing
    assert "direct cause" in "\n".join(lines(error))


async def test_verbose_mode_shows_all_frames(zenovay: Zenovay, shell: Shell) -> None:
    shell.mode = "Verbose"
    error = await raised(zenovay.heatmaps.pages("nope"))
    assert files(error) == [HERE, "heatmaps.py"]


def test_code_without_a_module_is_the_callers() -> None:
    with pytest.raises(NotFoundError) as caught:
        exec("raise error", {"__name__": None, "error": NotFoundError("No such website")})  # noqa: S102 - as templates do
    assert files(caught.value) == [HERE, "<string>"]


def test_an_error_without_frames_or_a_notebook_is_shown_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    error = NotFoundError("No such website")
    error.add_note("of the caller")
    shown = [f"zenovay_async.exceptions.NotFoundError: {error}", "of the caller"]
    assert lines(error) == shown
    monkeypatch.delitem(sys.modules, "IPython")
    assert lines(error) == shown
