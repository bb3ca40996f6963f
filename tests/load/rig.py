"""What a round runs on: servers and Redis on cores of their own, wrk, and the meters."""

import contextlib
import dataclasses
import http.client
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self

import psutil
from redis import Redis

from shared.dev.redis_server import LOCALHOST, RedisServer
from shared.dev.watchdog import Watchdog
from tests.support.paths import ROOT

SCRIPT: Final = Path(__file__).with_name("load.lua")
JOIN: Final = "/api/v1/queue/join"
STATUS: Final = "/api/v1/queue/status"
SERVER_CORE: Final = 0
LOAD_CORE: Final = 1
START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 15.0
SETTLE_SECONDS: Final = 0.3
"""Seconds after which requests that were in progress when wrk stopped are done."""


class RigError(RuntimeError):
    """Something the benchmark needs is missing or does not work; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Arm:
    """An application to measure: a command that serves HTTP on a port, given a Redis."""

    name: str
    command: tuple[str, ...]  # {port}, {redis} and {server} are filled in
    environment: dict[str, str]  # here too
    workloads: frozenset[str]
    uses_redis: bool = True


@dataclasses.dataclass(frozen=True)
class Load:
    """What one run of wrk reports; times in microseconds."""

    connections: int
    requests: int
    us: int
    p50: int
    p95: int
    p99: int
    refused: int  # answered 4xx or 5xx
    broken: int  # not answered: connection errors and time-outs

    @property
    def per_second(self) -> float:
        """Requests answered per second."""
        return self.requests / self.us * 1e6

    @property
    def served(self) -> int:
        """Requests that cost something, including the one that each connection has in progress when wrk stops."""
        return self.requests + self.connections


@dataclasses.dataclass(frozen=True)
class Meters:
    """Counters that only grow; the difference of two readings is what happened in between."""

    redis_cpu_us: float = 0.0
    round_trips: float = 0.0
    server_core_busy: float = 0.0  # s
    load_core_busy: float = 0.0  # s
    at: float = 0.0  # s

    def __sub__(self, before: Self) -> Self:
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(before), strict=True)
        return type(self)(*(now - then for now, then in pairs))


class Play:
    """One arm that is being served, with a Redis of its own."""

    def __init__(self, arm: Arm, server: str, redis_url: str, redis: Redis | None, port: int) -> None:
        self.arm = arm
        self.redis = redis
        self.redis_url = redis_url
        self.port = port
        self.idle_cpu = 0.0  # Redis CPU in us per second without requests
        fill = {"port": str(port), "redis": redis_url, "server": server}
        self._command = [part.format(**fill) for part in arm.command]
        self._environment = os.environ | {name: value.format(**fill) for name, value in arm.environment.items()}

    @contextlib.contextmanager
    def served(self) -> Iterator[Self]:
        """Serves it on the server's core; begins once people can join."""
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(
                pinned(SERVER_CORE, self._command),
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # only the benchmark gets a Ctrl-C, and then ends its servers cleanly
            )
            watchdog = Watchdog(process.pid, signal.SIGTERM)
            try:
                self._wait_until_ready(process, lambda: _tail(log))
                yield self
            finally:
                _end(process)
                watchdog.dismiss()

    def read(self) -> Meters:
        """The meters now."""
        cpu, trips = 0.0, 0.0
        if self.redis is not None:
            info: Any = self.redis.info("everything")
            cpu = (info["used_cpu_user"] + info["used_cpu_sys"]) * 1e6
            # In 6.2.14 and 7.0.15 (tried), total_commands_processed, commandstats and the slow log count the calls
            # inside scripts as well. A write is one flush of answers: a command, a script or a whole pipeline.
            trips = info["total_writes_processed"]
        cores = psutil.cpu_times(percpu=True)
        return Meters(cpu, trips, _busy(cores[SERVER_CORE]), _busy(cores[LOAD_CORE]), time.monotonic())

    def measured(self, connections: int, seconds: int, *words: str) -> tuple[Load, Meters]:
        """Like load(), with what the meters counted."""
        before = self.read()
        load = self.load(connections, seconds, *words)
        after = self.read()
        time.sleep(SETTLE_SECONDS)
        settled = self.read()
        after = dataclasses.replace(after, redis_cpu_us=settled.redis_cpu_us, round_trips=settled.round_trips)
        return load, after - before

    def memory(self) -> int:
        """Bytes that Redis uses."""
        assert self.redis is not None
        info: Any = self.redis.info("memory")
        return int(info["used_memory"])

    def flush(self) -> None:
        """Empties Redis."""
        if self.redis is not None:
            self.redis.flushall()

    @contextlib.contextmanager
    def worker(self) -> Iterator[None]:
        """Runs a worker beside it, on the load's core."""
        command = pinned(LOAD_CORE, [sys.executable, "-m", "workers"])
        environment = self._environment | {"DAEGI_REDIS_URL": self.redis_url}
        nowhere = subprocess.DEVNULL
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True
        )
        watchdog = Watchdog(process.pid, signal.SIGTERM)
        try:
            yield
        finally:
            _end(process)
            watchdog.dismiss()

    def wait_for_memory(self, tokens: Sequence[str]) -> None:
        """Returns once polls with these tokens are answered from memory."""
        deadline = time.monotonic() + START_SECONDS
        for number in itertools.count():
            if self._ask("GET", f"{STATUS}?token={tokens[number % len(tokens)]}").get("approximate"):
                return
            if time.monotonic() > deadline:
                raise RigError(f"{self.arm.name} answered no poll from memory for {START_SECONDS:.0f} s")
            time.sleep(0.05)

    def join(self, event: str, user: str) -> str:
        """One person joins; returns their token."""
        token: str = self._ask("POST", JOIN, json.dumps({"event_id": event, "user_id": user}))["waiting_token"]
        return token

    def _ask(self, method: str, path: str, body: str | None = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection(LOCALHOST, self.port, timeout=5)
        with contextlib.closing(connection):
            connection.request(method, path, body, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            text = reply.read().decode()
        if reply.status not in {200, 202}:
            raise RigError(f"{self.arm.name} answered {method} {path[:40]} with {reply.status}: {text}")
        answer: dict[str, Any] = json.loads(text)
        return answer

    def load(self, connections: int, seconds: int, *words: str) -> Load:
        """Runs wrk with load.lua and its arguments."""
        command = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"]
        command += ["--timeout", "10s", "--script", str(SCRIPT), f"http://{LOCALHOST}:{self.port}", "--", *words]
        run = subprocess.run(pinned(LOAD_CORE, command), capture_output=True, text=True, check=False)
        line = next((line for line in run.stdout.splitlines() if line.startswith("{")), None)
        if line is None:
            raise RigError(f"wrk failed: {run.stdout[-500:]}{run.stderr[-500:]}")
        load = Load(connections=connections, **json.loads(line))
        if not load.requests:
            raise RigError(f"{self.arm.name} answered nothing in {seconds} s: {load.broken} failures")
        return load

    def _wait_until_ready(self, process: subprocess.Popen[bytes], log: Callable[[], str]) -> None:
        deadline, problem = time.monotonic() + START_SECONDS, ""
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise RigError(f"{self.arm.name} ended with {process.returncode} at once:\n{log()}")
            try:
                self.join("ready", "first")
            except (OSError, http.client.HTTPException, RigError) as error:
                problem = str(error)
                time.sleep(0.1)
            else:
                return
        raise RigError(f"{self.arm.name} let nobody join for {START_SECONDS:.0f} s: {problem}\n{log()}")


@contextlib.contextmanager
def redis_on_load_core() -> Iterator[tuple[str, Redis]]:
    """A Redis without persistence, on wrk's core: the server has its core for itself."""
    with RedisServer() as server:
        for thread in psutil.Process(server.pid).threads():
            with contextlib.suppress(OSError):
                os.sched_setaffinity(thread.id, {LOAD_CORE})
        with contextlib.closing(Redis.from_url(server.url)) as client:
            yield server.url, client


def check_tools() -> None:
    """Raises RigError if something is missing that pip does not install."""
    if not sys.platform.startswith("linux") or (os.cpu_count() or 1) < 2:
        raise RigError("the benchmark gives the server a core of its own: it needs Linux and two cores")
    for tool, package in (("wrk", "wrk"), ("taskset", "util-linux")):
        if shutil.which(tool) is None:
            raise RigError(f"{tool} is missing. On Debian and Ubuntu: sudo apt-get install {package}")


def pinned(core: int, command: Sequence[str]) -> list[str]:
    """The command, kept on one core."""
    return ["taskset", "--cpu-list", str(core), *command]


def _busy(core: Any) -> float:
    # Time that the host took away (steal) counts as busy: we cannot use it.
    total: float = sum(core) - core.idle - core.iowait - core.guest - core.guest_nice
    return total


def _tail(log: Any) -> str:
    log.seek(0)
    text: str = log.read().decode(errors="replace")
    return text[-2000:]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a server and, if it must be killed, its workers with it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        workers = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        process.wait()
        for worker in workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
