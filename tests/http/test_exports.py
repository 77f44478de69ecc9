"""What ``zenovay_async`` exports."""

from __future__ import annotations

from types import ModuleType
from typing import get_origin

import zenovay_async


def test_public_names_are_exported_and_documented() -> None:
    """The public names are those that are exported, and each is documented; an alias has a docstring of its own."""
    modules = {name for name, value in vars(zenovay_async).items() if isinstance(value, ModuleType)}
    names = {name for name in vars(zenovay_async) if not name.startswith("_")} - modules
    assert names == {name for name in zenovay_async.__all__ if not name.startswith("_")}
    aliases = {name for name in names if get_origin(getattr(zenovay_async, name)) is not None}
    for name in names - aliases - {"NOT_GIVEN"}:
        assert getattr(zenovay_async, name).__doc__, name
