"""A batcher whose batches are served when the test says so."""

import asyncio
from collections.abc import Callable
from typing import Any

from api.serving.batcher import Batcher
from api.serving.load_shedding import PendingLimit
from shared.telemetry.metrics import Buckets

Answers = Callable[[Any], None]


class Desk:
    """Serves batches when the test says so: each waits for `go`, answers, and then waits for `end`.

    A request is answered with itself, after its event: what one caller gets cannot be another's.
    """

    def __init__(self, limit: int = 1000, *, max_batch: int = 4, max_in_flight: int = 2) -> None:
        self.batches: list[tuple[str, list[int]]] = []
        self.open = self.most_open = 0
        self.go, self.end = asyncio.Event(), asyncio.Event()
        self.error: Exception | None = None
        self.pending = PendingLimit(limit)
        # The one place that knows how a batcher is made.
        self.batcher: Batcher[int, str] = Batcher(
            self.flush, self.pending, Buckets((1,), [0, 0]), max_batch=max_batch, max_in_flight=max_in_flight
        )

    async def ask(self, event: str, request: int) -> str:
        """One caller."""
        return await self.batcher.submit(event, request)

    def callers(self, event: str, *requests: int) -> "list[asyncio.Task[str]]":
        """Callers that come one after another, in this order."""
        return [asyncio.create_task(self.ask(event, request)) for request in requests]

    def release(self) -> None:
        """Everything goes through from here on."""
        self.go.set()
        self.end.set()

    async def flush(self, event: str, requests: list[int], answer: Answers) -> None:
        """One batch."""
        self.batches.append((event, list(requests)))
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await self.go.wait()
            if self.error:
                raise self.error
            answer([f"{event}:{request}" for request in requests])
            await self.end.wait()
        finally:
            self.open -= 1
