"""``python -m zenovay_async.sandbox``: a sandbox that runs until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys

from zenovay_async.sandbox.faults import NAMED
from zenovay_async.sandbox.server import GENEROUS, PLANS, Sandbox


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m zenovay_async.sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8787, help="0 for any that is free")
    parser.add_argument("--websites", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--api-key", help="the key to accept; left out, a new one")
    parser.add_argument("--plan", choices=PLANS, default="enterprise")
    parser.add_argument("--rate-limit", type=int, default=GENEROUS, help="requests per window")
    parser.add_argument("--window", type=float, default=60.0, help="seconds of the window")
    parser.add_argument("--rate-limiter", choices=("fixed", "sliding", "bucket", "counter"), default="fixed")
    parser.add_argument("--monthly-limit", type=int)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds for each answer")
    parser.add_argument("--jitter", type=float, default=0.0, help="up to so many seconds more")
    parser.add_argument(
        "--fault", action="append", default=[], metavar="NAME:SHARE", help=f"such as reset:0.05; of {', '.join(NAMED)}"
    )
    return parser.parse_args(argv)


def _sandbox(given: argparse.Namespace) -> Sandbox:
    sandbox = Sandbox(
        websites=given.websites,
        seed=given.seed,
        api_key=given.api_key,
        host=given.host,
        port=given.port,
        plan=given.plan,
        rate_limit=given.rate_limit,
        rate_limit_window=given.window,
        rate_limiter=given.rate_limiter,
        monthly_limit=given.monthly_limit,
        latency=given.latency,
        jitter=given.jitter,
    )
    for wanted in given.fault:
        name, _, share = wanted.partition(":")
        if name not in NAMED:
            raise ValueError(f"--fault {wanted}: expected NAME:SHARE with one of {', '.join(NAMED)}")
        sandbox.fault(NAMED[name](), share=_share(share or "1", wanted))
    return sandbox


def _share(text: str, wanted: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise ValueError(f"--fault {wanted}: expected NAME:SHARE with a share from 0 to 1")


async def _run(sandbox: Sandbox) -> None:
    async with sandbox:
        print(f"export ZENOVAY_BASE_URL={sandbox.url}")  # noqa: T201 - what the command is for
        print(f"export ZENOVAY_API_KEY={sandbox.api_key}")  # noqa: T201
        for website_id in sandbox.website_ids[:3]:
            print(f"# website {website_id}")  # noqa: T201
        print("# Ctrl-C ends it", flush=True)  # noqa: T201
        await asyncio.Event().wait()


def main(argv: list[str] | None = None) -> int:
    """Run a sandbox as the arguments say.

    Returns:
        The exit code: 0 at Ctrl-C, 2 where an argument cannot be right or the address is taken.
    """
    try:
        asyncio.run(_run(_sandbox(_arguments(argv))))
    except KeyboardInterrupt:
        return 0
    except (OSError, OverflowError, ValueError) as error:
        # Python says that a port is out of range by an OverflowError.
        print(f"zenovay_async.sandbox: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
