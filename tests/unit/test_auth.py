"""The API key is checked when a client is made, and is shown nowhere."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import math
import pickle
import traceback
from typing import TYPE_CHECKING, Any
from unittest.mock import create_autospec

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from helpers import URL, examples
from hypothesis import given, settings
from hypothesis import strategies as st

import zenovay_async
from zenovay_async import ConfigurationError, ResponseDecodeError, Zenovay, ZenovayError, client
from zenovay_async._protocol.auth import Auth, AuthStyle, Secret, resolve_api_key
from zenovay_async._protocol.base_url import DEFAULT_BASE_URL, resolve_base_url
from zenovay_async.events import Event, RetryScheduled, SchemaDrift

if TYPE_CHECKING:
    from collections.abc import Callable

    from aioresponses import aioresponses

    from zenovay_async.sandbox import Sandbox

KEY = "zv_0123456789secret"


INVALID: list[Any] = [
    *("", "\n", "   ", "zv_a\nb", "zv_a b", " zv_abc", "zv_a\tb", "zv_\x00", "zv_\x7f", "zv_ä", "zv_a\u200bc"),
    *("ZENOVAY_API_KEY=zv_abc", "export ZENOVAY_API_KEY=zv_abc", "X-API-Key:zv_abc", "api_key=abc"),
    *("\ufeffzv_abc", "Bearer zv_1", '"zv_abc"', "'zv_abc'", 5, b"zv_abc", ["zv_abc"], True),
]


@pytest.mark.parametrize("key", INVALID)
def test_an_invalid_key_is_rejected_when_the_client_is_made(key: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Zenovay(key)
    assert caught.value.attempts == 0
    assert not str(key).strip() or str(key) not in str(caught.value)


# What templates, tutorials and log files have in place of a key.
PLACEHOLDERS = """
YOUR_API_KEY your-api-key <your-api-key> zv_your_api_key ZV_YOUR_KEY zv_your_key_here your_zenovay_api_key zv_xxx ZV_xxx
zv_xxxxxxxxxxxxxxxx XXXX zv_... zv_**** zv_ zv_<key> ${ZENOVAY_API_KEY} $ZENOVAY_API_KEY %ZENOVAY_API_KEY% {{api_key}}
[key] (key) ZENOVAY_API_KEY API_KEY api-key my_api_key the-api-key insert_key_here paste-your-key zv_replace_me changeme
CHANGE_ME placeholder example todo None null undefined ---
zv_live_xxxxxxxx zv_test_XXX zv_example_key zv_1a2b... zv_1a2b...9f zv_1a2b********9f REDACTED zv_REDACTED tbd
"""


@pytest.mark.parametrize("key", PLACEHOLDERS.split())
def test_a_placeholder_of_a_template_is_rejected_as_such(key: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"is a placeholder, not an API key. Create one in the Zenovay dashboard"
    ):
        Zenovay(key)


@pytest.mark.parametrize("key", ["zv_k", "zv_test", KEY, "zv_1a-2b.3c~4d+5e/6f=", "zv_" + "a" * 500, "zv_live_mykey"])
def test_a_key_that_starts_as_documented_is_accepted_without_a_word(key: str, caplog: pytest.LogCaptureFixture) -> None:
    Zenovay(key)
    assert not caplog.text


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_the_newline_at_the_end_of_a_mounted_secret_is_left_out(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", KEY + end)
    assert resolve_api_key(Secret(KEY + end)) == KEY
    assert Zenovay()._auth.key == Zenovay("zv_other").with_options(api_key=KEY + end)._auth.key == KEY


@pytest.mark.parametrize(
    ("keys", "warning"),
    [
        (
            ("ZV_123456", "ZV_234567"),
            "The API key looks like a tracking code (ZV_...), which is public; keys start with zv_",
        ),
        (("sk-123456", "token2"), "The API key does not start with zv_, as API keys of Zenovay do"),
    ],
)
def test_a_key_with_another_prefix_is_used_with_one_warning(
    keys: tuple[str, ...], warning: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of the API write keys with ZV_ as well, and mention tokens of other kinds."""
    monkeypatch.setattr(client, "_doubts", set())
    for key in keys:
        assert Zenovay(key).with_options(api_key=key)._auth.key == key
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("WARNING", warning)]


def test_a_key_that_is_no_str_is_rejected_by_its_type() -> None:
    class SecretStr:
        def get_secret_value(self) -> str:
            return KEY

        def __str__(self) -> str:
            return "**********"

    key: Any = SecretStr()
    for make in (Zenovay, lambda key: Zenovay(KEY).with_options(api_key=key)):
        with pytest.raises(ConfigurationError) as caught:
            make(key)
        assert str(caught.value) == "api_key: expected a str, not SecretStr; pass the result of its get_secret_value()"


def test_without_a_key_the_error_says_how_to_pass_and_to_get_one() -> None:
    with pytest.raises(ConfigurationError, match=r"ZENOVAY_API_KEY is not set.*Settings > API keys"):
        Zenovay()


_GET_ONE = "Create one in the Zenovay dashboard under Settings > API keys"


@pytest.mark.parametrize(
    ("passed", "from_environment", "message"),
    [
        (
            None,
            None,
            f'No API key: ZENOVAY_API_KEY is not set; pass Zenovay("zv_...") or set ZENOVAY_API_KEY. {_GET_ONE}',
        ),
        ("", KEY, f'No API key: api_key is empty; pass Zenovay("zv_...") or set ZENOVAY_API_KEY. {_GET_ONE}'),
        ("YOUR_API_KEY", KEY, f"api_key is a placeholder, not an API key. {_GET_ONE}"),
        (None, "YOUR_API_KEY", f"ZENOVAY_API_KEY is a placeholder, not an API key. {_GET_ONE}"),
        (
            "zv_98765 ",
            None,
            "api_key is more than an API key, or has a character that none has, such as a space; copy the key alone",
        ),
    ],
)
def test_an_error_about_a_key_says_where_it_came_from(
    passed: str | None, from_environment: str | None, message: str
) -> None:
    given, variable = (None if text is None else Secret(text) for text in (passed, from_environment))
    with pytest.raises(ConfigurationError) as caught:
        resolve_api_key(given, variable)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("api.example", "SOURCE='api.example': expected a URL such as 'https://api.zenovay.com/api/external/v1'"),
        ("https://[", "SOURCE='https://[': invalid URL ("),
        (
            "https://user:hidden@host",
            "SOURCE contains a user name or password: remove it and pass the key as api_key=",
        ),
        (
            "http://host",
            (
                "SOURCE='http://host' would send the API key unencrypted; "
                "use https, or allow_http=True on a trusted network"
            ),
        ),
    ],
)
@pytest.mark.parametrize("source", ["base_url", "ZENOVAY_BASE_URL"])
def test_an_error_about_a_base_url_says_what_to_do(url: str, message: str, source: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve_base_url(*((url, None) if source == "base_url" else (None, url)))
    assert caught.value.message.startswith(message.replace("SOURCE", source))
    assert "hidden" not in str(caught.value)


def test_the_key_and_the_base_url_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", KEY)
    monkeypatch.setenv("ZENOVAY_BASE_URL", "http://localhost:1/api/")
    assert repr(Zenovay()) == "Zenovay(base_url='http://localhost:1/api')"


def test_arguments_take_precedence_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", "not a key")
    monkeypatch.setenv("ZENOVAY_BASE_URL", "not a url")
    assert "example" in repr(Zenovay(KEY, base_url="https://api.example"))


def test_without_a_base_url_the_public_api_is_used() -> None:
    assert resolve_base_url(None, None) == DEFAULT_BASE_URL == "https://api.zenovay.com/api/external/v1"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.zenovay.com",
        "ftp://x",
        "https://",
        "https://u:p@host",
        "https://h?a=1",
        "https://h#f",
        "https://[",
        "https://h:x",
        "https://a..b",
        "https://.",
        "https://.a",
        f"https://{'a' * 70}.example",
        "https://\u00e4\u00f6" + "a" * 60,
        "https://a b",
        " https://h",
        "https://h/a\nb",
        "https://\x80",
        "https://h/\ud800",
        "https://a%20b",
        "https://a,b",
        5,
        b"https://api.example",
        ["https://api.example"],
    ],
)
def test_an_invalid_base_url_is_rejected(url: Any) -> None:
    with pytest.raises(ConfigurationError, match="base_url"):
        Zenovay(KEY, base_url=url, allow_http=True)


@pytest.mark.parametrize("end", ["\n", "\r\n", "/\n\n"])
def test_the_newline_at_the_end_of_a_mounted_base_url_is_left_out(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A base URL from a file works as a key from a file does; a file of nothing else is no base URL."""
    monkeypatch.setenv("ZENOVAY_BASE_URL", f"https://api.example/v1{end}")
    expected = "Zenovay(base_url='https://api.example/v1')"
    assert repr(Zenovay(KEY)) == repr(Zenovay(KEY, base_url=f"https://api.example/v1{end}")) == expected
    monkeypatch.setenv("ZENOVAY_BASE_URL", end.removeprefix("/"))
    assert repr(Zenovay(KEY)) == f"Zenovay(base_url={DEFAULT_BASE_URL!r})"


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.",
        f"https://{'a' * 63}.example:8443/v1/",
        "https://b\u00fccher.example/\u00e4",
        "https://under_score.internal",
        "https://10.0.0.1",
        "https://[2001:db8::1]:8443",
        "https://[fe80::1%25eth0]",
    ],
)
def test_a_valid_base_url_is_accepted(url: str) -> None:
    assert repr(Zenovay(KEY, base_url=url)) == f"Zenovay(base_url={url.rstrip('/')!r})"


@given(
    st.one_of(
        st.text(max_size=30),
        st.text(max_size=20).map("https://{}".format),
        st.text("a.:[]%-_ /@1x\u00e9\u2100\u3002\ud800", max_size=20).map("https://{}".format),
    )
)
@settings(max_examples=examples(500))
def test_any_text_is_a_base_url_or_a_configuration_error(text: str) -> None:
    try:
        Zenovay(KEY, base_url=text, allow_http=True)
    except ConfigurationError as error:
        assert str(error)  # noqa: PT017 - either way is fine


@pytest.mark.parametrize("host", ["\U000e0100", "a\U000e0100.example", "\u180b.example"])
@pytest.mark.parametrize("session", [None, create_autospec(aiohttp.ClientSession, instance=True)])
def test_a_host_with_characters_that_vanish_is_rejected(host: str, session: aiohttp.ClientSession | None) -> None:
    """It could be read as another host than the one that is shown."""
    with pytest.raises(ConfigurationError, match="base_url"):
        Zenovay(KEY, base_url=f"https://{host}", session=session)


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("max_attempts", [0, -1, 2.5, "3", None, True]),
        ("max_connections", [0, -1, 1.5, "x", None, True]),
        ("quota_reserve", [-1, 1.5, "5", None, True]),
        ("rate_limit_window", ["60", math.inf, math.nan, 0, -1, None, True]),
        ("rate_limit", [0, -1, 1.5, "60", True]),
        ("batch_headroom", [-1, 1.5, "5", None, True]),
        ("timeout", [True, "5", 0, -1, math.nan]),
        ("attempt_timeout", [True, "5", 0, -1, math.nan]),
        ("session", [5, "session", object()]),
        ("auth", ["basic", None, 5, ["bearer"]]),
    ],
)
def test_an_invalid_option_is_rejected_by_its_name(option: str, values: list[Any]) -> None:
    """An invalid option is rejected when the client is made, and the error shows no key."""
    for value in values:
        with pytest.raises(ConfigurationError, match=f"^{option}=") as caught:
            Zenovay("zv_98765", **{option: value})
        shown = _everything_a_traceback_shows(caught.value)
        assert "zv_98765" not in shown.replace('Zenovay("zv_98765"', "")


def test_the_error_of_a_headroom_names_all_that_it_may_be() -> None:
    given: Any = {"batch_headroom": "none"}
    with pytest.raises(ConfigurationError, match=r"batch_headroom='none': expected 'auto', or an int >= 0 of requests"):
        Zenovay(KEY).with_options(**given)


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST", "localhost.", "api.localhost", "a.b.Localhost."),
        *("127.0.0.1", "127.0.0.2", "127.255.255.254", "127.0.0.1."),
        *("[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::FFFF:7f00:1]"),
    ],
)
def test_http_to_this_machine_is_accepted(host: str) -> None:
    assert host in repr(Zenovay(KEY, base_url=f"http://{host}:8787/api"))


@pytest.mark.parametrize(
    "host",
    [
        *("api.example", "sandbox", "localhost.example", "notlocalhost", "127.0.0.1.example", "127.1"),
        *("0.0.0.0", "10.0.0.1", "128.0.0.1", "[::]", "[::2]", "[::ffff:10.0.0.1]", "[fe80::1]"),  # noqa: S104 - refused
    ],
)
def test_http_to_another_machine_needs_allow_http(host: str) -> None:
    url = f"http://{host}:8787/api"
    with pytest.raises(ConfigurationError, match=r"unencrypted.*allow_http=True"):
        Zenovay(KEY, base_url=url)
    assert url in repr(Zenovay(KEY, base_url=url, allow_http=True))


def test_an_unknown_auth_style_is_rejected_with_the_two_that_exist() -> None:
    unknown: Any = "basic"
    with pytest.raises(ConfigurationError, match="'x-api-key' or 'bearer'"):
        Zenovay(KEY, auth=unknown)


def test_each_style_sends_its_header() -> None:
    assert Auth(Secret(KEY), "x-api-key").header == ("X-API-Key", KEY)
    assert Auth(Secret(KEY), "bearer").header == ("Authorization", f"Bearer {KEY}")


async def test_both_styles_are_accepted_by_the_api(sandbox: Sandbox) -> None:
    for style in ("x-api-key", "bearer"):
        async with Zenovay(sandbox.api_key, auth=style, base_url=sandbox.url) as zenovay:
            assert (await zenovay.heatmaps.pages(sandbox.website_ids[0])).pages


def test_neither_client_nor_auth_nor_key_show_the_key() -> None:
    client, auth = Zenovay(KEY), Auth(Secret(KEY), "bearer")
    # What it needs to recognize the key is no more visible.
    client._auth.redact_text(KEY)
    shown = f"{client!r} {client} {auth!r} {Secret(KEY)!r} {_all_variables(client)}"
    assert "secret" in shown
    assert "X-API-Key" in shown
    assert "0123456789" not in shown


def _all_variables(thing: object) -> str:
    """The variables of an object of this package, and of all that it holds."""
    shown: list[str] = []
    seen: set[int] = set()
    pending = [thing]
    while pending:
        held = vars(pending.pop())
        shown += [repr(held), *(repr(getattr(value, "_parts", None)) for value in held.values())]
        found = [value for value in held.values() if type(value).__module__.startswith("zenovay_async")]
        pending += [value for value in found if hasattr(value, "__dict__") and id(value) not in seen]
        seen |= {id(value) for value in found}
    return "".join(shown)


def test_the_key_cannot_be_pickled() -> None:
    with pytest.raises(TypeError, match="ZENOVAY_API_KEY"):
        pickle.dumps(Secret(KEY))


@pytest.mark.parametrize("clone", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_client_cannot_be_copied_or_pickled(clone: Callable[[Zenovay], object]) -> None:
    with pytest.raises(TypeError) as caught:
        clone(Zenovay(KEY))
    assert str(caught.value) == (
        "cannot copy or pickle a Zenovay client; create one in each process, or use with_options() for a sibling"
    )


def test_a_copied_key_stays_hidden() -> None:
    # Mocks copy the arguments of a request to record them.
    assert repr(copy.deepcopy({"X-API-Key": Secret(KEY)})) == "{'X-API-Key': '<secret>'}"


def _everything_a_traceback_shows(error: BaseException | None) -> str:
    shown: list[str] = []
    while error is not None:
        shown += [
            repr(error),
            str(error),
            *traceback.TracebackException.from_exception(error, capture_locals=True).format(),
        ]
        error = error.__cause__ or error.__context__
    return "".join(shown)


@pytest.mark.parametrize("sibling", [False, True])
def test_a_rejected_key_is_not_in_the_traceback(sibling: bool) -> None:  # noqa: FBT001 - a table's column
    def make() -> None:
        if sibling:
            Zenovay(KEY).with_options(api_key=_invalid_key())
        Zenovay(_invalid_key())

    with pytest.raises(ConfigurationError) as caught:
        make()
    shown = _everything_a_traceback_shows(caught.value)
    assert "resolve_api_key" in shown
    assert "98 765" not in shown


def _invalid_key() -> str:
    return "zv_98 765"


@pytest.mark.parametrize("fault", ["refused", "reset", "timeout", "cut", "nonsense"])
async def test_the_key_is_in_no_variable_of_any_frame_of_an_error(fault: str, unused_tcp_port: int) -> None:
    """Error reporters send the variables of each frame along."""
    handlers: list[asyncio.Task[Any] | None] = []

    async def misbehave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.current_task())
        await reader.readuntil(b"\r\n\r\n")
        if fault == "timeout":
            await reader.read()
        if fault == "cut":
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: 500\r\nX-Echo: {KEY}\r\n\r\n{{".encode())
        if fault == "nonsense":
            writer.write(f"\0\1 what is {KEY}\r\n\r\n".encode())
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(misbehave, "127.0.0.1", unused_tcp_port)
    if fault == "refused":
        server.close()
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with Zenovay(KEY, base_url=url, max_attempts=1, timeout=0.05 if fault == "timeout" else 30) as zenovay:
        with pytest.raises(ZenovayError) as caught:
            await zenovay.heatmaps.pages("x")
    server.close()
    await asyncio.gather(*(handler for handler in handlers if handler is not None))
    shown = _everything_a_traceback_shows(caught.value)
    assert "heatmaps/x/pages" in shown
    assert "0123456789" not in shown


@pytest.mark.parametrize("status", [200, 401, 429, 503])
@pytest.mark.parametrize("style", ["x-api-key", "bearer"])
async def test_an_echoed_key_is_redacted_from_errors_events_and_the_log(
    style: AuthStyle, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """No text, attribute, pickle or traceback of the error shows it, nor the event of a retry, nor the log."""

    async def echo(_: web.Request) -> web.Response:
        # In capitals, too: codes are shown so.
        message = f"Invalid key {KEY} or {KEY.upper()}"
        error = {"message": message, "code": KEY, "request_id": KEY}
        return web.json_response({"success": False, "error": error}, status=status, headers={"x-request-id": KEY})

    caplog.set_level(logging.DEBUG)
    events: list[Event] = []
    app = web.Application()
    app.router.add_get("/{any:.*}", echo)
    options: dict[str, Any] = {"max_attempts": 2, "rate_limit": None, "on_event": events.append}
    async with (
        TestServer(app) as server,
        Zenovay(KEY, auth=style, base_url=str(server.make_url("/")), **options) as zenovay,
    ):
        with pytest.raises(ZenovayError) as caught:
            await zenovay.heatmaps.pages("x")
    # First of all, as the comparisons below have the key in their variables, too.
    shown = _everything_a_traceback_shows(caught.value)
    scheduled = [event.error for event in events if isinstance(event, RetryScheduled)]
    assert len(scheduled) == (status in {429, 503})
    for error in (caught.value, *scheduled):
        assert error.message.startswith("Invalid key <secret> or <secret>")
        assert (error.code, error.request_id) == ("<secret>", "<secret>")
        twin = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
        known = f"{error} {error!r} {error.args} {vars(error)} {twin} {twin.args} {pickle.dumps(error)!r}"
        assert "0123456789" not in known
    assert "0123456789" not in shown
    assert "request <secret>" in caplog.text
    assert "0123456789" not in caplog.text


ECHOES: list[Any] = [
    {"success": False, "data": {"pages": [], KEY: KEY}},
    {"success": "false", "data": {"pages": [], KEY: KEY}, KEY: KEY},
    {"success": True, "data": {"pages": [{KEY: KEY}]}},
    {"success": True, "data": {"pages": KEY}},
    {"success": True, "data": {"pages": [], KEY: KEY}, KEY: KEY},
    {KEY: KEY},
    [KEY],
]


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("result_type", [zenovay_async.HeatmapPages, zenovay_async.AnalyticsOverview])
@pytest.mark.parametrize("cut", [0, 1])
@pytest.mark.parametrize("number", range(len(ECHOES)))
async def test_an_echoed_key_is_in_no_variable_of_any_frame_of_an_error(
    canned: aioresponses,
    number: int,
    cut: int,
    result_type: Any,
    strict: bool,  # noqa: FBT001 - a table's column
) -> None:
    # No variable of this function has the key.
    canned.get(f"{DEFAULT_BASE_URL}/echo", body=json.dumps(ECHOES[number])[cut:])
    shown = ""
    async with Zenovay(KEY, strict=strict, rate_limit=None, max_attempts=1) as zenovay:
        try:
            await zenovay.request("GET", "echo", result_type=result_type)
        except ZenovayError as error:
            shown = _everything_a_traceback_shows(error)
    assert "0123456789" not in shown


async def test_an_echoed_key_is_redacted_from_the_path_of_an_error(canned: aioresponses) -> None:
    payload = {"success": True, "data": {"pages": [], KEY: 1}}
    canned.get(URL, payload=payload)
    async with Zenovay(KEY, strict=True) as zenovay:
        with pytest.raises(ResponseDecodeError) as caught:
            await zenovay.heatmaps.pages("x")
    assert caught.value.path == "$.data.<secret>"
    assert KEY not in repr(vars(caught.value))


async def test_an_echoed_key_is_redacted_from_schema_drift(
    canned: aioresponses, caplog: pytest.LogCaptureFixture
) -> None:
    class Fresh(msgspec.Struct):
        count: int

    events: list[Event] = []
    canned.get(f"{DEFAULT_BASE_URL}/new/x", payload={"success": True, "data": {"count": 5, KEY: 1}})
    async with Zenovay(KEY, on_event=events.append) as zenovay:
        await zenovay.request("GET", "new/x", result_type=Fresh)
    assert [event.path for event in events if isinstance(event, SchemaDrift)] == ["$.data.<secret>"]
    assert "$.data.<secret>" in caplog.text
    assert KEY not in caplog.text


async def test_the_log_names_the_call_and_not_the_key(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with Zenovay(sandbox.api_key, base_url=sandbox.url) as zenovay:
        await zenovay.heatmaps.pages(sandbox.website_ids[0])
    assert f"GET heatmaps/{sandbox.website_ids[0]}/pages: HTTP 200" in caplog.text
    assert sandbox.api_key not in caplog.text


async def test_a_redirect_is_an_error_and_the_key_does_not_follow_it() -> None:
    followed: list[str] = []

    async def redirect(request: web.Request) -> web.Response:
        if request.path == "/stolen":
            followed.append(request.headers["X-API-Key"])
            return web.json_response({})
        return web.Response(status=302, headers={"Location": "/stolen"})

    app = web.Application()
    app.router.add_get("/{any:.*}", redirect)
    async with TestServer(app) as server, Zenovay(KEY, base_url=str(server.make_url("/"))) as zenovay:
        with pytest.raises(ZenovayError, match="Refused to follow a redirect") as caught:
            await zenovay.heatmaps.pages("x")
    assert caught.value.status == 302
    assert followed == []


def test_an_invalid_key_of_the_environment_is_in_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", f"{KEY} ")
    with pytest.raises(ConfigurationError) as caught:
        Zenovay()
    # The frame of this test has the key.
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack[1:]
    assert [frame.name for frame in shown] == ["__init__", "_checked_key", "resolve_api_key"]
    assert not any(KEY in str(frame.locals) for frame in shown)


@pytest.mark.parametrize("url", [KEY, f"https://h.example/x?api_key={KEY}", f"https://h.example:x/{KEY}"])
def test_a_key_in_place_of_the_base_url_is_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match="base_url=") as caught:
        Zenovay(KEY, base_url=url)
    assert KEY not in str(caught.value)
