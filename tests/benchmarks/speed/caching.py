"""What single flight and kept responses cost, measured as ``calls`` measures the clients."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from redis_server import RedisServer

from . import calls
from .cached import ALONE, CACHED, DESCRIBED, REDIS
from .contenders import BARE

if TYPE_CHECKING:
    from collections.abc import Callable

    from .calls import Cell, Table
    from .server import Server

JOINERS = 1_000


def measure(server: Server, note: Callable[[str], None], *, quick: bool) -> tuple[list[Table], list[str]]:
    """Measure calls that find nothing, that join, and that find a fresh response; returns also what was left out."""
    turns, left_out = 6 if quick else 12, list[str]()
    hits = [name for name in CACHED if name.startswith("hit")] + ["redis"]
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            redis = RedisServer(Path(folder))
        except RuntimeError as error:
            left_out.append(str(error))
            hits = [name for name in hits if "redis" not in name]
        else:
            stack.callback(redis.kill)
            os.environ[REDIS] = redis.url
            stack.callback(os.environ.pop, REDIS)

        loads: list[tuple[Cell, list[str]]] = [
            (calls.Cell(10, 20, turns=turns, rounds=4), [ALONE, BARE, "sdk", "missed"]),
            # So long that to start the callers hardly counts.
            (calls.Cell(JOINERS, 20, turns=turns, seconds=0.4), [DESCRIBED, "joined"]),
            (calls.Cell(1, 20, turns=turns), [ALONE, "sdk", "missed", DESCRIBED, *hits]),
        ]
        tables = [calls.measure(server, [cell], contenders, note, contenders[0])[0] for cell, contenders in loads]
    return tables, left_out
