"""The line as requests use it: requests for one event that arrive together share script calls."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import structlog

from api.http.errors import UnexpectedError
from api.http.response import Response
from api.queue.answers import Answers
from api.queue.promises import Promises
from api.serving.batcher import AnswerT, Batcher, Deliver, Flush, RequestT, logged
from api.serving.clock import RedisClock
from api.serving.load_shedding import PendingLimit
from api.serving.position_cache import PositionCache
from api.serving.pulse import Pulse
from api.serving.worker_outbox import WorkerOutbox
from shared.errors import (
    DaegiError,
    EventNotFoundError,
    NotReplicatedError,
    TooManyEventsError,
    UnavailableError,
)
from shared.line.line import Join, Line
from shared.line.replies import EnterCode, Entered, JoinCode, Joined, PollCode, Redeemed, Standing
from shared.settings import Settings
from shared.telemetry.metrics import Family, Metrics

_log = structlog.get_logger(__name__)

_PRESENT = frozenset((JoinCode.NEW, JoinCode.IN_LINE))
"""The joins whose heartbeat is written: the others are not in line."""

_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

_MAX_ENTERS = 100
"""Enters in one script call. Each costs Redis as much as six joins (36 us, measured); 256 would block it for 9 ms."""


class BatchedLine:
    """Joins, polls, enters and leaves of every event, in batches, and redeems, one by one.

    Each call returns a future. It raises UnavailableError at once while the event's Redis is unavailable,
    OverloadedError when too many requests wait, UnexpectedError for a fault of ours.
    """

    def __init__(
        self,
        settings: Settings,
        line: Line,
        *,
        answers: Answers,
        promises: Promises,
        clock: RedisClock,
        pulse: Pulse,
        outbox: WorkerOutbox,
        positions: PositionCache,
        pending: PendingLimit,
        metrics: Metrics,
    ) -> None:
        self._line, self._answers, self._promises, self._clock = line, answers, promises, clock
        self._pulse, self._outbox, self._positions, self._pending = pulse, outbox, positions, pending
        self._open_events, self._max_events = settings.open_events, settings.max_events
        self._log_batches, self._max_batch = settings.log_level == "debug", settings.max_batch
        self._opening = 0
        sizes = metrics.histogram(
            "daegi_batch_size", "Requests that shared a script call", "operation", bounds=_BATCH_SIZES
        )
        joins = self._batcher("join", self._flush_joins, sizes)
        polls = self._batcher("poll", self._flush_polls, sizes)
        enters = self._batcher("enter", self._flush_enters, sizes, _MAX_ENTERS)
        leaves = self._batcher("leave", self._flush_leaves, sizes)
        self.join, self.poll, self.enter, self.leave = joins.submit, polls.submit, enters.submit, leaves.submit
        self._batchers = (joins, polls, enters, leaves)

    async def drain(self) -> None:
        """Waits for every batch in flight, including round trip 2; then refuses the requests that are held back."""
        for batcher in self._batchers:
            await batcher.drain()
        self._pending.refuse_all_held()

    async def redeem(self, event_id: str, ticket: int, issued: int, key: str) -> Redeemed:
        """Redeems one reservation, without a batch: see Line.redeem."""
        with self._pending.one(), self._translated(event_id):
            return await self._line.redeem(event_id, ticket, issued, key)

    async def refresh(self, event_id: str, tickets: Sequence[int]) -> bool:
        """Writes heartbeats, at most CHUNK. Returns whether all of these are still in line; raises as a poll does."""
        with self._translated(event_id):
            return await self._line.refresh(event_id, tickets) == len(tickets)

    def _batcher(
        self, operation: str, flush: Flush[RequestT, AnswerT], sizes: Family, most: int = 256
    ) -> Batcher[RequestT, AnswerT]:
        if self._log_batches:
            flush = logged(operation, flush)
        size = min(self._max_batch, most)
        return Batcher(flush, self._pending, sizes.labelled(operation), max_batch=size)

    async def _flush_joins(
        self, event_id: str, joins: list[Join], deliver: "Deliver[Response | type[DaegiError]]"
    ) -> None:
        full = self._outbox.known_events + self._opening >= self._max_events
        with self._translated(event_id), self._may_open():
            try:
                batch = await self._line.enqueue(event_id, joins, self._open_events and not full)
            except EventNotFoundError:
                if full and self._open_events:
                    raise TooManyEventsError from None
                raise
            except NotReplicatedError:
                # These joins may have opened the event: workers have to sweep it whether or not people retry.
                self._outbox.mark_changed(event_id)
                raise
        standing = batch.standing
        self._clock.sync(standing.now)
        if batch.created:
            self._outbox.count_new_event()
        deliver(self._answers.to_joins(event_id, batch.joined, standing))
        self._positions.observe(event_id, standing)
        self._outbox.mark_changed(event_id)
        present = [joined.ticket for joined in batch.joined if joined.code in _PRESENT]
        if standing.damaged or (len(present) < len(batch.joined) and _needs_places(batch.joined)):
            self._outbox.request_repair(event_id)
        await self._confirm(event_id, present, standing)

    async def _confirm(self, event_id: str, tickets: list[int], standing: Standing) -> None:
        """Round trip 2 of a batch of joins. The callers have their answers, so a failure here is left to repair."""
        try:
            with self._translated(event_id):
                note = self._line.notes_activity and self._outbox.claim_activity(event_id, standing.now)
                events = await self._line.confirm(event_id, tickets, standing.now, note_activity=note)
            if events is not None:
                self._outbox.count_events(events)
        except DaegiError as error:
            _log.warning(
                "heartbeats of a batch are left to repair", event_id=event_id, joins=len(tickets), error=str(error)
            )
            self._outbox.request_repair(event_id, tickets)

    async def _flush_polls(self, event_id: str, tickets: list[int], deliver: "Deliver[Response | None]") -> None:
        with self._translated(event_id):
            standing, polled = await self._line.poll(event_id, tickets, grace=self._pulse.grace)
        last_known = partial(self._positions.last_known, event_id)
        deliver(self._answers.to_polls(event_id, tickets, polled, standing, last_known))
        self._observe(event_id, standing, any(one.code != PollCode.GONE for one in polled))

    async def _flush_enters(
        self, event_id: str, tickets: list[int], deliver: "Deliver[tuple[Entered, Standing]]"
    ) -> None:
        with self._translated(event_id):
            standing, entered = await self._line.enter(event_id, tickets, grace=self._pulse.grace)
        deliver([(one, standing) for one in entered])
        self._observe(event_id, standing, any(one.code != EnterCode.GONE for one in entered))
        changed = self._positions.changed(event_id)
        for ticket, one in zip(tickets, entered, strict=True):
            if one.code == EnterCode.GRANTED:
                self._promises.settle(ticket, one.entered, changed)

    async def _flush_leaves(self, event_id: str, tickets: list[int], deliver: "Deliver[None]") -> None:
        with self._translated(event_id):
            left = await self._line.leave(event_id, tickets)
        deliver([None] * len(tickets))
        if left:
            self._outbox.mark_changed(event_id)

    def _observe(self, event_id: str, standing: Standing, somebody: bool) -> None:
        self._clock.sync(standing.now)
        # An old token must not put an event that is long gone back on the list.
        if not somebody:
            return
        self._positions.observe(event_id, standing)
        self._outbox.mark_changed(event_id)
        if standing.damaged:
            self._outbox.request_repair(event_id)

    def is_away(self, event_id: str) -> bool:
        """Whether the event's Redis was unavailable a moment ago."""
        return self._line.is_away(event_id)

    @contextmanager
    def _translated(self, event_id: str) -> Iterator[None]:
        """Around a call: refuses at once while the event's Redis is unavailable, lets the pulse check when it seems to
        have become so, and wraps faults of ours so that a batch reports them only once.
        """
        if self.is_away(event_id):
            raise UnavailableError
        try:
            yield
        except UnavailableError:
            self._pulse.check_now()
            raise
        except DaegiError:
            raise
        except Exception as error:
            raise UnexpectedError(event_id=event_id) from error

    @contextmanager
    def _may_open(self) -> Iterator[None]:
        """Counts a batch that may open an event until that is known: a flood of new names comes all at once."""
        self._opening += 1
        try:
            yield
        finally:
            self._opening -= 1


def _needs_places(joined: list[Joined]) -> bool:
    return any(one.code == JoinCode.PLACE_UNKNOWN for one in joined)
