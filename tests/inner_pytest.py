"""Test runs of users, within a test."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

import _zenovay_async_pytest

# The entry point of the installed package loads the plugin.
PLUGINS: list[Any] = [] if entry_points(group="pytest11", name="zenovay") else [_zenovay_async_pytest]
"""What to load in a run in this process."""
