"""Why a promised wait slips: what people can be told when a promise does not hold.

A process learns of it from the standings that it sees anyway, and keeps a little for each event, nothing for a person.
"""

from typing import Literal

from shared.line.replies import Standing

Reason = Literal["", "rate_changed", "paused", "cap"]

SLOWER = 0.85
"""Below this part of the pace of before, those inside stay longer than expected: less is within every range
(api/queue/forecast.py).
"""


_JUMP_MS = 10_000
"""A standing that is older by more comes from a clock that has jumped back."""


class Slips:
    """What has held up one event's line of late; for `remembered` s, in which everybody hears of it."""

    __slots__ = ("_last", "_pace", "_reason", "_remembered_ms", "_since", "changed")

    def __init__(self, standing: Standing, remembered: float) -> None:
        self._remembered_ms = remembered * 1000
        self._last, self._pace = standing, standing.eta_rate
        self._reason: Reason = ""
        self._since = self.changed = 0
        """`changed`: when the rate was last changed, or the event last seen paused, in ms; 0 for never."""

    def observe(self, standing: Standing) -> None:
        """Compares with the standings before; older ones than the last are passed over."""
        last = self._last
        if standing.now < last.now - _JUMP_MS:
            # What happened stands in a future that would hide all that happens until then.
            self._since = self.changed = 0
        elif standing.now < last.now:
            return
        if not last.waiting:
            # Nobody was promised anything.
            self._pace = standing.eta_rate
        self._last = standing
        if standing.paused or standing.rate != last.rate:
            self.changed = standing.now
        if standing.paused:
            self._told("paused", standing.now)
            self._pace = standing.eta_rate
        elif standing.rate < last.rate:
            self._told("rate_changed", standing.now)
            self._pace = standing.eta_rate
        elif standing.capped and standing.eta_rate < self._pace * SLOWER:
            # Somebody who was promised the fastest pace may still wait.
            self._told("cap", standing.now)
        else:
            self._pace = max(self._pace, standing.eta_rate)

    def reason(self, now: int) -> Reason:
        """Why waits have become longer, '' if nothing is known of it; `now` in ms."""
        return self._reason if now - self._since < self._remembered_ms else ""

    def _told(self, reason: Reason, now: int) -> None:
        self._reason, self._since = reason, now
