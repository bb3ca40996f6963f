"""The benchmarks one after the other, a quarter of an hour: `make bench`.

    python -m tests.load [--only bench --only scale ...]

Each can be run alone, with its own options: python -m tests.load.bench --help. Their output is kept beside their JSON
in tests/load/results. Not included: python -m tests.load.overload, which measures what happens beyond the maximum.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from tests.load.bench import RESULTS
from tests.load.rig import RigError, check_tools
from tests.support.paths import ROOT

PARTS: Final = {
    "bench": ("tests.load.bench",),
    "crowd": (
        *("tests.load.bench", "--connections", "512", "--seconds", "2", "--fill", "0", "--open-seconds", "0"),
        *("--workload", "join"),
    ),
    "uvicorn": (
        *("tests.load.bench", "--server", "uvicorn", "--rounds", "5", "--seconds", "2", "--fill", "0"),
        *("--open-seconds", "0", "--arm", "noop", "--arm", "noop_body", "--arm", "pipelined", "--arm", "daegi"),
        *("--workload", "join", "--workload", "poll", "--workload", "lease"),
    ),
    "scale": ("tests.load.scale",),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the parts; returns 1 if a figure is worthless or misses its target, 2 if something is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=PARTS, help="run this part (repeat; default: all)")
    names: list[str] = parser.parse_args(argv).only or list(PARTS)
    try:
        check_tools()
    except RigError as error:
        print(error, file=sys.stderr)
        return 2
    RESULTS.mkdir(exist_ok=True)
    report = RESULTS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.txt"
    codes = []
    with report.open("w") as file:
        for number, name in enumerate(names, 1):
            print(f"[{number} of {len(names)}] {name}", file=sys.stderr, flush=True)
            began = time.monotonic()
            command = [sys.executable, "-m", *PARTS[name]]
            try:
                run = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
            except KeyboardInterrupt:
                return 130
            text = f"== {name} ({time.monotonic() - began:.0f} s)\n{run.stdout}"
            print(text, flush=True)
            file.write(text)
            codes.append(run.returncode)
    print(f"all of it: {report}")
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
