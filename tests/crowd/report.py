"""The report: what was seen, and the verdict, as JSON and for a terminal."""

import resource
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

import msgspec

from tests.crowd.judge import NEWS, WORTH, Verdict
from tests.crowd.ledger import Ledger
from tests.crowd.options import Options, as_dict
from tests.load.outcome import times

LAG: Final = 0.1
"""If the p99 of the loop's own lateness (s) is above this, the figures are in doubt."""
BUSY: Final = 0.9
"""So they are if the crowd uses this share of a core."""
TOLD: Final = 20
"""Faults of a kind that are told one by one."""


def report(options: Options, ledger: Ledger, verdict: Verdict, cpu: float) -> dict[str, Any]:
    """All of it; `cpu` is what the crowd's process used, in s."""
    lag = percentiles(ledger.lag)
    figures: dict[str, Any] = {
        "options": as_dict(options),
        "seconds": round(ledger.ended, 1),
        "kept": verdict.is_kept,
        "interrupted": ledger.interrupted,
        "patience_over": ledger.patience_over,
        "people": len(ledger.stories),
        "ends": verdict.ends,
        "joined": ledger.joined,
        "admitted": ledger.admitted,
        "faults": {
            "lost": verdict.lost,
            "double": verdict.doubles,
            "overtaken": [one._asdict() for one in verdict.overtaken],
            "wrong": verdict.wrong,
        },
        "positions": asdict(verdict.rises),
        "promises": asdict(verdict.promises),
        "latency_ms": {kind: percentiles(seconds) for kind, seconds in sorted(ledger.latencies.items())},
        "requests": {
            "sent": ledger.requests,
            "refused": dict(ledger.refused),
            "failed": dict(ledger.failed),
            "broken": ledger.broken,
            "unconnected": ledger.unconnected,
            "events": ledger.events,
            "fell_back_to_polls": ledger.fallbacks,
            "missed_events": ledger.missed,
        },
        "totals": ledger.totals,
        "over_cap": ledger.over_cap,
        "unchecked": ledger.unchecked,
        "crowd": {
            "cpu": round(cpu / ledger.ended, 3) if ledger.ended else 0.0,
            "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            "lag_ms": lag,
            "most_queued": ledger.most_queued,
        },
        "moments": msgspec.to_builtins(ledger.moments),
    }
    figures["doubts"] = _doubts(figures)
    return figures


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """In ms, and how many there are."""
    found = {name: round(value, 1) for name, value in asdict(times(seconds)).items()}
    return {"count": len(seconds), **found}


def _doubts(figures: dict[str, Any]) -> list[str]:
    crowd, found = figures["crowd"], []
    if crowd["lag_ms"]["p99"] > LAG * 1e3:
        late = crowd["lag_ms"]["p99"]
        found.append(
            f"the crowd's own loop was late (p99 {late:.0f} ms): the machine is busy, and so are the times above"
        )
    if crowd["cpu"] > BUSY:
        found.append(f"the crowd used {crowd['cpu']:.0%} of a core: it was the limit")
    if crowd["most_queued"]:
        kept = figures["options"]["connections"]
        found.append(f"up to {crowd['most_queued']:,} requests waited for one of the crowd's {kept:,} connections")
    if figures["patience_over"]:
        found.append("nobody was let in for so long that it was given up")
    return found


def text(figures: dict[str, Any]) -> str:
    """For a terminal."""
    lines = [_headline(figures), ""]
    lines.append("  ".join(f"{count:,} {end}" for end, count in figures["ends"].items() if count))
    for kind, found in figures["faults"].items():
        lines += [f"! {kind}: {fault(one)}" for one in found[:TOLD]]
        if len(found) > TOLD:
            lines.append(f"! {kind}: and {len(found) - TOLD:,} more")
    for one in figures["positions"]["unexplained"][:TOLD]:
        lines.append(f"? a position rose: {one}")
    lines += ["", positions(figures), promised(figures), ""]
    refused, failed = figures["requests"]["refused"], figures["requests"]["failed"]
    lines.append(f"{'ms':<8}{'count':>9}{'p50':>9}{'p95':>9}{'p99':>9}{'max':>9}{'refused':>9}{'failed':>9}")
    for kind, took in figures["latency_ms"].items():
        values = "".join(f"{took[name]:>9,.1f}" for name in ("p50", "p95", "p99", "max"))
        lines.append(f"{kind:<8}{took['count']:>9,}{values}{refused.get(kind, 0):>9,}{failed.get(kind, 0):>9,}")
    lines += ["", asked(figures), own(figures)]
    lines += [f"? {one}" for one in figures["doubts"]]
    lines += [f"- not checked: {one}" for one in figures["unchecked"]]
    return "\n".join(lines)


def _headline(figures: dict[str, Any]) -> str:
    counts = ", ".join(f"{len(found):,} {kind}" for kind, found in figures["faults"].items())
    how = "stopped" if figures["interrupted"] else "kept" if figures["kept"] else "NOT KEPT"
    return f"{how}: {figures['people']:,} people in {figures['seconds']:.0f} s; {counts}"


def fault(one: object) -> str:
    """One of them in words."""
    if isinstance(one, dict):
        return (
            f"person {one['number']} ({one['ticket']}), by {one['by']:,}, {one['late']:.1f} s more than their poll "
            "and the margin"
        )
    return str(one)


def positions(figures: dict[str, Any]) -> str:
    """Whether they rose."""
    found = figures["positions"]
    return (
        f"positions: {found['rose']:,} of {found['pairs']:,} rose; {found['noise']:,} within the noise of approximate "
        f"places, {found['returned']:,} because people returned to their own; {len(found['unexplained']):,} unexplained"
        f"{'; the largest explained one: ' if found['most'] else ''}{found['most']}"
    )


def promised(figures: dict[str, Any]) -> str:
    """How true they were."""
    found = figures["promises"]
    slips = f"; {found['slipped']:,} slipped beyond their range, {found['late']:,} by more than {NEWS:.0f} s"
    slips += f" ({found['reasoned']:,} with a reason)"
    if not found["count"]:
        return f"promises: nobody was promised more than {WORTH:.0f} s" + slips
    told = f"promises over {WORTH:.0f} s: {found['count']:,}, off by {found['off']:.0%} (median), promised/served "
    told += f"{found['ratio']:.2f}; "
    if found["coverage"] is None:
        return told + "no ranges"
    told += f"{found['coverage']:.1%} of ranges held, their median width is {found['width']:.0%} of the wait"
    return told + slips


def asked(figures: dict[str, Any]) -> str:
    """What was asked, and went wrong."""
    found = figures["requests"]
    refused = sum(found["refused"].values())
    words = f"{found['sent']:,} requests ({found['sent'] / max(figures['seconds'], 1):,.0f}/s), {refused:,} refused, "
    words += f"{found['broken']:,} without an answer, {found['unconnected']:,} that nobody accepted"
    if found["events"] or found["fell_back_to_polls"]:
        words += f"; {found['events']:,} events, {found['missed_events']:,} missed, "
        words += f"listeners fell back to polls {found['fell_back_to_polls']:,} times"
    return words


def own(figures: dict[str, Any]) -> str:
    """What the crowd itself cost."""
    crowd = figures["crowd"]
    lag = crowd["lag_ms"]
    return (
        f"the crowd itself: {crowd['cpu']:.0%} of a core, {crowd['peak_mb']:,} MB, "
        f"its loop late by {lag['p50']:.1f} ms (p50), {lag['p99']:.1f} ms (p99)"
    )
