"""Attributes of classes and modules that are replaced for a while."""

from __future__ import annotations

from typing import Any

_MISSING = object()


class Patches:
    """Replaces attributes, and puts back what they were."""

    def __init__(self) -> None:
        self._originals: list[tuple[Any, str, Any]] = []

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Replace an attribute.

        Args:
            owner: A class, a module or an object.
            name: Name of the attribute.
            value: What it is until :meth:`undo`.
        """
        own: dict[str, Any] = owner.__dict__
        self._originals.append((owner, name, own.get(name, _MISSING)))
        setattr(owner, name, value)

    def undo(self) -> None:
        """Put all attributes back, the last one first."""
        while self._originals:
            owner, name, original = self._originals.pop()
            if original is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, original)
