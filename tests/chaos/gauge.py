"""Counts requests, and measures the longest time in which no request of a kind had a good answer."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

JOIN, STATUS, ENTER, LEAVE, REDEEM = KINDS = ("join", "status", "enter", "leave", "redeem")


@dataclass(slots=True)
class _Kind:
    """How many people wait for a good answer of one kind, and when there last was one, or nobody who waited."""

    waiting: int = 0
    since: float = 0.0
    gap: float = 0.0
    longest_wait: float = 0.0

    def note_gap(self, now: float) -> None:
        self.gap = max(self.gap, now - self.since)
        self.since = now


@dataclass(slots=True)
class Wish:
    """One person's wish for an answer; it may take several requests."""

    granted: bool = False


@dataclass(slots=True)
class Gauge:
    """What a crowd has seen. A broken request got no answer, an unconnected one found no process that accepted it."""

    requests: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    """503s, by kind."""
    broken: int = 0
    unconnected: int = 0
    events: int = 0
    """Told on streams."""
    _kinds: dict[str, _Kind] = field(default_factory=lambda: {kind: _Kind() for kind in KINDS})

    @contextmanager
    def wish(self, kind: str) -> Iterator[Wish]:
        """Somebody wants an answer of this kind until the block ends."""
        state, began, wish = self._kinds[kind], time.monotonic(), Wish()
        if not state.waiting:
            state.since = began
        state.waiting += 1
        try:
            yield wish
        finally:
            state.waiting -= 1
            now = time.monotonic()
            state.longest_wait = max(state.longest_wait, now - began)
            if wish.granted:
                state.note_gap(now)

    @property
    def refused(self) -> int:
        """503s."""
        return self.refusals.total()

    @property
    def waiting(self) -> int:
        """People without the answer they want."""
        return sum(state.waiting for state in self._kinds.values())

    def worst_gap(self) -> tuple[float, str]:
        """The longest time in s in which people waited for a kind of answer and nobody got it, and the kind."""
        now = time.monotonic()
        return max(
            (max(each.gap, now - each.since if each.waiting else 0.0), kind) for kind, each in self._kinds.items()
        )

    def longest_wait(self) -> tuple[float, str]:
        """The longest time in s that one person waited for one answer, including retries, and its kind."""
        return max((each.longest_wait, kind) for kind, each in self._kinds.items())
