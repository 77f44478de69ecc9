"""What the fixtures of the pytest plugin need: a sandbox as a marker describes it, and the way there."""

from __future__ import annotations

import difflib
import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from zenovay_async._limits.options import STORE_VARIABLE
from zenovay_async._protocol.auth import KEY_VARIABLE
from zenovay_async._protocol.base_url import BASE_URL_VARIABLE
from zenovay_async.sandbox import Sandbox
from zenovay_async.sandbox.faults import parse_fault
from zenovay_async.testing.limits import forget_limits

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence

    import pytest

# Of a session of the application's own; the client goes to this machine without a proxy.
_PROXIES = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
_OWN = ("faults", "unused_faults")


class Marker(NamedTuple):
    """What ``@pytest.mark.zenovay(...)`` asks for.

    Attributes:
        options: Arguments of the ``Sandbox``.
        faults: Faults, such as ``"500:0.1"``.
        may_leave_faults: Whether faults may be left that no request met.
    """

    options: Mapping[str, Any]
    faults: tuple[str, ...]
    may_leave_faults: bool


def read_markers(markers: Iterable[tuple[tuple[Any, ...], Mapping[str, Any]]]) -> Marker:
    """Read the markers of a test.

    Args:
        markers: Arguments and keyword arguments of each, the closest to the test last.

    Raises:
        ValueError: An argument is unknown or has no such value.
    """
    merged: dict[str, Any] = {}
    known = [*inspect.signature(Sandbox).parameters, *_OWN]
    for positional, named in markers:
        if positional:
            raise ValueError(f"{len(positional)} without a name: expected arguments by name, such as websites=3")
        for name in named:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean {near[0]}?" if near else f"; expected one of {', '.join(known)}"
                # Not the value, which may be a key.
                raise ValueError(f"{name}: unknown argument{hint}")
        merged |= named
    given, unused = merged.pop("faults", ()), merged.pop("unused_faults", None)
    faults: Sequence[Any] = cast("Any", given) if isinstance(given, (list, tuple)) else (None,)
    if not all(isinstance(fault, str) for fault in faults):
        raise ValueError(f'faults={given!r}: expected a list such as ["500:0.1"]')
    if unused not in (None, "ok"):
        raise ValueError(f'unused_faults={unused!r}: expected "ok"')
    return Marker(merged, tuple(faults), may_leave_faults=unused == "ok")


def make_sandbox(marker: Marker) -> Sandbox:
    """Make the sandbox of a test, with its faults.

    Args:
        marker: What it is like.

    Raises:
        ValueError: An argument has no such value.
    """
    try:
        sandbox = Sandbox(**marker.options)
    except (AttributeError, TypeError) as error:
        raise ValueError(f"{', '.join(marker.options)}: {error}") from None
    for text in marker.faults:
        fault, share = parse_fault(text, "fault")
        sandbox.fault(fault, share=share)
    return sandbox


@contextmanager
def serving(sandbox: Sandbox, environment: pytest.MonkeyPatch) -> Generator[Sandbox]:
    """Run a sandbox on a thread, and lead the clients of the environment there.

    Args:
        sandbox: The sandbox.
        environment: Sets the variables, and restores them later.
    """
    forget_limits()
    try:
        with sandbox:
            environment.setenv(KEY_VARIABLE, sandbox.api_key)
            environment.setenv(BASE_URL_VARIABLE, sandbox.url)
            for name in (STORE_VARIABLE, *_PROXIES):
                environment.delenv(name, raising=False)
            yield sandbox
    finally:
        forget_limits()
