"""The API is reached through proxies, with authorities of one's own, and whatever stands between says what is wrong."""

from __future__ import annotations

import ast
import asyncio
import re
import socket
import ssl
import sys
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import trustme
from cli_helpers import run
from helpers import ROOT, until
from proxy_server import ProxyServer
from raw_server import RawServer

from zenovay_async import (
    APIConnectionError,
    APITimeoutError,
    ConfigurationError,
    PermissionDeniedError,
    Zenovay,
    is_fatal,
)
from zenovay_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

    from zenovay_async import AuthStyle

# No resolver knows these: whoever reaches them does so through the proxy.
HTTPS = "https://api.example/v1"
HTTP = "http://api.example/v1"

AUTHORITY = trustme.CA()

EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "networks.md").read_text(encoding="utf-8"), re.DOTALL)


def server_tls(name: str) -> ssl.SSLContext:
    """For a server of this name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(name).configure_cert(context)
    return context


def trusting() -> ssl.SSLContext:
    """A context that trusts the authority of the tests."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


@pytest.fixture
def authority(tmp_path: Path) -> str:
    """A file with the authority of the tests."""
    file = tmp_path / "ca.pem"
    AUTHORITY.cert_pem.write_to_path(file)
    return str(file)


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    async with RawServer(server_tls("api.example")) as running:
        yield running


@pytest.fixture
async def plain_server() -> AsyncIterator[RawServer]:
    async with RawServer() as running:
        yield running


@pytest.fixture(autouse=True)
def _quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backoff is tested in virtual time elsewhere; here it would only take time."""
    monkeypatch.setattr("zenovay_async._session.retry.BACKOFF_FIRST", 0.002)


def client(base_url: str = HTTPS, **options: Any) -> Zenovay:
    defaults: dict[str, Any] = {"base_url": base_url, "rate_limit": None, "allow_http": True}
    return Zenovay("zv_x", **{**defaults, **options})


async def failure(base_url: str = HTTPS, **options: Any) -> APIConnectionError:
    """The error of a call."""
    async with client(base_url, **options) as zenovay:
        with pytest.raises(APIConnectionError) as caught:
            await zenovay.heatmaps.pages("x")
    return caught.value


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("password", [None, "p@ss:w/örd#%"], ids=["open", "with a password"])
@pytest.mark.parametrize("given", [False, True], ids=["environment", "option"])
async def test_calls_go_through_a_proxy_over_one_connection(
    server: RawServer,
    authority: str,
    given: bool,  # noqa: FBT001 - a table's column
    password: str | None,
    tls: bool,  # noqa: FBT001 - same
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both layers of TLS are verified, and nothing but the connection is the proxy's business."""
    credentials: dict[str, Any] = {} if password is None else {"user": "user", "password": password}
    async with ProxyServer(server.host, tls=server_tls("127.0.0.1") if tls else None, **credentials) as proxy:
        if given:
            options: dict[str, Any] = {"proxy": proxy.url, "ssl": trusting()}
            monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
        else:
            options = {}
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
            monkeypatch.setenv("SSL_CERT_FILE", authority)
        async with client(**options) as zenovay:
            for _ in range(3):
                await zenovay.heatmaps.pages("x")
        assert proxy.connects == ["api.example:443"]
        assert "zv_x" not in proxy.heads[0]
    assert server.requests == 3
    assert server.head()[0] == "GET /v1/heatmaps/x/pages HTTP/1.1"
    assert server.header("X-API-Key") == ["zv_x"]
    assert server.header("Proxy-Authorization") == []


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
async def test_plain_http_is_forwarded_by_the_proxy(
    plain_server: RawServer, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ProxyServer(plain_server.host, user="user", password="hidden") as proxy:
        monkeypatch.setenv(variable, proxy.url)
        async with client(HTTP) as zenovay:
            await zenovay.heatmaps.pages("x", limit=2)
            await zenovay.request("POST", "query/x", json={"question": "?"})
        assert proxy.forwarded == [
            "GET http://api.example/v1/heatmaps/x/pages?limit=2 HTTP/1.1",
            "POST http://api.example/v1/query/x HTTP/1.1",
        ]
        assert plain_server.header("Host") == ["api.example"]


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
async def test_a_sandbox_on_this_machine_is_reached_directly(
    sandbox: Sandbox, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:1")
    async with Zenovay(sandbox.api_key, base_url=sandbox.url) as zenovay:
        await zenovay.usage()


async def test_the_environment_is_ignored_if_it_is_not_trusted(
    plain_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with ProxyServer(plain_server.host) as proxy:
        async with client(plain_server.url, trust_env=False) as zenovay:
            await zenovay.heatmaps.pages("x")
        async with client(plain_server.url, proxy=proxy.url, trust_env=False) as zenovay:
            await zenovay.heatmaps.pages("x")
        assert len(proxy.forwarded) == 1


async def test_a_host_in_no_proxy_is_reached_directly(
    server: RawServer, authority: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8, 127.0.0.0/8")
    monkeypatch.setenv("SSL_CERT_FILE", authority)
    error = await failure(server.url, max_attempts=1)
    assert "certificate is not valid for '127.0.0.1'" in error.message, "the server itself, of another name"


async def test_a_request_that_must_not_be_sent_twice_has_connections_of_its_own(server: RawServer) -> None:
    """Behind a proxy as without one: none goes out on a connection that may be dead."""
    server.per_connection = 1
    async with ProxyServer(server.host) as proxy, client(proxy=proxy.url, ssl=trusting()) as zenovay:
        for _ in range(3):
            await zenovay.request("POST", "query/x", json={"question": "?"})
            await until(lambda: proxy.closed == server.requests)
    assert server.requests == 3

    server.per_connection = None
    async with ProxyServer(server.host) as proxy, client(proxy=proxy.url, ssl=trusting()) as zenovay:
        for _ in range(3):
            await zenovay.heatmaps.pages("x")
        for _ in range(3):
            await zenovay.request("POST", "query/x", json={"question": "?"})
        assert proxy.connects == ["api.example:443"] * 2


async def test_a_dead_connection_behind_a_proxy_is_replaced_at_once(server: RawServer) -> None:
    async with ProxyServer(server.host) as proxy, client(proxy=proxy.url, ssl=trusting()) as zenovay:
        await zenovay.heatmaps.pages("x")
        with pytest.raises(APIConnectionError) as caught:
            await zenovay.with_options(max_attempts=1).heatmaps.pages("stale")
        assert (caught.value.stale, caught.value.unreachable) == (True, False)
        response = await zenovay.with_raw_response(zenovay.heatmaps.pages)("x")
        assert response.attempts == 1
        assert proxy.connects == ["api.example:443"] * 2


@pytest.mark.parametrize(
    ("status", "message", "attempts", "fatal"),
    [
        (407, "wants credentials (HTTP 407): give it a user and a password that it accepts", 1, True),
        (403, "refused to connect to the server (HTTP 403)", 1, True),
        (204, "refused to connect to the server (HTTP 204)", 1, True),
        (302, "refused to connect to the server (HTTP 302)", 1, True),
        (501, "refused to connect to the server (HTTP 501)", 1, True),
        (505, "refused to connect to the server (HTTP 505)", 1, True),
        (429, "refused to connect to the server (HTTP 429)", 1, False),
        (500, "refused to connect to the server (HTTP 500)", 1, False),
        (502, "refused to connect to the server (HTTP 502)", 1, False),
        (503, "refused to connect to the server (HTTP 503)", 1, False),
        (504, "refused to connect to the server (HTTP 504)", 1, False),
    ],
)
async def test_a_proxy_that_refuses_to_connect_says_why(status: int, message: str, attempts: int, fatal: bool) -> None:  # noqa: FBT001 - a table's column
    """What it forbids or does not know is final; that it cannot reach the server may pass; no request was sent."""
    async with ProxyServer() as proxy:
        proxy.response = b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status
        error = await failure(proxy=f"http://user:hidden@{proxy.host}", max_attempts=4 if fatal else 1)
        assert len(proxy.connects) == error.attempts == attempts
    assert error.message == f"The proxy {proxy.host} {message}"
    assert (error.final, is_fatal(error), error.sent, error.unreachable) == (fatal, fatal, False, True)
    assert "hidden" not in f"{error!r} {error.__cause__!r} {error.__context__!r}"


@pytest.mark.parametrize("base_url", [HTTPS, HTTP])
async def test_wrong_credentials_are_sent_once_and_never_shown(base_url: str) -> None:
    """Also where the proxy gets the request itself, in whose place it responds."""
    async with ProxyServer(user="user", password="right") as proxy:
        error = await failure(base_url, proxy=f"http://user:hidden@{proxy.host}")
        assert len(proxy.heads) == 1
    assert error.message.startswith(f"The proxy {proxy.host} wants credentials (HTTP 407)")
    assert (error.final, is_fatal(error), error.sent, error.attempts) == (True, True, False, 1)
    assert "hidden" not in f"{error!r} {error.__cause__!r} {error.__context__!r}"


async def test_a_batch_ends_at_a_proxy_that_wants_credentials() -> None:
    async with ProxyServer(user="user", password="right") as proxy:
        async with client(proxy=f"http://{proxy.host}") as zenovay:
            batch = zenovay.batch(["a", "b", "c"], zenovay.heatmaps.pages, concurrency=1)
            with pytest.raises(APIConnectionError, match="wants credentials"):
                async with batch as results:
                    async for _ in results:
                        pass
        assert len(proxy.heads) == 1


async def test_a_status_of_the_server_behind_the_proxy_is_its_own(server: RawServer) -> None:
    server.response = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    async with ProxyServer(server.host) as proxy, client(proxy=proxy.url, ssl=trusting()) as zenovay:
        with pytest.raises(PermissionDeniedError):
            await zenovay.heatmaps.pages("x")


async def test_a_proxy_that_is_not_there_is_named(unused_tcp_port: int) -> None:
    error = await failure(proxy=f"http://user:hidden@127.0.0.1:{unused_tcp_port}", max_attempts=1)
    assert error.message.startswith("No connection to the proxy could be made: ")
    assert f"127.0.0.1:{unused_tcp_port}" in error.message
    assert (error.final, error.sent, error.unreachable) == (False, False, True)
    assert "hidden" not in f"{error!r} {error.__cause__!r} {error.__context__!r}"


@pytest.mark.looptime
async def test_a_proxy_that_no_resolver_knows_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not the base URL, which may be right."""

    async def getaddrinfo(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    error = await failure("https://never-reached.example", proxy="http://proxy.invalid:3128", max_attempts=1)
    assert error.message.startswith("The host was not found, that of the proxy: ")
    assert (error.final, error.sent, error.unreachable) == (False, False, True)
    error = await failure("https://never-reached.example", proxy="http://proxy.invalid:3128")
    assert error.message.startswith("The host was not found, that of the proxy: ")
    assert error.message.endswith("; check the proxy and the network")


@pytest.mark.parametrize(
    ("response", "message", "final"),
    [
        (b"", "The proxy closed the connection without a response", False),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "The proxy's response is not HTTP", False),
        (bytes.fromhex("15030100020246"), "The proxy does not speak HTTP/1.1 here: it expects TLS", True),
    ],
    ids=["nothing", "text", "TLS"],
)
async def test_what_is_no_proxy_is_named_and_no_request_was_sent(response: bytes, message: str, final: bool) -> None:  # noqa: FBT001 - a table's column
    async with ProxyServer() as proxy:
        proxy.response = response
        error = await failure(proxy=proxy.url, max_attempts=1)
    assert error.message.startswith(message)
    assert (error.final, error.sent, error.stale, error.unreachable) == (final, False, False, True)


async def test_a_proxy_without_tls_is_named() -> None:
    """``https://`` for a proxy that is ``http://`` is final."""

    async def respond(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(respond, "127.0.0.1", 0) as plain:
        port = plain.sockets[0].getsockname()[1]
        error = await failure(proxy=f"https://127.0.0.1:{port}")
    assert error.message.startswith("The proxy does not speak TLS on this port: ")
    assert (error.final, error.sent, error.attempts) == (True, False, 1)


async def test_a_proxy_whose_certificate_is_not_trusted_is_named() -> None:
    async with ProxyServer(tls=server_tls("127.0.0.1")) as proxy:
        error = await failure(proxy=proxy.url, ssl=ssl.create_default_context())
        assert proxy.heads == []
    assert error.message.startswith("The proxy's certificate is not trusted: ")
    assert (error.final, error.sent, error.attempts) == (True, False, 1)


async def test_a_proxy_that_never_connects_is_named(server: RawServer) -> None:
    async with ProxyServer(server.host) as proxy:
        proxy.is_silent = True
        error = await failure(proxy=proxy.url, max_attempts=1, attempt_timeout=1)
    assert isinstance(error, APITimeoutError)
    assert error.message == f"No connection through the proxy {proxy.host} within attempt_timeout=1"
    assert (error.sent, error.unreachable) == (False, True)


@pytest.mark.parametrize("base_url", [HTTPS, HTTP])
async def test_a_server_that_is_slow_behind_a_proxy_is_no_slow_proxy(
    server: RawServer, plain_server: RawServer, base_url: str
) -> None:
    behind = server if base_url == HTTPS else plain_server
    behind.response = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
    async with ProxyServer(behind.host) as proxy:
        error = await failure(base_url, proxy=proxy.url, ssl=trusting(), max_attempts=1, timeout=2)
    assert isinstance(error, APITimeoutError)
    assert error.message == "No complete response within timeout=2"
    assert (error.sent, error.unreachable) == (True, False)


async def test_the_certificate_of_the_server_is_verified_behind_a_proxy(server: RawServer) -> None:
    async with ProxyServer(server.host) as proxy:
        error = await failure(proxy=proxy.url, ssl=ssl.create_default_context())
        assert error.message.startswith("The server's certificate is not trusted: ")
        assert error.message.endswith("name its certificate with SSL_CERT_FILE or ssl=")
        error = await failure("https://other.example", proxy=proxy.url, ssl=trusting())
        assert error.message.startswith("The server's certificate is not trusted: ")
        assert "not valid for 'other.example'" in error.message
    assert server.requests == 0


async def test_authorities_of_the_environment_are_trusted(
    authority: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever they were set: before this process began or just now."""
    async with RawServer(server_tls("localhost")) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        async with client(url, ssl=trusting()) as zenovay:
            await zenovay.heatmaps.pages("x")
        monkeypatch.setenv("SSL_CERT_FILE", authority)
        async with client(url) as zenovay:
            await zenovay.heatmaps.pages("x")
        monkeypatch.delenv("SSL_CERT_FILE")
        monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
        assert "certificate is not trusted" in (await failure(url)).message


async def test_a_renewed_file_of_authorities_is_read_by_the_next_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(trustme.CA().cert_pem.bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    async with RawServer(server_tls("localhost")) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        assert "certificate is not trusted" in (await failure(url)).message
        file.write_bytes(AUTHORITY.cert_pem.bytes())
        async with client(url) as zenovay:
            await zenovay.heatmaps.pages("x")


async def test_a_client_certificate_is_sent() -> None:
    tls = server_tls("localhost")
    tls.verify_mode = ssl.CERT_REQUIRED
    AUTHORITY.configure_trust(tls)
    context = trusting()
    AUTHORITY.issue_cert("client@example.com").configure_cert(context)
    async with RawServer(tls) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        async with client(url, ssl=context) as zenovay:
            await zenovay.heatmaps.pages("x")


async def test_an_error_of_plain_http_does_not_speak_of_tls(unused_tcp_port: int) -> None:
    for scheme in ("http", "https"):
        error = await failure(f"{scheme}://127.0.0.1:{unused_tcp_port}", max_attempts=1, ssl=trusting())
        assert f"Cannot connect to host 127.0.0.1:{unused_tcp_port} [" in error.message
        assert "ssl" not in error.message


@asynccontextmanager
async def trusting_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[aiohttp.ClientSession]:
    """A caller's session that reads a ``~/.netrc`` with a password for every host."""
    file = tmp_path / "netrc"
    file.write_text("default login user password hidden\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))
    async with aiohttp.ClientSession(trust_env=True) as session:
        yield session


@pytest.mark.parametrize("auth", ["x-api-key", "bearer"])
async def test_netrc_never_takes_the_place_of_the_key(
    plain_server: RawServer, auth: AuthStyle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither over a session of its own nor over a caller's that reads it; its password is not sent to the API."""
    async with trusting_session(tmp_path, monkeypatch) as session:
        for given in (None, session):
            async with client(plain_server.url, auth=auth, session=given) as zenovay:
                await zenovay.heatmaps.pages("x")
                await zenovay.request("POST", "query/x", json={"question": "?"})
            for number in (-1, -2):
                assert plain_server.header("Authorization", number) == ["Bearer zv_x"] * (auth == "bearer")
                assert plain_server.header("X-API-Key", number) == ["zv_x"] * (auth == "x-api-key")
    assert plain_server.requests == 4


async def test_a_session_that_trusts_the_environment_uses_its_proxy(
    plain_server: RawServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ProxyServer(plain_server.host) as proxy, trusting_session(tmp_path, monkeypatch) as session:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        async with client(HTTP, session=session) as zenovay:
            await zenovay.heatmaps.pages("x")
        assert len(proxy.forwarded) == 1
    assert plain_server.header("X-API-Key") == ["zv_x"]


async def test_the_error_of_a_session_with_credentials_of_its_own_names_netrc(
    plain_server: RawServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiohttp rejects them, or sends those of the session; neither sends the password."""
    refused: ConfigurationError | None = None
    async with trusting_session(tmp_path, monkeypatch) as session:
        session.headers["Authorization"] = "Basic own"
        async with client(plain_server.url, session=session) as zenovay:
            try:
                await zenovay.heatmaps.pages("x")
            except ConfigurationError as error:
                refused = error
    assert "~/.netrc" in refused.message if refused else plain_server.header("Authorization") == ["Basic own"]


async def test_the_proxy_of_a_given_session_is_not_shown_with_its_password(server: RawServer) -> None:
    """Also in the error of the server behind it, in whose cause aiohttp shows the proxy."""
    async with (
        ProxyServer(server.host) as proxy,
        aiohttp.ClientSession(proxy=f"http://user:hidden@{proxy.host}") as session,
    ):
        error = await failure(session=session)
    assert "certificate is not trusted" in error.message
    assert "hidden" not in f"{error!r} {error.__cause__!r} {error.__context__!r}"


async def test_a_session_that_does_not_decompress_is_told_to() -> None:
    async with (
        RawServer() as server,
        aiohttp.ClientSession(auto_decompress=False) as session,
        client(server.url, session=session) as zenovay,
    ):
        assert (await zenovay.heatmaps.pages("packed")).pages == ()


async def test_the_command_line_obeys_the_environment(server: RawServer, authority: str) -> None:
    async with ProxyServer(server.host, user="user", password="hidden") as proxy:
        environment = {
            "ZENOVAY_API_KEY": "zv_x",
            "ZENOVAY_BASE_URL": HTTPS,
            "HTTPS_PROXY": proxy.url,
            "SSL_CERT_FILE": authority,
        }
        done = await asyncio.to_thread(run, "x", "--format", "json", "--progress", "none", env=environment)
        assert (done.returncode, done.stderr) == (0, "")
        assert proxy.connects == ["api.example:443"]

        environment["HTTPS_PROXY"] = f"http://user:wrong@{proxy.host}"
        done = await asyncio.to_thread(run, "x", env=environment)
        assert done.returncode == 1
        assert f"The proxy {proxy.host} wants credentials (HTTP 407)" in done.stderr
        assert "wrong" not in done.stderr
        assert len(proxy.connects) == 2

        environment["HTTPS_PROXY"] = "socks5://127.0.0.1:1080"
        done = await asyncio.to_thread(run, "x", env=environment)
        assert done.returncode == 2
        assert "aiohttp-socks" in done.stderr
    assert server.requests == 1


async def test_the_sandbox_of_the_documentation_is_where_it_says() -> None:
    page = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    command = re.search(r"`python -m (zenovay_async.sandbox --host 0.0.0.0 --api-key (zv_\w+))`", page)
    url = re.search(r'Zenovay\("(\w+)", base_url="http://sandbox(:8787/\S*)", allow_http=True\)', page)
    assert command is not None
    assert url is not None
    async with Sandbox(api_key=command[2]) as sandbox:
        assert (sandbox.api_key, urlsplit(sandbox.url).path) == (url[1], urlsplit(f"//sandbox{url[2]}").path)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
async def test_the_examples_of_the_documentation_run(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    AUTHORITY.cert_pem.write_to_path(tmp_path / "company-ca.pem")
    AUTHORITY.issue_cert("client.example").private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZENOVAY_API_KEY", "zv_x")
    connector = SimpleNamespace(from_url=lambda *_, **__: aiohttp.TCPConnector())
    monkeypatch.setitem(sys.modules, "aiohttp_socks", SimpleNamespace(ProxyConnector=connector))
    await eval(compile(example, "networks.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), {})  # noqa: S307 - our own
