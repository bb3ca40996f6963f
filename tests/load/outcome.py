"""The plan of a run of openloop.py, and its result."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Final

LIMIT: Final = 5_000_000  # requests in a run
LAG_MS: Final = 3.0
"""If the p99 of the generator's own lateness is above this, the figures are in doubt. On an idle core it is a tenth."""
BUSY: Final = 0.9
"""So they are if it uses this share of a core."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to send."""

    host: str
    port: int
    rate: float  # a second; 0: closed loop
    seconds: float
    connections: int
    timeout: float = 10.0  # people give up then, whether their request has been written or not
    grace: float = 2.0  # for what is still unanswered at the end
    seed: int = 1

    def __post_init__(self) -> None:
        if not (0 <= self.rate * self.seconds <= LIMIT and 0 < self.seconds <= 3600 and self.timeout > 0):
            raise ValueError(f"a run has at most {LIMIT:,} requests and an hour")
        if not 1 <= self.connections <= 60_000:
            raise ValueError("1 to 60,000 connections")


@dataclasses.dataclass(frozen=True)
class Times:
    """Percentiles in ms, 0 if there was nothing."""

    p50: float
    p95: float
    p99: float
    max: float


@dataclasses.dataclass(frozen=True)
class Answered:
    """The answers of one kind: their number, and the times since the requests were due and since they were written."""

    count: int
    since_due: Times
    since_written: Times


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result. due = written + given_up + unsent; written = all answered + timed_out + broken + unanswered."""

    rate: float  # asked for
    seconds: float  # really
    connections: int
    due: int
    written: int
    statuses: dict[int, int]
    accepted: Answered  # 2xx
    refused: Answered  # all others
    bare_503: int  # without Retry-After
    given_up: int  # no connection was free before they timed out
    unsent: int  # no connection was free before the end
    timed_out: int
    broken: int  # the connection was lost, or the answer was no HTTP
    open_at_end: int  # written and not answered when the time was up
    unanswered: int  # nor within the grace
    unopened: int  # connections that could not be opened (again)
    lag: Times  # its own lateness: not written although due and a connection was free
    busy: float  # share of a core that it used itself
    started: float  # by the monotonic clock
    ended: float
    interrupted: bool

    @property
    def per_second(self) -> float:
        """Accepted requests per second."""
        return self.accepted.count / self.seconds

    @property
    def offered(self) -> float:
        """Requests really written per second."""
        return self.written / self.seconds

    def doubts(self) -> list[str]:
        """Reasons to doubt the figures."""
        found = []
        if self.busy > BUSY:
            found.append(f"the load generator was the limit: it used {self.busy:.0%} of its core")
        # In a closed loop its lateness does not count.
        if self.rate and self.lag.p99 > LAG_MS:
            found.append(
                f"the load generator was late itself: a p99 of {self.lag.p99:.1f} ms, with {self.busy:.0%} of its core"
            )
        lost = self.given_up + self.unsent + self.timed_out + self.broken + self.unanswered
        if lost > self.due / 1000:
            found.append(f"the times know nothing of {lost:,} of {self.due:,} that had no answer")
        return found


def times(seconds: Iterable[float]) -> Times:
    """Their percentiles."""
    order = sorted(seconds)
    if not order:
        return Times(0.0, 0.0, 0.0, 0.0)
    return Times(*(order[math.ceil(len(order) * part) - 1] * 1e3 for part in (0.50, 0.95, 0.99, 1.0)))
