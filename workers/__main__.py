"""``python -m workers``: runs a worker until SIGTERM or Ctrl-C."""

import argparse
import asyncio
import sys

import uvloop

from shared import telemetry
from shared.settings import Settings, SettingsError, load_settings
from shared.telemetry import error_reports
from workers.main import serve


def main() -> int:
    """Reads the settings and runs the worker."""
    argparse.ArgumentParser(
        prog="python -m workers",
        description="A Daegi worker: positions, heartbeats, repair and expiry.",
        epilog="It takes its settings from the environment: DAEGI_REDIS_URL, DAEGI_JOBS_REDIS_URL and the others of "
        "python -m shared.settings, the same as the api's.",
    ).parse_args()
    try:
        settings: Settings = load_settings()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    telemetry.configure(settings)
    error_reports.watch_for_crashes()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
