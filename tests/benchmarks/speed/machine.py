"""What the measurements need of the machine, where it has it."""

from __future__ import annotations

import os
import resource
import sys

_MIB = 1024 * 1024


def pin(place: int) -> None:
    """Keep this process on one CPU, so that clients and the server never change places.

    Args:
        place: Which of the CPUs allowed, as an index: 0 for clients, -1 for the server.
    """
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {allowed[place]})


def warm_the_heap() -> None:
    """Bring the C library's heap into the state that it has in a program that has run for a while.

    asyncio reads sockets in steps of 256 KiB. The GNU C library maps fresh memory for each, 10 to 15 µs of CPU, until
    the process has once freed a block larger than that; then it serves them from the heap. Whether that has happened
    is an accident of what was imported, and it moves figures by a fifth. So comparisons are made with it settled, to
    the disadvantage of this SDK, which avoids the large reads by itself.
    """
    bytearray(4 * _MIB)


def peak_memory() -> float:
    """The most that this process has had in memory (resident set), in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / _MIB if sys.platform == "darwin" else peak / 1024
