"""Help: what it costs, what it says, and that its examples run."""

from __future__ import annotations

import asyncio
import re
import shlex
import subprocess
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, get_type_hints

import pytest
from cli_helpers import IDS
from endpoints import OPERATIONS
from helpers import sample

from zenovay_async import __version__
from zenovay_async.cli import main
from zenovay_async.cli.app import make_app
from zenovay_async.cli.options import PerWebsite
from zenovay_async.sandbox import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from cyclopts import App

    from zenovay_async.cli.operations import Operation
    from zenovay_async.sandbox import Sandbox

EACH = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


def words_of(operation: Operation) -> list[str]:
    return operation.command.split()


def help_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main([*arguments]) == 0
    return capsys.readouterr().out


def examples_in(text: str) -> list[list[str]]:
    """The arguments of each example in a help."""
    return [shlex.split(line)[1:] for line in re.findall(r"^  (zenovay-async .*)", text, re.MULTILINE)]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """No line of a help is broken."""
    monkeypatch.setenv("COLUMNS", "200")


def test_help_and_version_import_neither_aiohttp_nor_the_sandbox() -> None:
    script = """
import sys
from zenovay_async.cli import main
for arguments in ["--version"], ["--help"], ["help"], ["heatmaps", "pages", "--help"]:
    assert main(arguments) == 0
    assert not {"aiohttp", "tenacity", "zenovay_async.client", "zenovay_async.sandbox"} & set(sys.modules), arguments
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert done.stderr == ""
    assert done.stdout.startswith(f"{__version__}\nUsage: zenovay-async COMMAND")


def test_the_version_that_cannot_be_written_is_an_error_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123 - a device
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["--version"]) == 1
        monkeypatch.undo()
    assert capsys.readouterr().err == "zenovay-async: standard output: No space left on device\n"


@pytest.mark.parametrize("command", ["", "heatmaps", "usage", "analytics overview"])
def test_help_is_a_command_as_well(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = command.split()
    assert help_of(capsys, "help", *words) == help_of(capsys, *words, "--help")


@pytest.mark.parametrize(
    ("command", "unknown", "meant"), [("heatmap", "heatmap", "heatmaps"), ("heatmaps page", "page", "pages")]
)
def test_help_on_what_is_no_command_names_the_commands(
    command: str, unknown: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["help", *command.split()]) == 2
    printed = capsys.readouterr().err
    assert f'Unknown command "{unknown}". Did you mean "{meant}"?' in printed


def test_help_names_the_variables_that_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys, "--help")
    assert "ZENOVAY_API_KEY" in text
    assert "ZENOVAY_BASE_URL" in text


@pytest.mark.parametrize("command", sample(["", *(operation.command for operation in OPERATIONS.values())]))
async def test_every_example_runs_and_the_first_needs_no_key(
    command: str,
    sandbox: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", sandbox.api_key)
    monkeypatch.setenv("ZENOVAY_BASE_URL", sandbox.url)
    monkeypatch.chdir(tmp_path)
    examples = examples_in(help_of(capsys, *command.split(), "--help"))
    assert len(examples) > 1
    assert examples[0][-2:] == ["--sandbox", "3"]
    for example in examples:
        assert example[: len(command.split())] == command.split()
        arguments = [re.sub(r"\bID$", IDS[0], word) for word in example]
        assert await asyncio.to_thread(main, arguments) == 0, (example, capsys.readouterr().err)
        assert capsys.readouterr().out or (tmp_path / "FILE").stat().st_size
        (tmp_path / "FILE").unlink(missing_ok=True)


def test_only_ids_and_what_is_required_have_positions() -> None:
    app = make_app()
    for operation in OPERATIONS.values():
        command: App = app
        for word in words_of(operation):
            command = command[word]
        arguments = command.assemble_argument_collection()
        positions = [argument.names[0] for argument in arguments if argument.index is not None]
        required = [f"--{argument.name}" for argument in operation.required]
        assert positions == required + ["IDS"] * operation.is_per_website


@pytest.mark.parametrize("operation", [found for found in OPERATIONS.values() if not found.is_per_website], ids=str)
def test_a_word_too_many_is_no_value_of_an_option(operation: Operation, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words_of(operation), "json"]) == 2
    assert capsys.readouterr().err == (
        f"zenovay-async: {operation.command} takes options alone, not 'json'; did you mean --format json?\n"
    )
    assert main([*words_of(operation), "30"]) == 2
    assert f"not '30'; see zenovay-async {operation.command} --help\n" in capsys.readouterr().err


@EACH
def test_no_flag_has_a_default_in_its_help(operation: Operation, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys, *words_of(operation), "--help")
    assert "[default: False]" not in text
    assert "[default: ()]" not in text


def test_stats_say_which_parameter_names_the_website(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--param site_id=ID" in help_of(capsys, "stats", "breakdown", "--help")


async def test_stats_without_a_website_are_sent_and_the_error_says_what_lacks(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The name of the parameter is not documented, so a server may do without it."""
    monkeypatch.setenv("ZENOVAY_API_KEY", sandbox.api_key)
    monkeypatch.setenv("ZENOVAY_BASE_URL", sandbox.url)
    assert await asyncio.to_thread(main, ["stats", "aggregate"]) == 2
    assert "Missing site_id; pass --param site_id=ID (GET stats/aggregate, HTTP 400" in capsys.readouterr().err
    assert sandbox.count() == 1
    sandbox.fault(Fault.status(400), times=1)
    assert await asyncio.to_thread(main, ["stats", "aggregate", "--param", f"site_id={IDS[0]}"]) == 2
    assert "pass --param" not in capsys.readouterr().err


INVALID = {
    "param": ["", "segment", "=x", " =x", "limit=5"],
    "columns": ["", "nothing", "url,url"],
    "sort": ["", "-", "nothing"],
    "tz": ["", "Nowhere/At_All"],
    "timeout": ["0", "-1", "nan", "soon"],
    "base_url": ["", "api.example", "https://[", "https://user:hidden@host", "http://example.com", "https://\udc80"],
    "proxy": ["http://", "socks5://user:hidden@host", "ftp://host"],
    "rate_limit_store": ["memory", "redis://host:x", "http://host"],
    "rate_limit": ["0", "1.5", "many"],
    "sandbox": ["0", "-1", "1.5"],
    "concurrency": ["0", "1.5"],
    "max_outage": ["-1", "nan"],
    "max_failures": ["-1", "100%", "few"],
    "max_requests": ["0", "1.5"],
    "quota_reserve": ["-1", "1.5"],
    "ids_from": ["", "/nowhere/at/all", "--x"],
    "keys_from": ["", "/nowhere/at/all", "--x"],
    "output": ["", "--x", "/nowhere/at/all"],
    "failures": ["", "--x", "/nowhere/at/all"],
    "report": ["", "--x", "/nowhere/at/all"],
}
"""Values that an option rejects, but for those that are one of a few words, or nothing but there."""


def names_in(text: str) -> list[str]:
    """What looks like an argument of Python."""
    known = [name for name in ("api_key", *INVALID) if "_" in name]
    return re.findall(rf"\b[a-z_]+=(?!ID|NAME)|Zenovay\(|\bNone\b|\b(?:{'|'.join(known)})\b", text)


def test_every_option_with_a_value_is_among_those_that_are_tried() -> None:
    """A new option needs values that it rejects, or is a flag or one of a few words."""
    kinds = {name: str(kind) for name, kind in get_type_hints(PerWebsite).items()}
    valued = {name for name, kind in kinds.items() if "bool" not in kind and "Literal" not in kind}
    # Of the request rather than the run.
    assert valued | {"param"} == set(INVALID)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in INVALID.items() for value in values])
def test_an_invalid_value_is_rejected_with_the_name_of_its_option(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", "zv_0123456789")
    # Where nothing listens, should a value be taken.
    monkeypatch.setenv("ZENOVAY_BASE_URL", "http://127.0.0.1:9")
    option = f"--{name.replace('_', '-')}"
    arguments = ["heatmaps", "pages", option, value]
    assert main(arguments if name in {"keys_from", "ids_from"} else [*arguments, IDS[0]]) == 2
    printed = capsys.readouterr().err
    assert option in printed
    assert names_in(printed) == []
    assert "hidden" not in printed


@EACH
def test_an_invalid_argument_is_rejected_with_the_name_of_its_option(
    operation: Operation, capsys: pytest.CaptureFixture[str]
) -> None:
    for argument in operation.arguments:
        if "bool" in str(argument.annotation):
            continue
        required = ["x" for other in operation.required if other != argument]
        option = f"--{argument.name.replace('_', '-')}"
        for value in ("-1", "1.5") if "int" in str(argument.annotation) else (" ",):
            assert main([*words_of(operation), option, value, *required, "--sandbox", "1"]) == 2
            printed = capsys.readouterr().err
            assert printed.startswith(f"zenovay-async: {option} {value!r}: expected") or f" {option} " in printed
            assert names_in(printed) == []


def test_a_variable_that_is_invalid_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", "zv_0123456789")
    monkeypatch.setenv("ZENOVAY_BASE_URL", "api.example")
    assert main(["usage"]) == 2
    assert capsys.readouterr().err.startswith("zenovay-async: ZENOVAY_BASE_URL='api.example': expected a URL such as ")


@pytest.mark.parametrize("key", [None, "", "\n", " \r\n"])
def test_without_a_key_the_command_says_what_to_do_in_a_shell(
    key: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if key is not None:
        monkeypatch.setenv("ZENOVAY_API_KEY", key)
    assert main(["usage"]) == 2
    assert capsys.readouterr().err == (
        "zenovay-async: ZENOVAY_API_KEY is not set; export ZENOVAY_API_KEY=zv_..., or try --sandbox 3\n"
    )


async def test_a_key_of_a_mounted_file_may_end_with_a_line_break(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", f"{sandbox.api_key}\r\n")
    monkeypatch.setenv("ZENOVAY_BASE_URL", f"{sandbox.url}\n")
    assert await asyncio.to_thread(main, ["usage"]) == 0


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("zv_0123 ", "ZENOVAY_API_KEY is more than an API key, or has a character that none has, such as a space"),
        ("zv_...", "ZENOVAY_API_KEY is a placeholder, not an API key"),
    ],
)
def test_a_variable_that_is_no_key_is_named(
    key: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", key)
    assert main(["usage"]) == 2
    assert capsys.readouterr().err.startswith(f"zenovay-async: {message}")


def test_a_command_that_is_interrupted_while_it_is_imported_has_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise KeyboardInterrupt

    for module in "zenovay_async.cli.app", "zenovay_async.cli.run":
        monkeypatch.setitem(sys.modules, module, Interrupted(module))
        assert main(["usage"]) == 130


@pytest.mark.parametrize(
    ("shell", "folder", "startup"),
    sample(
        [
            ("bash", ".local/share/bash-completion/completions", ".bashrc"),
            ("zsh", ".zsh/completions", ".zshrc"),
            ("fish", ".config/fish/completions", None),
        ]
    ),
)
def test_completion_is_installed_for_a_shell(
    shell: str,
    folder: str,
    startup: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ZSH", raising=False)
    monkeypatch.delenv("ZSH_CUSTOM", raising=False)
    assert main(["--install-completion", "--shell", shell]) == 0
    (script,) = (tmp_path / folder).iterdir()
    assert f"installed to {script}" in capsys.readouterr().out
    assert "zenovay-async" in script.name
    assert "all-websites" in script.read_text(encoding="utf-8")
    changed = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir() if path.is_file()}
    assert [*changed] == [startup] * (startup is not None)
    assert all(str(tmp_path / folder) in text for text in changed.values())


def test_completion_of_a_shell_that_is_unknown_asks_for_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    detect = import_module("cyclopts.completion.detect")

    def unknown() -> None:
        raise detect.ShellDetectionError

    monkeypatch.setattr(detect, "detect_shell", unknown)
    assert main(["--install-completion"]) == 2
    assert "--shell" in capsys.readouterr().err


def test_completion_that_cannot_be_written_is_an_error_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".local").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["--install-completion", "--shell", "bash"]) == 1
    assert str(tmp_path) in capsys.readouterr().err
