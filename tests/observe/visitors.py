"""People in a waiting room: they join, poll when they should, sometimes leave, enter, redeem."""

import asyncio
import random
import time
import uuid
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

from tests.support.browser import Answer, Client, NoAnswerError

JOIN: Final = "/api/v1/queue/join"
BIG, SMALL = "concert", "lesson"
"""Most people come for the first one, whose line is too long to be polled exactly."""

_SMALL_SHARE = 0.1
_PATIENCE = 300.0
"""Seconds after which people give up, on average."""

_RETRY = 1.0


class Visitors:
    """`async with` it: people come at a rate (a second) until the block ends."""

    def __init__(self, port: int, rate: float) -> None:
        self.people = self.requests = self.refused = self.admitted = 0
        self._client = Client([port])
        self._rate = rate
        self._random = random.Random(7)
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrivals: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._arrivals = asyncio.create_task(self._arrive())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [*self._tasks, *([self._arrivals] if self._arrivals else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._client.close()

    @property
    def present(self) -> int:
        """How many are there now."""
        return len(self._tasks)

    def come(self, people: int) -> None:
        """Lets this many people come at once."""
        for _ in range(people):
            self.people += 1
            task = asyncio.create_task(self._live())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def join_once(self, event: str = BIG) -> Answer | None:
        """A person joins and does nothing else; None if there is no answer."""
        try:
            return await self._ask("POST", JOIN, {"event_id": event})
        except NoAnswerError:
            return None

    async def _arrive(self) -> None:
        began, came = time.monotonic(), 0
        while True:
            await asyncio.sleep(0.1)
            due = int((time.monotonic() - began) * self._rate)
            self.come(due - came)
            came = due

    async def _live(self) -> None:
        chance = self._random.random()
        event = SMALL if chance < _SMALL_SHARE else BIG
        key = {"Idempotency-Key": uuid.uuid4().hex} if chance < 0.5 else {}
        joined = await self._until_answered("POST", JOIN, {"event_id": event, "user_id": "somebody"}, key)
        token, wait = joined.body["waiting_token"], joined.body["poll_after_ms"] / 1000
        until = time.monotonic() + self._random.expovariate(1 / _PATIENCE)
        while True:
            await asyncio.sleep(wait)
            if time.monotonic() > until:
                await self._until_answered("DELETE", f"/api/v1/queue/leave?token={quote(token)}")
                return
            answer = await self._until_answered("GET", f"/api/v1/queue/status?token={quote(token)}")
            if answer.status != 200:
                return
            token, wait = answer.body["waiting_token"], answer.body["poll_after_ms"] / 1000
            if answer.body["ready_for_entry"]:
                entered = await self._until_answered("POST", "/api/v1/queue/enter", {"waiting_token": token})
                if entered.status == 200:
                    reservation = {"reservation_token": entered.body["reservation_token"]}
                    await self._until_answered("POST", "/api/v1/queue/redeem", reservation)
                    self.admitted += 1
                    return

    async def _until_answered(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> Answer:
        while True:
            try:
                answer = await self._ask(method, path, body, headers)
            except NoAnswerError:
                await asyncio.sleep(_RETRY)
                continue
            if answer.status != 503:
                return answer
            await asyncio.sleep(answer.retry_after or _RETRY)

    async def _ask(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> Answer:
        self.requests += 1
        answer = await self._client.ask(method, path, body, headers)
        self.refused += answer.status == 503
        return answer
