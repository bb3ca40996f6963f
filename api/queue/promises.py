"""How true promised waits turn out: what a process promised is compared with when it sees the same person let in."""

from typing import NamedTuple

from shared.telemetry.metrics import Metrics

WORTH_S = 30
"""Promises of a shorter wait are not counted."""

_MOST = 10_000
"""Promises remembered at a time (about 2 MB); while there are so many, newcomers' are not."""

_OUTCOMES = ("kept", "early", "late")

_RATIOS = (0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.3, 1.5, 2.0, 4.0)


class _Promise(NamedTuple):
    """Made at `at` (ms): so many seconds, and from how many to how many."""

    at: int
    seconds: float
    low: int
    high: int


class Promises:
    """The first wait of more than 30 s that each of a sample of people was promised here.

    Somebody who is let in by another process, or never, is forgotten. What was promised before the rate was changed, or
    before a pause, does not count.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._made: dict[int, _Promise] = {}
        self._forget_at = 0
        self._outcomes = metrics.counter(
            "daegi_wait_promises", "Promised waits of more than 30 s, by when the people were let in", "outcome"
        )
        for outcome in _OUTCOMES:
            # One that appears with its first 1 has not grown, as Prometheus sees it.
            self._outcomes.add(0, outcome)
        ratios = metrics.histogram(
            "daegi_wait_promise_ratio", "Waits of more than 30 s by the promised ones", bounds=_RATIOS
        )
        self._ratio = ratios.labelled()

    def note(self, ticket: int, seconds: float, between: tuple[int, int], now: int) -> None:
        """Remembers what somebody who waits is promised at `now` (ms), unless they were promised something before."""
        if ticket in self._made:
            return
        if len(self._made) < _MOST or (now >= self._forget_at and self._forget_old(now)):
            self._made[ticket] = _Promise(now, seconds, *between)

    def settle(self, ticket: int, entered: int, changed: int) -> None:
        """Compares with when they `entered`, unless the rate `changed` after the promise, or was paused. In ms."""
        promise = self._made.pop(ticket, None)
        if promise is None or promise.at <= changed:
            return
        waited = (entered - promise.at) / 1000
        outcome = "early" if waited < promise.low else "late" if waited > promise.high else "kept"
        self._outcomes.add(1, outcome)
        self._ratio.observe(waited / promise.seconds)

    def _forget_old(self, now: int) -> bool:
        """Forgets those who should have come long ago, once a minute; whether there is room then."""
        self._forget_at = now + 60_000
        self._made = {ticket: one for ticket, one in self._made.items() if now < one.at + 3000 * one.high}
        return len(self._made) < _MOST
