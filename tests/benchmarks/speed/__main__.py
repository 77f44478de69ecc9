# ruff: noqa: T201 - it prints its results
"""Run the comparison: ``python -m tests.benchmarks.speed``, from the root of the repository; some six minutes.

Figures are printed, not judged. They are of CPU time wherever possible, which other work on the machine disturbs
least. Peers that are not installed are named and left out.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from importlib import metadata
from pathlib import Path

import msgspec
from pages import BENCHMARKS, OBSERVABILITY, Blocks, add_write_option, check_complete

from . import batches, caching, calls, decoding, imports, observing
from .contenders import CONTENDERS
from .report import Report, guide_texts, page_texts, text_of
from .server import serving

_PARTS = ("calls", "cache", "observing", "decoding", "batches", "imports")
_PACKAGES = (
    "aiohttp",
    "yarl",
    "multidict",
    "msgspec",
    "tenacity",
    "httpx",
    "pydantic",
    "aiometer",
    "openai",
    "opentelemetry-sdk",
    "redis",
)


def main() -> None:
    """Measure what was asked for, and print it."""
    options = argparse.ArgumentParser(prog="python -m tests.benchmarks.speed", description="Compare what calls cost.")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the results to this file")
    options.add_argument("--quick", action="store_true", help="fewer loads and rounds: about a minute")
    options.add_argument("--only", choices=_PARTS, action="append", help="only this part; may be repeated")
    add_write_option(options)
    given = options.parse_args()
    if given.write and given.quick:
        options.error("--write: the page has all rows, and --quick some of them")
    began, parts = time.monotonic(), given.only or _PARTS
    report = Report(platform.python_version(), _versions())
    if "calls" in parts:
        contenders, left_out = calls.present(CONTENDERS)
        cells = calls.QUICK if given.quick else [*calls.FULL, calls.AS_FOUND]
        with serving() as server:
            report.calls = calls.measure(server, cells, contenders, _note)
        report.left_out += left_out
    if "cache" in parts:
        with serving() as server:
            report.cache, left_out = caching.measure(server, _note, quick=given.quick)
        report.left_out += left_out
    if "observing" in parts:
        with serving() as server:
            report.observing, left_out = observing.measure(server, _note, quick=given.quick)
        report.left_out += left_out
    if "decoding" in parts:
        _note("decoding")
        report.decoding, left_out = decoding.measure(rounds=5 if given.quick else 15)
        report.left_out += left_out
    if "batches" in parts:
        _note("batches")
        report.batches, left_out = batches.measure(*((20_000, 1) if given.quick else (100_000, 3)))
        report.left_out += left_out
    if "imports" in parts:
        _note("imports")
        report.imports, left_out = imports.measure(rounds=3 if given.quick else 9)
        report.left_out += left_out
    report.seconds = time.monotonic() - began
    print(text_of(report))
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2))
    if given.write:
        check_complete(report.left_out)
        Blocks(BENCHMARKS, "speed").write(page_texts(report))
        Blocks(OBSERVABILITY, "speed").write(guide_texts(report))


def _versions() -> dict[str, str]:
    versions: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _note(text: str) -> None:
    print(f"measuring: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
