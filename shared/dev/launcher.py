"""Runs a command beside a real Redis: `make run` starts honcho with it."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import Final

import psutil

from shared.dev.redis_server import LOCALHOST, STOP_SECONDS, RedisServer, RedisServerError, find_redis_server, is_free
from shared.dev.watchdog import Watchdog

SETTLE_SECONDS: Final = 1.0
KILL_SECONDS: Final = 20
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

    def run(self, host: str, port: int) -> int:
        """Runs the command to its end and returns what to exit with."""
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
            self._announce(self._child, host, port)
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

    def _announce(self, child: subprocess.Popen[bytes], host: str, port: int) -> None:
        while child.poll() is None and self._asked is None:
            if _healthy(host, port):
                self._note_descendants(child)
                _say(f"ready on http://{host}:{port} (Ctrl-C stops everything)")
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(0.1)

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


def _healthy(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=1)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # a closed terminal must not keep us from cleaning up
        print(f"daegi: {text}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m shared.dev",
        usage="%(prog)s [-h] COMMAND...",
        description="Runs COMMAND beside a real redis-server of its own, which lives as long as COMMAND. "
        "With DAEGI_REDIS_URL set it uses that Redis and starts none. Says when the api answers.",
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
            _say(f"{found} on {server.url}; what it holds is gone when this stops")
        return launcher.run(host, int(port))
