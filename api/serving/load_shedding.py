"""Load shedding: how many requests may wait in this process, for how long, and when the excess is refused."""

import asyncio
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from shared.errors import OverloadedError

PATIENCE: Final = 0.075
"""A request that has waited longer (s) is not worth serving while later ones can still be served in time."""

BURST: Final = 0.1
"""How long (s) a queue may be late before requests are shed: a crowd that comes at once is served in order, and all
of it if that takes no longer than this."""

TICK: Final = 0.05
"""Seconds between two rounds of refusals of held requests."""

_SHARE: Final = 16
"""Requests served for each one refused: a refusal costs about as much as a join."""
_LONGEST: Final = 8
"""More are refused if the last would be held much longer than this (s): their clients would have given up."""
_LEAST: Final = 10
"""Refusals in a tick, at least."""
_IDLE: Final = 100
"""Refusals in a tick while no request waits to be served."""


@dataclass(slots=True)
class Patience:
    """Tells a standing queue from a burst, as CoDel does: by how long its oldest request has waited, and since when."""

    is_late: bool = False
    _since: float = 0.0

    def overdue(self, since: Sequence[float], now: float, batch: int) -> int:
        """How many requests of a queue have waited too long, given their arrival times (s), oldest first.

        Those that fit into the next batch are never among them: refusing them would not make anything faster. (A slow
        Redis makes people wait, too.)
        """
        waited, excess = now - since[0], len(since) - batch
        if waited < PATIENCE / 2 or excess <= 0:
            self.is_late = False
        elif waited > PATIENCE and not self.is_late:
            self.is_late, self._since = True, now
        if not self.is_late or now - self._since < BURST:
            return 0
        return bisect_left(since, now - PATIENCE, hi=excess)


class PendingLimit:
    """Counts the requests that wait to be served, at most `limit`, and holds the excess back until it is refused.

    Places in line are given in the order of arrival, so requests are served in that order, even under overload.
    Serving the newest first would keep waits as short, but would reverse every burst and reward clients that retry
    again and again. The excess is not refused at once: a refusal costs nearly as much as a join, and refused clients
    retry, so that soon nothing but refusals would be served. It is held instead, which costs only memory (20 KB a
    connection), and refused little by little, oldest first. The price: a refused person was not in line, and gets
    a later place than some people who came after them.
    """

    def __init__(self, limit: int) -> None:
        self.waiting = self.refused = 0
        self.limit = limit
        self._loop = asyncio.get_running_loop()
        self._held: deque[asyncio.Future[Any]] = deque()
        self._served = 0
        self._ticking = False

    @property
    def is_full(self) -> bool:
        """Whether one more request would be too many."""
        return self.waiting >= self.limit

    def acquire(self) -> bool:
        """One more request waits; False if that would be too many."""
        if self.is_full:
            return False
        self.waiting += 1
        return True

    def serve(self, requests: int) -> None:
        """Counts this many requests as answered."""
        self.waiting -= requests
        self._served += requests

    def release(self, requests: int) -> None:
        """Counts this many requests as no longer waiting, without an answer."""
        self.waiting -= requests

    @contextmanager
    def one(self) -> Iterator[None]:
        """Around a request that is in no batch; raises OverloadedError at once if too many wait."""
        if not self.acquire():
            self.refused += 1
            raise OverloadedError
        try:
            yield
        finally:
            self.serve(1)

    def hold(self, futures: "Iterable[asyncio.Future[Any]]") -> None:
        """Holds these until there is time to refuse them with an OverloadedError."""
        self._held.extend(futures)
        if not self._ticking:
            self._ticking = True
            self._loop.call_later(TICK, self._tick)

    def refuse_all_held(self) -> None:
        """Refuses all that are held."""
        self._refuse(len(self._held))

    def _tick(self) -> None:
        if self.waiting:
            self._refuse(max(self._served // _SHARE, int(len(self._held) * TICK / _LONGEST), _LEAST))
        else:
            self._refuse(_IDLE)
        self._served = 0
        self._ticking = bool(self._held)
        if self._ticking:
            self._loop.call_later(TICK, self._tick)

    def _refuse(self, requests: int) -> None:
        for _ in range(min(requests, len(self._held))):
            future = self._held.popleft()
            if not future.done():
                self.refused += 1
                future.set_exception(OverloadedError())
