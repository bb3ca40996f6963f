"""A person who listens instead of polling: told of their place on a stream, which breaks off and is opened again."""

import asyncio
import time
from typing import Any, Final

import msgspec

from tests.chaos.ledger import Place
from tests.chaos.person import Person
from tests.support.browser import Event, NoAnswerError, Stream

PATIENCE: Final = 20.0
"""Seconds of silence after which they poll: on every stream there is a sign of life in 15."""


class Ear(Person):
    """Polls only while no stream can be opened."""

    _stream: Stream | None = None

    async def live(self) -> None:
        """Acts from the join to the end."""
        try:
            await super().live()
        finally:
            self._hang_up()

    def _pause(self, stands: dict[str, Any]) -> float:
        return 0.0 if self._stream is not None else super()._pause(stands)

    async def _poll(self, place: Place) -> dict[str, Any] | None:
        while self._stream is not None or await self._open():
            event = await self._next()
            if event is None:
                # It broke off, or is silent for too long.
                self._hang_up()
                await self._sleep(self._world.random.uniform(0, 1))
                break
            match event.name:
                case "place":
                    stands = msgspec.json.decode(event.data)
                    place.heard, self._token = time.monotonic(), stands["waiting_token"]
                    self._world.gauge.events += 1
                    return dict(stands)
                case "gone":
                    self._hang_up()
                    self._world.ledger.lose(place, time.monotonic())
                    return None
                case "bye":
                    self._hang_up()
                    await self._sleep(msgspec.json.decode(event.data)["reconnect_ms"] / 1000)
        return await super()._poll(place)

    async def _open(self) -> bool:
        try:
            answer = await self._world.client.listen(f"/api/v1/queue/stream?token={self._token}")
        except NoAnswerError:
            return False
        if isinstance(answer, Stream):
            self._stream = answer
            return True
        return False

    async def _next(self) -> Event | None:
        """None when the stream has ended, is silent for too long, or the run is over."""
        assert self._stream is not None
        event, over = asyncio.ensure_future(anext(self._stream, None)), self._world.over
        ending = asyncio.ensure_future(over.wait())
        try:
            await asyncio.wait((event, ending), timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
            return event.result() if event.done() else None
        finally:
            event.cancel()
            ending.cancel()
            await asyncio.gather(event, ending, return_exceptions=True)

    def _hang_up(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
