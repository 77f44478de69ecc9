"""What the blocks of a page run on: a sandbox, a folder with some files, and one namespace.

A block of Python runs as a cell of a notebook, with ``await`` at the top. It may use these names without defining them:

- ``zenovay``: a client of the sandbox; the environment has its key and URL, so that ``Zenovay()`` is one, too
- ``website_id``, ``website_ids``: the first website of the sandbox, and all of them

The working directory has the files that ``Machine`` writes, and in commands ``ID`` is the first website.
"""

from __future__ import annotations

import ast
import asyncio
import configparser
import contextlib
import importlib.util
import inspect
import io
import json
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import trustme
import yaml
from cli_helpers import Terminal
from helpers import ROOT
from pictures import NOW

from zenovay_async import Zenovay
from zenovay_async.cli import main
from zenovay_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from pathlib import Path

    import pytest
    from blocks import Block

COLUMNS = 100
"""The width of the terminal whose output pages show."""

MODULE = "page_of_the_documentation"

OPTIONAL = {
    **dict.fromkeys(("duckdb", "pandas", "polars", "pyarrow"), "pip install --group frames"),
    "requests": "pip install --group test",
    **dict.fromkeys(("airflow", "celery"), "a scheduler, too large to install for a block"),
}
"""Packages whose blocks are passed over where they are not installed, and what to do about it."""

COMMAND_OF = {
    "pages.ndjson": "heatmaps pages --ids-from ids --format ndjson",
    "zenovay.db": "heatmaps pages --ids-from ids --format sqlite",
}
"""How the files are made that blocks of Python read, where no command of the page has made them."""

NOT_RUN = {
    "pip": "installs",
    "export": "the key is that of the sandbox",
    "make": "other jobs of CI run its targets",
    ".venv/bin/pytest": "runs the tests",
    "python -m zenovay_async.sandbox": "serves until Ctrl-C: tests/sandbox/test_sandbox_command.py",
    "zenovay-async --install-completion": "writes into the home directory: tests/cli/test_cli_help.py",
    "uvicorn": "serves until Ctrl-C",
    "gunicorn": "serves until Ctrl-C",
    "celery": "serves until Ctrl-C",
    "redis-cli": "needs a server that others use, too",
    "systemctl": "changes the machine",
    "kubectl": "needs a cluster",
    "docker": "needs a daemon",
    "curl": "reaches the API itself",
}
"""How shell commands begin that are not run: why."""

TOOLS = ("jq", "sqlite3")
"""Programs that commands start; those that the machine lacks are passed over."""

_VARYING = [
    (r"\x1b\[[0-9;]*m", ""),
    (r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:[+-]\d\d:\d\d|Z)?)?", "DATE"),
    (r"zv_\S+", "KEY"),
    (r"in \d+ days?", "in N days"),
    (r"\b[\d,]+(?:\.\d+)? (?:s|ms)\b", "N s"),
    (r"\b[\d,]+/(?:s|min)\b", "N/s"),
    (r" +", " "),
]
"""What differs from run to run, and how wide it makes columns."""


class Command(NamedTuple):
    """A command of a console block, and the lines that the page shows beneath it."""

    line: int
    text: str
    output: list[str]


def commands_of(block: Block) -> list[Command]:
    """The commands of a console block; a line that ends with a backslash goes on in the next one."""
    found: list[Command] = []
    lines = iter(enumerate(block.text.splitlines(), block.line))
    for number, line in lines:
        if not line.startswith("$ "):
            assert found, f"{block}: a console block begins with '$ '"
            found[-1].output.append(line)
            continue
        text = line.removeprefix("$ ")
        while text.endswith("\\"):
            text = text[:-1] + next(lines)[1].strip().removeprefix("> ")
        found.append(Command(number, text, []))
    return found


def steady(line: str) -> str:
    """A line of output without what differs from run to run."""
    for pattern, name in _VARYING:
        line = re.sub(pattern, name, line)
    return line.rstrip()


def shows(shown: list[str], printed: list[str]) -> bool:
    """Whether a page shows what a command prints; a line ``...`` stands for any number of lines."""
    pattern = "".join(r"(?:.*\n)*" if line == "..." else re.escape(steady(line)) + r"\n" for line in shown)
    return re.fullmatch(pattern, "".join(f"{steady(line)}\n" for line in printed)) is not None


class Machine:
    """Runs the blocks of one page, one after another."""

    def __init__(self, sandbox: Sandbox, folder: Path, runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sandbox = sandbox
        self.folder = folder
        self._runner = runner
        self._monkeypatch = monkeypatch
        # Frameworks look for the module of a function.
        module = ModuleType(MODULE)
        monkeypatch.setitem(sys.modules, MODULE, module)
        self.names = vars(module)
        self._client = Zenovay(sandbox.api_key, base_url=sandbox.url)
        self.names |= {
            "zenovay": self._client,
            "website_id": sandbox.website_ids[0],
            "website_ids": list(sandbox.website_ids),
        }
        self._write_files()
        self._printed: list[str] = []
        self.passed_over: list[str] = []
        self._unbound: set[str] = set()

    def _write_files(self) -> None:
        """Write the files that pages take for granted."""
        ids = "\n".join(self.sandbox.website_ids)
        texts = {
            "ids": ids,
            "websites.txt": ids,
            "customers": f"# name, key\nacme, {self.sandbox.api_key}\nglobex, {self.sandbox.add_key('globex')}\n",
            "visits.csv": "website_id,visited_at\n",
        }
        for name, text in texts.items():
            (self.folder / name).write_text(text, encoding="utf-8")
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.folder / "company-ca.pem"))
        authority.issue_cert("app.example").private_key_and_cert_chain_pem.write_to_path(
            str(self.folder / "client.pem")
        )

    def run(self, block: Block) -> None:
        """Run a block, or parse it."""
        languages: dict[str, Callable[[Block], None]] = {
            "console": self._console,
            "ini": lambda block: configparser.ConfigParser(strict=False).read_string(block.text),
            "json": _parse_json,
            "python": self._python,
            "sh": _parse_sh,
            "text": self._text,
            "toml": lambda block: _ignore(tomllib.loads(block.text)),
            "yaml": lambda block: _ignore(list(yaml.safe_load_all(block.text))),
            "dockerfile": _parse_dockerfile,
        }
        assert block.language in languages, f"{block}: {block.language!r}: expected one of {', '.join(languages)}"
        languages[block.language](block)

    def _has(self, block: Block, modules: Iterable[str]) -> bool:
        """Whether the modules that a block imports are installed; notes it if not."""
        missing = [name for name in modules if name in OPTIONAL and importlib.util.find_spec(name) is None]
        self.passed_over += [f"{block} needs {name}: {OPTIONAL[name]}" for name in missing]
        return not missing

    def _text(self, block: Block) -> None:
        if block.is_next:
            shown = block.text.splitlines()
            assert shows(shown, self._printed), f"{block}: what is printed is\n" + "\n".join(self._printed)

    def _python(self, block: Block) -> None:
        tree = ast.parse(block.text, f"{ROOT / block.page}")
        if not self._has(block, _imported(tree)):
            self._unbound.update(_bound(tree))
            return
        ast.increment_lineno(tree, block.line - 1)
        code = compile(tree, f"{ROOT / block.page}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        client = self.names["zenovay"]
        if isinstance(client, Zenovay) and client._transport.is_closed:
            # A block before ended with its own client.
            self.names["zenovay"] = self._client
        for name, arguments in COMMAND_OF.items():
            if name in block.text and not (self.folder / name).exists():
                self._main([*arguments.split(), "-o", name])
        try:
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                if code.co_flags & inspect.CO_COROUTINE:
                    self._runner.run(_await(code, self.names))
                else:
                    # Outside of the loop, so that asyncio.run() works.
                    exec(code, self.names)  # noqa: S102 - our own page
        except NameError as error:
            if error.name not in self._unbound:
                raise
            self.passed_over.append(f"{block}: {error}")
            self._unbound.update(_bound(tree))
        else:
            self._printed = printed.getvalue().splitlines()

    def _console(self, block: Block) -> None:
        for command in commands_of(block):
            if any(command.text.startswith(start) for start in NOT_RUN):
                continue
            if "--format parquet" in command.text and not self._has(block, ["pyarrow"]):
                continue
            missing = [tool for tool in TOOLS if re.search(rf"\b{tool} ", command.text) and shutil.which(tool) is None]
            if missing:
                self.passed_over.append(f"{block} needs {missing[0]}")
                continue
            code, out, errors = self._execute(command.text)
            self._printed = out
            found = "\n".join([f"{block.page}:{command.line}: $ {command.text}", *out[:20], *errors[:20]])
            if command.output:
                # A terminal has both, but a page about one of them need not show the other.
                is_shown = any(shows(command.output, printed) for printed in (out, errors, out + errors))
                assert is_shown, f"the page does not show what is printed: {found}"
            else:
                assert code == 0, f"exit code {code}: {found}"

    def _execute(self, command: str) -> tuple[int, list[str], list[str]]:
        """Run a command; returns its exit code, and the lines of standard output and of stderr."""
        command = re.sub(r"\bID\b", self.sandbox.website_ids[0], command)
        words = shlex.split(command, comments=True)
        if not words:
            return 0, [], []
        if words[0] == "zenovay-async" and not re.search(r"[|<>$;&]", command):
            return self._main(words[1:])
        return self._shell(command)

    def _main(self, arguments: list[str]) -> tuple[int, list[str], list[str]]:
        printed = Terminal()
        with (
            self._monkeypatch.context() as patch,
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(io.StringIO()) as errors,
        ):
            patch.setenv("COLUMNS", str(COLUMNS))
            patch.setenv("NO_COLOR", "1")
            patch.setattr("zenovay_async.sandbox.Sandbox", partial(Sandbox, now=NOW))
            code = main(arguments)
        return code, printed.getvalue().splitlines(), errors.getvalue().splitlines()

    def _shell(self, command: str) -> tuple[int, list[str], list[str]]:
        script = f'zenovay-async() {{ "{sys.executable}" -m zenovay_async "$@"; }}; set -o pipefail; {command}'
        ended = subprocess.run(  # noqa: S603 - our own page
            ["bash", "-c", script],  # noqa: S607 - the one of the machine
            cwd=self.folder,
            env={**os.environ},
            capture_output=True,
            text=True,
            check=False,
        )
        return ended.returncode, ended.stdout.splitlines(), ended.stderr.splitlines()


@contextlib.contextmanager
def machine_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Machine]:
    """A machine whose working directory is a folder."""
    with _logging_as_before(), Sandbox(websites=3, now=NOW) as sandbox, asyncio.Runner() as runner:
        monkeypatch.setenv("ZENOVAY_API_KEY", sandbox.api_key)
        monkeypatch.setenv("ZENOVAY_BASE_URL", sandbox.url)
        monkeypatch.chdir(folder)
        yield Machine(sandbox, folder, runner, monkeypatch)


@contextlib.contextmanager
def _logging_as_before() -> Generator[None]:
    """Undo what blocks set up for the whole process."""
    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in ("zenovay_async", MODULE))]
    before = [(logger, logger.level, [*logger.handlers], logger.propagate) for logger in loggers]
    try:
        yield
    finally:
        for logger, level, handlers, propagate in before:
            logger.setLevel(level)
            logger.handlers[:] = handlers
            logger.propagate = propagate


async def _await(code: Any, names: dict[str, Any]) -> None:
    await eval(code, names)  # noqa: S307 - our own page


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def _bound(node: ast.AST) -> Iterator[str]:
    """The names that a block binds, but for those inside of its functions and classes."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.alias):
            yield child.asname or child.name.partition(".")[0]
        elif isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            yield child.id
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield child.name
        elif not isinstance(child, ast.Lambda | ast.comprehension):
            yield from _bound(child)


def _ignore(_: object) -> None:
    """Take a value that was only made to see that it can be."""


def _parse_json(block: Block) -> None:
    try:
        json.loads(block.text)
    except ValueError:
        for line in block.text.splitlines():
            json.loads(line)


def _parse_sh(block: Block) -> None:
    subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)  # noqa: S607 - the one of the machine


def _parse_dockerfile(block: Block) -> None:
    known = {"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "RUN", "USER", "WORKDIR"}
    lines = re.sub(r"\\\n", " ", block.text).splitlines()
    assert {line.split()[0] for line in lines if line.strip() and not line.startswith("#")} <= known, str(block)
