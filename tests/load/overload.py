"""Daegi under far more load than it can serve: what is still served, how fast, and how it recovers.

    python -m tests.load.overload                                      about five minutes
    python -m tests.load.overload --seconds 10 --max-pending 2000 --max-pending 8000 --rounds 3

Its maximum is measured with wrk right before and after each case, on the same server; shares are of the mean of the
two. The cases are 1.5 and 3 times as many joins as that, however slowly they are answered, and 20 times the
connections, each of which sends again at once. Connections are limited (--connections): people who find none free wait
outside, as in front of a full listen queue. Meanwhile one join every 50 ms, on its own connection, shows what a
newcomer sees; the server is "back" when ten in a row were as quick as before.

share: accepted joins a second, of the maximum. p50, p99: ms from written to answered, of the accepted.
refused: 503s a second. held: people without an answer when the load ended, most of them outside. MB: memory of the
api's processes before, at most, and after. back: s from the end of the load until all was normal.
"""

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from shared.dev.redis_server import RedisServerError
from shared.settings import Settings
from tests.load.bench import ARMS, RESULTS, free_port, say
from tests.load.newcomers import Newcomers, back, median
from tests.load.openloop import offer
from tests.load.outcome import Outcome
from tests.load.rig import LOAD_CORE, Arm, Play, RigError, check_tools, redis_on_load_core

MAX_PENDING: Final[int] = Settings.model_fields["max_pending"].default
CONNECTIONS: Final = 128
"""Connections with which the maximum is measured."""
MAXIMUM_SECONDS: Final = 4
QUIET_SECONDS: Final = 2.0  # of newcomers before a load
BACK_SECONDS: Final = 5.0  # and after it
SHARE: Final = 0.75
P99_MS: Final = 250.0
BACK: Final = 2.0
GROWTH: Final = 256 * 2**20
HEADER: Final = (
    "case              pending maximum offered/s written/s accepted/s share    p50    p99 refused/s   held"
    "  MB before, most, after  newcomers ms, refused   back"
)


@dataclasses.dataclass(frozen=True)
class Case:
    """One kind of overload."""

    name: str
    factor: float  # of the maximum; 0: a closed loop
    connections: int


@dataclasses.dataclass(frozen=True)
class Finding:
    """One case, once."""

    case: str
    max_pending: int
    maximum: float
    maximum_after: float
    outcome: Outcome
    memory: tuple[int, int, int]  # before, at most, after
    probe_ms: tuple[float, float]  # the median before and during
    probes_refused: float
    back: float | None  # s; None: not while we looked

    @property
    def share(self) -> float:
        """Accepted joins a second, of the maximum."""
        return self.outcome.per_second / ((self.maximum + self.maximum_after) / 2)

    @property
    def held(self) -> int:
        """People without an answer at the end."""
        return self.outcome.open_at_end + self.outcome.unsent

    def broken_promises(self) -> Iterator[str]:
        """The promises that were not kept."""
        name, accepted = f"{self.case} at {self.max_pending}", self.outcome.accepted
        if self.share < SHARE:
            yield f"{name}: {self.share:.0%} of the maximum were accepted, not {SHARE:.0%}"
        if accepted.since_written.p99 >= P99_MS:
            yield f"{name}: p99 of the accepted was {accepted.since_written.p99:.0f} ms, not under {P99_MS:.0f}"
        if self.outcome.bare_503:
            yield f"{name}: {self.outcome.bare_503} refusals had no Retry-After"
        if others := {status for status in self.outcome.statuses if status not in (202, 503)}:
            yield f"{name}: answers other than 202 and 503: {sorted(others)}"
        if self.memory[1] - self.memory[0] > GROWTH:
            yield f"{name}: memory grew by {(self.memory[1] - self.memory[0]) / 2**20:.0f} MB"
        if self.back is None or self.back > BACK:
            yield f"{name}: not normal within {BACK:.0f} s of the end"


class Overload:
    """Runs the cases on one server."""

    def __init__(self, play: Play, max_pending: int, seconds: float) -> None:
        self._play, self._max_pending, self._seconds = play, max_pending, seconds
        self._serial = 0

    def maximum(self) -> float:
        """Joins a second in a closed loop of 128."""
        event, seed = self._new()
        return self._play.load(CONNECTIONS, MAXIMUM_SECONDS, "join", event, seed).per_second

    def run(self, case: Case) -> Finding:
        """One case."""
        before = self.maximum()
        event, seed = self._new()
        rate = case.factor * before
        with Newcomers(self._play, event).coming() as newcomers:
            time.sleep(QUIET_SECONDS)
            outcome = offer(
                self._play.port,
                rate=rate,
                seconds=self._seconds,
                connections=case.connections,
                event=event,
                seed=seed,
            )
            time.sleep(max(0.0, outcome.ended + BACK_SECONDS - time.monotonic()))
        quiet = newcomers.between(0, outcome.started - 0.5)
        during = newcomers.between(outcome.started, outcome.ended)
        return Finding(
            case=case.name,
            max_pending=self._max_pending,
            maximum=before,
            maximum_after=self.maximum(),
            outcome=outcome,
            memory=(newcomers.memory[0], max(newcomers.memory), newcomers.memory[-1]),
            probe_ms=(median(quiet), median(during)),
            probes_refused=sum(each.status != 202 for each in during) / max(len(during), 1),
            back=back(newcomers.between(outcome.ended, time.monotonic()), quiet, outcome.ended),
        )

    def _new(self) -> tuple[str, str]:
        self._play.flush()
        self._serial += 1
        return f"overload-{self._serial}", f"{self._serial:08d}"


def table(findings: Sequence[Finding]) -> str:
    """The findings for people."""
    lines = [HEADER]
    for each in findings:
        outcome, memory = each.outcome, [size / 2**20 for size in each.memory]
        times = outcome.accepted.since_written
        lines.append(
            f"{each.case:<17} {each.max_pending:7,} {(each.maximum + each.maximum_after) / 2:7,.0f}"
            f" {outcome.due / outcome.seconds:9,.0f} {outcome.offered:9,.0f} {outcome.per_second:10,.0f}"
            f" {each.share:5.0%} {times.p50:6.0f} {times.p99:6.0f} {outcome.refused.count / outcome.seconds:9,.0f}"
            f" {each.held:6,}      {memory[0]:4.0f}   {memory[1]:4.0f}   {memory[2]:4.0f}"
            f"  {each.probe_ms[0]:4.0f} > {each.probe_ms[1]:5.0f}, {each.probes_refused:4.0%}"
            f"  {'never' if each.back is None else f'{each.back:5.2f}'}"
        )
    return "\n".join(lines)


def doubts(findings: Sequence[Finding]) -> Iterator[str]:
    """Reasons to doubt the figures. In overload, people without an answer are no such reason."""
    for each in findings:
        name, outcome = f"{each.case} at {each.max_pending}", each.outcome
        if max(each.maximum, each.maximum_after) > 1.25 * min(each.maximum, each.maximum_after):
            yield (
                f"{name}: the maximum was {each.maximum:,.0f} before and {each.maximum_after:,.0f} after it, "
                f"somebody else used the machine"
            )
        if outcome.busy > 0.9:
            yield f"{name}: the load generator used {outcome.busy:.0%} of its core, it was a limit"
        if outcome.unsent + outcome.given_up > outcome.due / 100:
            yield (
                f"{name}: of {outcome.due:,} who came, {outcome.written:,} found a connection of the "
                f"{outcome.connections:,}; the others waited outside, which costs the server nothing"
            )


def arm(max_pending: int) -> Arm:
    """Daegi with this limit."""
    daegi = ARMS["daegi"]
    return dataclasses.replace(daegi, environment=daegi.environment | {"DAEGI_MAX_PENDING": str(max_pending)})


def cases(connections: int) -> tuple[Case, ...]:
    """The kinds of overload."""
    return (
        Case("1.5 x", 1.5, connections),
        Case("3 x", 3.0, connections),
        Case("20 x connections", 0.0, 20 * CONNECTIONS),
    )


def measure(given: argparse.Namespace, rounds: Iterator[int]) -> Iterator[Finding]:
    """Every case, round by round."""
    for number in rounds:
        for max_pending in given.max_pending or [MAX_PENDING]:
            say(f"round {number + 1} of {given.rounds}: DAEGI_MAX_PENDING={max_pending}")
            with (
                redis_on_load_core() as (url, redis),
                Play(arm(max_pending), given.server, url, redis, free_port()).served() as play,
            ):
                overload = Overload(play, max_pending, given.seconds)
                overload.maximum()  # warms it up
                for case in cases(given.connections):
                    if given.case and case.name not in given.case:
                        continue
                    finding = overload.run(case)
                    say(table([finding]))
                    yield finding


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints the table and writes the JSON; returns 1 if a promise is broken, 2 if nothing was measured."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.load.overload", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=30, help="of each case (%(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--connections", type=int, default=4096, help="of the open loops (%(default)s)")
    parser.add_argument("--max-pending", type=int, action="append", help="repeat (the product's own)")
    parser.add_argument("--case", action="append", choices=[case.name for case in cases(1)], help="(repeat)")
    parser.add_argument("--server", choices=("granian", "uvicorn"), default="granian", help="(%(default)s)")
    parser.add_argument("--output", type=Path, help="JSON file (default: results/ beside this file, ignored by git)")
    given = parser.parse_args(argv)
    findings: list[Finding] = []
    # Newcomers must not take time from the server, which is moved to its own core when it starts.
    os.sched_setaffinity(0, {LOAD_CORE})
    try:
        check_tools()
        findings.extend(measure(given, iter(range(given.rounds))))
    except (RigError, RedisServerError) as error:
        say(str(error))
        return 2
    except KeyboardInterrupt:
        say("stopped; nothing is left running")
        return 130
    output = given.output or RESULTS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-overload.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps([_flat(each) for each in findings], indent=1))
    print(table(findings))
    for doubt in doubts(findings):
        print(f"! {doubt}")
    broken = [promise for each in findings for promise in each.broken_promises()]
    for promise in broken:
        print(f"BROKEN {promise}")
    print(f"\n{output}")
    return int(bool(broken))


def _flat(finding: Finding) -> dict[str, Any]:
    return dataclasses.asdict(finding) | {"share": finding.share, "held": finding.held}


if __name__ == "__main__":
    sys.exit(main())
