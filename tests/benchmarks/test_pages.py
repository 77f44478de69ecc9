"""Each program that measures writes the tables of the pages, in the form that these have."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import pytest
from dashboard import report as dashboard
from dashboard.runs import Row as DashboardRow
from pacing import __main__ as pacing
from pacing.people import Served
from pacing.servers import Row
from pages import BENCHMARKS, DASHBOARD, OBSERVABILITY, Blocks, check_complete, make_table
from real import network
from real import report as real
from real import runs as real_runs
from sharing import faults, matrix, messages, people
from sharing import page as sharing
from sharing import report as sharing_report
from speed import batches, calls, decoding, imports
from speed import report as speed
from speed.contenders import BARE
from speed.observed import OBSERVED, UNOBSERVED

if TYPE_CHECKING:
    from pathlib import Path


class Written(NamedTuple):
    """What a program writes of a canned result.

    Attributes:
        page: The page.
        target: The target of make that runs it.
        texts: What it writes, by the names of the blocks.
    """

    page: Path
    target: str
    texts: dict[str, str]


def pacing_report() -> pacing.Report:
    def row(limit: int, window: float) -> Row:
        return Row(
            server="fixed window",
            latency_ms=0,
            remaining=True,
            paced=True,
            limit=limit,
            window=window,
            calls=200,
            results=200,
            requests=200,
            rate_limited=0,
            seconds=15.1,
            ideal=15.0,
            share=0.995,
            error=None,
        )

    works = pacing.WORKS.values()
    scene = Served("fixed window", 30, 20.0, True, True, 20, 20, 60, 60, 2.0, 40, 1.0, 0)  # noqa: FBT003 - in order
    canceled = pacing.Canceled(40, 10, 10, 5.0, 60)
    return pacing.Report([row(work.limit, work.window) for work in works], [scene], canceled, 2.5, 1.0, 99.0)


def dashboard_report() -> dashboard.Report:
    def row(part: str) -> DashboardRow:
        return DashboardRow(
            variant="`Cache()`",
            workers=4,
            part=part,
            requests=6,
            rate_limited=0,
            loads=120,
            served=120,
            p50=0.3,
            p95=0.4,
        )

    away = [row("API down: 503"), row("just after 503")]
    arrivals = [row("at once"), row("over 10 s")]
    return dashboard.Report(arrivals=arrivals, restarts=[row("after a restart")], outages=away)


def real_report() -> real.Report:
    def run(mode: str) -> real_runs.Calls:
        return real_runs.Calls(
            limiter="fastify",
            mode=mode,
            calls=150,
            ok=150,
            requests=150,
            rejected=0,
            seconds=24.2,
            ideal=24.0,
            errors={},
        )

    rounds = [real_runs.Round(ok=30, rejected=0, seconds=0.1)] * 3
    outage = network.Outage(
        away=3.0,
        window=6.0,
        items=150,
        concurrency=8,
        broken=True,
        ok=150,
        tried=7,
        rejected=0,
        seconds=32.5,
        lost=8.5,
        errors={},
    )
    return real.Report(
        calls=[run("gather"), run("batch")],
        bursts=[real_runs.Bursts(limiter="fastify", calls=30, rounds=rounds)],
        another=[run("batch")],
        outage=[outage],
        no_such_host=network.NoSuchHost(
            direct_seconds=2.7,
            direct_attempts=4,
            direct_error="",
            batch_seconds=60.0,
            batch_items=8,
            batch_failed=0,
            batch_lookups=13,
            batch_error="",
        ),
        keepalive=[network.KeepAlive(name="TLS", calls=9, ok=9, received=9, repeated=0, slowest_ms=9.0, errors={})],
        odd=[network.Odd(name="`zstd`", requests=1, outcome="")],
    )


def sharing_rows(window: float) -> list[matrix.Row]:
    setting = messages.Setting(kind="sliding", limit=30, window=window, latency=0.2, remaining=True)
    shares: list[tuple[int, messages.StoreName]] = [(1, "none"), (4, "redis")]
    return [
        matrix.Row(
            run=matrix.Run(setting=setting, processes=processes, store=store, load="equal", calls=160),
            ok=160,
            requests=1160,
            rate_limited=0,
            seconds=10.0 + processes,
            spread=0.44,
            operations=None if store == "none" else 2.3,
            worst_update=2,
            late=0.0,
            events={},
        )
        for processes, store in shares
    ]


def sharing_report_of_all() -> sharing_report.Report:
    case = people.Case(kind="sliding", window=60.0, windows=3, processes=2, store="redis", start="idle key")
    return sharing_report.Report(
        matrix=[*sharing_rows(3.0), *sharing_rows(60.0)],
        people=[
            people.Row(
                case=case,
                asked=[20, 20, 20],
                served=[10, 20, 20],
                median_wait=[0.2, 0.3, 0.3],
                used=[1.0, 0.9, 0.9],
                rate_limited=0,
                batch_ok=9,
                errors={},
            )
        ],
        visits=[
            people.VisitsRow(
                store="redis",
                kind="sliding",
                timeout=timeout,
                calls=180,
                served=served,
                requests=180,
                rate_limited=0,
                seconds=seconds,
                errors={},
            )
            for timeout, served, seconds in ((None, 180, 15.3), (None, 180, 17.3), (1.5, 30, 1.5))
        ],
        faults=[
            faults.Row(
                fault="Redis frozen",
                store="redis",
                kind="sliding",
                calls=480,
                ok=480,
                requests=480,
                rate_limited=1,
                meanwhile=meanwhile,
                longest_gap=3.1,
                afterwards=1.0,
                seconds=50.0 + meanwhile / 10,
                ideal=60.0,
                errors={},
                events={},
            )
            for meanwhile in (162, 163)
        ],
    )


def speed_report() -> speed.Report:
    figure = calls.Figure(105.2, 1.04, 0.9, 1.27)
    lines, observed = (
        [calls.Line(name, figure, figure, figure, figure, figure) for name in names]
        for names in (("sdk", BARE), OBSERVED)
    )
    return speed.Report(
        "3.11.7",
        {"aiohttp": "3.14.5"},
        calls=[calls.Table(cell, lines, 20.0) for cell in (*calls.FULL, calls.AS_FOUND)],
        observing=[calls.Table(calls.FULL[0], observed, 20.0, UNOBSERVED)],
        decoding=[decoding.Decoded("this SDK", 4, 0.86, 0.96, 0.74, 1.05)],
        batches=[batches.Spread("this SDK", 100_000, 2.82, 2.81, 3.03, 1.0, 117.0, 117.0)],
        imports=[imports.Import(imports.OURS, 215.0, 186.0, 265.0, 30.0)],
    )


def texts_of_pacing(*, minute: bool) -> dict[str, str]:
    return {name: text for name, text in pacing.page_texts(pacing_report()).items() if (name == "minute") is minute}


WRITTEN = [
    Written(BENCHMARKS, "bench", texts_of_pacing(minute=False)),
    Written(BENCHMARKS, "bench-minute", texts_of_pacing(minute=True)),
    Written(DASHBOARD, "bench-dashboard", dashboard.page_texts(dashboard_report())),
    Written(BENCHMARKS, "bench-real", real.page_texts(real_report())),
    Written(BENCHMARKS, "bench-sharing", sharing.page_texts(sharing_report_of_all())),
    Written(BENCHMARKS, "speed", speed.page_texts(speed_report())),
    Written(OBSERVABILITY, "speed", speed.guide_texts(speed_report())),
]
EACH = pytest.mark.parametrize("written", WRITTEN, ids=[f"{each.target} {each.page.stem}" for each in WRITTEN])


def columns(text: str) -> list[str]:
    """The names of the columns of a table; none for a sentence."""
    return [cell.strip() for cell in text.partition("\n")[0].split("|")] if text.startswith("|") else []


@EACH
def test_the_page_has_each_table_that_is_measured_with_its_columns(written: Written) -> None:
    blocks = Blocks(written.page, written.target).read()
    assert {name: columns(text) for name, text in blocks.items()} == {
        name: columns(text) for name, text in written.texts.items()
    }


@EACH
def test_writing_replaces_tables_and_nothing_else(written: Written, tmp_path: Path) -> None:
    copy = tmp_path / "page.md"
    before = written.page.read_text(encoding="utf-8")
    copy.write_text(before, encoding="utf-8")
    blocks = Blocks(copy, written.target)
    blocks.write(written.texts)
    for name, text in blocks.read().items():
        table, _, caption = text.rpartition("\n\n")
        assert table.split() == written.texts[name].split()
        assert table.startswith("|") or max(map(len, table.splitlines())) <= 120
        assert re.fullmatch(r"\*Measured on \d{4}-\d\d-\d\d with Python .*\.\*", caption)
    outside = re.compile(rf"(<!-- made by make {written.target}: [a-z-]+ -->\n).*?(<!-- end -->)", re.DOTALL)
    assert outside.sub(r"\1\2", copy.read_text(encoding="utf-8")) == outside.sub(r"\1\2", before)


@EACH
def test_the_target_of_make_writes(written: Written) -> None:
    makefile = (BENCHMARKS.parents[1] / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(rf"(?m)^{written.target}:.*\n((\t.*\n)+)", makefile)
    assert recipe is not None
    assert all(line.endswith(" --write") for line in recipe[1].splitlines())


def test_a_table_without_a_block_is_named(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Benchmarks\n", encoding="utf-8")
    with pytest.raises(LookupError, match=r"page\.md: no block of make bench is called short"):
        Blocks(page, "bench").write({"short": "| a |"})


def test_nothing_is_written_where_rows_lack() -> None:
    check_complete([])
    with pytest.raises(SystemExit, match="Nothing was written into docs/:\nneeds nginx"):
        check_complete(["needs nginx"])


def test_figures_are_aligned_to_the_right_and_names_to_the_left() -> None:
    assert make_table(("a", "load", "429s"), [("nginx", "x", "7")], words=2).splitlines() == [
        "| a     | load | 429s |",
        "| ----- | ---- | ---: |",
        "| nginx | x    |    7 |",
    ]


def test_sums_and_ranges_of_shared_runs_are_those_of_the_page() -> None:
    texts = sharing.page_texts(sharing_report_of_all())
    last = {name: [cell.strip() for cell in text.splitlines()[-1].split("|")[1:-1]] for name, text in texts.items()}
    rows = texts["processes"].splitlines()
    shared = [cell.strip() for cell in rows[3].split("|")[1:-1]]
    assert shared == ["4", "equal", "redis", "1", "1,160", "0", "0", "127.3 %", "127.3 %", "0.44 s", "2.3", "2.3"]
    assert rows[-1] == "All calls got a result."
    assert last["beside-a-batch"][3:9] == ["10 of 20", "40 of 40", "0.20 s", "0.30 s", "100 %", "90 %"]
    assert last["visitors"][4:] == ["15.3 to 17.3 s", "0", "30 of 180"]
    assert last["faults"][2:] == ["960", "0", "2", "162 to 163", "3.1 s", "6.2 to 6.3 s"]
