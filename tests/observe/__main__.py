"""Whether operators can see it: a real Prometheus watches Redis, api and worker under load (`make observe`).

    python -m tests.observe                  about two minutes
    python -m tests.observe --seconds 300

Prometheus is asked the two queries of the contract, every panel of the dashboard and every alert. No alert may fire
while all is well. Then things are broken one by one, and the alerts meant for them have to fire. Needs prometheus and
promtool on PATH: apt-get install prometheus.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from tests.observe.display import Display
from tests.observe.prometheus import ToolsMissingError, find_tools
from tests.observe.report import Row, table
from tests.observe.run import observe

_LEAST = 45


def main(argv: Sequence[str] | None = None) -> int:
    """Runs it; returns 1 if something is not visible, 2 if it cannot be run, 130 if stopped."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.observe", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=int, default=60, help=f"of load before the queries (default: 60, at least {_LEAST})"
    )
    seconds: int = parser.parse_args(argv).seconds
    if seconds < _LEAST:
        parser.error(f"--seconds: the queries look back 30 s, after a crowd has come: at least {_LEAST}")
    try:
        tools = find_tools()
    except ToolsMissingError as error:
        print(error, file=sys.stderr)
        return 2
    rows: list[Row] = []
    try:
        with Display() as display:
            asyncio.run(observe(tools, seconds, rows, display))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("stopped; nothing is left running", file=sys.stderr)
        return 130
    finally:
        if rows:
            print(table(rows))
    missed = [row for row in rows if not row.ok]
    print(f"\n{len(rows) - len(missed)} of {len(rows)} as they should be")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
