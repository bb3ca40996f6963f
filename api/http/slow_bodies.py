"""Limits how long a body may take to arrive: the servers limit only the time for the head."""

import asyncio
from typing import Any

from api.http.errors import CLOSE, HttpError

BODY_SECONDS = 10
"""A body that takes longer than this (s) is refused, at the latest after twice as long."""


class SlowBodies:
    """Ends the wait for bodies that do not arrive. A task that reads one puts itself into `reading` meanwhile.

    Every BODY_SECONDS the older of two generations is refused: a timer for each body would cost a thirtieth of a join.
    """

    def __init__(self) -> None:
        self.reading: set[asyncio.Task[Any] | None] = set()
        self._older: set[asyncio.Task[Any] | None] = set()
        # Kept, because asking for the running loop costs a system call each time.
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> None:
        """Refuses slow bodies until cancelled."""
        self._loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(BODY_SECONDS)
            for task in self._older:
                if task is not None:
                    task.cancel(self)
            self._older, self.reading = self.reading, set()

    def current_task(self) -> "asyncio.Task[Any] | None":
        """The running task."""
        return asyncio.current_task(self._loop)

    def refusal(self, task: "asyncio.Task[Any] | None", error: asyncio.CancelledError) -> BaseException:
        """What the task should raise: HttpError 408 if its wait was ended here, else the error itself."""
        if task is None or error.args != (self,):
            return error
        task.uncancel()
        return HttpError(408, "BODY_TIMEOUT", f"the body did not come within {BODY_SECONDS} s", headers=CLOSE)
