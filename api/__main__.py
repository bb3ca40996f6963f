"""``python -m api``: serves the application with granian, one process or several on one port."""

import argparse
import errno
import math
import os
import socket
import sys
import tempfile

from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops, RuntimeModes
from granian.log import LogLevels

from api.process import most_files
from shared import telemetry
from shared.settings import Settings, SettingsError, load_settings
from shared.telemetry import error_reports, logs

_STOP_SECONDS = 10
_BACKLOG = 4096
_MAX_CONNECTIONS = 65_536
_OTHER_FILES = 256
"""Files that a process opens besides its clients' connections, those to Redis included."""


def main() -> int:
    """Reads the settings, checks the port, serves until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m api",
        description="Daegi's ingress: joins, polls, enters and leaves over HTTP.",
        epilog="It takes its settings from the environment: DAEGI_REDIS_URL, DAEGI_HOST, DAEGI_PORT, "
        "DAEGI_PROCESSES and the others of python -m shared.settings.",
    )
    parser.add_argument(
        "--interface",
        choices=("auto", "rsgi", "asgi"),
        default="auto",
        help="how granian hands requests over: RSGI is faster, but hides header values that are not ASCII, so auto is "
        "ASGI where DAEGI_TRUSTED_USER_HEADER names users, else RSGI (%(default)s)",
    )
    interface = parser.parse_args().interface
    try:
        settings = load_settings()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    if interface == "auto":
        interface = "asgi" if settings.trusted_user_header else "rsgi"
    if problem := _listen_problem(settings.host, settings.port):
        print(problem, file=sys.stderr)
        return 1
    telemetry.configure(settings)
    error_reports.watch_for_crashes()
    if settings.processes == 1 or settings.metrics_dir:
        _serve(settings, interface)
        return 0
    with tempfile.TemporaryDirectory(prefix="daegi-metrics-") as directory:
        os.environ["DAEGI_METRICS_DIR"] = directory
        _serve(settings, interface)
    return 0


def _serve(settings: Settings, interface: str) -> None:
    Granian(
        "api.app:create_app" if interface == "asgi" else "api.app:create_rsgi_app",
        factory=True,
        address=settings.host,
        port=settings.port,
        interface=Interfaces(interface),
        workers=settings.processes,
        http=HTTPModes.http1,
        websockets=False,
        loop=Loops.uvloop,
        # 0.99 to 1.15 x the joins/s of st in three runs.
        runtime_mode=RuntimeModes.mt,
        backlog=_BACKLOG,
        # Granian counts connections here, not requests: with its default, everyone beyond the backlog would wait.
        backpressure=_max_connections(),
        workers_kill_timeout=math.ceil(settings.drain_seconds) + _STOP_SECONDS,
        respawn_failed_workers=True,
        # Granian configures logging in its processes before any code of ours runs there.
        log_dictconfig=logs.log_config(settings),
        log_level=LogLevels(settings.log_level),
    ).serve()


def _max_connections() -> int:
    """How many clients a process may accept.

    A process that has no file left tries to accept again and again, and cannot open connections to Redis either.
    """
    files = most_files()
    return min(_MAX_CONNECTIONS, max(files - _OTHER_FILES, files // 2))


def _listen_problem(host: str, port: int) -> str:
    """Why this address and port cannot be listened on, '' if they can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"DAEGI_PORT: {host}:{port} is taken, choose another"
            return f"DAEGI_HOST: cannot listen on {host}:{port}: {error.strerror}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
