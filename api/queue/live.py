"""Live updates: who may listen to this process, and how they are sent away when it ends."""

import asyncio
import random
from collections import Counter
from contextlib import suppress
from functools import partial
from typing import get_args

import msgspec

from api.contract.schemas import StatusResponse
from api.http.errors import HttpError
from api.http.response import Response
from api.process import cancel, most_files
from api.queue.answers import Answers
from api.queue.audience import Audience
from api.queue.batched_line import BatchedLine
from api.queue.listener import End, Listener, Render
from api.serving.clock import RedisClock
from api.serving.position_cache import PositionCache
from api.serving.worker_outbox import WorkerOutbox
from shared.errors import OverloadedError
from shared.settings import Settings
from shared.telemetry.metrics import Metrics
from shared.tokens.signer import Signer

_MOST_STREAMS = 16
"""Streams for one place in line, of all tabs and devices, and of connections whose end was not noticed yet. Without a
bound one visitor could take those of everybody.
"""

_SHORTEST = 0.8
"""A stream lasts for this part of DAEGI_LISTEN_SECONDS at least: those that began together do not end together."""

_SOONEST_MS, _SPREAD_MS, _RETURNS_PER_SECOND = 1000, 2000, 500
"""Those who are sent away come back a second later or more, within two seconds, or as many in each as this."""

_GOODBYE_S = 2.0
"""Seconds in which the last events may arrive."""


class Live:
    """Everybody who listens to this process, with one task for each event."""

    def __init__(
        self,
        settings: Settings,
        line: BatchedLine,
        *,
        answers: Answers,
        signer: Signer,
        clock: RedisClock,
        positions: PositionCache,
        outbox: WorkerOutbox,
        metrics: Metrics,
    ) -> None:
        # Each is an open file: enough are left for those who join, poll and enter.
        self._most = min(settings.max_listeners, most_files() * 3 // 4)
        self._signer = signer
        self._longest = settings.listen_seconds
        self._open, self._all_closed = 0, asyncio.Event()
        self._streams: Counter[tuple[str, int]] = Counter()
        self._all_closed.set()
        self._draining = False
        self._audiences: dict[str, tuple[Audience, asyncio.Task[None]]] = {}
        self._decode = msgspec.json.Decoder(StatusResponse).decode
        listening = metrics.gauge("daegi_listeners", "Streams on which people listen for their place")
        metrics.on_collect(lambda: listening.set(self._open))
        sent = metrics.counter("daegi_live_events", "Events sent to those who listen", "event")
        self._skipped = metrics.counter(
            "daegi_live_events_skipped", "Events overtaken by newer ones before they were sent"
        )
        self._ended = metrics.counter("daegi_listeners_ended", "Streams that ended, and why", "reason")
        # If a counter first appears with value 1, Prometheus does not see that it has grown.
        for name in ("place", "keep-alive"):
            sent.add(0, name)
        for reason in get_args(End):
            self._ended.add(0, reason)
        self._audience_of = partial(
            Audience,
            line=line,
            answers=answers,
            signer=signer,
            clock=clock,
            positions=positions,
            outbox=outbox,
            heard_every=settings.heartbeat_ttl / 8,
            sent=sent,
        )

    def check_room(self) -> None:
        """Raises OverloadedError if no more may listen here, HttpError 503 while the process is draining."""
        if self._draining:
            raise HttpError(503, "UNAVAILABLE", "this process is about to end: come again", retry_after=2)
        if self._open >= self._most:
            raise OverloadedError("too many listen here: poll instead")

    def add(self, answer: Response, render: Render, trace_id: str) -> Listener:
        """A new stream, which begins with this status answer. Raises as check_room() does."""
        self.check_room()
        status = self._decode(answer.body)
        token = self._signer.verify_waiting(status.waiting_token)
        place = token.event_id, token.ticket
        if self._streams[place] >= _MOST_STREAMS:
            raise OverloadedError("too many listen for this place: poll instead")
        text = status.waiting_token
        ends_at = asyncio.get_running_loop().time() + self._longest * random.uniform(_SHORTEST, 1)
        listener = Listener(
            token, text, render, trace_id, ends_at=ends_at, skipped=self._skipped.add, closed=self._closed
        )
        self._open += 1
        self._streams[place] += 1
        self._all_closed.clear()
        self._audience(token.event_id).add(listener, status, answer.body)
        return listener

    def refuse_newcomers(self) -> None:
        """From now on nobody new may listen."""
        self._draining = True

    async def dismiss(self) -> None:
        """Says goodbye to everybody, and when to come back, and gives the streams a moment to end."""
        self._draining = True
        latest = _SOONEST_MS + max(_SPREAD_MS, self._open * 1000 // _RETURNS_PER_SECOND)
        for audience, _ in list(self._audiences.values()):
            for listener in list(audience.listeners):
                after = random.randint(_SOONEST_MS, latest)
                audience.say_goodbye(listener, "drain", after)
        with suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                await self._all_closed.wait()

    async def close(self) -> None:
        """Dismisses everybody and ends what runs here."""
        await self.dismiss()
        for _, task in list(self._audiences.values()):
            await cancel(task)

    def _audience(self, event_id: str) -> Audience:
        known = self._audiences.get(event_id)
        if known is None:
            audience = self._audience_of(event_id)
            known = self._audiences[event_id] = audience, asyncio.create_task(self._attend(audience))
        return known[0]

    async def _attend(self, audience: Audience) -> None:
        await audience.run()
        del self._audiences[audience.event_id]

    def _closed(self, listener: Listener) -> None:
        self._open -= 1
        place = listener.event_id, listener.ticket
        self._streams[place] -= 1
        if not self._streams[place]:
            del self._streams[place]
        if not self._open:
            self._all_closed.set()
        self._ended.add(1, listener.end_reason or "left")
        if known := self._audiences.get(listener.event_id):
            known[0].listeners.discard(listener)
