"""Runs a command beside a real Redis: `make run` starts honcho with it."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Final

import psutil

from shared.dev.redis_server import LOCALHOST, STOP_SECONDS, RedisServer, RedisServerError, find_redis_server, is_free
from shared.dev.watchdog import Watchdog

SETTLE_SECONDS: Final = 1.0
KILL_SECONDS: Final = 20
DEMO: Final = "demo"
DEMO_SETTINGS: Final = {"rate": 0.1, "burst": 1, "home": "/docs", "message": "One person comes in every 10 seconds."}
STOPPED_AS_ASKED: Final = frozenset({0, 128 + signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGHUP})


class Launcher:
    """Runs one command, passes signals on to it, and says when the api answers."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self._command = command
        self._environment = environment
        self._child: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._asked: signal.Signals | None = None
        self._descendants: list[psutil.Process] = []

    def listen(self) -> None:
        """From now on SIGINT, SIGTERM and SIGHUP end the command, and with it the launcher."""
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, self._on_signal)
        signal.signal(signal.SIGALRM, self._on_alarm)

    def run(self, host: str, port: int, admin_key: str = "") -> int:
        """Runs the command to its end and returns what to exit with. With an admin key it declares an event to look at,
        and says where its waiting room is.
        """
        if self._asked is not None:
            return 0
        self._started = time.monotonic()
        try:
            # In its own process group, the command gets a Ctrl-C once, from us, and not from the terminal as well.
            self._child = subprocess.Popen(self._command, env=self._environment, process_group=0)
        except OSError as error:
            _say(f"cannot run {self._command[0]}: {error.strerror}")
            return 127
        self._schedule()  # a signal may have come while there was no child to pass it to
        watchdog = Watchdog(self._child.pid, signal.SIGTERM)
        try:
            self._announce(self._child, host, port, admin_key)
            code = self._child.wait()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            watchdog.dismiss()
            self._end_descendants()
        code = code if code >= 0 else 128 - code
        return 0 if self._asked is not None and code in STOPPED_AS_ASKED else code

    def _on_signal(self, signum: int, _: FrameType | None) -> None:
        if self._asked is None:  # pressing Ctrl-C again changes nothing
            self._asked = signal.Signals(signum)
            self._schedule()

    def _schedule(self) -> None:
        if self._child is None or self._asked is None:
            return
        # honcho fails and leaves its processes behind if a signal arrives before it knows their ids.
        wait = self._started + SETTLE_SECONDS - time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, max(wait, 0.001), KILL_SECONDS)

    def _on_alarm(self, _: int, __: FrameType | None) -> None:
        if self._child is None or self._asked is None:
            return
        self._note_descendants(self._child)
        # A closed terminal is treated as a request to terminate, which more programs handle.
        self._child.send_signal(signal.SIGTERM if self._asked == signal.SIGHUP else self._asked)
        # If the next alarm comes, the command has ignored the signal.
        signal.signal(signal.SIGALRM, self._on_last_alarm)

    def _on_last_alarm(self, _: int, __: FrameType | None) -> None:
        if self._child is not None and self._child.returncode is None:
            self._note_descendants(self._child)
            _say(f"it has not ended within {KILL_SECONDS} s: killed")
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)

    def _announce(self, child: subprocess.Popen[bytes], host: str, port: int, admin_key: str) -> None:
        if not self._until(child, lambda: _ask(host, port, "GET", "/healthz") == http.HTTPStatus.OK):
            return
        self._note_descendants(child)
        _say(f"ready on http://{host}:{port} (Ctrl-C stops everything)")
        # It runs before it has reached Redis.
        ready = bool(admin_key) and self._until(child, lambda: _ask(host, port, "GET", "/readyz") == http.HTTPStatus.OK)
        if ready and _declare_demo(host, port, admin_key):
            _say(
                f"a waiting room to look at: http://{host}:{port}/waiting-room/{DEMO}"
                " (whoever comes first walks in: open it again in a private window)"
            )

    def _until(self, child: subprocess.Popen[bytes], happened: Callable[[], bool]) -> bool:
        """Waits for it while the command runs and is not asked to stop."""
        while child.poll() is None and self._asked is None:
            if happened():
                return True
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(0.1)
        return False

    def _note_descendants(self, child: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(psutil.Error):
            self._descendants = psutil.Process(child.pid).children(recursive=True)

    def _end_descendants(self) -> None:
        """Ends the processes that the command left behind, such as honcho's when honcho fails."""
        left = [process for process in self._descendants if process.is_running()]
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.terminate()
        _, stubborn = psutil.wait_procs(left, timeout=STOP_SECONDS)
        for process in stubborn:
            with contextlib.suppress(psutil.Error):
                process.kill()


def _ask(
    host: str, port: int, method: str, path: str, *, body: str | None = None, headers: dict[str, str] | None = None
) -> int:
    """The status of the api's answer, 0 if there is none."""
    connection = http.client.HTTPConnection(host, port, timeout=1)
    try:
        connection.request(method, path, body, headers or {})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def _declare_demo(host: str, port: int, admin_key: str) -> bool:
    """Whether the api has taken the event."""
    headers = {"authorization": f"Bearer {admin_key}", "content-type": "application/json"}
    status = _ask(host, port, "PUT", f"/api/v1/admin/events/{DEMO}", body=json.dumps(DEMO_SETTINGS), headers=headers)
    return status == http.HTTPStatus.OK


def _use_admin_key(environment: dict[str, str]) -> str:
    """An admin key that the api takes: a new one unless there are some."""
    if "DAEGI_ADMIN_KEYS" not in environment:
        environment["DAEGI_ADMIN_KEYS"] = json.dumps([secrets.token_urlsafe(32)])
    try:
        return str(json.loads(environment["DAEGI_ADMIN_KEYS"])[0])
    except (ValueError, LookupError, TypeError):
        # The api says what is wrong with them, or has no admin API.
        return ""


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # a closed terminal must not keep us from cleaning up
        print(f"daegi: {text}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m shared.dev",
        usage="%(prog)s [-h] COMMAND...",
        description="Runs COMMAND beside a real redis-server of its own, which lives as long as COMMAND. "
        "With DAEGI_REDIS_URL set it uses that Redis and starts none. Says when the api answers, and in a Redis of "
        "its own where the waiting room of an event is.",
        epilog="Environment: DAEGI_REDIS_URL, DAEGI_REDIS_SERVER (a redis-server binary), DAEGI_HOST, "
        "DAEGI_PORT (default 8000). Exits with COMMAND's code, and with 0 after Ctrl-C.",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="what to run")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The launcher."""
    parser = _parser()
    command: list[str] = parser.parse_args(arguments).command
    if not command:
        parser.error("no COMMAND given")
    environment = dict(os.environ)
    host = environment.get("DAEGI_HOST", "")
    host = LOCALHOST if host in {"", "0.0.0.0", "::"} else host  # noqa: S104 - compared with, not bound to
    port = environment.get("DAEGI_PORT") or "8000"
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        parser.error(f"DAEGI_PORT is {port!r}: it must be a number from 1 to 65535")
    if not is_free(int(port), host):
        _say(f"port {port} of {host} is taken: stop what uses it, or choose another (DAEGI_PORT=8001)")
        return 1
    if sys.stderr.isatty():
        # The processes cannot see the terminal: a process manager stands in between.
        environment.setdefault("DAEGI_LOG_FORMAT", "text")
    launcher = Launcher(command, environment)
    launcher.listen()
    with contextlib.ExitStack() as stack:
        admin_key = ""
        if environment.get("DAEGI_REDIS_URL"):
            _say("using the Redis of DAEGI_REDIS_URL")
        else:
            try:
                found = find_redis_server()
                server = stack.enter_context(RedisServer())
            except RedisServerError as error:
                _say(str(error))
                return 1
            environment["DAEGI_REDIS_URL"] = server.url
            # Nothing is declared in a Redis that others may use.
            admin_key = _use_admin_key(environment)
            _say(f"{found} on {server.url}; what it holds is gone when this stops")
        return launcher.run(host, int(port), admin_key)
