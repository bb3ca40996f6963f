"""Requests to the workers, gathered and sent once a second: one job of each kind, however many events there are."""

import asyncio
import random
import time
from collections.abc import Iterable

import structlog

from api.serving.clock import RedisClock
from shared.errors import DaegiError
from shared.jobs import Jobs
from shared.line.line import CHUNK, Line

_log = structlog.get_logger(__name__)

MAX_HEARTBEATS = 100_000
"""Heartbeats held in memory (about 100 bytes each); beyond that, polls are exact."""

_MAX_REPAIRS = 10_000
_ACTIVITY_MS = 5000


class WorkerOutbox:
    """Heartbeats of polls under a lease, indexes to publish, tickets to repair, and which events are active.

    A job may be lost: the sweep makes up for it. Heartbeats may not. While the job queue is unavailable they are
    applied here, and while Redis is unavailable too they are kept.
    """

    def __init__(self, line: Line, jobs: Jobs, clock: RedisClock) -> None:
        self.known_events = 0
        self._line, self._jobs, self._clock = line, jobs, clock
        self.held = 0
        self._heartbeats: dict[str, set[int]] = {}
        self._oldest = 0.0
        self._changed: set[str] = set()
        self._active: set[str] = set()
        self._claimed: dict[str, int] = {}
        self._damaged: set[str] = set()
        self._repairs: dict[str, set[int]] = {}

    def record_heartbeat(self, event_id: str, ticket: int) -> bool:
        """Holds a heartbeat until the next send; False if no more can be held, so that Redis has to be asked now."""
        tickets = self._heartbeats.get(event_id)
        if tickets is None:
            tickets = self._heartbeats[event_id] = set()
        if ticket not in tickets:
            if self.held >= MAX_HEARTBEATS:
                # After an outage nobody is expired for a whole heartbeat TTL, with or without a heartbeat.
                return self._line.is_away(event_id)
            if not self.held:
                self._oldest = time.monotonic()
            self.held += 1
            tickets.add(ticket)
        return True

    def lag(self) -> float:
        """Seconds for which the oldest heartbeat has been held."""
        return time.monotonic() - self._oldest if self.held else 0.0

    def mark_changed(self, event_id: str) -> None:
        """Notes that places of this event changed, or that somebody polled them."""
        self._changed.add(event_id)

    def claim_activity(self, event_id: str, now: int) -> bool:
        """Whether the caller should write this event's activity at `now` (ms): True once every few seconds."""
        if 0 <= now - self._claimed.get(event_id, -_ACTIVITY_MS) < _ACTIVITY_MS:
            return False
        self._claimed[event_id] = now
        return True

    def request_repair(self, event_id: str, tickets: Iterable[int] = ()) -> None:
        """Asks for a repair of these tickets, or of the whole event if none are given."""
        wanted = set(tickets)
        if wanted and len(self._repairs.get(event_id, ())) < _MAX_REPAIRS:
            self._repairs.setdefault(event_id, set()).update(wanted)
        else:
            self._damaged.add(event_id)

    def count_new_event(self) -> None:
        """Counts an event that a join of this process opened."""
        self.known_events += 1

    def count_events(self, events: int) -> None:
        """Takes over the number of listed events; events opened meanwhile may not be listed yet."""
        self.known_events = max(self.known_events, events)

    async def run(self) -> None:
        """Sends once a second until cancelled."""
        while True:
            # Jitter: a fleet that was started together would come back to a restarted queue all at once.
            await asyncio.sleep(random.uniform(0.75, 1.25))
            await self.send()

    async def send(self) -> None:
        """Sends what has been gathered."""
        for part in (self._send_heartbeats, self._send_repairs, self._send_changes, self._send_activity):
            try:
                await part()
            except DaegiError as error:
                _log.debug("the outbox has to wait", part=part.__name__, error=str(error))
            except Exception:  # noqa: BLE001 - a fault in one part must not keep back the others
                _log.exception("the outbox failed", part=part.__name__)

    async def _send_heartbeats(self) -> None:
        heartbeats, self._heartbeats, self.held, oldest = self._heartbeats, {}, 0, self._oldest
        if not heartbeats:
            return
        try:
            await self._jobs.refresh_heartbeats({event: list(tickets) for event, tickets in heartbeats.items()})
            return
        except DaegiError as error:
            _log.debug("heartbeats are applied here", error=str(error))
        for event_id, tickets in heartbeats.items():
            waiting = list(tickets)
            while waiting:
                try:
                    await self._line.refresh(event_id, waiting[:CHUNK])
                    del waiting[:CHUNK]
                except DaegiError:
                    for ticket in waiting:
                        self.record_heartbeat(event_id, ticket)
                    self._oldest = oldest
                    break

    async def _send_repairs(self) -> None:
        damaged, repairs = self._damaged, self._repairs
        self._damaged, self._repairs = set(), {}
        if not damaged and not repairs:
            return
        await self._jobs.repair_index(list(damaged), {event: list(tickets) for event, tickets in repairs.items()})

    async def _send_changes(self) -> None:
        changed, self._changed = self._changed, set()
        self._active |= changed
        if changed:
            await self._jobs.compute_positions(list(changed))

    async def _send_activity(self) -> None:
        now = self._clock.now()
        # The pulse finds out when Redis is back, and spreads the fleet's return.
        if now is None or self._line.is_away():
            return
        active, self._active = self._active, set()
        due = [event_id for event_id in active if self.claim_activity(event_id, now)]
        self._claimed = {event: at for event, at in self._claimed.items() if 0 <= now - at < _ACTIVITY_MS}
        try:
            self.known_events = await self._line.note_activity(due, now)
        except DaegiError:
            # Workers do not sweep an event that is not listed.
            self._active.update(due)
            for event_id in due:
                self._claimed.pop(event_id, None)
            raise
