"""Every pass that visitors were given and every visit that the shop saw, held against the promises about them."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from tests.chaos.ledger import DOUBLE, LOST, WRONG, Ledger
from tests.support.visits import SIGNER

RELEASE_MS: Final = 3000
"""A released pass is good nowhere after this, and its slot is free."""
DOUBT_MS: Final = 1000
"""How near to the end of a pass nothing is said about it: answers take their time."""


def now_ms() -> int:
    """The time of all Redis servers of this machine, in ms."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Session:
    """What is known of somebody's time inside, in ms."""

    visitor: int
    entered: int
    until: int
    """The end of the newest pass."""
    served: int = 0
    """When the shop last saw them before they asked to be released."""
    released: int | None = None
    """When they first asked to be released."""

    @property
    def good_until(self) -> int:
        """When their pass ended, or could have: never later than their slot was free."""
        until = max(self.until, self.served)
        return until if self.released is None else min(until, self.released + RELEASE_MS)


class PassBook:
    """The sessions of all visitors. What must not happen is a miss in the ledger."""

    def __init__(self, ledger: Ledger, event: str) -> None:
        self.sessions: dict[int, Session] = {}
        """By ticket."""
        self.seen = 0
        """Requests that reached the shop."""
        self.outages: list[tuple[int, int]] = []
        """When Redis could not be asked (since, until): a released pass may look good for as long."""
        self._ledger, self._event = ledger, event
        self._newest: dict[int, Session] = {}

    def give(self, visitor: int, text: str) -> Session:
        """A visitor was given this pass."""
        token = SIGNER.verify_pass(text)
        session = self.sessions.get(token.ticket)
        if session is None:
            session = self.sessions[token.ticket] = Session(visitor, token.entered, token.until)
            before = self._newest.get(visitor)
            if before is not None and before.good_until > session.entered:
                self._miss(DOUBLE, f"visitor {visitor} was let in twice, also as {token.ticket}")
            self._newest[visitor] = session
        elif session.visitor != visitor:
            self._miss(DOUBLE, f"{token.ticket} was given to visitors {session.visitor} and {visitor}")
        elif session.entered != token.entered:
            self._miss(WRONG, f"{token.ticket} was first let in at {session.entered} and at {token.entered}")
        session.until = max(session.until, token.until)
        return session

    def saw(self, headers: dict[str, str]) -> None:
        """A request with these headers reached the shop."""
        self.seen += 1
        session = self.sessions.get(int(headers.get("x-daegi-ticket", 0)))
        if session is None or headers.get("x-daegi-event") != self._event:
            self._miss(WRONG, "somebody without a pass reached the shop")
            return
        now = now_ms()
        if session.released is None:
            session.served = now
        elif now > session.released + RELEASE_MS + DOUBT_MS and not self._was_out(session.released, now):
            self._miss(WRONG, f"a pass was good {now - session.released} ms after its release")

    def turned_away(self, session: Session, answer: str) -> None:
        """Somebody with a pass did not get through to the shop: its end is the only reason for that."""
        early = session.until - now_ms()
        if early > DOUBT_MS:
            self._miss(LOST, f"visitor {session.visitor} got {answer} {early} ms before the end of their pass")

    def inside(self) -> int:
        """How many passes are good now."""
        now = now_ms()
        return sum(session.good_until > now for session in self.sessions.values())

    def most_inside(self) -> int:
        """How many passes were good at the same time, at most."""
        # Who ends at the same time as somebody begins has made room for them.
        steps = sorted(_steps(self.sessions.values()))
        most = inside = 0
        for _, change in steps:
            inside += change
            most = max(most, inside)
        return most

    def _was_out(self, since: int, until: int) -> bool:
        return any(began < until and since < ended for began, ended in self.outages)

    def _miss(self, kind: str, text: str) -> None:
        self._ledger.miss(kind, text, time.monotonic())


def _steps(sessions: Iterable[Session]) -> Iterator[tuple[int, int]]:
    for session in sessions:
        if session.good_until > session.entered:
            yield session.entered, 1
            yield session.good_until, -1
