"""Test runs of users, within a test."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

import _zenovay_async_pytest

IS_INSTALLED = bool(entry_points(group="pytest11", name="zenovay"))
"""Whether the entry point of the installed package loads the plugin."""

PLUGINS: list[Any] = [] if IS_INSTALLED else [_zenovay_async_pytest]
"""What to load in a run in this process."""
