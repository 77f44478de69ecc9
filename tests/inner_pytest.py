"""Test runs of users, within a test."""

from __future__ import annotations

# A run within a test forgets the modules that it is the first to import. Their package still has them as attributes, so
# that requests, imported later, would get two of this one.
from http import cookiejar
from importlib.metadata import entry_points
from typing import Any

import _zenovay_async_pytest

# The entry point of the installed package loads the plugin.
PLUGINS: list[Any] = [] if entry_points(group="pytest11", name="zenovay") else [_zenovay_async_pytest]
"""What to load in a run in this process."""

_KEPT = (cookiejar,)
