"""What listeners cost, measured as ``calls`` measures the clients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import calls
from .observed import OBSERVED, UNOBSERVED

if TYPE_CHECKING:
    from collections.abc import Callable

    from .calls import Table
    from .server import Server


def measure(server: Server, note: Callable[[str], None], *, quick: bool) -> tuple[list[Table], list[str]]:
    """Measure calls that nobody, a listener, and OpenTelemetry listen to; returns also what was left out."""
    contenders, left_out = calls.present(OBSERVED)
    cell = calls.Cell(10, 20, rounds=2, turns=6) if quick else calls.Cell(10, 20, rounds=4, turns=12)
    return calls.measure(server, [cell], contenders, note, UNOBSERVED), left_out
