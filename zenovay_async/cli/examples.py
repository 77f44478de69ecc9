"""Examples of a command, for its help: made of its arguments, so that a new method has some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from zenovay_async._tables.layout import layout_of
from zenovay_async.cli.operations import SITE_ID, dashed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from inspect import Parameter as Argument

    from zenovay_async.cli.operations import Operation

_TEXTS = {"question": '"Which pages are popular?"'}
"""What stands for a required text; by default its name."""


def examples_of(operation: Operation) -> list[str]:
    """Commands that run as they are, but for ``ID``, the ID of a website, and ``FILE``: first with the sandbox."""
    command = " ".join(["zenovay-async", operation.command, *map(_required, operation.required)])
    file = "--format ndjson -o FILE" if layout_of(operation.result) is None else "--format csv -o FILE"
    if not operation.is_per_website:
        site = f" --param {SITE_ID}=ID" if operation.takes_site_id else ""
        return [f"{command} --sandbox 3", f"{command}{site} {file}"]
    option = "".join(f" {option}" for option in _optional(operation))
    return [f"{command} --sandbox 3", f"{command} ID{option}", f"{command} --all-websites {file}"]


def _required(argument: Argument) -> str:
    documented = _documented(argument.annotation)
    return documented or _TEXTS.get(argument.name, argument.name.upper())


def _optional(operation: Operation) -> Iterator[str]:
    """The first option with documented values, else the first number, and how to have more than a page."""
    options = [argument for argument in operation.arguments if argument not in operation.required]
    values = {dashed(option.name): _documented(option.annotation) for option in options}
    numbers = {dashed(option.name): "10" for option in options if int in get_args(option.annotation)}
    known = {name: value for name, value in values.items() if value} or numbers
    yield from [f"--{name} {value}" for name, value in known.items()][:1]
    if operation.is_paged:
        yield "--take 200"


def _documented(annotation: Any) -> str:
    """A documented value of an argument, the last of them; ``""`` if there is none."""
    for part in (annotation, *get_args(annotation)):
        if get_origin(part) is Literal:
            return str(get_args(part)[-1])
    return ""
