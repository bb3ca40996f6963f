"""Summarises the rounds: medians, ratios between arms within one round, and a table of them."""

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Self

from tests.load.outcome import Outcome
from tests.load.rig import Load, Meters

FULL: Final = 0.9
"""A core that is busy for this share of a round counts as fully used."""
HEADER: Final = "     /s    p50    p95    p99   Redis  trips   cmds  bytes  alone  cores"


@dataclasses.dataclass(frozen=True)
class Round:
    """One arm, one workload, one round."""

    arm: str
    workload: str
    number: int
    load: Load
    meters: Meters
    idle_cpu: float  # CPU us of an idle Redis per second

    @property
    def redis_us(self) -> float:
        """Redis CPU per request, without what an idle Redis uses."""
        return (self.meters.redis_cpu_us - self.idle_cpu * self.meters.at) / self.load.served

    @property
    def trips(self) -> float:
        """Round trips to Redis per request."""
        return self.meters.round_trips / self.load.served

    @property
    def failed(self) -> int:
        """Requests that were refused or not answered."""
        return self.load.refused + self.load.broken


@dataclasses.dataclass(frozen=True)
class Counted:
    """What the relay counted for one arm and workload."""

    commands_per_trip: float
    alone_trips: float  # round trips of one join when there is one at a time
    alone_commands: float
    connections: int


@dataclasses.dataclass(frozen=True)
class Offered:
    """Joins at a fixed rate; times in ms since each was due."""

    arm: str
    rate: float
    accepted_per_second: float
    p50: float
    p95: float
    p99: float
    failed: int
    doubts: list[str]

    @classmethod
    def of(cls, arm: str, outcome: Outcome) -> Self:
        """Reads the result of the open loop."""
        times, failed = outcome.accepted.since_due, outcome.due - outcome.accepted.count
        return cls(arm, outcome.rate, outcome.per_second, times.p50, times.p95, times.p99, failed, outcome.doubts())


def summarise(
    rounds: Sequence[Round],
    bytes_each: Mapping[tuple[str, str], float],
    counted: Mapping[tuple[str, str], Counted],
) -> dict[str, dict[str, Any]]:
    """By workload and arm: medians over the rounds, and ratios with their spread."""
    summary: dict[str, dict[str, Any]] = {}
    for workload in dict.fromkeys(each.workload for each in rounds):
        here = [each for each in rounds if each.workload == workload]
        arms = list(dict.fromkeys(each.arm for each in here))
        summary[workload] = {
            arm: _row([each for each in here if each.arm == arm], here)
            | {"bytes": bytes_each.get((workload, arm))}
            | _commands(counted.get((workload, arm)), [each.trips for each in here if each.arm == arm])
            for arm in arms
        }
    return summary


def _row(mine: Sequence[Round], all_arms: Sequence[Round]) -> dict[str, Any]:
    def median(values: Iterable[float]) -> float:
        return statistics.median(values)

    others: dict[str, dict[int, Round]] = {}
    for each in all_arms:
        others.setdefault(each.arm, {})[each.number] = each
    ratios = {
        arm: sorted(each.load.per_second / by_number[each.number].load.per_second for each in mine)
        for arm, by_number in others.items()
        if arm != mine[0].arm
    }
    return {
        "per_second": median(each.load.per_second for each in mine),
        "p50_ms": median(each.load.p50 for each in mine) / 1e3,
        "p95_ms": median(each.load.p95 for each in mine) / 1e3,
        "p99_ms": median(each.load.p99 for each in mine) / 1e3,
        "redis_us": median(each.redis_us for each in mine),
        "trips": median(each.trips for each in mine),
        "server_core": median(each.meters.server_core_busy / each.meters.at for each in mine),
        "load_core": median(each.meters.load_core_busy / each.meters.at for each in mine),
        "failed": sum(each.failed for each in mine),
        "ratios": {arm: [statistics.median(all_), all_[0], all_[-1]] for arm, all_ in ratios.items()},
    }


def _commands(counted: Counted | None, trips: Sequence[float]) -> dict[str, Any]:
    if counted is None:
        return {}
    # The relay delays Redis a little, so batches get larger, but the number of commands per round trip does not change.
    commands = counted.commands_per_trip * statistics.median(trips)
    return {"commands": commands} | dataclasses.asdict(counted)


def table(summary: Mapping[str, Mapping[str, Any]]) -> str:
    """The summary as a table for people."""
    lines: list[str] = []
    for workload, arms in summary.items():
        lines += ["", f"{workload:<10} {HEADER}"]
        for arm, row in arms.items():
            lines.append(
                f"{arm:<10} {row['per_second']:7,.0f} {row['p50_ms']:6.1f} {row['p95_ms']:6.1f} {row['p99_ms']:6.1f}"
                f"  {row['redis_us']:6.1f} {row['trips']:6.3f} {_or_dash(row.get('commands'), '6.3f')}"
                f" {_or_dash(row.get('bytes'), '6.0f')}  {_or_dash(row.get('alone_trips'), '5.2f')}"
                f"  {row['server_core']:3.0%} {row['load_core']:4.0%}"
                + (f"  FAILED: {row['failed']}" if row["failed"] else "")
            )
        for arm, row in arms.items():
            ratios = "  ".join(
                f"{ratio:.2f} x {other} [{low:.2f} to {high:.2f}]"
                for other, (ratio, low, high) in row["ratios"].items()
            )
            lines += [f"  {arm} = {ratios}"] if ratios else []
    return "\n".join(lines)


def beside(rounds: Sequence[Round], arm: str, workload: str, other: str) -> list[float]:
    """How fast an arm serves a workload, to another of its workloads in the same round: median, least and most."""
    speeds = {(each.workload, each.number): each.load.per_second for each in rounds if each.arm == arm}
    ratios = sorted(
        speed / speeds[other, number]
        for (name, number), speed in speeds.items()
        if name == workload and (other, number) in speeds
    )
    return [statistics.median(ratios), ratios[0], ratios[-1]] if ratios else []


def beside_table(ratios: Mapping[str, Sequence[float]]) -> str:
    """These ratios, by what is compared, as lines for people."""
    return "\n".join(f"{name} = {ratio:.2f} [{low:.2f} to {high:.2f}]" for name, (ratio, low, high) in ratios.items())


def open_table(offered: Sequence[Mapping[str, Any]]) -> str:
    """The results of the open loop as a table for people."""
    if not offered:
        return ""
    lines = ["", "open loop  offered/s accepted/s    p50    p95    p99 failed"]
    for row in offered:
        times = " ".join(f"{row[name]:6.1f}" for name in ("p50", "p95", "p99"))
        lines.append(
            f"{row['arm']:<10} {row['rate']:9,.0f} {row['accepted_per_second']:10,.0f} {times} {row['failed']:6}"
        )
        lines += [f"! {doubt}" for doubt in row["doubts"]]
    return "\n".join(lines)


def markdown(results: Mapping[str, Any]) -> str:
    """The first table of tests/load/README.md."""
    about = results["about"]
    how = f"{about['connections']} at once, medians of {about['rounds']} rounds of {about['seconds']} s, interleaved"
    lines = [
        f"{about['when'][:10]}, {about['cpu']}, Python {about['python']}, Redis {about['redis']}, {about['server']},",
        f"{how}:",
        "",
        "| what | way | a second | p50 / p99 ms | Redis CPU us | round trips | commands | bytes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for workload, arms in results["summary"].items():
        for arm, row in arms.items():
            cells = (
                workload,
                arm,
                f"{row['per_second']:,.0f}",
                f"{row['p50_ms']:.1f} / {row['p99_ms']:.1f}",
                f"{row['redis_us']:.1f}",
                f"{row['trips']:.3f}",
                _or_dash(row.get("commands"), "0.3f"),
                _or_dash(row.get("bytes"), "0.0f"),
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def doubts(summary: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Reasons why figures are worthless or in doubt."""
    found: list[str] = []
    for workload, arms in summary.items():
        for arm, row in arms.items():
            name = f"{workload} of {arm}"
            if row["failed"]:
                found.append(f"{name}: {row['failed']} requests failed, so its figures mean nothing")
            if row["server_core"] < FULL:
                found.append(
                    f"{name}: the server's core was busy for {row['server_core']:.0%} only"
                    + (", wrk and Redis were the limit" if row["load_core"] >= FULL else "")
                )
    return found


def _or_dash(value: float | None, form: str) -> str:
    width = int(form.split(".", maxsplit=1)[0])
    return f"{'-':>{width}}" if value is None else f"{value:{form}}"
