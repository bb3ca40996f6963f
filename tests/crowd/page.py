"""The report as one page: nothing is loaded from anywhere, light and dark."""

import random
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final, TypeVar

from tests.crowd import report
from tests.crowd.judge import WORTH, Verdict, kept_promises
from tests.crowd.ledger import End, Ledger, Story
from tests.crowd.svg import Bands, Dots, Line, plot, shares, spans

ItemT = TypeVar("ItemT")

MOST_DOTS: Final = 3000
"""More of them are only ink."""
_STYLES: Final = {
    End.ADMITTED: "a",
    End.LEFT: "b",
    End.VANISHED: "muted",
    End.EXPIRED: "c",
    End.NEVER_ENTERED: "d",
    End.LOST: "fault",
    End.WAITING: "doubt",
    End.NOT_JOINED: "faint",
}
_TIME: Final = "seconds since the first came"
_STYLE: Final = Path(__file__).with_name("page.css")


def page(figures: dict[str, Any], ledger: Ledger, verdict: Verdict) -> str:
    """The whole page."""
    name = figures["options"]["scenario"] or "crowd"
    how, style = (
        ("stopped", " stopped")
        if figures["interrupted"]
        else ("kept", "")
        if figures["kept"]
        else ("not kept", " broken")
    )
    people, seconds = figures["people"], figures["seconds"]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(name)}: {how}</title><style>{_STYLE.read_text()}</style></head><body><main>
<h1>{escape(name)} <span class="verdict{style}">{how}</span></h1>
<p class="soft">{people:,} people in {seconds:,.0f} s. {escape(_kept(figures))}</p>
{_cards(figures)}
{_ends(ledger)}
{_faults(figures)}
<h2>What happened</h2>
<div class="plots">{_people(ledger)}{_speeds(ledger)}
{_order(ledger.stories, verdict)}{_promises(ledger)}</div>
<h2>How it was answered</h2>
<div class="plots">{_latencies(figures)}
<figure class="wide"><figcaption>Requests</figcaption>{_table(figures)}</figure></div>
<div class="box"><p>{escape(report.positions(figures))}</p><p>{escape(report.promised(figures))}</p>
<p>{escape(report.asked(figures))}</p><p>{escape(report.own(figures))}</p></div>
{_notes("Not checked", figures["unchecked"], "")}
<h2>Options</h2><p><code>{escape(_options(figures["options"]))}</code></p>
</main></body></html>
"""


def _kept(figures: dict[str, Any]) -> str:
    if figures["interrupted"]:
        return "It was stopped: what is reported is what was seen until then."
    if figures["kept"]:
        return "Nobody was lost, let in twice or overtaken."
    return "A promise was broken."


def _cards(figures: dict[str, Any]) -> str:
    faults, promises = figures["faults"], figures["promises"]
    cards = [(f"{figures['admitted']:,}", "let in", False)]
    names = {"lost": "lost", "double": "let in twice", "overtaken": "overtaken", "wrong": "impossible answers"}
    cards += [
        (f"{len(found):,}", names[kind], bool(found)) for kind, found in faults.items() if found or kind != "wrong"
    ]
    cards.append((f"{len(figures['positions']['unexplained']):,}", "positions that rose, unexplained", False))
    coverage = promises["coverage"]
    told = "of the ranges held, there were none" if coverage is None else "of the ranges held"
    cards.append(("\N{EN DASH}" if coverage is None else f"{coverage:.0%}", told, False))
    cards.append((f"{figures['crowd']['lag_ms']['p99']:.0f} ms", "late was the crowd itself (p99)", False))
    made = "".join(
        f'<div class="card{" broken" if bad else ""}"><b>{escape(value)}</b><span>{escape(what)}</span></div>'
        for value, what, bad in cards
    )
    return f'<div class="cards">{made}</div>'


def _ends(ledger: Ledger) -> str:
    counts = {end: sum(story.end is end for story in ledger.stories) for end in End}
    drawn = shares("What became of them", [(end.value, counts[end], style) for end, style in _STYLES.items()])
    return drawn.replace("<figure>", '<figure class="whole">')


def _faults(figures: dict[str, Any]) -> str:
    told = [f"{kind}: {report.fault(one)}" for kind, found in figures["faults"].items() for one in found]
    rose = figures["positions"]["unexplained"]
    return (
        _notes("Broken promises", told, "broken")
        + _notes("Positions that rose, unexplained", rose, "stopped")
        + _notes("Doubts about the figures", figures["doubts"], "stopped")
    )


def _notes(title: str, lines: Sequence[str], style: str) -> str:
    if not lines:
        return ""
    listed = "".join(f"<li>{escape(line)}</li>" for line in lines[: report.TOLD])
    more = f"<li>and {len(lines) - report.TOLD:,} more</li>" if len(lines) > report.TOLD else ""
    return f'<div class="box {style}"><b>{escape(title)}</b><ul>{listed}{more}</ul></div>'


def _people(ledger: Ledger) -> str:
    moments = ledger.moments
    series = [
        Line("came", "muted", [(one.at, one.came) for one in moments]),
        Line("let in", "a", [(one.at, one.admitted) for one in moments]),
        Line("in line", "b", [(one.at, one.line) for one in moments if one.line is not None]),
    ]
    return plot("People", _TIME, "people", series, bands=_shut(ledger))


def _speeds(ledger: Ledger) -> str:
    moments = ledger.moments
    # Over two steps: single ones are noise.
    pairs = [(before, now) for before, now in zip(moments, moments[2:], strict=False) if now.at > before.at]
    joins = [(now.at, (now.joined - before.joined) / (now.at - before.at)) for before, now in pairs]
    admissions = [(now.at, (now.admitted - before.admitted) / (now.at - before.at)) for before, now in pairs]
    series = [Line("joins", "b", joins), Line("admissions", "a", admissions)]
    return plot("Speed", _TIME, "people per second", series, bands=_shut(ledger))


def _shut(ledger: Ledger) -> Bands:
    return Bands("Redis was killed", "fault", ledger.shut)


def _order(stories: Iterable[Story], verdict: Verdict) -> str:
    """Who came in when, by the order of joining."""
    overtaken = {one.number for one in verdict.overtaken}
    ordered = sorted((story for story in stories if story.ticket), key=lambda story: story.ticket)
    groups: dict[str, list[tuple[float, float]]] = {"present": [], "absent": [], "overtaken": []}
    for rank, story in enumerate(ordered, 1):
        if story.admitted is not None:
            kind = "overtaken" if story.number in overtaken else "absent" if _was_away(story) else "present"
            groups[kind].append((rank, story.admitted))
    series = [
        Dots("present all the time", "a", _some(groups["present"])),
        Dots("in a hidden tab that polls, or lost a connection", "muted", _some(groups["absent"])),
        Dots("overtaken", "fault", groups["overtaken"]),
    ]
    title = "Order: who came in when"
    drawn = [one for one in series if one.points]
    return plot(title, "place in the order of joining", "let in, seconds since the first came", drawn)


def _was_away(story: Story) -> bool:
    return story.steady_since > (story.told[0].at if story.told else story.joined) + 1


def _promises(ledger: Ledger) -> str:
    told = _some(list(kept_promises(ledger.stories, ledger.shut)))
    if not told:
        return f"<figure><figcaption>Promises</figcaption><p>Nobody was promised more than {WORTH:.0f} s.</p></figure>"
    bars = [(served, one.low, one.high) for one, served in told if one.low is not None and one.high is not None]
    dots = Dots(
        "a promise, and its range" if bars else "a promise", "a", [(served, one.eta or 0) for one, served in told], bars
    )
    title = f"Promised and served, over {WORTH:.0f} s"
    return plot(title, "seconds that it took", "seconds promised", [dots], square=True, diagonal=True)


def _latencies(figures: dict[str, Any]) -> str:
    marks = (("p50", "a"), ("p95", "b"), ("p99", "c"), ("max", "muted"))
    rows = [(kind, [times[mark] for mark, _ in marks]) for kind, times in figures["latency_ms"].items()]
    return spans("Time until the answer", rows, marks)


def _table(figures: dict[str, Any]) -> str:
    refused, failed = figures["requests"]["refused"], figures["requests"]["failed"]
    rows = "".join(
        f"<tr><td>{escape(kind)}</td><td>{times['count']:,}</td>"
        + "".join(f"<td>{times[mark]:,.1f}</td>" for mark in ("p50", "p95", "p99", "max"))
        + f"<td>{refused.get(kind, 0):,}</td><td>{failed.get(kind, 0):,}</td></tr>"
        for kind, times in figures["latency_ms"].items()
    )
    heads = "".join(
        f"<th>{head}</th>" for head in ("", "answers", "p50 ms", "p95", "p99", "max", "refused", "no answer")
    )
    return f"<table><tr>{heads}</tr>{rows}</table>"


def _options(options: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in options.items() if value not in (None, ""))


def _some(points: Sequence[ItemT]) -> Sequence[ItemT]:
    """A sample of too many."""
    return random.Random(1).sample(points, MOST_DOTS) if len(points) > MOST_DOTS else points
