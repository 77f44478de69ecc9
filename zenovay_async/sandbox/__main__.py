"""Run a sandbox until Ctrl-C, or SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import signal
import socket
import sys
from typing import TYPE_CHECKING, NoReturn, get_args
from urllib.parse import urlsplit

from zenovay_async.sandbox.faults import NAMED, parse_fault
from zenovay_async.sandbox.keys import PLANS
from zenovay_async.sandbox.limits import LimiterKind, LimitHeaders
from zenovay_async.sandbox.recording import printable
from zenovay_async.sandbox.server import DEFAULT_RATE_LIMIT, Sandbox

if TYPE_CHECKING:
    from collections.abc import Generator

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Parser(argparse.ArgumentParser):
    """A parser that shows arguments without what would control a terminal."""

    def error(self, message: str) -> NoReturn:
        """Print a message and exit."""
        super().error(printable(message))


def _parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="python -m zenovay_async.sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8787, help="port to listen on; 0 for any free one")
    parser.add_argument("--websites", type=int, default=200, help="number of websites (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the generated figures")
    parser.add_argument("--api-key", help="API key to accept, starting with zv_ (default: a new one)")
    parser.add_argument("--plan", choices=PLANS, default="enterprise", help="plan of the key (default: %(default)s)")
    parser.add_argument("--rate-limit", type=int, default=DEFAULT_RATE_LIMIT, help="requests per window")
    parser.add_argument("--window", type=float, default=60.0, help="length of the window in seconds")
    parser.add_argument("--rate-limiter", choices=get_args(LimiterKind), default="fixed", help="kind of rate limiter")
    parser.add_argument(
        "--rate-limit-headers", choices=get_args(LimitHeaders), default="x", help="how responses state the rate limit"
    )
    parser.add_argument("--monthly-limit", type=int, help="requests per month (default: the plan's)")
    parser.add_argument("--latency", type=float, default=0.0, help="delay of each response in seconds")
    parser.add_argument("--jitter", type=float, default=0.0, help="maximum additional random delay in seconds")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME:SHARE",
        help=f"fault and its share of the requests, such as reset:0.05; names: {', '.join(NAMED)}",
    )
    return parser.parse_args(argv)


def _sandbox(arguments: argparse.Namespace) -> Sandbox:
    sandbox = Sandbox(
        websites=arguments.websites,
        seed=arguments.seed,
        api_key=arguments.api_key,
        host=arguments.host,
        port=arguments.port,
        plan=arguments.plan,
        rate_limit=arguments.rate_limit,
        rate_limit_window=arguments.window,
        rate_limiter=arguments.rate_limiter,
        rate_limit_headers=arguments.rate_limit_headers,
        monthly_limit=arguments.monthly_limit,
        latency=arguments.latency,
        jitter=arguments.jitter,
    )
    for text in arguments.fault:
        fault, share = parse_fault(text, "--fault")
        sandbox.fault(fault, share=share)
    return sandbox


def _url_for_others(url: str, host: str) -> str | None:
    """The base URL for other machines and containers; ``None`` if they cannot reach the sandbox."""
    own = urlsplit(url).hostname or ""
    if not ipaddress.ip_address(own.partition("%")[0]).is_loopback:
        return url
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_unspecified:
            return url.replace(f"[{own}]" if ":" in own else own, _address_of_this_machine(own), 1)
    return None


def _address_of_this_machine(loopback: str) -> str:
    """The address that packets to other machines would leave from, else the name of this machine."""
    family, elsewhere = (
        (socket.AF_INET6, "2001:db8::1") if ":" in loopback else (socket.AF_INET, "192.0.2.1")  # RFC 3849, RFC 5737
    )
    try:
        # To connect a datagram socket looks up the route and sends nothing.
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((elsewhere, 9))
            address = str(probe.getsockname()[0])
    except OSError:
        return socket.gethostname()
    return f"[{address}]" if ":" in address else address


@contextlib.contextmanager
def _ended_by_signals() -> Generator[asyncio.Event]:
    """Set an event at SIGINT or SIGTERM; one that is ignored, as SIGINT in the background of a script, stays so.

    A handler of the loop wakes it. That of ``asyncio.run`` may run only when the loop wakes for something else.

    Once one has ended it, they are ignored: whoever stops a group of processes often sends more than one.
    """
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    caught: list[signal.Signals] = []
    for number in _SIGNALS:
        if signal.getsignal(number) is signal.SIG_IGN:
            continue
        # Neither on Windows, where SIGINT is a KeyboardInterrupt, nor outside of the main thread.
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, ended.set)
            caught.append(number)
    try:
        yield ended
    finally:
        for number in caught:
            loop.remove_signal_handler(number)
            if ended.is_set():
                signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def _restored_signals() -> Generator[None]:
    """Restore at the end what the signals did before."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            # Only the main thread may.
            with contextlib.suppress(ValueError, TypeError):
                signal.signal(number, handler)


async def _run(sandbox: Sandbox, host: str) -> None:
    with _ended_by_signals() as ended:
        await _serve(sandbox, host, ended)


async def _serve(sandbox: Sandbox, host: str, ended: asyncio.Event) -> None:
    async with sandbox:
        print(f"export ZENOVAY_BASE_URL={sandbox.url}")  # noqa: T201 - the command's output
        print(f"export ZENOVAY_API_KEY={sandbox.api_key}")  # noqa: T201
        for website_id in sandbox.website_ids[:3]:
            print(f"# website {website_id}")  # noqa: T201
        if (url := _url_for_others(sandbox.url, host)) is not None:
            print(f"# from other machines {url}")  # noqa: T201
            print("# with zenovay-async --allow-http, or Zenovay(allow_http=True)")  # noqa: T201
        print("# press Ctrl-C to stop", flush=True)  # noqa: T201
        await ended.wait()


def main(argv: list[str] | None = None) -> int:
    """Run a sandbox until Ctrl-C, or SIGTERM.

    Args:
        argv: Command line arguments; by default those of the process.

    Returns:
        The exit code: 0 after either, 2 for an invalid argument or an address in use.
    """
    with _restored_signals():
        return _main(argv)


def _main(argv: list[str] | None = None) -> int:
    try:
        arguments = _parse_arguments(argv)
        asyncio.run(_run(_sandbox(arguments), arguments.host))
    except KeyboardInterrupt:
        return 0
    except (OSError, OverflowError, ValueError) as error:
        # Python raises OverflowError for a port out of range.
        print(f"zenovay_async.sandbox: {printable(str(error))}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    # The signals are left as they are until the process is gone.
    sys.exit(_main())
