"""People who ask for the same thing again and again, and the answers that they get."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.support.refusals import retry_after


class Regular:
    """Somebody who asks 50 times a second at most: how often with which answer."""

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, httpx.Response]]) -> None:
        self.answers: Counter[int] = Counter()
        self._ask = ask

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            answer = await self._ask()
            self.answers[answer.status_code] += 1
            if answer.status_code == 503:
                assert retry_after(answer) <= 10
            await asyncio.sleep(0.02)


@asynccontextmanager
async def asking(regulars: Iterable[Regular]) -> AsyncIterator[None]:
    """All of them ask while the block lasts."""
    tasks = [asyncio.create_task(regular.run()) for regular in regulars]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(one, asyncio.CancelledError) for one in ended), ended
