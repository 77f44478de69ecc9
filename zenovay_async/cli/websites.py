"""Which websites a run requests, and with which of its clients."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from zenovay_async import ConfigurationError, ZenovayError
from zenovay_async.cli.ids import StreamedIds, is_file, read_ids

if TYPE_CHECKING:
    from io import FileIO

    from zenovay_async import WebsiteList
    from zenovay_async.cli.clients import Client, Clients
    from zenovay_async.cli.options import PerWebsite


def check_websites(options: PerWebsite, ids: tuple[str, ...]) -> None:
    """Check, before anything is opened, that the options say which websites are meant, and in one way.

    Raises:
        ConfigurationError: They do not.
    """
    given = bool(ids) or options.ids_from is not None
    if options.all_websites and given:
        raise ConfigurationError("--all-websites: it takes neither IDs nor --ids-from; expected one of them")
    if options.keys_from is None:
        if not given and not options.all_websites and options.sandbox is None:
            raise ConfigurationError(
                "no website IDs: pass IDs, --ids-from FILE or --all-websites, or try --sandbox 200"
            )
        return
    if options.sandbox is not None:
        raise ConfigurationError("--keys-from --sandbox: a sandbox has a key of its own; expected one of them")
    if str(options.keys_from) == str(options.ids_from) == "-":
        raise ConfigurationError("--keys-from - --ids-from -: expected one of them from standard input")
    if not given and not options.all_websites:
        raise ConfigurationError(
            "--keys-from: expected --all-websites, for the websites of each key; IDs are requested with every key"
        )


class Sources:
    """The IDs that each client requests.

    Attributes:
        of: The IDs of each client, a stream of unknown length among them.
        domains: Domains of websites, by ID, as far as they are known.
        errors: Why there are none, by the name of the client.
    """

    def __init__(self) -> None:
        self.of: dict[Client, list[str] | StreamedIds] = {}
        self.domains: dict[str, str] = {}
        self.errors: dict[str | None, ZenovayError] = {}

    @property
    def total(self) -> int | None:
        """How many they are; ``None`` if that is unknown."""
        if self.errors:
            return None
        sizes = [len(source) for source in self.of.values() if isinstance(source, list)]
        return sum(sizes) if len(sizes) == len(self.of) else None

    def add_websites(self, client: Client, found: WebsiteList) -> None:
        """Let a client request all websites of its key."""
        self.of[client] = [website.id for website in found.websites]
        self.domains |= {website.id: website.domain for website in found.websites if website.domain}
        if not found.websites:
            client.lines.write("No websites: the key reaches none")
        elif found.total is not None and found.total > len(found.websites):
            text = f"Only {len(found.websites):,} of {found.total:,} websites are in the list that the server sent"
            client.lines.write(text, "warning")

    def add_error(self, client: Client, error: ZenovayError) -> None:
        """Record that the websites of a key could not be listed."""
        self.errors[client.name] = error
        if client.name is not None:
            client.lines.write_error(error)


async def find_websites(options: PerWebsite, ids: tuple[str, ...], listed: FileIO | None, clients: Clients) -> Sources:
    """Find what each client requests: the IDs that are given, those of the sandbox, or all websites of its key.

    Args:
        options: The options.
        ids: IDs from the command line.
        listed: A file with further IDs.
        clients: The clients.

    Raises:
        ConfigurationError: The file is no text.
    """
    sources = Sources()
    if options.all_websites:
        for client, found in zip(clients.all, await asyncio.gather(*map(_list_websites, clients.all)), strict=True):
            if isinstance(found, ZenovayError):
                sources.add_error(client, found)
            else:
                sources.add_websites(client, found)
        return sources
    source: list[str] | StreamedIds = [*ids] or list(clients.sandbox_ids if listed is None else ())
    if listed is not None:
        # A pipe is read as it comes, unless several keys need its IDs; of a list, a batch requests each ID once.
        source = [*ids, *read_ids(listed)] if is_file(listed) else StreamedIds(ids, listed)
    if len(clients.all) > 1 and not isinstance(source, list):
        source = [website_id async for website_id in source]
    sources.of = dict.fromkeys(clients.all, source)
    if options.format == "table":
        await _add_sandbox_domains(sources, clients)
    return sources


async def _add_sandbox_domains(sources: Sources, clients: Clients) -> None:
    """Add the domains of the sandbox's websites, whose list takes no request of anyone's quota."""
    if clients.sandbox_ids:
        (client,) = clients.all
        found = await _list_websites(client)
        if not isinstance(found, ZenovayError):
            sources.domains = {website.id: website.domain for website in found.websites if website.domain}


async def _list_websites(client: Client) -> WebsiteList | ZenovayError:
    try:
        return await client.zenovay.websites.list()
    except ZenovayError as error:
        return error
