"""Docstrings as mkdocstrings understands them: roles become links, and what only the package itself calls is hidden.

Editors show ``:class:`Batch```; a page links to it.
"""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`(?P<name>[^`]+)`")
_LITERAL = re.compile(r"::\n\n(?P<code>(?:    .*\n|\n)+)")
_RETURNS = re.compile(r"(^Returns:\n +)", re.MULTILINE)
_MADE_BY_THE_CLIENT = {
    "zenovay_async._batch.table.BatchTable",
    "zenovay_async._session.client_cache.ClientCache",
    "zenovay_async.resources.base.Resource",
    "zenovay_async.resources.paging.Paged",
}
"""Classes whose constructor is no business of the reader."""


class Roles(griffe.Extension):
    """Turns roles into links to what they name, where the reference has it."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of an object, before it is parsed."""
        if obj.docstring is not None:
            text = _ROLE.sub(lambda role: link(obj, role["name"]), obj.docstring.value)
            obj.docstring.value = _LITERAL.sub(fenced, text)

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Name the type of what is returned, as the text up to a colon is taken for it otherwise."""
        if func.docstring is not None and func.returns is not None:
            func.docstring.value = _RETURNS.sub(rf"\1{func.returns}: ", func.docstring.value)

    def on_attribute(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Show the type of what a private descriptor returns, which is its first argument, in place of its call."""
        value = attr.value
        if isinstance(value, griffe.ExprCall) and str(value.function).startswith("_") and value.arguments:
            attr.annotation, attr.value = value.arguments[0], None

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Hide the constructor of classes that the client makes."""
        if cls.path in _MADE_BY_THE_CLIENT:
            cls.members.pop("__init__", None)


def fenced(literal: re.Match[str]) -> str:
    """A block of code as Markdown has it, with its language."""
    return f":\n\n```python\n{textwrap.dedent(literal['code']).strip()}\n```\n\n"


def link(obj: griffe.Object, name: str) -> str:
    """A link to a name as it stands in the docstring of an object, or the name where it stands for nothing."""
    first, _, rest = name.partition(".")
    scope: griffe.Object | None = obj
    while scope is not None:
        if first in scope.all_members if scope.is_class else first in scope.members:
            path = ".".join(filter(None, (scope.path, first, rest)))
            return f'<autoref optional identifier="{path}"><code>{name}</code></autoref>'
        scope = scope.parent
    return f"`{name}`"
