"""What a crowd lived through. The judge reads it; nothing here decides anything.

Times are in s since the crowd began, on this process's clock. What the server says of time is turned into it.
"""

from array import array
from collections import Counter, deque
from dataclasses import dataclass, field
from enum import Enum

import msgspec


class End(Enum):
    """What became of somebody."""

    ADMITTED = "admitted"
    LEFT = "left"
    VANISHED = "vanished"
    EXPIRED = "expired"
    """Was silent for so long that their place could be given up."""
    NEVER_ENTERED = "never entered"
    LOST = "lost"
    """Was told that the place is gone although they had kept asking."""
    WAITING = "still waiting"
    NOT_JOINED = "not joined"


class Told(msgspec.Struct, gc=False):
    """An answer to somebody who waits. `low` and `high` are the promised range; `eta` None: nobody is let in."""

    at: float
    position: int
    eta: float | None = None
    low: float | None = None
    high: float | None = None
    approximate: bool = False
    waiting: bool = True
    """Not called yet."""
    reason: str = ""
    """Why promises slip."""
    age: float = 0.0
    """How long an event was on its way (s)."""


@dataclass(slots=True)
class Story:
    """One person."""

    number: int
    hidden: bool = False
    listens: bool = False
    """At the end, and since `steady_since`."""
    ticket: int = 0
    """0: none, as far as they know."""
    joined: float = 0.0
    told: list[Told] = field(default_factory=list)
    steady_since: float = 0.0
    """Since then they asked when they were told to, and were answered."""
    admitted: float | None = None
    until: float | None = None
    """From then on they did not want to come in any more, or could not."""
    end: End = End.NOT_JOINED
    unsure_join: bool = False
    """A join that was never answered may have happened."""
    unsure_entry: bool = False
    """So may an entry."""
    unsure_walk_ins: int = 0
    """Pages that were not answered: each may have let them in."""


class Moment(msgspec.Struct, gc=False):
    """Once a second: so many so far (came, joined, admitted), and now. None: it cannot be known."""

    at: float
    came: int
    joined: int
    admitted: int
    waiting: int
    inside: int | None
    line: int | None
    promised: float | None
    low: float | None
    high: float | None
    served: float | None
    errors: int
    lag: float


@dataclass(slots=True)
class Ledger:
    """Everybody, and what was counted."""

    stories: list[Story] = field(default_factory=list)
    doubles: list[str] = field(default_factory=list)
    """Two people with one ticket, or one person with two."""
    wrong: list[str] = field(default_factory=list)
    """Answers that must never occur."""
    holders: dict[int, Story] = field(default_factory=dict)
    latencies: dict[str, "array[float]"] = field(default_factory=dict)
    """Seconds by kind of request."""
    refused: Counter[str] = field(default_factory=Counter)
    """5xx and 429 by kind of request."""
    failed: Counter[str] = field(default_factory=Counter)
    """Requests without an answer by kind."""
    broken: int = 0
    """Requests without an answer."""
    unconnected: int = 0
    """Requests that nobody accepted."""
    requests: int = 0
    events: int = 0
    """Of streams."""
    fallbacks: int = 0
    """Times that somebody polled for a while, because the stream was refused, lost three times, or of no use."""
    missed: int = 0
    """Polls of listeners that found what no event had told."""
    lag: "array[float]" = field(default_factory=lambda: array("d"))
    """How late the loop of the crowd itself was (s), twenty times a second."""
    most_queued: int = 0
    """The most requests that waited for a connection at the same time."""
    moments: list[Moment] = field(default_factory=list)
    totals: dict[str, int] | None = None
    """What the server counted meanwhile; None: nobody can know."""
    over_cap: int = 0
    """By how many more were inside than may be, by the server's count."""
    shut: list[tuple[float, float]] = field(default_factory=list)
    """When nobody could be let in, because Redis had been killed."""
    unchecked: list[str] = field(default_factory=list)
    """What cannot be said, and why."""
    ended: float = 0.0
    patience_over: bool = False
    interrupted: bool = False
    joined: int = 0
    admitted: int = 0
    served: deque[tuple[float, float]] = field(default_factory=deque)
    """Who came in lately: when, and after how long."""
    _offset: float | None = None
    _doubt: float = 60.0

    # What is learned of the server's clock

    def hear_clock(self, server: float, asked: float, answered: float) -> None:
        """The server did something at this time of its own (s since 1970), between the two of ours."""
        if answered - asked < self._doubt:
            self._doubt = answered - asked
            self._offset = server - (asked + answered) / 2

    def ours(self, server: float, fallback: float) -> float:
        """A time of the server on our clock; `fallback` while nothing is known of it."""
        return fallback if self._offset is None else server - self._offset

    # What happens

    def give(self, story: Story, ticket: int, now: float) -> None:
        """Somebody was given a ticket (us)."""
        holder = self.holders.setdefault(ticket, story)
        if holder is not story:
            self.doubles.append(f"person {story.number} has the ticket of person {holder.number}")
        if story.ticket not in {0, ticket}:
            self.doubles.append(f"person {story.number} has two places: {story.ticket} and {ticket}")
        if story.ticket:
            return
        story.ticket, story.joined, story.steady_since = ticket, self.ours(ticket / 1e6, now), now
        story.end, story.unsure_join = End.WAITING, False
        self.joined += 1

    def admit(self, story: Story, ticket: int, entered: int, now: float) -> None:
        """Somebody has a pass of this ticket (us), first granted at `entered` (ms on the server's clock)."""
        if story.admitted is None:
            self.give(story, ticket, now)
            story.admitted = story.until = min(self.ours(entered / 1e3, now), now)
            story.end, story.unsure_entry = End.ADMITTED, False
            self.admitted += 1
            self.served.append((now, max(story.admitted - story.joined, 0.0)))
        elif story.ticket != ticket:
            self.doubles.append(f"person {story.number} was let in twice: {story.ticket} and {ticket}")

    def measure(self, kind: str, seconds: float) -> None:
        """A request of a kind was answered."""
        self.latencies.setdefault(kind, array("d")).append(seconds)
