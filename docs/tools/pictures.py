"""Pictures of the terminal, made by the commands that they show: ``docs/assets/*.svg``.

    python docs/tools/pictures.py

The figures are those of the sandbox at one moment, so that they change only when the command line does.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from datetime import UTC, datetime
from functools import partial
from html import unescape
from pathlib import Path
from unittest.mock import patch

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from zenovay_async.cli import main as run_command
from zenovay_async.sandbox import Sandbox

ASSETS = Path(__file__).parents[1] / "assets"
NOW = datetime(2026, 11, 26, 16, 30, tzinfo=UTC)
"""The moment of the figures that the documentation shows."""

PICTURES = {
    "heatmaps": "heatmaps pages --sandbox 8 --limit 5",
    "overview": "analytics overview --sandbox 8 --range 30d",
    "retention": "retention cohorts --sandbox 1 --range 90d",
}
"""The command of each picture."""

WIDTH = 92
"""Columns of the terminal."""

_THEME = TerminalTheme(
    (22, 24, 33),
    (222, 226, 236),
    [
        (59, 66, 97),
        (240, 113, 120),
        (144, 203, 122),
        (232, 192, 110),
        (122, 162, 247),
        (199, 146, 234),
        (110, 205, 207),
        (222, 226, 236),
    ],
    [
        (110, 118, 150),
        (255, 139, 146),
        (168, 224, 146),
        (255, 216, 138),
        (148, 184, 255),
        (222, 170, 255),
        (140, 228, 230),
        (255, 255, 255),
    ],
)
# No font is loaded: each reader has a monospaced one, and textLength holds the columns.
_FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px;
  line-height: {line_height}px;
}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


class _Terminal(io.StringIO):
    """A terminal in memory."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        """Let commands draw for people."""
        return True


def printed_by(command: str) -> str:
    """What a command prints on a terminal of 256 colors, with its colors."""
    terminal = _Terminal()
    settings = {"COLUMNS": str(WIDTH), "TERM": "xterm-256color", "COLORTERM": ""}
    with (
        patch.dict(os.environ, settings),
        patch("zenovay_async.sandbox.Sandbox", partial(Sandbox, now=NOW)),
        contextlib.redirect_stdout(terminal),
        contextlib.redirect_stderr(io.StringIO()) as errors,
    ):
        os.environ.pop("NO_COLOR", None)
        if run_command(command.split()):
            raise SystemExit(f"{command}: {errors.getvalue()}")
    return terminal.getvalue()


def picture_of(name: str) -> str:
    """Draw a picture."""
    command = PICTURES[name]
    console = Console(
        file=io.StringIO(), width=WIDTH, record=True, force_terminal=True, color_system="256", highlight=False
    )
    console.print(Text.assemble(("$ ", "bright_black"), (f"zenovay-async {command}", "bold")))
    console.print(Text.from_ansi(printed_by(command)), end="")
    drawn = console.export_svg(
        title="",
        theme=_THEME,
        code_format=_FORMAT,
        unique_id=f"picture-{name}",
    )
    return "\n".join(line.strip() for line in drawn.replace("</text>", "</text>\n").splitlines() if line.strip()) + "\n"


def text_of(picture: str) -> list[str]:
    """The lines of text that a picture shows."""
    lines: dict[float, str] = {}
    for y, text in re.findall(r'<text [^>]*\by="([\d.]+)"[^>]*>([^<]*)</text>', picture):
        lines[float(y)] = lines.get(float(y), "") + unescape(text).replace("\xa0", " ")
    return [" ".join(line.split()) for _, line in sorted(lines.items()) if line.strip()]


def main() -> None:
    """Draw all pictures."""
    ASSETS.mkdir(exist_ok=True)
    for name in PICTURES:
        path = ASSETS / f"{name}.svg"
        path.write_text(picture_of(name), encoding="utf-8")
        sys.stdout.write(f"wrote {path}\n")


if __name__ == "__main__":
    main()
