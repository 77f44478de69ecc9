"""No part of the key is shown, wherever a server echoes it: it is redacted first, and texts are cut after that."""

from __future__ import annotations

import asyncio
import logging
import pickle
import re
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from raw_server import RawServer

from zenovay_async import ConfigurationError, NotFoundError, ResponseDecodeError, Zenovay, ZenovayError
from zenovay_async._protocol.auth import Auth, Secret
from zenovay_async._protocol.base_url import DEFAULT_BASE_URL
from zenovay_async.exceptions import MAX_BODY_CHARS

if TYPE_CHECKING:
    from collections.abc import Callable

    from aioresponses import aioresponses

KEY = "zv_k7Qe19xWmP04tRz8LbVn35"
PARTS = {KEY[at : at + 8].lower() for at in range(len(KEY) - 7)}


def json_escaped(text: str) -> str:
    return "".join(
        character if character.isalnum() or character == "_" else f"\\u{ord(character):04X}" for character in text
    )


def shows_a_part(text: str) -> bool:
    """Whether eight characters of the key in a row are in a text, in any case."""
    lower = text.lower()
    return any(part in lower for part in PARTS)


@given(st.integers(0, MAX_BODY_CHARS + 50), st.integers(0, 3), st.integers(0, len(KEY)), st.integers(0, len(KEY)))
@example(MAX_BODY_CHARS - len(KEY) + 1, 1, 0, len(KEY))
@settings(max_examples=300)
def test_no_part_of_the_key_is_in_an_error_at_any_offset_of_a_body(
    before: int, more: int, start: int, end: int
) -> None:
    echoed = KEY[start:end]
    error = NotFoundError("unknown")
    error.body = "." * before + (KEY.upper() + ",") * more + echoed + KEY * more + " is unknown" * 9
    Auth(Secret(KEY)).redact(error)
    assert len(error.body) <= MAX_BODY_CHARS
    assert not shows_a_part(error.body)
    assert error.body.startswith("." * min(before, MAX_BODY_CHARS))


@given(st.text(), st.sampled_from(["zv_a", "zv_abc", KEY, "zv_" + "ab" * 40]), st.text())
def test_only_the_key_is_redacted(before: str, key: str, after: str) -> None:
    auth = Auth(Secret(key))
    assume(auth.redact_text(before) == before)
    assume(auth.redact_text(after) == after)
    lower = f"{before}|{after}"
    assert auth.redact_text(lower) == lower
    assert auth.redact_text(f"{before}|{key}|{after}") == f"{before}|<secret>|{after}"
    assert auth.redact_text(auth.redact_text(f"{key}{key}")) == "<secret>"


@pytest.mark.parametrize("size", [4, 8, 10, len(KEY) - 1, len(KEY)])
async def test_a_key_where_the_body_is_cut_is_redacted_first(canned: aioresponses, size: int) -> None:
    """The first characters of a key are no less secret."""
    filler = "x" * (MAX_BODY_CHARS - size)
    canned.get(f"{DEFAULT_BASE_URL}/echo", status=404, body=f"{filler}{KEY.upper()} is unknown")
    async with Zenovay(KEY, rate_limit=None) as zenovay:
        with pytest.raises(NotFoundError) as caught:
            await zenovay.request("GET", "echo")
    assert caught.value.body == f"{filler}<secret> is unknown"[:MAX_BODY_CHARS]


HEADS = [
    "HTTP/1.1 404 No {key}\r\nContent-Length: 0\r\nX-Request-Id: r-{key}\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Type: text/{key}\r\nContent-Length: 6\r\n\r\n<html>",
    "HTTP/1.1 200 OK\r\nContent-Encoding: {key}\r\nContent-Length: 2\r\n\r\n{{}}",
    "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 30\r\n\r\n{key}          ",
    "HTTP/1.1 401 No\r\nRetry-After: {key}\r\nContent-Length: 26\r\n\r\n{key} ",
    "HTTP/1.1 302 Found\r\nLocation: /{key}\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 {key} {key}\r\n\r\n",
    "{key}\r\n\r\n",
    "HTTP/1.1 200 OK\r\n{key}\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: {key}\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{key}\r\n",
    "HTTP/1.1 500 No\r\nContent-Length: 60\r\n\r\n" + '{{"error": {{"code": "{key}", "message": "{key}"}}}}',
    "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n" + '{{"data": {{"pages": [{{"{key}": 1}}]}}}}          ',
]


@pytest.mark.parametrize(
    "spell",
    [
        lambda text: text.replace("/", "\\/"),
        lambda text: text.replace("\\", "\\\\"),
        json_escaped,
        lambda text: quote(text, ""),
        escape,
        lambda text: re.sub(r"\W", lambda found: f"&#{ord(found[0])};", text),
        lambda text: re.sub(r"\W", lambda found: f"&#x{ord(found[0]):X};", text),
    ],
)
@pytest.mark.parametrize("before", [0, MAX_BODY_CHARS - 20])
async def test_a_key_that_json_html_or_a_url_spells_otherwise_is_redacted(
    spell: Callable[[str], str], before: int, canned: aioresponses
) -> None:
    key = "zv_k7/Qe1+xWm\\04t&z8L/Vn35=="
    body = f"{'x' * before} {spell(key)} {spell(key)} {'x' * 1000}"
    canned.get(f"{DEFAULT_BASE_URL}/echo", status=404, body=body)
    async with Zenovay(key, rate_limit=None) as zenovay:
        with pytest.raises(NotFoundError) as caught:
            await zenovay.request("GET", "echo")
    assert caught.value.body is not None
    assert not re.search("Qe1|xWm|04t|z8L|Vn3", caught.value.body)
    assert len(caught.value.body) <= MAX_BODY_CHARS


@pytest.mark.parametrize("before", range(20, 41, 4))
async def test_a_key_in_a_long_header_is_redacted_whole(before: int) -> None:
    async with RawServer() as server, Zenovay(KEY, base_url=server.url, rate_limit=None) as zenovay:
        coding = f"{'q' * before}{KEY}".encode()
        server.response = b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: 1\r\n\r\n?" % coding
        with pytest.raises(ResponseDecodeError, match=r"its Content-Encoding 'q+<secret>' is unknown"):
            await zenovay.heatmaps.pages("x")


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("echoed", [KEY, KEY[:-1], KEY[2:], KEY[5:15].upper()])
async def test_no_part_of_the_key_is_in_an_error_wherever_the_server_echoes_it(
    head: str, echoed: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In a status line, a header, a chunk or a body: in no attribute, cause, pickle or log line."""
    caplog.set_level(logging.DEBUG, "zenovay_async")
    events: list[Any] = []
    async with RawServer() as server:
        server.response = head.format(key=echoed).encode()
        server.per_connection = 1
        options: dict[str, Any] = {"max_attempts": 2, "timeout": 1, "on_event": events.append}
        async with Zenovay(KEY, base_url=server.url, rate_limit=None, **options) as zenovay:
            with pytest.raises(ZenovayError) as caught:
                await zenovay.heatmaps.pages("x")
    shown = [f"{event!r}" for event in events]
    error: BaseException | None = caught.value
    while error is not None:
        shown += [f"{error} {error!r} {error.args} {vars(error)}"]
        error = error.__cause__ or error.__context__
    assert not shows_a_part(" ".join(shown))
    assert not shows_a_part(repr(pickle.dumps(caught.value)))
    assert not shows_a_part(caplog.text)


async def test_a_key_in_place_of_an_argument_is_rejected_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    """Before a request is sent, as its URL would be logged by each proxy on the way."""
    caplog.set_level(logging.DEBUG)
    wrong: Any = KEY
    async with RawServer() as server, Zenovay(KEY, base_url=server.url) as zenovay:
        for call in (
            lambda: zenovay.heatmaps.pages(KEY),
            lambda: zenovay.heatmaps.pages("x", limit=wrong),
            lambda: zenovay.analytics.overview("x", range=KEY),
            lambda: zenovay.stats.aggregate(site_id=KEY),
            lambda: zenovay.request("GET", f"goals/{KEY}"),
            lambda: zenovay.request("GET", "goals", params={KEY: "1"}),
            lambda: zenovay.request(wrong, "goals"),
            lambda: zenovay.heatmaps.pages("x", timeout=wrong),
        ):
            with pytest.raises(ConfigurationError) as caught:
                await call()
            error = caught.value
            assert not shows_a_part(f"{error} {error!r} {vars(error)} {error.args} {pickle.dumps(error)!r}")
        assert server.received == []
    assert not shows_a_part(caplog.text)


async def test_the_cause_of_an_error_stays_if_it_does_not_show_the_key(unused_tcp_port: int) -> None:
    async with Zenovay(KEY, base_url=f"http://127.0.0.1:{unused_tcp_port}", timeout=0.2) as zenovay:
        with pytest.raises(ZenovayError) as caught:
            await zenovay.heatmaps.pages("x")
    await asyncio.sleep(0)
    assert isinstance(caught.value.__cause__, aiohttp.ClientConnectorError)
