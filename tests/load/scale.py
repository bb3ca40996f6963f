"""What the line costs Redis as it grows, and what many events, processes and people who poll cost.

    python -m tests.load.scale                               all of it, about five minutes
    python -m tests.load.scale --part line --sizes 1000 100000 --rounds 3

line: Redis CPU us (used_cpu_* of INFO, without the cost of INFO) of each step through shared/line, without HTTP, in
lines of several lengths that take turns on one Redis: median [least to most] of the rounds. call: the longest single
call in ms by the slow log, usual / ever; it is wall time, which other processes on the machine can stretch.
events: 1,000 events polled through 1, 2 and 4 api processes and a worker. spread: whether four processes answer alike.
memory: a million heartbeats held in one process. The sums at the end are computed from these parts.
"""

import argparse
import asyncio
import dataclasses
import json
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from shared.dev.redis_server import RedisServerError, find_redis_server
from tests.load.rig import RigError, check_tools, redis_on_load_core
from tests.load.scale_fleet import Spread, Traffic, many_events, same_answers
from tests.load.scale_line import Cost, Lines, measure_lines
from tests.load.scale_memory import Held, heartbeats_held

RESULTS: Final = Path(__file__).with_name("results")
PARTS: Final = ("line", "events", "spread", "memory")
LEASE_SECONDS: Final = 75
LIMIT_MS: Final = 5.0
POLLERS: Final = 1_000_000
PROCESSES: Final = (1, 2, 4)


def say(text: str) -> None:
    """Progress, apart from the figures."""
    print(text, file=sys.stderr, flush=True)


@dataclasses.dataclass
class Results:
    """The results of the chosen parts."""

    about: dict[str, Any]
    lines: Lines | None = None
    events: list[Traffic] | None = None
    spread: tuple[Spread, Spread] | None = None
    memory: Held | None = None


def run(options: argparse.Namespace) -> Results:
    """Measures."""
    results = Results(_about(options))
    if "line" in options.part:
        with redis_on_load_core() as (url, redis):
            results.lines = asyncio.run(measure_lines(url, redis, options.sizes, options.rounds, say))
    if "events" in options.part:
        results.events = many_events(options.events, options.polls, options.seconds, PROCESSES, say)
    if "spread" in options.part:
        results.spread = asyncio.run(same_answers(4, options.seconds, say))
    if "memory" in options.part:
        results.memory = heartbeats_held(POLLERS, say)
    return results


def table(results: Results) -> str:
    """The figures for people."""
    lines: list[str] = []
    if results.lines:
        lines += _costs(results.lines) + _ratios(results.lines) + _pollers(results.lines)
    if results.events:
        lines += ["", f"{'many events:':<14}processes  polls/s   jobs/s  api cmds/s  worker cmds/s (most)  Redis core"]
        for traffic in results.events:
            lines.append(
                f"{'':<14}{traffic.processes:>9}  {traffic.polls:7,.0f}  {traffic.jobs:7.1f}"
                f"  {traffic.api_commands:10,.0f}  {traffic.worker_commands:13,.0f}"
                f" {traffic.most_worker_commands:6,.0f}  {traffic.redis_cpu:10.1%}"
            )
        lines.append("most: if every process asks for every event's index every second")
    if results.spread:
        lines.append("")
        for name, spread in zip(("stands still", "loses 50 people a second"), results.spread, strict=True):
            lines.append(
                f"{spread.processes} processes, a line that {name}: {spread.asked} people, places apart: "
                f"median {spread.median:.0f}, most {spread.most}"
            )
    if results.memory:
        held = results.memory
        lines.append(
            f"\n{held.asked:,} waiters heard by one process: {held.held:,} held in {held.bytes_held / 1e6:.1f} MB, "
            f"{held.asked - held.held:,} left to exact polls; a job of {held.job_bytes / 1e6:.1f} MB, "
            f"{held.peak_bytes / 1e6:.1f} MB at most while it was sent; {held.hear_us:.2f} us each"
        )
    return "\n".join(lines)


def _costs(lines: Lines) -> list[str]:
    sizes = sorted(next(iter(lines.costs.values())))
    found = [f"{'Redis CPU us':<38}" + "".join(f"{size:>27,}" for size in sizes) + "   call ms"]
    for step, costs in lines.costs.items():
        cells = "".join(f"{_us(costs[size]):>27}" for size in sizes)
        usual, ever = (max(getattr(cost, name) for cost in costs.values()) for name in ("longest_usual", "longest"))
        found.append(f"{step:<38}{cells}   {usual / 1000:.1f} / {ever / 1000:.1f}")
    for kind, each in lines.bytes_each.items():
        found.append(f"{f'bytes per waiter, {kind}':<38}" + "".join(f"{each[size]:>27.0f}" for size in sizes))
    found.append(f"{'index: bytes':<38}" + "".join(f"{lines.index_bytes[size]:>27,}" for size in sizes))
    found.append(
        f"{'index: us to read in an ingress':<38}" + "".join(f"{lines.index_parse_us[s]:>27.0f}" for s in sizes)
    )
    return found


def _us(cost: Cost) -> str:
    return f"{cost.us:,.2f} [{cost.low:,.2f} to {cost.high:,.2f}]"


def _ratios(lines: Lines) -> list[str]:
    join, poll = lines.costs["join plain, batches of 64"], lines.costs["exact poll, batches of 64"]
    small, large = min(join), max(join)
    found = [""]
    for size, most in ((small, 0.5), (large, 1.6)):
        ratio = poll[size].us / join[size].us
        found.append(f"exact poll / join at {size:,}: {ratio:.2f} (at most {most})")
    for name, costs in (("join", join), ("exact poll", poll)):
        found.append(f"{name} at {large:,} / at {small:,}: {costs[large].us / costs[small].us:.2f}")
    return found


def _pollers(lines: Lines) -> list[str]:
    poll, refresh = lines.costs["exact poll, batches of 64"], lines.costs["refreshed heartbeat, chunks of 500"]
    size = max(poll)
    each = poll[size].us + refresh[size].us
    found = [""]
    for why, period in (("a lease", LEASE_SECONDS), ("90 s: every third poll at one in 30 s", 90)):
        share = POLLERS / period * each / 1e6
        found.append(
            f"{POLLERS:,} pollers, one exact poll and one refresh per {why}: {POLLERS:,} / {period} x "
            f"({poll[size].us:.1f} + {refresh[size].us:.1f}) us = {share:.0%} of a core (at most 35 %)"
        )
    return found


def _about(options: argparse.Namespace) -> dict[str, Any]:
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu.partition(":")[2].strip(),
        "python": platform.python_version(),
        "redis": find_redis_server().version,
        **{name: value for name, value in vars(options).items() if name != "output"},
    }


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.load.scale", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure (default: all)")
    parser.add_argument("--sizes", nargs="+", type=int, default=[1000, 100_000, 1_000_000], help="lengths of line")
    parser.add_argument("--rounds", type=int, default=7, help="rounds over all lines (%(default)s)")
    parser.add_argument("--events", type=int, default=1000, help="events of 100 people each (%(default)s)")
    parser.add_argument("--polls", type=int, default=500, help="their polls a second (%(default)s)")
    parser.add_argument("--seconds", type=int, default=10, help="length of a run of processes (%(default)s)")
    parser.add_argument("--output", type=Path, help="JSON file (default: results/ beside this file, ignored by git)")
    given = parser.parse_args(argv)
    if min(given.rounds, given.events, given.polls, given.seconds) < 1 or min(given.sizes) < 1000:
        parser.error("sizes begin at 1000, everything else at 1")
    given.sizes = sorted(set(given.sizes))
    return given


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints the table and writes the JSON."""
    options = parse(argv)
    try:
        check_tools()
        results = run(options)
    except (RigError, RedisServerError) as error:
        say(str(error))
        return 2
    except KeyboardInterrupt:
        say("stopped; nothing is left running")
        return 130
    output: Path = options.output or RESULTS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-scale.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(dataclasses.asdict(results), indent=1))
    print(table(results))
    print(f"\n{output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
