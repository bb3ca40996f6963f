"""The table at the end, and the same in JSON."""

import dataclasses
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.chaos.outcome import Outcome

RESULTS: Final = Path(__file__).parent / "results"
_HEADERS: Final = (
    "fault",
    "times",
    "people, load",
    "requests",
    "refused",
    "broken",
    "lost",
    "double",
    "worst gap",
    "one waited",
    "",
)


def table(outcomes: Sequence[Outcome]) -> str:
    """A table for people. Broken: requests without an answer; worst gap: the longest time in which nobody who asked for
    something got it; one waited: the longest time that one person waited, including retries."""
    rows = [_HEADERS, *map(_row, outcomes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADERS))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    for outcome in outcomes:
        lines += [f"- {outcome.name}: {note}" for note in outcome.notes]
        lines += [f"! {outcome.name}: {failure}" for failure in outcome.failures]
        if outcome.skipped:
            lines.append(f"- {outcome.name} was not played: {outcome.skipped}")
    return "\n".join(lines)


def _row(outcome: Outcome) -> tuple[str, ...]:
    if outcome.skipped:
        return (f"{outcome.name}: {outcome.fault}", *[""] * 9, outcome.verdict)
    return (
        f"{outcome.name}: {outcome.fault}",
        f"{outcome.faults:,}",
        outcome.load,
        f"{outcome.requests:,}",
        f"{outcome.refused:,}",
        f"{outcome.broken:,}",
        f"{outcome.lost:,}",
        f"{outcome.double:,}",
        _time(outcome.gap),
        _time(outcome.longest_wait),
        outcome.verdict,
    )


def _time(measured: tuple[float, str]) -> str:
    return f"{measured[0]:.1f} s ({measured[1]})" if measured[1] else ""


def write(outcomes: Sequence[Outcome], seed: int) -> Path:
    """Writes the JSON; returns its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    found = [dataclasses.asdict(outcome) | {"verdict": outcome.verdict} for outcome in outcomes]
    path.write_text(json.dumps({"seed": seed, "scenarios": found}, indent=1))
    return path
