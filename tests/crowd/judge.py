"""What a ledger says about the promises: pure functions of it.

**Present** is who asked as told, and was answered, without a break: from `steady_since` until they came in or gave up.
Whoever asked more than a second late (a hidden tab), or lost an answer or a stream, is absent until the next answer.

**Overtaken** is A by B if A joined before B, A was present when B was let in and ever since, and B was let in before A
by more than A's own poll (the longest from one answer to the next since then), A's enter (from the last answer to the
admission) and MARGIN. Time in which nobody could be let in, because the crowd had killed Redis, does not count. Joins
and admissions are times of the server: the ticket, and the first grant in the pass. For who listens to the stream a
poll is a second, and the time that the last event was on its way.

**A position rose** if one answer puts somebody further back than the one before. People who were silent when their turn
came step aside, and return to their own place, in front of others: as many as that, and the noise of approximate
places, explain a rise. What is left is unexplained.
"""

import math
import statistics
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple

from tests.crowd.ledger import End, Ledger, Story, Told

MARGIN: Final = 2.0
"""Seconds on top of that: who is called holds up the next calls for a few seconds only."""
STREAM_POLL: Final = 1.0
"""Seconds between two events at most, while something changes."""
WORTH: Final = 30.0
"""Promised waits up to this (s) are not judged: the range of a poll is as long."""
NEWS: Final = 60.0
"""The page tells of a promise that slips by more than this (s)."""
_MILESTONES: Final = 511
"""Approximate places are off by this part of the line."""
_INDEX_AGE: Final = 5.0
"""And by who has gone in so many seconds: the position index may be 3 s old, and another process's older still."""
_ANSWERS: Final = 8


Shut = Sequence[tuple[float, float]]
"""When nobody could be let in (since, until)."""


class Overtaking(NamedTuple):
    """One person who was overtaken: by how many, the first of them, and how much longer than may be it took (s)."""

    number: int
    ticket: int
    by: int
    late: float
    overtaken_at: float
    until: float
    """When they came in, or gave up."""
    answers: list[tuple[float, int, bool]]
    """The last ones they had until then: when, the place, and whether it was not their turn yet."""


@dataclass(frozen=True)
class Rises:
    """Positions that rose from one answer to the next."""

    pairs: int = 0
    """Answers that have one before them."""
    rose: int = 0
    noise: int = 0
    """Of these, within the noise of approximate places."""
    returned: int = 0
    """Of these, no more than people in front came back to their own places."""
    most: str = ""
    """The largest that is explained."""
    unexplained: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Promises:
    """Waits of more than WORTH that were promised to people who were present until they came in."""

    count: int = 0
    ranged: int = 0
    """Of these, with a range."""
    coverage: float | None = None
    """The share of ranges that held the truth; None without ranges."""
    width: float | None = None
    """The median of (high - low) / eta."""
    off: float | None = None
    """The median of |eta - served| / served."""
    ratio: float | None = None
    """The median of eta / served: above 1 is too long."""
    slipped: int = 0
    """Times that a new range lay wholly behind the promised one, whoever heard it."""
    late: int = 0
    """Of these, by more than NEWS: the page tells."""
    reasoned: int = 0
    """Of these, with a reason."""


@dataclass(frozen=True)
class Verdict:
    """All there is to say."""

    ends: dict[str, int]
    lost: list[str]
    doubles: list[str]
    overtaken: list[Overtaking]
    wrong: list[str]
    rises: Rises
    promises: Promises

    @property
    def is_kept(self) -> bool:
        """Whether nobody was lost, let in twice or overtaken, and no answer was impossible."""
        return not (self.lost or self.doubles or self.overtaken or self.wrong)


def judge(ledger: Ledger, *, rate: float, returns_after: float) -> Verdict:
    """Judges all of it. People are let in at `rate`, and step aside after `returns_after` seconds of silence."""
    stories = ledger.stories
    return Verdict(
        ends=ends(stories),
        lost=lost(ledger),
        doubles=[*ledger.doubles, *too_many(ledger)],
        overtaken=overtakings(stories, ledger.ended, ledger.shut),
        wrong=[*ledger.wrong, *too_many_inside(ledger)],
        rises=rises(stories, rate, returns_after),
        promises=promises(stories, ledger.shut),
    )


def ends(stories: Iterable[Story]) -> dict[str, int]:
    """How many ended how."""
    counted = Counter(story.end for story in stories)
    return {end.value: counted[end] for end in End}


def lost(ledger: Ledger) -> list[str]:
    """Who kept asking, and has no place or never came in."""
    found = [
        f"person {story.number} ({story.ticket}) was told after {(story.until or 0) - story.joined:.0f} s that the "
        "place is gone"
        for story in ledger.stories
        if story.end is End.LOST
    ]
    if ledger.interrupted:
        return found
    return found + [
        f"person {story.number} ({story.ticket or 'no place'}) never came in"
        for story in ledger.stories
        if story.end in {End.WAITING, End.NOT_JOINED}
    ]


def too_many(ledger: Ledger) -> list[str]:
    """Places and admissions that the server counts, and nobody knows of."""
    if ledger.totals is None:
        return []
    found = []
    walk_ins = sum(story.unsure_walk_ins for story in ledger.stories)
    tickets = sum(story.ticket > 0 for story in ledger.stories)
    unsure = walk_ins + sum(story.unsure_join for story in ledger.stories)
    if ledger.totals["joined"] > tickets + unsure:
        found.append(
            f"{ledger.totals['joined']:,} places were given, {tickets:,} people have one, and {unsure:,} may have one"
        )
    known = sum(story.admitted is not None for story in ledger.stories)
    unsure = walk_ins + sum(story.unsure_entry and story.admitted is None for story in ledger.stories)
    if ledger.totals["admitted"] > known + unsure:
        found.append(
            f"{ledger.totals['admitted']:,} were let in, {known:,} know of it, and {unsure:,} may have been unknowingly"
        )
    return found


def too_many_inside(ledger: Ledger) -> list[str]:
    """Whether the cap was kept, as the server counts."""
    return [f"{ledger.over_cap:,} more were inside than may be"] if ledger.over_cap > 0 else []


def overtakings(stories: Iterable[Story], ended: float, shut: Shut = (), margin: float = MARGIN) -> list[Overtaking]:
    """Who was overtaken while present, by the order of joining."""
    found, behind = [], list[float]()
    for story in sorted((story for story in stories if story.ticket), key=lambda one: one.ticket, reverse=True):
        until = ended if story.until is None else story.until
        if overtaken := _overtaken(story, until, behind, shut, margin):
            found.append(overtaken)
        if story.admitted is not None:
            insort(behind, story.admitted)
    return found


def _overtaken(story: Story, until: float, behind: Sequence[float], shut: Shut, margin: float) -> Overtaking | None:
    """Whether somebody was; `behind` is when those who joined later were let in, in order."""
    enter, poll = (None if story.admitted is not None else 0.0), 0.0
    if story.listens:
        poll = STREAM_POLL + next((told.age for told in reversed(story.told) if told.at < until), 0.0)
    asked = [max(at, story.steady_since) for at in (story.joined, *(told.at for told in story.told)) if at < until]
    by, at, late, after = 0, until, 0.0, until
    # From the last answer back: a poll excuses those who came in since it began, and not those who came in later.
    for begun in reversed(asked):
        if enter is None:
            enter = after - begun
        elif not story.listens:
            poll = max(poll, after - begun)
        first = bisect_left(behind, begun)
        if first < len(behind) and behind[first] < after:
            closed = sum(max(0.0, min(until, end) - max(behind[first], begin)) for begin, end in shut)
            allowed = until - poll - enter - closed - margin
            if (more := bisect_left(behind, min(allowed, after)) - first) > 0:
                by, at, late = by + more, behind[first], max(late, allowed - behind[first])
        after = begun
    if not by:
        return None
    answers = [(round(told.at, 2), told.position, told.waiting) for told in story.told if told.at <= until]
    return Overtaking(
        story.number, story.ticket, by, round(late, 2), round(at, 2), round(until, 2), answers[-_ANSWERS:]
    )


def rises(stories: Sequence[Story], rate: float, returns_after: float) -> Rises:
    """Positions that rose, and why they may."""
    returns = sorted(
        (after.at, story.ticket)
        for story in stories
        for before, after in pairwise(story.told)
        if after.at - before.at >= returns_after
    )
    times = [at for at, _ in returns]
    pairs = rose = noise = returned = largest = 0
    most, unexplained = "", []
    for story in stories:
        for before, after in pairwise(story.told):
            if not (before.waiting and after.waiting):
                continue
            pairs += 1
            rise = after.position - before.position
            if rise <= 0:
                continue
            rose += 1
            window = returns[bisect_left(times, before.at - _INDEX_AGE) : bisect_right(times, after.at)]
            beyond = rise - _noise(before, after, rate)
            if beyond > 0 and beyond > sum(ticket < story.ticket for _, ticket in window):
                unexplained.append(_rise(story, before, after))
                continue
            noise, returned = noise + (beyond <= 0), returned + (beyond > 0)
            if rise > largest:
                largest, most = rise, _rise(story, before, after)
    return Rises(pairs, rose, noise, returned, most, unexplained)


def _rise(story: Story, before: Told, after: Told) -> str:
    about = "about " if after.approximate else ""
    return (
        f"person {story.number} ({story.ticket}), from {before.position:,} to {about}{after.position:,} "
        f"within {after.at - before.at:.1f} s, at {after.at:.0f} s"
    )


def _noise(before: Told, after: Told, rate: float) -> int:
    if not (before.approximate or after.approximate):
        return 0
    return math.ceil(max(before.position, after.position) / _MILESTONES + _INDEX_AGE * rate) + 1


def promises(stories: Sequence[Story], shut: Shut = ()) -> Promises:
    """How true they were."""
    judged = list(kept_promises(stories, shut))
    slips = [slip for story in stories for slip in _slips(story)]
    ranged = [(told, served) for told, served in judged if told.low is not None and told.high is not None]
    late = [told for told, by in slips if by > NEWS]
    said = {"slipped": len(slips), "late": len(late), "reasoned": sum(bool(told.reason) for told in late)}
    if not judged:
        return Promises(**said)
    held = sum((told.low or 0) <= served <= (told.high or 0) for told, served in ranged)
    return Promises(
        count=len(judged),
        ranged=len(ranged),
        coverage=held / len(ranged) if ranged else None,
        width=statistics.median(((told.high or 0) - (told.low or 0)) / (told.eta or 1) for told, _ in ranged)
        if ranged
        else None,
        off=statistics.median(abs((told.eta or 0) - served) / served for told, served in judged),
        ratio=statistics.median((told.eta or 0) / served for told, served in judged),
        **said,
    )


def _slips(story: Story) -> Iterator[tuple[Told, float]]:
    """What was told when a promise slipped, and by how much (s), by the rule of the page's script."""
    promised: float | None = None
    for told in story.told:
        if told.low is None or told.high is None or not told.waiting:
            continue
        low, high = told.at + told.low, told.at + told.high
        promised = high if promised is None else min(promised, high)
        if low > promised:
            yield told, high - promised
            if high - promised > NEWS:
                promised = high


def kept_promises(stories: Iterable[Story], shut: Shut = ()) -> Iterator[tuple[Told, float]]:
    """What was promised, and the wait (s) that was served. Waits in which Redis was killed are left out."""
    for story in stories:
        if story.admitted is None:
            continue
        for told in story.told:
            served = story.admitted - told.at
            known = told.at >= story.steady_since and served > 0
            known = known and not any(told.at < end and begin < story.admitted for begin, end in shut)
            if known and told.waiting and told.eta is not None and told.eta > WORTH:
                yield told, served
