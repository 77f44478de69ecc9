"""Decoding alone: from the bytes of a response to its pages."""

from __future__ import annotations

import gc
import statistics
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import msgspec

from zenovay_async._protocol.decoding import Decoder
from zenovay_async.resources.heatmaps import HeatmapPages

from .contenders import Body, plain_decode, pydantic_body
from .server import body_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_MSGSPEC = "msgspec, by hand"


class Decoded(msgspec.Struct, frozen=True):
    """What one way costs for one length of response: µs of CPU, and the ratio to msgspec by hand with its spread."""

    way: str
    pages: int
    cpu: float
    ratio: float
    lowest: float
    highest: float


def measure(lengths: Sequence[int] = (4, 20, 100), rounds: int = 15) -> tuple[list[Decoded], list[str]]:
    """Measure all ways in rotation; returns the results and what was left out."""
    ways: dict[str, Callable[[bytes], Any]] = {
        "this SDK": Decoder(HeatmapPages).decode,
        _MSGSPEC: msgspec.json.Decoder(Body).decode,
        "json, dictionaries": plain_decode,
    }
    left_out: list[str] = []
    if find_spec("pydantic"):
        ways["pydantic"] = pydantic_body().model_validate_json
    else:
        left_out.append("Decoding with pydantic is left out: pydantic not installed")
    results: list[Decoded] = []
    for pages in lengths:
        body = body_of(pages)
        repeats = 20_000 // pages
        rotations = [{way: _time(decode, body, repeats) for way, decode in ways.items()} for _ in range(rounds)]
        for way in ways:
            ratios = sorted(rotation[way] / rotation[_MSGSPEC] for rotation in rotations)
            cpu = statistics.median(rotation[way] for rotation in rotations)
            results.append(Decoded(way, pages, cpu, statistics.median(ratios), ratios[0], ratios[-1]))
    return results, left_out


def _time(decode: Callable[[bytes], Any], body: bytes, repeats: int) -> float:
    gc.collect()
    began = time.process_time()
    for _ in range(repeats):
        decode(body)
    return 1e6 * (time.process_time() - began) / repeats
