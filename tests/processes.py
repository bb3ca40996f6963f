"""Real processes for tests: the api and a worker as the Procfile runs them, and a relay that can hurt a connection."""

import asyncio
import contextlib
import json
import os
import random
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any, Self

import psutil

from shared.dev.redis_server import LOCALHOST, PORTS, find_redis_server, is_free
from shared.line.scripts import load_script
from shared.redis.script import Script

ROOT = Path(__file__).parents[1]
SECRET = "a secret that only tests sign with, long enough"
ADMIN_KEY = "an-admin-key-of-the-tests"


def free_port() -> int:
    """A port nobody has; from the system's randomness, for pytest-randomly seeds the common one."""
    return next(port for port in random.SystemRandom().sample(PORTS, 200) if is_free(port))


@cache
def redis_major() -> int:
    """The major version of the redis-server that tests start."""
    return int(find_redis_server()[1].partition(".")[0])


def script_in_force(name: str) -> Script:
    """A script as that server is given it: Redis 7 knows flags, and one with flags has another SHA-1."""
    script = load_script(name)
    return script.flagged if redis_major() >= 7 else script


async def eventually(happened: Callable[[], Awaitable[Any]], seconds: float = 15) -> Any:
    """What `happened` returns once that is true; fails the test if it never is."""
    deadline = time.monotonic() + seconds
    while True:
        if found := await happened():
            return found
        assert time.monotonic() < deadline, f"{happened} did not come true within {seconds} s"
        await asyncio.sleep(0.05)


class Process:
    """One of our processes: `with Api(url) as api:` starts it, and leaves nothing behind, also after a failure."""

    module = ""
    root = ROOT
    """The folder whose code it runs."""

    def __init__(self, redis_url: str, **settings: object) -> None:
        plain = {name: value for name, value in os.environ.items() if not name.startswith("DAEGI_")}
        given = {"redis_url": redis_url, "token_secrets": [SECRET], "admin_keys": [ADMIN_KEY], **settings}
        self._environment = plain | {
            f"DAEGI_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
            for name, value in given.items()
        }
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._process: subprocess.Popen[bytes] | None = None
        self._family: list[psutil.Process] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.kill()
        self._log.close()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The running process."""
        assert self._process is not None
        return self._process

    @property
    def command(self) -> list[str]:
        """What is run."""
        return [sys.executable, "-m", self.module]

    def start(self) -> None:
        """Starts it; returns when it works."""
        self._process = subprocess.Popen(
            self.command,
            cwd=self.root,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            self._wait_until_ready()
        except BaseException:
            self.kill()
            raise
        self._family = self.family()

    def family(self) -> list[psutil.Process]:
        """It and its children: granian serves from a child."""
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.process.pid)
            return [*parent.children(recursive=True), parent]
        return []

    def kill(self) -> None:
        """SIGKILL to all of it, at once."""
        self._send(signal.SIGKILL)
        self.process.wait(10)
        self._process = None

    def pause(self) -> None:
        """SIGSTOP to all of it."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT to all of it."""
        self._send(signal.SIGCONT)

    def stop(self, seconds: float = 20) -> int:
        """SIGTERM, as an orchestrator does; the exit code. It is killed, and the test fails, if it does not listen."""
        self.process.terminate()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        finally:
            self._process = None

    def log(self) -> str:
        """What it has written."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def _send(self, signum: signal.Signals) -> None:
        # The parent first: it would start a killed child again.
        for one in reversed([*self._family, *self.family()]):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(signum)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + 30
        while not self._ready():
            code = self.process.poll()
            assert code is None, f"{self.module} ended with {code} at once:\n{self.log()}"
            assert time.monotonic() < deadline, f"{self.module} was not ready in 30 s:\n{self.log()}"
            time.sleep(0.05)

    def _ready(self) -> bool:
        raise NotImplementedError


DEFAULT_SERVER = os.environ.get("API_TEST_SERVER", "granian")
"""What serves the api: `granian` (RSGI), `granian-asgi` or `uvicorn`. `make test` runs tests/api on the first two."""


class Api(Process):
    """The ingress under the server that the Procfile uses, over either interface, or under uvicorn."""

    module = "api"

    def __init__(
        self, redis_url: str, *, server: str = DEFAULT_SERVER, probe: str = "/readyz", **settings: object
    ) -> None:
        self.port = free_port()
        self.url = f"http://{LOCALHOST}:{self.port}"
        self._server, self._probe = server, probe
        super().__init__(redis_url, port=self.port, **settings)

    @property
    def command(self) -> list[str]:
        """What is run."""
        if self._server.startswith("granian"):
            return [*super().command, *(["--interface", "asgi"] if self._server == "granian-asgi" else [])]
        return [
            *(sys.executable, "-m", "uvicorn", "--factory", "api.app:create_app", "--port", str(self.port)),
            *("--no-access-log", "--loop", "uvloop", "--http", "httptools"),
        ]

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + self._probe, timeout=1) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


class Worker(Process):
    """A worker, without metrics unless it is given a port for them: tests run many side by side."""

    module = "workers"

    def __init__(self, redis_url: str, **settings: object) -> None:
        super().__init__(redis_url, **{"worker_metrics_port": 0, **settings})

    def _ready(self) -> bool:
        return "the worker is starting" in self.log()


class Relay:
    """A TCP relay to a server on this machine that can delay, hold, and cut what goes through.

    `held` keeps the server's answers back, `delay` (s) slows both directions, `cut()` breaks every connection,
    `forget()` leaves them open and passes nothing on, as a router does that has forgotten them.
    With `record`, `trips` holds what was sent in each round trip: all that went before the server's next answer.
    A request with the bytes of `holding` in it is kept from the server while they are set (`kept` counts them), one
    with those of `trap` goes through and sets `held`: the server does it and nobody learns of it.
    With `tls` it speaks TLS to those who connect; the server behind it does not know.
    """

    def __init__(self, target: int, *, record: bool = False, tls: ssl.SSLContext | None = None) -> None:
        self.held = False
        self.holding = self.trap = b""
        self.kept = 0
        self.refusing = False
        self.delay = 0.0
        self.connections = 0
        self.port = 0
        self.trips: list[bytearray] = []
        self._record = record
        self._forgotten = 0
        self._tls = tls
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, LOCALHOST, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        """A Redis URL through it."""
        return f"redis{'s' if self._tls else ''}://{LOCALHOST}:{self.port}/0"

    def cut(self) -> None:
        """Breaks every connection, answers under way included."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def forget(self) -> None:
        """Nothing goes through the connections that there are, and neither side is told; new ones are sound."""
        self._forgotten = self.connections

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        number = self.connections
        upstream = None
        try:
            back, upstream = await asyncio.open_connection(LOCALHOST, self._target)
            self._writers |= {writer, upstream}
            async with asyncio.TaskGroup() as group:
                trip: list[bytearray] = []
                group.create_task(self._pass_on(number, reader, upstream, trip, answers=False))
                group.create_task(self._pass_on(number, back, writer, trip, answers=True))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for one in (writer, upstream):
                if one is not None:
                    one.transport.abort()
                    self._writers.discard(one)

    async def _pass_on(
        self,
        number: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        trip: list[bytearray],
        *,
        answers: bool,
    ) -> None:
        while part := await reader.read(1 << 16):
            if self._record:
                self._note(part, trip, answers=answers)
            if not answers:
                await self._consider(part)
            if self.delay:
                await asyncio.sleep(self.delay)
            while answers and self.held:  # noqa: ASYNC110 - a test sets it, and tells nobody
                await asyncio.sleep(0.005)
            if number <= self._forgotten:
                continue
            writer.write(part)
            await writer.drain()
        raise ConnectionResetError

    async def _consider(self, request: bytes) -> None:
        self.held |= bool(self.trap) and self.trap in request
        self.kept += bool(self.holding) and self.holding in request
        while self.holding and self.holding in request:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.005)

    def _note(self, part: bytes, trip: list[bytearray], *, answers: bool) -> None:
        # `trip` is the connection's: an answer ends it, and what is sent after that begins another one.
        if answers:
            trip.clear()
            return
        if not trip:
            trip.append(bytearray())
            self.trips += trip
        trip[0] += part
