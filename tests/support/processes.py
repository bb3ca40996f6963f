"""Real processes: the api and a worker as the Procfile runs them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from typing import Self

import psutil

from shared.dev.redis_server import LOCALHOST
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.settings import ADMIN_KEY, SECRET


class Process:
    """One of our processes: `with Api(url) as api:` starts it, and leaves nothing behind, even after a failure."""

    module = ""
    root = ROOT
    """The folder with the code that it runs."""

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
        """Starts it; returns when it is ready."""
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
        """Sends SIGTERM, as an orchestrator does, and returns the exit code. If it does not end, it is killed and the
        test fails.
        """
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
    """The ingress on granian, as in the Procfile, over either interface, or on uvicorn."""

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
