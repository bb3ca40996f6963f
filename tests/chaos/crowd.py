"""A crowd: people who come at a rate, and in bursts, until it is over."""

import asyncio
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from tests.chaos.ear import Ear
from tests.chaos.person import Person, World

BACK_SECONDS: Final = 20.0
"""Seconds after the end of a load within which everybody has to get the answer they wait for."""


class Crowd:
    """People come until the block ends; then everybody gets the answer they wait for, and stops.

    `listening` is the share of those who listen instead of polling.
    """

    def __init__(self, world: World, events: Sequence[str], rate: float, listening: float = 0.0) -> None:
        self.people = 0
        self.unanswered = 0
        """People who still had no answer at the end."""
        self.seconds = 0.0
        self._world, self._events, self._rate, self._listening = world, events, rate, listening
        self._living: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []
        self._arrivals: asyncio.Task[None] | None = None
        self._began = time.monotonic()

    async def __aenter__(self) -> Self:
        self._began = time.monotonic()
        self._arrivals = asyncio.create_task(self._arrive())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._arrivals is not None
        self._arrivals.cancel()
        try:
            if kind is None:
                await self._end()
        finally:
            for task in self._living:
                task.cancel()
            await asyncio.gather(self._arrivals, *self._living, return_exceptions=True)
        if kind is None and self._failures:
            raise self._failures[0]

    @property
    def present(self) -> int:
        """People who are still active."""
        return len(self._living)

    def burst(self, people: int) -> None:
        """Lets this many people come at once."""
        for _ in range(people):
            self.people += 1
            event = self._events[self.people % len(self._events)]
            kind = Ear if self._world.random.random() < self._listening else Person
            task = asyncio.create_task(kind(self._world, event, f"person-{self.people:06}").live())
            self._living.add(task)
            task.add_done_callback(self._leave)

    async def _arrive(self) -> None:
        while True:
            await asyncio.sleep(self._world.random.expovariate(self._rate))
            self.burst(1)

    async def _end(self) -> None:
        self.seconds = time.monotonic() - self._began
        self._world.over.set()
        if self._living:
            await asyncio.wait(self._living, timeout=BACK_SECONDS)
        self.unanswered = len(self._living)
        self._world.too_late.set()
        if self._living:
            await asyncio.wait(self._living, timeout=BACK_SECONDS)

    def _leave(self, task: "asyncio.Task[None]") -> None:
        self._living.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._failures.append(error)
