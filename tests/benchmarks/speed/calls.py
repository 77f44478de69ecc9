"""Calls over HTTP: all contenders in turn, against one server, in many short turns.

The machine's speed moves by a fifth from one minute to the next, and a figure taken alone says little. So contenders
make short turns in rotation, and each turn is compared with that of bare aiohttp in the same rotation. Every round
starts new processes, as chance gives each process a layout in memory that makes it a few percent faster or slower for
as long as it lives.

Each contender has processes of its own, for three reasons: what one imports or allocates cannot change the heap of
another (see ``machine.warm_the_heap``), its memory is known, and the processes that wait use no CPU.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec

from .contenders import BARE
from .worker import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .contenders import Contender
    from .server import Server

_WORKER = f"{__spec__.parent}.worker"


class Cell(msgspec.Struct, frozen=True):
    """One kind of load.

    Attributes:
        in_flight: Calls in flight at once.
        pages: Pages in each response.
        heap_as_found: Whether the heap is left as the imports left it.
        rounds: Rounds, each with new processes.
        turns: Turns in each round.
        seconds: Seconds of CPU that one turn takes.
    """

    in_flight: int
    pages: int
    heap_as_found: bool = False
    rounds: int = 2
    turns: int = 8
    seconds: float = 0.05


class Figure(msgspec.Struct, frozen=True):
    """A median over all turns, and its ratio to the base: median, lowest, highest over all rotations."""

    value: float
    ratio: float
    lowest: float
    highest: float


class Line(msgspec.Struct, frozen=True):
    """One contender under one kind of load; the figures are those of ``Turn``."""

    contender: str
    cpu: Figure
    rate: Figure
    p50: Figure
    p99: Figure
    peak: Figure


class Table(msgspec.Struct, frozen=True):
    """All contenders under one kind of load.

    Attributes:
        cell: The load.
        lines: The contenders.
        server: µs of CPU that the server used per call.
        base: The contender to which the ratios are.
    """

    cell: Cell
    lines: list[Line]
    server: float
    base: str = BARE

    def of(self, contender: str) -> Line | None:
        """The line of one contender, if it took part."""
        return next((line for line in self.lines if line.contender == contender), None)


FULL = [
    Cell(in_flight, pages, rounds=4 if (in_flight, pages) == (10, 20) else 2)
    for in_flight in (1, 10, 50)
    for pages in (4, 20, 100)
]
AS_FOUND = Cell(10, 20, heap_as_found=True)
QUICK = [Cell(in_flight, 20, rounds=2 if in_flight == 10 else 1, turns=6) for in_flight in (1, 10, 50)]


class _Worker:
    def __init__(self, contender: str, server: Server, cell: Cell, stack: ExitStack) -> None:
        command = [sys.executable, "-m", _WORKER, contender, server.url, str(cell.in_flight), str(cell.pages)]
        if cell.heap_as_found:
            command.append("--heap-as-found")
        pipe = subprocess.PIPE
        # Leaving the block closes its input, which ends it, and waits for that.
        process = stack.enter_context(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))  # noqa: S603
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("a process without pipes")
        self._contender, self._input, self._output = contender, process.stdin, process.stdout
        self._seconds = cell.seconds

    def wait(self) -> None:
        if self._read() != "ready":
            raise RuntimeError(f"{self._contender} did not start")

    def turn(self) -> Turn:
        self._input.write(f"{self._seconds}\n")
        self._input.flush()
        return msgspec.json.decode(self._read(), type=Turn)

    def _read(self) -> str:
        line = self._output.readline().strip()
        if not line:
            raise RuntimeError(f"{self._contender} ended early; its error stands above")
        return line


def measure(
    server: Server,
    cells: Sequence[Cell],
    contenders: Sequence[str],
    note: Callable[[str], None],
    base: str = BARE,
) -> list[Table]:
    """Measure every kind of load; ``note`` is called with what comes next."""
    tables: list[Table] = []
    for cell in cells:
        note(f"{cell.in_flight} in flight, {cell.pages} pages{', heap as found' if cell.heap_as_found else ''}")
        tables.append(_measure(server, cell, contenders, base))
    return tables


def _measure(server: Server, cell: Cell, contenders: Sequence[str], base: str) -> Table:
    # One entry for each rotation: the turns of all contenders.
    rotations: list[dict[str, Turn]] = []
    busy, calls = 0.0, 0
    for _ in range(cell.rounds):
        with ExitStack() as stack:
            workers = {name: _Worker(name, server, cell, stack) for name in contenders}
            for worker in workers.values():
                worker.wait()
            before = server.cpu()
            made: list[dict[str, Turn]] = []
            for turn in range(cell.turns):
                # Back and forth, so that nobody always comes after the same one.
                order = list(workers) if turn % 2 == 0 else list(reversed(workers))
                made.append({name: workers[name].turn() for name in order})
            busy += server.cpu() - before
            # The calls that warm each turn up count, too.
            calls += sum(turn.calls + 2 * cell.in_flight for rotation in made for turn in rotation.values())
            rotations += made
    return Table(cell, [_line(name, rotations, base) for name in contenders], 1e6 * busy / calls, base)


def _line(contender: str, rotations: Sequence[dict[str, Turn]], base: str) -> Line:
    def figure(name: str) -> Figure:
        mine = [float(getattr(rotation[contender], name)) for rotation in rotations]
        others = [float(getattr(rotation[base], name)) for rotation in rotations]
        ratios = sorted(one / other for one, other in zip(mine, others, strict=True))
        return Figure(statistics.median(mine), statistics.median(ratios), ratios[0], ratios[-1])

    return Line(contender, figure("cpu"), figure("rate"), figure("p50"), figure("p99"), figure("peak"))


def present(contenders: Mapping[str, Contender]) -> tuple[list[str], list[str]]:
    """The contenders that can take part, and what to say of those that cannot."""
    able = [name for name, contender in contenders.items() if not contender.missing()]
    left_out = [
        f"{contender.title} is left out: {' and '.join(missing)} not installed"
        for contender in contenders.values()
        if (missing := contender.missing())
    ]
    return able, left_out
