"""Live updates: one task per event tells everybody who listens where they stand, at most once a second.

Redis does not notice how many listen from far back. Their places come from the position index, which is fetched for all
of them together, and their heartbeats are written hundreds at a time. Those near the door are polled, in one batch.
"""

import asyncio
import heapq
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, count
from typing import get_args

import msgspec
import structlog

from api.contract.schemas import StatusResponse
from api.http.errors import HttpError, UnexpectedError
from api.http.response import Response
from api.process import cancel, most_files
from api.queue.answers import UNKNOWN_POLL_S, Answers
from api.queue.batched_line import BatchedLine
from api.queue.forecast import FRONT_POLL_S, eta
from api.queue.handlers import token_expired
from api.queue.listener import End, Listener, Render, Seen, event
from api.serving.clock import RedisClock
from api.serving.position_cache import PositionCache
from api.serving.worker_outbox import WorkerOutbox
from shared.errors import DaegiError, OverloadedError
from shared.line.line import CHUNK
from shared.settings import Settings
from shared.telemetry import error_reports
from shared.telemetry.metrics import Metrics
from shared.tokens.signer import Signer, WaitingToken

_log = structlog.get_logger(__name__)

_TICK_S = 1.0
"""Seconds between two looks at an event: nobody is told anything more often."""

_KEEP_ALIVE_S = 15.0
"""Seconds after which a stream on which nothing was sent gets a comment: proxies end those that seem to be idle."""

_STEPS, _FURTHEST_S = 20, 15.0
"""Somebody far back hears of a new place after a twentieth of their wait, at the latest after 15 s."""

_MOST_STREAMS = 16
"""Streams for one place in line, of all tabs and devices, and of connections whose end was not noticed yet. Without a
bound one visitor could take those of everybody.
"""

_MOST_POLLS = 1024
"""Polls of listeners in flight: more would make those wait who poll by themselves."""

_SLICE = 256
"""Listeners that are looked at before the loop does something else."""

_RETRY_MS = 1000, 5000
"""When to come back after a stream that just broke off."""

_SOONEST_MS, _SPREAD_MS, _RETURNS_PER_SECOND = 1000, 2000, 500
"""Those who are sent away come back a second later or more, within two seconds, or as many in each as this."""

_GOODBYE_S = 2.0
"""Seconds in which the last events may arrive."""


_Mood = tuple[bool, bool, float]
"""Paused, damaged, rate: a change is told to everybody who waits."""


@dataclass(slots=True, eq=False)
class _Audience:
    """Those who listen to one event."""

    event_id: str
    heard_at: float
    """When heartbeats were last written (s, on the loop's clock)."""
    mood: _Mood | None
    listeners: set[Listener] = field(default_factory=set)
    agenda: list[tuple[float, int, Listener]] = field(default_factory=list)
    """A heap of who is due when. An entry with another time than the listener's own is void."""
    task: "asyncio.Task[None] | None" = None


class Live:
    """Everybody who listens to this process."""

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
        self._heard_every = settings.heartbeat_ttl / 8
        self._line, self._answers, self._signer, self._clock = line, answers, signer, clock
        self._positions, self._outbox = positions, outbox
        self._open, self._all_closed = 0, asyncio.Event()
        self._streams: Counter[tuple[str, int]] = Counter()
        self._all_closed.set()
        self._draining = False
        self._audiences: dict[str, _Audience] = {}
        self._loop = asyncio.get_running_loop()
        self._numbers = count()
        self._decode = msgspec.json.Decoder(StatusResponse).decode
        listening = metrics.gauge("daegi_listeners", "Streams on which people listen for their place")
        metrics.on_collect(lambda: listening.set(self._open))
        self._sent = metrics.counter("daegi_live_events", "Events sent to those who listen", "event")
        self._skipped = metrics.counter(
            "daegi_live_events_skipped", "Events overtaken by newer ones before they were sent"
        )
        self._ended = metrics.counter("daegi_listeners_ended", "Streams that ended, and why", "reason")
        # If a counter first appears with value 1, Prometheus does not see that it has grown.
        for name in ("place", "keep-alive"):
            self._sent.add(0, name)
        for reason in get_args(End):
            self._ended.add(0, reason)

    def check_room(self) -> None:
        """Raises OverloadedError if no more may listen here, HttpError 503 while the process is draining."""
        if self._draining:
            raise HttpError(503, "UNAVAILABLE", "this process is about to end: come again", retry_after=2)
        if self._open >= self._most:
            raise OverloadedError("too many listen here: poll instead")

    def add(self, answer: Response, render: Render, trace_id: str) -> Listener:
        """A new stream, which begins with this status answer. Raises as check_room() does."""
        self.check_room()
        status, now = self._decode(answer.body), self._loop.time()
        token = self._signer.verify_waiting(status.waiting_token)
        place = token.event_id, token.ticket
        if self._streams[place] >= _MOST_STREAMS:
            raise OverloadedError("too many listen for this place: poll instead")
        audience = self._audiences.get(token.event_id)
        if audience is None:
            audience = _Audience(token.event_id, now, self._mood(token.event_id))
            self._audiences[token.event_id] = audience
            audience.task = self._loop.create_task(self._run(audience))
        text = status.waiting_token
        listener = Listener(token, text, render, trace_id, skipped=self._skipped.add, closed=self._closed)
        self._open += 1
        self._streams[place] += 1
        self._all_closed.clear()
        audience.listeners.add(listener)
        self._tell(audience, listener, status, answer.body, now)
        return listener

    def refuse_newcomers(self) -> None:
        """From now on nobody new may listen."""
        self._draining = True

    async def dismiss(self) -> None:
        """Says goodbye to everybody, and when to come back, and gives the streams a moment to end."""
        self._draining = True
        latest = _SOONEST_MS + max(_SPREAD_MS, self._open * 1000 // _RETURNS_PER_SECOND)
        for audience in list(self._audiences.values()):
            for listener in list(audience.listeners):
                after = random.randint(_SOONEST_MS, latest)
                body = msgspec.json.encode({"reason": "drain", "reconnect_ms": after})
                self._end(audience, listener, "drain", event("bye", body, after))
        with suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                await self._all_closed.wait()

    async def close(self) -> None:
        """Dismisses everybody and ends what runs here."""
        await self.dismiss()
        for audience in list(self._audiences.values()):
            if audience.task is not None:
                await cancel(audience.task)

    async def _run(self, audience: _Audience) -> None:
        while audience.listeners:
            await asyncio.sleep(_TICK_S)
            try:
                await self._tick(audience)
            except Exception as error:  # noqa: BLE001 - whatever it is, they are told later
                _report(audience.event_id, error)
                now = self._loop.time()
                for listener in list(audience.listeners):
                    if listener.due <= now:
                        self._schedule(audience, listener, now, random.uniform(1, 2) * FRONT_POLL_S)
        del self._audiences[audience.event_id]

    async def _tick(self, audience: _Audience) -> None:
        event_id, now = audience.event_id, self._loop.time()
        self._outbox.mark_changed(event_id)
        self._positions.refresh(event_id)
        unsure = await self._look(audience, self._due(audience, now), now)
        unsure += await self._be_heard(audience, now)
        if not unsure and self._is_out_of_date(event_id):
            unsure = self._next_up(audience)
        await self._poll(audience, unsure)
        mood = self._mood(event_id)
        if mood == audience.mood:
            return
        audience.mood, now, concerned = mood, self._loop.time(), []
        # Not the called: see _next_up().
        for listener in [one for one in audience.listeners if one.status == "waiting"]:
            if now - listener.told_at < _TICK_S / 2:
                self._schedule(audience, listener, now, _TICK_S)
            else:
                concerned.append(listener)
        await self._poll(audience, await self._look(audience, concerned, now))

    def _mood(self, event_id: str) -> _Mood | None:
        standing = self._positions.standing(event_id)
        return standing and (standing.paused, standing.damaged, standing.rate)

    def _seen(self, event_id: str, status: str, position: int) -> Seen:
        standing, reason = self._positions.standing(event_id), self._positions.reason(event_id)
        if standing is None:
            return Seen(status, position, paused=False, full=False, reason=reason)
        # Under a cap: an empty bucket has a part of a token, unless it is never filled.
        full = standing.tokens <= 0 < standing.rate
        return Seen(status, position, standing.paused, full, reason)

    def _schedule(self, audience: _Audience, listener: Listener, now: float, seconds: float) -> None:
        """The next look at where they stand; before it, perhaps, a sign that the stream is alive."""
        if now - listener.told_at >= _KEEP_ALIVE_S:
            self._sent.add(1, "keep-alive")
            listener.keep_alive(now)
        listener.look_at = now + seconds
        listener.due = min(listener.look_at, listener.told_at + _KEEP_ALIVE_S)
        heapq.heappush(audience.agenda, (listener.due, next(self._numbers), listener))

    def _due(self, audience: _Audience, now: float) -> list[Listener]:
        """At whose place to look now; the others who are due have only to be kept alive."""
        due, agenda = [], audience.agenda
        while agenda and agenda[0][0] <= now:
            at, _, listener = heapq.heappop(agenda)
            if at != listener.due or listener.end_reason:
                continue
            if listener.look_at <= now:
                due.append(listener)
            else:
                self._schedule(audience, listener, now, listener.look_at - now)
        return due

    def _is_out_of_date(self, event_id: str) -> bool:
        standing, now = self._positions.standing(event_id), self._clock.now()
        return standing is None or now is None or now - standing.now >= _TICK_S * 1000

    def _next_up(self, audience: _Audience) -> list[Listener]:
        """Somebody whose poll tells how the event stands, so that everybody hears of a pause within a second or so.

        Not one of the called: whoever is polled again soon after a call counts as hesitating to enter.
        """
        for at, _, listener in audience.agenda:
            if at == listener.due and not listener.end_reason and listener.status == "waiting":
                return [listener]
        return []

    async def _look(self, audience: _Audience, listeners: Sequence[Listener], now: float) -> list[Listener]:
        """Tells these from memory where they stand. Returns those who have to be polled for it."""
        unsure, is_late = [], self._positions.is_late(audience.event_id)
        for i, listener in enumerate(listeners, 1):
            if i % _SLICE == 0:
                await asyncio.sleep(0)
            if listener.end_reason or self._told_from_memory(audience, listener, now):
                continue
            if is_late and listener.is_far:
                # Polling all of them, Redis would have even more to do.
                self._schedule(audience, listener, now, _TICK_S)
            else:
                unsure.append(listener)
        return unsure

    def _told_from_memory(self, audience: _Audience, listener: Listener, now: float) -> bool:
        event_id, ticket = audience.event_id, listener.ticket
        # To one of the called an old index would say that they were not.
        if listener.status != "waiting":
            return False
        placed = self._positions.place(WaitingToken(event_id, ticket, listener.lease))
        standing = self._positions.standing(event_id)
        if placed is None or standing is None:
            return False
        position, _, ms, _ = placed
        listener.is_far = True
        seconds = eta(position, standing)
        seen = self._seen(event_id, "waiting", position)
        if listener.notices(seen, seconds, now):
            token = listener.token = listener.token or self._signer.waiting(event_id, ticket, listener.lease)
            body = self._answers.from_memory(ticket, token, position, standing, ms).body
            self._send(listener, "place", event("place", listener.render(body)), now)
            listener.remember(seen, seconds, now)
        pace = UNKNOWN_POLL_S if seconds is None else min(max(seconds / _STEPS, _TICK_S), _FURTHEST_S)
        self._schedule(audience, listener, now, pace)
        return True

    async def _poll(self, audience: _Audience, listeners: Sequence[Listener]) -> None:
        """Asks Redis where these stand, and tells them."""
        for start in range(0, len(listeners), _MOST_POLLS):
            some = listeners[start : start + _MOST_POLLS]
            polls = (self._line.poll(audience.event_id, listener.ticket) for listener in some)
            answers = await asyncio.gather(*polls, return_exceptions=True)
            now = self._loop.time()
            for listener, answer in zip(some, answers, strict=True):
                if listener.end_reason:
                    continue
                if isinstance(answer, BaseException):
                    self._not_polled(audience, listener, answer, now)
                elif answer is None:
                    envelope = token_expired().response(listener.trace_id).body
                    self._end(audience, listener, "gone", event("gone", envelope))
                else:
                    status = self._decode(answer.body)
                    listener.token, listener.lease = status.waiting_token, self._clock.now() or listener.lease
                    self._tell(audience, listener, status, answer.body, now)

    def _tell(self, audience: _Audience, listener: Listener, status: StatusResponse, body: bytes, now: float) -> None:
        listener.is_far = status.approximate
        seen = self._seen(audience.event_id, status.status, status.position)
        if listener.notices(seen, status.eta_sec, now):
            # Streams that break off together are not to come back together.
            retry = None if listener.status else random.randint(*_RETRY_MS)
            place = event("place", listener.render(body), retry)
            if status.status == "admitted":
                self._end(audience, listener, "admitted", place)
                return
            self._send(listener, "place", place, now)
            listener.remember(seen, status.eta_sec, now)
        pace = status.poll_after_ms / 1000
        # The called are asked no sooner than a client that polls would ask: see _next_up().
        if status.status == "waiting":
            pace = _TICK_S if pace <= FRONT_POLL_S else pace
        self._schedule(audience, listener, now, pace)

    def _not_polled(self, audience: _Audience, listener: Listener, error: BaseException, now: float) -> None:
        """They are told nothing, and count as heard: neither an outage nor an overload may cost anybody their place."""
        self._outbox.record_heartbeat(audience.event_id, listener.ticket)
        self._schedule(audience, listener, now, random.uniform(1, 2) * FRONT_POLL_S)
        if not isinstance(error, DaegiError):
            _report(audience.event_id, error)

    async def _be_heard(self, audience: _Audience, now: float) -> list[Listener]:
        """Writes the heartbeats of those who are not polled. Returns those who may be gone."""
        if now - audience.heard_at < self._heard_every:
            return []
        audience.heard_at, ms = now, self._clock.now() or 0
        recent = ms - self._heard_every * 1000 / 2
        # Two tabs have one ticket.
        silent: dict[int, list[Listener]] = {}
        for listener in audience.listeners:
            if listener.status == "waiting" and listener.lease < recent:
                silent.setdefault(listener.ticket, []).append(listener)
        tickets, gone = list(silent), []
        for start in range(0, len(tickets), CHUNK):
            some = tickets[start : start + CHUNK]
            try:
                all_there = await self._line.refresh(audience.event_id, some)
            except DaegiError:
                for ticket in some:
                    self._outbox.record_heartbeat(audience.event_id, ticket)
                continue
            for listener in chain.from_iterable(silent[ticket] for ticket in some):
                if all_there:
                    # As after a poll: Redis has confirmed this ticket, so its lease begins anew.
                    listener.lease, listener.token = ms, ""
                else:
                    gone.append(listener)
        return gone

    def _send(self, listener: Listener, name: str, chunk: bytes, now: float) -> None:
        self._sent.add(1, name)
        listener.offer(chunk, now)

    def _end(self, audience: _Audience, listener: Listener, reason: End, last: bytes = b"") -> None:
        audience.listeners.discard(listener)
        listener.end(reason, last)

    def _closed(self, listener: Listener) -> None:
        self._open -= 1
        place = listener.event_id, listener.ticket
        self._streams[place] -= 1
        if not self._streams[place]:
            del self._streams[place]
        if not self._open:
            self._all_closed.set()
        self._ended.add(1, listener.end_reason or "left")
        if audience := self._audiences.get(listener.event_id):
            audience.listeners.discard(listener)


def _report(event_id: str, error: BaseException) -> None:
    if isinstance(error, UnexpectedError):
        if error.reported:
            return
        error.reported = True
    _log.error("those who listen cannot be told", event_id=event_id, exc_info=error)
    error_reports.capture(error)
