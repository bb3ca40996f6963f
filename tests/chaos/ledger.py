"""Everything that was promised to a crowd, by the answers it got: what the audit holds against Redis and the api."""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

LOST, DOUBLE, ORDER, WRONG = "lost", "double", "order", "wrong"

SILENT: Final = 0.7
"""Who was not heard for this share of a heartbeat life may have been expired: a heartbeat is up to a quarter old."""


class Miss(NamedTuple):
    """Something that is not as it was promised, and when the promise was made."""

    kind: str
    text: str
    promised: float


@dataclass(slots=True)
class Deed:
    """Something that may have been done since it was asked for, and has been once that was answered."""

    asked: float | None = None
    done: float | None = None


@dataclass(slots=True, eq=False)
class Place:
    """One ticket that was given out."""

    event: str
    ticket: int
    who: str
    """The holder's key or verified name, '' of those without one."""
    token: str
    """As the join gave it: a replay gives the same."""
    headers: dict[str, str]
    """With which the same join can be asked for again."""
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
        """When something was promised about it."""
        yield self.given
        yield from (deed.done for deed in (self.left, self.entered, self.redeemed) if deed.done is not None)


class Ledger:
    """The places of all people, and what has been found amiss. Times are this process's monotonic ones.

    Promises made within `forgiven` (from, until) may be broken: they are counted and are no failure.
    """

    def __init__(self, life: float) -> None:
        self.places: dict[tuple[str, int], Place] = {}
        self.misses: list[Miss] = []
        self.forgiven: list[tuple[float, float]] = []
        self.unknown_joins = 0
        """Joins without an answer whose ticket nobody can ask for again."""
        self.life = life
        self._highest: dict[str, list[tuple[float, int]]] = {}

    def give(
        self, event: str, token: str, *, who: str, headers: dict[str, str], asked: float, answered: float
    ) -> Place:
        """A join was answered; when it was first asked for with these headers."""
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
        """The api says that a place is gone."""
        place.gone = True
        if not self.may_be_gone(place, now):
            self.miss(LOST, f"ticket {place} is gone", max(place.given, place.left.done or 0))

    def may_be_gone(self, place: Place, now: float) -> bool:
        """Whether its holder has asked to leave, or has been silent for so long that they may have been expired."""
        return place.left.asked is not None or now - place.heard >= SILENT * self.life

    def miss(self, kind: str, text: str, promised: float) -> None:
        """Something is not as it should be."""
        self.misses.append(Miss(kind, text, promised))

    def count(self, kind: str) -> int:
        """How often, forgiven or not."""
        return sum(miss.kind == kind for miss in self.misses)

    def unforgiven(self) -> Iterator[Miss]:
        """The misses that make a scenario fail."""
        for miss in self.misses:
            if not any(since <= miss.promised <= until for since, until in self.forgiven):
                yield miss
