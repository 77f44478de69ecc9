"""The clients of a run: one, or one for each key of ``--keys-from``, over the same connections."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from zenovay_async import ConfigurationError, Zenovay
from zenovay_async._limits.options import STORE_VARIABLE
from zenovay_async._protocol.auth import KEY_VARIABLE
from zenovay_async._protocol.base_url import BASE_URL_VARIABLE, resolve_base_url
from zenovay_async._protocol.parameters import NOT_GIVEN
from zenovay_async.cli.keys import doubt_about_file
from zenovay_async.cli.trace import Tracer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from zenovay_async import OnEvent
    from zenovay_async.cli.keys import NamedKey
    from zenovay_async.cli.log_lines import LogLines
    from zenovay_async.cli.messages import MessageReporter
    from zenovay_async.cli.options import PerWebsite

_HOW_TO_SET_A_KEY = (
    f"set {KEY_VARIABLE}=zv_... (in PowerShell: $env:{KEY_VARIABLE}='zv_...')"
    if os.name == "nt"
    else f"export {KEY_VARIABLE}=zv_..."
)


class Client(NamedTuple):
    """A client of a run.

    Attributes:
        name: Name of its key; ``None`` for the only one.
        zenovay: The client.
        lines: Where to write.
        messages: Reports its waits.
    """

    name: str | None
    zenovay: Zenovay
    lines: LogLines
    messages: MessageReporter


@dataclass(frozen=True)
class Clients:
    """The clients of a run.

    Attributes:
        all: All of them, at least one.
        sandbox_ids: IDs of the websites of its sandbox, if it has one.
    """

    all: list[Client]
    sandbox_ids: tuple[str, ...] = ()


@contextlib.asynccontextmanager
async def open_clients(
    options: PerWebsite, keys: list[NamedKey], lines: LogLines, messages: MessageReporter
) -> AsyncGenerator[Clients]:
    """Open the clients.

    Args:
        options: The options.
        keys: The keys; empty for that of the environment, or of a sandbox.
        lines: Where to write.
        messages: Reports the waits of all of them.

    Raises:
        ConfigurationError: There is no key, or an option is invalid.
    """
    if options.sandbox is not None:
        from zenovay_async.sandbox import Sandbox  # noqa: PLC0415 - slow to import, and few runs need it

        async with Sandbox(websites=options.sandbox) as sandbox:
            zenovay = Zenovay(
                sandbox.api_key,
                base_url=sandbox.url,
                timeout=options.timeout,
                on_event=_listeners(options, lines, messages),
                rate_limit="auto" if options.rate_limit is None else options.rate_limit,
                rate_limit_store=None,
                batch_headroom=0,
                quota_reserve=options.quota_reserve,
            )
            async with zenovay:
                yield Clients([Client(None, zenovay, lines, messages)], tuple(sandbox.website_ids))
        return
    if not keys:
        if not os.environ.get(KEY_VARIABLE, "").strip():
            raise ConfigurationError(f"{KEY_VARIABLE} is not set; {_HOW_TO_SET_A_KEY}, or try --sandbox 3")
        async with _make_client(options, None, _listeners(options, lines, messages)) as zenovay:
            yield Clients([Client(None, zenovay, lines, messages)])
        return
    if options.keys_from is not None and (doubt := doubt_about_file(options.keys_from)):
        lines.write(doubt, "warning")
    async with contextlib.AsyncExitStack() as stack:
        clients: list[Client] = []
        for name, key, _ in keys:
            own_lines, own = lines.of_key(name), messages.of_key(name)
            listeners = _listeners(options, own_lines, own)
            if clients:
                zenovay = clients[0].zenovay.with_options(api_key=key, on_event=listeners)
            else:
                zenovay = _make_client(options, key, listeners)
            clients.append(Client(name, await stack.enter_async_context(zenovay), own_lines, own))
        yield Clients(clients)


def _listeners(options: PerWebsite, lines: LogLines, messages: MessageReporter) -> list[OnEvent]:
    return [messages.on_event, Tracer(lines).on_event] if options.trace else [messages.on_event]


def _make_client(options: PerWebsite, key: str | None, on_event: OnEvent | list[OnEvent]) -> Zenovay:
    store = options.rate_limit_store
    is_shared = bool(os.environ.get(STORE_VARIABLE) if store is None else store)
    return Zenovay(
        key,
        base_url=options.base_url,
        timeout=options.timeout,
        on_event=on_event,
        proxy=options.proxy,
        allow_http=options.allow_http,
        rate_limit="auto" if options.rate_limit is None else options.rate_limit,
        quota_reserve=options.quota_reserve,
        rate_limit_store=NOT_GIVEN if store is None else store,
        # A run alone has no direct calls beside its batch.
        batch_headroom="auto" if is_shared else 0,
    )


def server_of(options: PerWebsite) -> str:
    """The base URL of the server, or another name of a sandbox.

    Raises:
        ConfigurationError: It is invalid.
    """
    if options.sandbox is not None:
        return "sandbox"
    return resolve_base_url(options.base_url, os.environ.get(BASE_URL_VARIABLE), allow_http=options.allow_http)
