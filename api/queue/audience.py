"""Those who listen to one event: who is due when, from where their places come, and what is news to them.

Redis does not notice how many listen from far back. Their places come from the position index, which is fetched for all
of them together, and their heartbeats are written hundreds at a time. Those near the door are polled, in one batch.
"""

import asyncio
import heapq
import random
from collections.abc import Sequence
from itertools import chain, count

import msgspec
import structlog

from api.contract.schemas import StatusResponse
from api.http.errors import UnexpectedError
from api.queue.answers import UNKNOWN_POLL_S, Answers
from api.queue.batched_line import BatchedLine
from api.queue.forecast import FRONT_POLL_S, eta
from api.queue.handlers import token_expired
from api.queue.listener import End, Goodbye, Listener, Seen, event, goodbye
from api.serving.clock import RedisClock
from api.serving.position_cache import PositionCache
from api.serving.worker_outbox import WorkerOutbox
from shared.errors import DaegiError
from shared.line.line import CHUNK
from shared.telemetry import error_reports
from shared.telemetry.metrics import Family
from shared.tokens.signer import Signer, WaitingToken

_log = structlog.get_logger(__name__)

_TICK_S = 1.0
"""Seconds between two looks at an event: nobody is told anything more often."""

_KEEP_ALIVE_S = 15.0
"""Seconds after which a stream on which nothing was sent gets a comment: proxies end those that seem to be idle."""

_STEPS, _FURTHEST_S = 20, 15.0
"""Somebody far back hears of a new place after a twentieth of their wait, at the latest after 15 s."""

_MOST_POLLS = 1024
"""Polls of listeners in flight: more would make those wait who poll by themselves."""

_SLICE = 256
"""Listeners that are looked at before the loop does something else."""

_RETRY_MS = 1000, 5000
"""When to come back after a stream that just broke off."""

_Mood = tuple[bool, bool, float]
"""Paused, damaged, rate: a change is told to everybody who waits."""


class Audience:
    """Everybody who listens to one event here; `run` tells them. Times are in s on the loop's clock.

    `heard_every`: seconds between two heartbeats of somebody who is not polled. `sent` counts events by their name.
    """

    def __init__(
        self,
        event_id: str,
        *,
        line: BatchedLine,
        answers: Answers,
        signer: Signer,
        clock: RedisClock,
        positions: PositionCache,
        outbox: WorkerOutbox,
        heard_every: float,
        sent: Family,
    ) -> None:
        self.event_id = event_id
        self.listeners: set[Listener] = set()
        self._line, self._answers, self._signer, self._clock = line, answers, signer, clock
        self._positions, self._outbox, self._heard_every, self._sent = positions, outbox, heard_every, sent
        self._loop = asyncio.get_running_loop()
        self._decode = msgspec.json.Decoder(StatusResponse).decode
        self._agenda: list[tuple[float, int, Listener]] = []
        """A heap of who is due when. An entry with another time than the listener's own is void."""
        self._numbers = count()
        self._heard_at = self._loop.time()
        """When heartbeats were last written."""
        self._mood_told = self._mood()

    def add(self, listener: Listener, status: StatusResponse, body: bytes) -> None:
        """Somebody else, who begins with this status answer (in JSON: `body`)."""
        self.listeners.add(listener)
        self._tell(listener, status, body, self._loop.time())

    async def run(self) -> None:
        """Tells them until nobody listens any more."""
        while self.listeners:
            await asyncio.sleep(_TICK_S)
            try:
                await self._tick()
            except Exception as error:  # noqa: BLE001 - whatever it is, they are told later
                _report(self.event_id, error)
                now = self._loop.time()
                for listener in list(self.listeners):
                    if listener.due <= now:
                        self._schedule(listener, now, random.uniform(1, 2) * FRONT_POLL_S)

    async def _tick(self) -> None:
        event_id, now = self.event_id, self._loop.time()
        self._outbox.mark_changed(event_id)
        self._positions.refresh(event_id)
        unsure = await self._look(self._due(now), now)
        unsure += await self._be_heard(now)
        if not unsure and self._is_out_of_date():
            unsure = self._next_up()
        await self._poll(unsure)
        mood = self._mood()
        if mood == self._mood_told:
            return
        self._mood_told, now, concerned = mood, self._loop.time(), []
        # Not the called: see _next_up().
        for listener in [one for one in self.listeners if one.status == "waiting"]:
            if now - listener.told_at < _TICK_S / 2:
                self._schedule(listener, now, _TICK_S)
            else:
                concerned.append(listener)
        await self._poll(await self._look(concerned, now))

    def _mood(self) -> _Mood | None:
        standing = self._positions.standing(self.event_id)
        return standing and (standing.paused, standing.damaged, standing.rate)

    def _seen(self, status: str, position: int) -> Seen:
        standing, reason = self._positions.standing(self.event_id), self._positions.reason(self.event_id)
        if standing is None:
            return Seen(status, position, paused=False, full=False, reason=reason)
        return Seen(status, position, standing.paused, standing.is_full, reason)

    def _schedule(self, listener: Listener, now: float, seconds: float) -> None:
        """The next look at where they stand; before it, perhaps, a sign that the stream is alive."""
        if now - listener.told_at >= _KEEP_ALIVE_S:
            self._sent.add(1, "keep-alive")
            listener.keep_alive(now)
        listener.look_at = now + seconds
        listener.due = min(listener.look_at, listener.told_at + _KEEP_ALIVE_S)
        heapq.heappush(self._agenda, (listener.due, next(self._numbers), listener))

    def _due(self, now: float) -> list[Listener]:
        """At whose place to look now; the others who are due have only to be kept alive."""
        due, agenda = [], self._agenda
        while agenda and agenda[0][0] <= now:
            at, _, listener = heapq.heappop(agenda)
            if at != listener.due or listener.end_reason:
                continue
            # The loop's clock stands still while it is busy: another entry of theirs may have the same time.
            listener.due = 0.0
            # During an outage they would find nothing where they came to.
            if listener.ends_at <= now and not self._line.is_away(self.event_id):
                self.say_goodbye(listener, "renewal", random.randint(*_RETRY_MS))
            elif listener.look_at <= now:
                due.append(listener)
            else:
                self._schedule(listener, now, listener.look_at - now)
        return due

    def _is_out_of_date(self) -> bool:
        standing, now = self._positions.standing(self.event_id), self._clock.now()
        return standing is None or now is None or now - standing.now >= _TICK_S * 1000

    def _next_up(self) -> list[Listener]:
        """Somebody whose poll tells how the event stands, so that everybody hears of a pause within a second or so.

        Not one of the called: whoever is polled again soon after a call counts as hesitating to enter.
        """
        for at, _, listener in self._agenda:
            if at == listener.due and not listener.end_reason and listener.status == "waiting":
                return [listener]
        return []

    async def _look(self, listeners: Sequence[Listener], now: float) -> list[Listener]:
        """Tells these from memory where they stand. Returns those who have to be polled for it."""
        unsure, is_late = [], self._positions.is_late(self.event_id)
        for i, listener in enumerate(listeners, 1):
            if i % _SLICE == 0:
                await asyncio.sleep(0)
            if listener.end_reason or self._told_from_memory(listener, now):
                continue
            if is_late and listener.is_far:
                # Polling all of them, Redis would have even more to do.
                self._schedule(listener, now, _TICK_S)
            else:
                unsure.append(listener)
        return unsure

    def _told_from_memory(self, listener: Listener, now: float) -> bool:
        event_id, ticket = self.event_id, listener.ticket
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
        seen = self._seen("waiting", position)
        if listener.notices(seen, seconds, now):
            token = listener.token = listener.token or self._signer.waiting(event_id, ticket, listener.lease)
            body = self._answers.from_memory(ticket, token, position, standing, ms).body
            self._send(listener, "place", event("place", listener.render(body)), now)
            listener.remember(seen, seconds, now)
        pace = UNKNOWN_POLL_S if seconds is None else min(max(seconds / _STEPS, _TICK_S), _FURTHEST_S)
        self._schedule(listener, now, pace)
        return True

    async def _poll(self, listeners: Sequence[Listener]) -> None:
        """Asks Redis where these stand, and tells them."""
        for start in range(0, len(listeners), _MOST_POLLS):
            some = listeners[start : start + _MOST_POLLS]
            polls = (self._line.poll(self.event_id, listener.ticket) for listener in some)
            answers = await asyncio.gather(*polls, return_exceptions=True)
            now = self._loop.time()
            for listener, answer in zip(some, answers, strict=True):
                if listener.end_reason:
                    continue
                if isinstance(answer, BaseException):
                    self._not_polled(listener, answer, now)
                elif answer is None:
                    envelope = token_expired().response(listener.trace_id).body
                    self.end(listener, "gone", event("gone", envelope))
                else:
                    status = self._decode(answer.body)
                    listener.token, listener.lease = status.waiting_token, self._clock.now() or listener.lease
                    self._tell(listener, status, answer.body, now)

    def _tell(self, listener: Listener, status: StatusResponse, body: bytes, now: float) -> None:
        listener.is_far = status.approximate
        seen = self._seen(status.status, status.position)
        if listener.notices(seen, status.eta_sec, now):
            # Streams that break off together are not to come back together.
            retry = None if listener.status else random.randint(*_RETRY_MS)
            place = event("place", listener.render(body), retry)
            if status.status == "admitted":
                self.end(listener, "admitted", place)
                return
            self._send(listener, "place", place, now)
            listener.remember(seen, status.eta_sec, now)
        pace = status.poll_after_ms / 1000
        # The called are asked no sooner than a client that polls would ask: see _next_up().
        if status.status == "waiting":
            pace = _TICK_S if pace <= FRONT_POLL_S else pace
        self._schedule(listener, now, pace)

    def _not_polled(self, listener: Listener, error: BaseException, now: float) -> None:
        """They are told nothing, and count as heard: neither an outage nor an overload may cost anybody their place."""
        self._outbox.record_heartbeat(self.event_id, listener.ticket)
        self._schedule(listener, now, random.uniform(1, 2) * FRONT_POLL_S)
        if not isinstance(error, DaegiError):
            _report(self.event_id, error)

    async def _be_heard(self, now: float) -> list[Listener]:
        """Writes the heartbeats of those who are not polled. Returns those who may be gone."""
        if now - self._heard_at < self._heard_every:
            return []
        self._heard_at, ms = now, self._clock.now() or 0
        recent = ms - self._heard_every * 1000 / 2
        # Two tabs have one ticket.
        silent: dict[int, list[Listener]] = {}
        for listener in self.listeners:
            if listener.status == "waiting" and listener.lease < recent:
                silent.setdefault(listener.ticket, []).append(listener)
        tickets, gone = list(silent), []
        for start in range(0, len(tickets), CHUNK):
            some = tickets[start : start + CHUNK]
            try:
                all_there = await self._line.refresh(self.event_id, some)
            except DaegiError:
                for ticket in some:
                    self._outbox.record_heartbeat(self.event_id, ticket)
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

    def say_goodbye(self, listener: Listener, reason: Goodbye, after_ms: int) -> None:
        """Ends a stream whose listener is to come back so many ms later."""
        self.end(listener, reason, goodbye(reason, after_ms))

    def end(self, listener: Listener, reason: End, last: bytes = b"") -> None:
        """Ends a stream, after a last event."""
        self.listeners.discard(listener)
        listener.end(reason, last)


def _report(event_id: str, error: BaseException) -> None:
    if isinstance(error, UnexpectedError):
        if error.reported:
            return
        error.reported = True
    _log.error("those who listen cannot be told", event_id=event_id, exc_info=error)
    error_reports.capture(error)
