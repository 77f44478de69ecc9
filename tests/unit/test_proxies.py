"""The proxy is the one that curl, requests and httpx would take, where they agree, and its password is not shown."""

from __future__ import annotations

import base64
import ssl
import traceback
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from zenovay_async import ConfigurationError, Zenovay
from zenovay_async._session import proxies
from zenovay_async._session.proxies import Proxy, is_exempt, resolve_proxy

if TYPE_CHECKING:
    from pathlib import Path

API = "https://api.zenovay.com/api/external/v1"


def proxy_of(base_url: str = API, *, trust_env: bool = True) -> str | None:
    """The proxy of the environment."""
    proxy = resolve_proxy(None, base_url, trust_env=trust_env)
    return None if proxy is None else str(proxy.url)


@pytest.mark.parametrize(
    ("environment", "base_url", "proxy"),
    [
        ({}, API, None),
        ({"HTTPS_PROXY": "http://a:1"}, API, "http://a:1"),
        ({"https_proxy": "http://a:1"}, API, "http://a:1"),
        ({"https_proxy": "http://a:1", "HTTPS_PROXY": "http://b:2"}, API, "http://a:1"),
        ({"https_proxy": "", "HTTPS_PROXY": "http://b:2"}, API, None),
        ({"HTTPS_PROXY": ""}, API, None),
        ({"HTTP_PROXY": "http://a:1"}, API, None),
        ({"HTTP_PROXY": "http://a:1"}, "http://sandbox", "http://a:1"),
        ({"HTTPS_PROXY": "http://a:1"}, "http://sandbox", None),
        ({"ALL_PROXY": "http://a:1"}, API, "http://a:1"),
        ({"all_proxy": "http://a:1"}, "http://sandbox", "http://a:1"),
        ({"ALL_PROXY": "socks5://a:1", "HTTPS_PROXY": "http://b:2"}, API, "http://b:2"),
        ({"HTTPS_PROXY": "a:1"}, API, "http://a:1"),
        ({"HTTPS_PROXY": "a"}, API, "http://a"),
        ({"HTTPS_PROXY": " http://a:1/ "}, API, "http://a:1"),
        ({"HTTPS_PROXY": " \n", "ALL_PROXY": "\n"}, API, None),
        ({"HTTPS_PROXY": " ", "ALL_PROXY": "http://a:1\n"}, API, "http://a:1"),
        ({"HTTPS_PROXY": "https://a:1"}, API, "https://a:1"),
        ({"HTTPS_PROXY": "HTTP://[::1]:1"}, API, "http://[::1]:1"),
        ({"HTTPS_PROXY": "http://a:1", "NO_PROXY": "zenovay.com"}, API, None),
        ({"HTTPS_PROXY": "socks5://a:1", "NO_PROXY": "zenovay.com"}, API, None),
        ({"HTTPS_PROXY": "http://a:1", "no_proxy": "other.com", "NO_PROXY": "*"}, API, "http://a:1"),
        # A CGI script gets HTTP_PROXY from a visitor's header "Proxy".
        ({"HTTP_PROXY": "http://a:1", "REQUEST_METHOD": "GET"}, "http://sandbox", None),
        ({"http_proxy": "http://a:1", "REQUEST_METHOD": "GET"}, "http://sandbox", "http://a:1"),
    ],
)
def test_the_environment_names_the_proxy(
    environment: dict[str, str], base_url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_of(base_url) == proxy
    assert proxy_of(base_url, trust_env=False) is None


@pytest.mark.parametrize("host", ["localhost:8787", "127.0.0.1:8787", "[::1]:8787", "x.localhost"])
def test_plain_http_to_this_machine_uses_no_proxy_of_the_environment(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sandbox works whatever the environment says, even that which would be an error."""
    monkeypatch.setenv("HTTP_PROXY", "http://a:1")
    monkeypatch.setenv("ALL_PROXY", "socks5://a:1")
    assert proxy_of(f"http://{host}") is None
    given = resolve_proxy("http://b:2", f"http://{host}", trust_env=True)
    assert given is not None
    assert str(given.url) == "http://b:2"


@pytest.mark.parametrize(
    ("host", "no_proxy", "exempt"),
    [
        ("api.example", "", False),
        ("api.example", "*", True),
        ("api.example", "other.com, *", True),
        ("api.example", "api.example", True),
        ("api.example", "API.Example.", True),
        ("API.example.", "api.example", True),
        ("api.example", "example", True),
        ("api.example", ".example", True),
        ("api.example", "*.example", True),
        ("example", ".example", True),
        ("api.example", "other, ,example", True),
        ("api.example", "other example", True),
        ("api.example", "pi.example", False),
        ("api.example", "api.example.com", False),
        ("api.example", ".", False),
        ("api.example", "api.example:443", True),
        ("api.example", "api.example:80", False),
        ("api.example", "*:443", True),
        ("api.example", "https://api.example", True),
        ("api.example", "https://api.example:443/", True),
        ("api.example", "all://api.example", True),
        ("api.example", "http://api.example", False),
        ("api.example", "10.0.0.0/8", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.9/24", True),
        ("10.1.2.3", "10.1.2.3:443", True),
        ("10.1.2.3", "10.1.2.3:80", False),
        ("10.1.2.3", "192.168.0.0/16", False),
        ("10.1.2.3", "2.3", False),
        ("10.1.2.3", ".1.2.3", False),
        ("10.1.2.3", "10.0.0.0/33", False),
        ("10.1.2.3", "fd00::/8", False),
        ("fd00::1", "fd00::/8", True),
        ("fd00::1", "[fd00::]/8", True),
        ("fd00::1", "FD00:0::1", True),
        ("fd00::1", "[fd00::1]", True),
        ("fd00::1", "[fd00::1]:443", True),
        ("fd00::1", "[fd00::1]:80", False),
        ("fd00::1", "fd00::2", False),
        ("::ffff:10.1.2.3", "10.0.0.0/8", True),
    ],
)
def test_no_proxy_exempts_hosts_domains_ports_and_networks(host: str, no_proxy: str, exempt: bool) -> None:  # noqa: FBT001 - a table's column
    assert is_exempt("https", host, 443, no_proxy) is exempt


@pytest.mark.parametrize(("exempt", "proxy"), [(0, "http://system:3128"), (1, None)])
def test_the_system_names_the_proxy_where_the_environment_does_not(
    exempt: int, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS and Windows, whose own list says which hosts are exempt."""
    monkeypatch.setattr(proxies, "getproxies", lambda: {"https": "http://system:3128"})
    monkeypatch.setattr(proxies, "proxy_bypass", lambda _: exempt)
    assert proxy_of() == proxy


@pytest.mark.parametrize(
    ("credentials", "decoded"),
    [
        ("user:hidden@", "user:hidden"),
        ("user@", "user:"),
        (":hidden@", ":hidden"),
        ("us%40er:h%3Ai%2Fd%23d%C3%A9n@", "us@er:h:i/d#dén"),
    ],
)
def test_credentials_are_sent_decoded_and_never_shown(credentials: str, decoded: str) -> None:
    proxy = resolve_proxy(f"http://{credentials}proxy.example:3128", API, trust_env=False)
    assert proxy is not None
    assert proxy.authorization is not None
    assert base64.b64decode(proxy.authorization.removeprefix("Basic ")).decode() == decoded
    assert repr(proxy) == "Proxy(url=URL('http://proxy.example:3128'), authorization='<secret>')"


@pytest.mark.parametrize("source", ["proxy=<secret>", "HTTPS_PROXY of the environment"])
@pytest.mark.parametrize(
    ("proxy", "reason"),
    [
        ("socks5://user:hidden@a:1080", "aiohttp-socks: pass session="),
        ("socks5h://user:hidden@a:1080", "aiohttp-socks: pass session="),
        ("socks4://a:1080", "aiohttp-socks: pass session="),
        ("ftp://user:hidden@a:21", "'ftp' is not supported; expected a URL such as"),
        ("http://user:hidden@", "not a URL; expected a URL such as 'http://proxy.example:3128'"),
        ("http://user:hidden@[", "not a URL"),
        ("http://user:hid/den@a:1", "not a URL.*percent-encoded"),
        ("http://user:hidden@a:port", "not a URL"),
        ("://", "not a URL"),
        ("http://user:hidden@a b:1", "not a host; expected a URL such as"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_rejected_without_its_password(
    source: str, proxy: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"proxy": proxy}
    if source != "proxy=<secret>":
        monkeypatch.setenv("HTTPS_PROXY", options.pop("proxy"))
    with pytest.raises(ConfigurationError, match=f"^{source}: .*{reason}") as caught:
        Zenovay("zv_x", **options)
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    ours = [frame.locals for frame in frames if frame.filename != __file__]
    assert len(ours) >= 2
    assert "hidden" not in repr(ours)
    assert "hidden" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"proxy": 3128}, "^proxy=<int>: expected a URL"),
        ({"proxy": ""}, "^proxy=<secret>: not a URL"),
        ({"ssl": False}, r"^ssl=False: expected an ssl.SSLContext; .*ssl.create_default_context\(cafile=...\)"),
        ({"ssl": "ca.pem"}, "^ssl='ca.pem': expected an ssl.SSLContext"),
        ({"ssl": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)}, "^ssl=: this context is of a server"),
        ({"trust_env": "no"}, "^trust_env='no'"),
    ],
)
def test_an_option_of_the_network_that_is_none_is_rejected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Zenovay("zv_x", **options)


async def test_a_given_session_has_settings_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside ``session=``, an option that would do nothing is an error, and the environment is not read."""
    monkeypatch.setenv("HTTPS_PROXY", "socks5://a:1")
    async with aiohttp.ClientSession() as session:
        Zenovay("zv_x", session=session)
        with pytest.raises(ConfigurationError, match=r"proxy= beside session=: set it on the session"):
            Zenovay("zv_x", session=session, proxy="http://a:1")
        with pytest.raises(ConfigurationError, match=r"ssl= beside session=: set it on the session"):
            Zenovay("zv_x", session=session, ssl=ssl.create_default_context())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        ("", "no certificates in PEM format"),
        ("x", "no certificates in PEM format"),
    ],
)
def test_a_file_without_authorities_is_rejected(
    content: str | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rather than that every certificate is said not to be trusted."""
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with pytest.raises(ConfigurationError, match=f"^SSL_CERT_FILE='.*ca.pem': {reason}"):
        Zenovay("zv_x")
    Zenovay("zv_x", base_url="http://localhost")
    Zenovay("zv_x", ssl=ssl.create_default_context())


def test_a_client_shows_neither_proxy_nor_password() -> None:
    zenovay = Zenovay("zv_x", proxy="http://user:hidden@proxy.example:3128")
    assert "hidden" not in repr(vars(zenovay._transport))
    assert base64.b64encode(b"user:hidden").decode() not in repr(vars(zenovay._transport))
    assert isinstance(resolve_proxy("http://a:1", API, trust_env=True), Proxy)
