"""From an error of aiohttp to one error of the tree: what happened, whether the request was sent, what a retry can do.

``final`` is a cause that stays the same: what the server or a proxy is configured to do, not the state that it is in.
"""

from __future__ import annotations

import re
import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

import aiohttp
from aiohttp.http_exceptions import BadStatusLine, ContentEncodingError, LineTooLong, TransferEncodingError

from zenovay_async._limits.outage import HOST_NOT_FOUND, PROXY_NOT_FOUND
from zenovay_async._protocol.text import one_line
from zenovay_async.exceptions import APIConnectionError, ClientClosedError, ConfigurationError, ZenovayError

if TYPE_CHECKING:
    from yarl import URL

    from zenovay_async._session.connections import Exchange, RequestBody

E = TypeVar("E", bound=BaseException)

# What a connection that ends raises. A subclass may be of a connection that was never made.
_BROKEN = (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError, aiohttp.ClientConnectionResetError)
_CONNECTING = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,
    aiohttp.ServerFingerprintMismatch,
)

_NO_HTTP_1 = "The {peer} does not speak HTTP/1.1"

# Names that OpenSSL gives to errors of a handshake, some with a prefix that depends on its version. Others, such as an
# internal error of the server's, may pass.
_TLS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("NO_APPLICATION_PROTOCOL",), _NO_HTTP_1),
    (
        ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"),
        "The {peer} does not speak TLS on this port",
    ),
    (
        (
            "ALERT_HANDSHAKE_FAILURE",
            "ALERT_INSUFFICIENT_SECURITY",
            "ALERT_PROTOCOL_VERSION",
            "DH_KEY_TOO_SMALL",
            "NO_PROTOCOLS_AVAILABLE",
            "NO_SHARED_CIPHER",
            "UNRECOGNIZED_NAME",
            "UNSAFE_LEGACY_RENEGOTIATION_DISABLED",
            "UNSUPPORTED_PROTOCOL",
        ),
        "The {peer} and this machine have no version, cipher or name of TLS in common",
    ),
    (
        (
            "CERTIFICATE_REQUIRED",
            "ALERT_BAD_CERTIFICATE",
            "ALERT_CERTIFICATE",
            "ALERT_UNKNOWN_CA",
            "ALERT_ACCESS_DENIED",
        ),
        "The {peer} wants a client certificate that it trusts",
    ),
)

# The first match counts, so subclasses come first.
_PHASES: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.ClientConnectorCertificateError, "The {peer}'s certificate is not trusted"),
    (aiohttp.ServerFingerprintMismatch, "The server's certificate is not the expected one"),
    (aiohttp.ClientProxyConnectionError, "No connection to the proxy could be made"),
    (aiohttp.ClientConnectorError, "No connection could be made"),
    (aiohttp.ClientPayloadError, "The response was cut short"),
    (aiohttp.ServerDisconnectedError, "The {peer} closed the connection without a response"),
)
_FINAL = (aiohttp.ClientConnectorCertificateError, aiohttp.ServerFingerprintMismatch, ssl.SSLCertVerificationError)

# Statuses of a proxy that knows no CONNECT.
_CANNOT_CONNECT = {HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED}

_WANTS_CREDENTIALS = "wants credentials (HTTP 407): give it a user and a password that it accepts"

# OpenSSL's codes of a certificate whose authority this machine does not know: one signed by itself, or by such a one.
_UNKNOWN_AUTHORITY = {18, 19, 20, 21}

# What aiohttp's messages say of TLS, also where there is none, and where an SSLContext is shown by its address.
_SSL_OPTION = re.compile(r" ssl:(?:<[^>]*>|\w+)(?= \[)")

# Where aiohttp's messages go on with bytes of the response; the first of them, if it is no text, or none up to a zero.
_BYTES = re.compile(r"b['\"](?:\\x([0-9a-f]{2})|(['\"]))?")


def is_connecting(error: Exception) -> bool:
    """Whether the error is one of making a connection, so that no request was sent."""
    return isinstance(error, _CONNECTING)


def _is_of_connector(error: Exception, session: aiohttp.ClientSession) -> bool:
    """Whether the error is one of the package that the session's connector comes from, as that of a SOCKS proxy is."""
    package = type(session.connector).__module__.partition(".")[0]
    return package not in {"aiohttp", "builtins"} and type(error).__module__.partition(".")[0] == package


def host_and_port(url: URL) -> str:
    """Host and port of a proxy."""
    return f"{url.host_subcomponent}:{url.port}"


def wants_credentials(proxy: URL | None) -> APIConnectionError:
    """The error of a request to which a proxy responded with 407.

    Args:
        proxy: The proxy; ``None`` if it is not known.
    """
    name = "proxy" if proxy is None else f"proxy {host_and_port(proxy)}"
    error = APIConnectionError(f"The {name} {_WANTS_CREDENTIALS}")
    error.sent, error.final = False, True
    return error


def translate(
    error: Exception,
    session: aiohttp.ClientSession,
    exchange: Exchange | None,
    body: RequestBody | None,
    *,
    has_response: bool,
    proxy: URL | None = None,
    is_proxy_connecting: bool = False,
) -> ZenovayError:
    """The error of the tree for an error of aiohttp's.

    Args:
        error: The error.
        session: The session that raised it.
        exchange: What is known of the connection; ``None`` if nothing is, as of a caller's session.
        body: Body of the request; ``None`` for none.
        has_response: Whether a response began.
        proxy: The proxy of a session made here; ``None`` for none.
        is_proxy_connecting: Whether that proxy was asked to connect to the server, and had not yet done so.

    Raises:
        Exception: The error itself, if neither aiohttp nor the connector raises such ones, as a middleware may.
    """
    if isinstance(error, (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)):
        # The URL may be that of a proxy, with a password.
        return ConfigurationError(f"aiohttp rejected the request: {type(error).__name__}")
    if not isinstance(error, (aiohttp.ClientError, OSError)):
        if _is_of_connector(error, session):
            unconnected = APIConnectionError(f"No connection could be made: {_name(error)}")
            unconnected.sent, unconnected.unreachable = False, True
            return unconnected
        if isinstance(error, ValueError):
            netrc = "; with trust_env, a session takes credentials from ~/.netrc as well" if session.trust_env else ""
            return ConfigurationError(f"aiohttp rejected the request: {one_line(str(error))}{netrc}")
        if session.closed:
            return ClientClosedError("The session was closed before or during the call")
        raise error
    is_of_server = isinstance(error, aiohttp.ClientConnectorError) and not _is_of_proxy(error, proxy)
    peer = "proxy" if _is_of_proxy(error, proxy) or (is_proxy_connecting and not is_of_server) else "server"
    message, final = _explain(error, peer)
    translated = APIConnectionError(message)
    translated.final = final
    if is_connecting(error) or is_proxy_connecting:
        translated.sent, translated.unreachable = False, True
    elif isinstance(error, aiohttp.ClientConnectionError) and not (has_response or _is_begun(error)):
        translated.sent = not _is_unsent(error, exchange, body)
        # Over a session of the caller's, aiohttp itself would resend, whether or not the connection had served before.
        may_be_reused = exchange is None or not exchange.is_fresh
        translated.stale = may_be_reused and isinstance(error, _BROKEN) and not final
    return translated


def _is_of_proxy(error: Exception, proxy: URL | None) -> bool:
    """Whether no connection to the proxy itself could be made."""
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return True
    return (
        proxy is not None
        and isinstance(error, aiohttp.ClientConnectorError)
        and (error.host, error.port) == (proxy.raw_host, proxy.port)
    )


def _is_begun(error: Exception) -> bool:
    """Whether a part of a response's head arrived: aiohttp does not say so of a connection that was reset."""
    return isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str)


def _is_unsent(error: aiohttp.ClientConnectionError, exchange: Exchange | None, body: RequestBody | None) -> bool:
    """Whether the request certainly did not leave whole."""
    if isinstance(error, aiohttp.ClientConnectionResetError):
        return True  # the connection was closing before anything was written
    # A broken pipe proves nothing: over TLS, it may be the response to the server's own end that was not accepted.
    if body is None or body.is_written:
        return False
    # If it was not begun, it matters whether there was a connection at all, rather than a mock of the session.
    return body.is_begun or (exchange is not None and exchange.is_fresh)


def _explain(error: Exception, peer: str) -> tuple[str, bool]:
    """What happened, and whether it would again.

    Args:
        error: The error.
        peer: Whose it is: ``"server"`` or ``"proxy"``.
    """
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return _explain_proxy(error)
    coding = _find(error, ContentEncodingError)
    if coding is not None:
        return _explain_coding(coding)
    if isinstance(error, aiohttp.ClientResponseError):
        text, final = _explain_head(error)
        if peer == "proxy":
            text = text.replace("The response", "The proxy's response", 1)
        return text.replace("{peer}", peer), final
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"{PROXY_NOT_FOUND if peer == 'proxy' else HOST_NOT_FOUND}: {_name(error)}", False
    # Python writes names that it does not know in small letters.
    text = str(error).upper().replace(" ", "_") if isinstance(error, OSError) else ""
    phase = next((explanation for reasons, explanation in _TLS if any(reason in text for reason in reasons)), None)
    final = phase is not None or isinstance(error, _FINAL)
    if phase is None:
        phase = next((text for kind, text in _PHASES if isinstance(error, kind)), "The connection failed")
    phase = phase.replace("{peer}", peer)
    return f"{phase}: {_name(error)}{_advice(error)}", final


def _advice(error: Exception) -> str:
    certificate = getattr(error, "certificate_error", error)
    if getattr(certificate, "verify_code", None) not in _UNKNOWN_AUTHORITY:
        return ""
    return "; to trust an authority of your own, name its certificate with SSL_CERT_FILE or ssl="


def _explain_coding(error: ContentEncodingError) -> tuple[str, bool]:
    if "Can not decode" not in error.message:
        return "The response was cut short: its compressed body ends early", False
    coding, _, advice = error.message.partition(":")[2].partition(". ")
    wrong = f"is{coding}, which was not asked for. {advice}" if advice else f"says{coding}, which its body is not"
    return f"The response cannot be decoded: its Content-Encoding {wrong}", True


def _explain_proxy(error: aiohttp.ClientHttpProxyError) -> tuple[str, bool]:
    proxy = f"The proxy {host_and_port(error.request_info.real_url)}"
    if error.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return f"{proxy} {_WANTS_CREDENTIALS}", True
    # 408 and 429 pass, and so does the trouble that a proxy has with the server.
    passes = error.status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS} or (
        error.status >= HTTPStatus.INTERNAL_SERVER_ERROR and error.status not in _CANNOT_CONNECT
    )
    return f"{proxy} refused to connect to the server (HTTP {error.status})", not passes


def _explain_head(error: aiohttp.ClientResponseError) -> tuple[str, bool]:
    message = error.message
    if _find(error, LineTooLong) is not None or "Too many headers" in message:
        size = re.search(r"more than \d+ bytes", message)
        what = "too many headers" if size is None else size[0]
        return f"The response's headers exceed a limit of aiohttp's ({what}); a session= of your own can raise it", True
    if _find(error, BadStatusLine) is not None or "Expected HTTP/" in message:
        return _explain_start(message)
    # The first line says what is wrong; then come bytes of the response.
    reason = re.split(r"\n|b['\"]", message)[0].rstrip(": ")
    if _find(error, TransferEncodingError) is not None or "chunk" in reason.lower():
        return "The response was cut short: its chunks are malformed", False
    return f"The response is not valid HTTP: {reason}", True


def _explain_start(message: str) -> tuple[str, bool]:
    """What is wrong with a response whose first line is no status line."""
    if re.search(r"['\"]HTTP/", message):
        return "The response is not valid HTTP: its status line is malformed", True
    start = _BYTES.search(message)
    if start is None or not (start[1] or start[2]):
        # A proxy in trouble may say so in plain text.
        return "The response is not HTTP", False
    if start[1] in {"15", "16"}:
        return f"{_NO_HTTP_1} here: it expects TLS, so use https://", True
    return f"{_NO_HTTP_1}: its response is binary, as that of HTTP/2 is", True


def _find(error: BaseException, kind: type[E]) -> E | None:
    """The first of this kind among an error and its causes."""
    link: BaseException | None = error
    while link is not None and not isinstance(link, kind):
        link = link.__cause__
    return link


def _name(error: Exception) -> str:
    if isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str):
        return "its headers broke off"
    text = one_line(_SSL_OPTION.sub("", str(error)))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
