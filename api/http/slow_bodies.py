"""A bound on how long a body may take to come: the servers bound heads only."""

import asyncio
from typing import Any

from api.http.errors import CLOSE, HttpError

BODY_SECONDS = 10
"""A body has to come within this many seconds, at most twice that."""


class SlowBodies:
    """Ends the wait for bodies that do not come. Those who read one are in `reading`, between begin() and its removal.

    It has two generations and looks every BODY_SECONDS: a timer for each body would cost a thirtieth of a join.
    """

    def __init__(self) -> None:
        self.reading: set[asyncio.Task[Any] | None] = set()
        self._older: set[asyncio.Task[Any] | None] = set()
        # Asked for each time it costs a system call.
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> None:
        """Looks until cancelled."""
        self._loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(BODY_SECONDS)
            for task in self._older:
                if task is not None:
                    task.cancel(self)
            self._older, self.reading = self.reading, set()

    def current_task(self) -> "asyncio.Task[Any] | None":
        """Who reads now."""
        return asyncio.current_task(self._loop)

    def refusal(self, task: "asyncio.Task[Any] | None", error: asyncio.CancelledError) -> BaseException:
        """What ends that task: HttpError 408 if this ended the wait, else what was raised."""
        if task is None or error.args != (self,):
            return error
        task.uncancel()
        return HttpError(408, "BODY_TIMEOUT", f"the body did not come within {BODY_SECONDS} s", headers=CLOSE)
