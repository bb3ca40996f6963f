"""Everything that the answers promised to a crowd. The audit compares it with Redis and the api."""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

LOST, DOUBLE, ORDER, WRONG = "lost", "double", "order", "wrong"

SILENT: Final = 0.7
"""People who were silent for this share of a heartbeat TTL may be expired: a heartbeat is up to a quarter of it old."""


class Miss(NamedTuple):
    """A broken promise, and when it was made."""

    kind: str
    text: str
    promised: float


@dataclass(slots=True)
class Deed:
    """An action: it may have happened since it was `asked` for, and has certainly happened once it is `done`."""

    asked: float | None = None
    done: float | None = None


@dataclass(slots=True, eq=False)
class Place:
    """One issued ticket."""

    event: str
    ticket: int
    who: str
    """The holder's key or verified name, '' for people without either."""
    token: str
    """As in the join's answer: a replay gives the same."""
    headers: dict[str, str]
    """The headers with which the same join can be repeated."""
    given: float
    heard: float
    reservation: str = ""
    gone: bool = False
    left: Deed = field(default_factory=Deed)
    entered: Deed = field(default_factory=Deed)
    redeemed: Deed = field(default_factory=Deed)

    def __str__(self) -> str:
        return f"{self.ticket} of {self.event}"

    def promises(self) -> Iterator[float]:
        """The times of all promises about it."""
        yield self.given
        yield from (deed.done for deed in (self.left, self.entered, self.redeemed) if deed.done is not None)


class Ledger:
    """The places of all people, and the broken promises. Times are by this process's monotonic clock.

    Promises made within `forgiven` (from, until) may be broken: they are counted, but are not a failure.
    """

    def __init__(self, life: float) -> None:
        self.places: dict[tuple[str, int], Place] = {}
        self.misses: list[Miss] = []
        self.forgiven: list[tuple[float, float]] = []
        self.unknown_joins = 0
        """Joins without an answer that cannot be repeated to find their ticket."""
        self.life = life
        self._highest: dict[str, list[tuple[float, int]]] = {}

    def give(
        self, event: str, token: str, *, who: str, headers: dict[str, str], asked: float, answered: float
    ) -> Place:
        """Records the answer to a join, and when it was first sent with these headers."""
        ticket = int(token.split("~")[2])
        known = self.places.get((event, ticket))
        if known is not None:
            if not who or known.who != who:
                self.miss(DOUBLE, f"ticket {known} was given to two people", known.given)
            return known
        highest = self._highest.setdefault(event, [])
        before = bisect_left(highest, (asked, 0))
        if before and highest[before - 1][1] >= ticket:
            self.miss(ORDER, f"ticket {ticket} of {event} overtook {highest[before - 1][1]}", answered)
        highest.append((answered, max(ticket, highest[-1][1] if highest else 0)))
        place = self.places[event, ticket] = Place(event, ticket, who, token, headers, answered, answered)
        return place

    def lose(self, place: Place, now: float) -> None:
        """Records that the api says that a place is gone."""
        place.gone = True
        if not self.may_be_gone(place, now):
            self.miss(LOST, f"ticket {place} is gone", max(place.given, place.left.done or 0))

    def may_be_gone(self, place: Place, now: float) -> bool:
        """Whether its holder has asked to leave, or has been silent so long that they may have been expired."""
        return place.left.asked is not None or now - place.heard >= SILENT * self.life

    def miss(self, kind: str, text: str, promised: float) -> None:
        """Records a broken promise."""
        self.misses.append(Miss(kind, text, promised))

    def count(self, kind: str) -> int:
        """How many there are of a kind, forgiven or not."""
        return sum(miss.kind == kind for miss in self.misses)

    def unforgiven(self) -> Iterator[Miss]:
        """The misses that make a scenario fail."""
        for miss in self.misses:
            if not any(since <= miss.promised <= until for since, until in self.forgiven):
                yield miss
