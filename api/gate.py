"""Who may wait in this process, for how long, and when those are refused whose wait was too long."""

import asyncio
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from shared.errors import OverloadedError

PATIENCE: Final = 0.1
"""A request that waited longer (s) is not worth serving while others that came later can still be served in time."""

BURST: Final = 0.25
"""As long as this (s) a queue may be late before that holds: a crowd that comes at once is served whole, in order."""

TICK: Final = 0.05
"""Every so often (s) some of those who are held are refused."""

_SHARE: Final = 8
"""One is refused for so many that are served: a refusal costs about as much as a join."""
_LEAST: Final = 10
"""Refusals in a tick however few are served."""
_IDLE: Final = 100
"""And while nobody else waits."""


@dataclass(slots=True)
class Patience:
    """Tells a queue that stands from a burst, as CoDel does: by how long its oldest has waited, and since when."""

    is_late: bool = False
    _since: float = 0.0

    def overdue(self, since: Sequence[float], now: float, batch: int) -> int:
        """How many of a queue have waited too long, given the times (s) at which they came, oldest first.

        Never those who fit into the next batch: refusing them would not make anything faster. (A slow Redis makes
        people wait, too.)
        """
        waited, excess = now - since[0], len(since) - batch
        if waited < PATIENCE / 2 or excess <= 0:
            self.is_late = False
        elif waited > PATIENCE and not self.is_late:
            self.is_late, self._since = True, now
        if not self.is_late or now - self._since < BURST:
            return 0
        return bisect_left(since, now - PATIENCE, hi=excess)


class Gate:
    """Counts who waits, at most `limit`, and holds the overdue back until they are refused.

    Places in line are given in the order of arrival, so requests are served in that order too, also under overload:
    newest first would keep waits as short, but would turn every burst around and reward whoever asks again and again.
    What is more than can be served in time is not refused at once: a refusal costs nearly as much as a join, and who
    was refused asks again, so that soon nothing but refusals would be served. The excess is held, which costs nothing
    but memory, and refused in a share of the time, oldest first. Their retry finds the same place if they were served
    after all (Idempotency-Key), else a new one.
    """

    def __init__(self, limit: int) -> None:
        self.waiting = self.refused = 0
        self.limit = limit
        self._loop = asyncio.get_running_loop()
        self._held: deque[asyncio.Future[Any]] = deque()
        self._served = 0
        self._ticking = False

    def enter(self) -> None:
        """One more waits. If that is too many, the oldest of those held is refused, or this one: OverloadedError."""
        if self.waiting >= self.limit and not self._refuse(1):
            self.refused += 1
            raise OverloadedError
        self.waiting += 1

    def serve(self, people: int) -> None:
        """So many have their answer."""
        self.waiting -= people
        self._served += people

    def forget(self, people: int) -> None:
        """So many went away without one."""
        self.waiting -= people

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Waits in no queue."""
        self.enter()
        try:
            yield
        finally:
            self.serve(1)

    def turn_away(self, overdue: "Sequence[asyncio.Future[Any]]") -> None:
        """They go on waiting, to be refused when there is time for it."""
        self._held.extend(overdue)
        if not self._ticking:
            self._ticking = True
            self._loop.call_later(TICK, self._tick)

    def drain(self) -> None:
        """Refuses all who are held."""
        self._refuse(len(self._held))

    def _tick(self) -> None:
        idle = self.waiting == len(self._held)
        self._refuse(_IDLE if idle else max(self._served // _SHARE, _LEAST))
        self._served = 0
        self._ticking = bool(self._held)
        if self._ticking:
            self._loop.call_later(TICK, self._tick)

    def _refuse(self, people: int) -> int:
        people = min(people, len(self._held))
        for _ in range(people):
            future = self._held.popleft()
            if not future.done():
                future.set_exception(OverloadedError())
        self.waiting -= people
        self.refused += people
        return people
