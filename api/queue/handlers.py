"""What people ask for: join, status, enter, leave; and redeem, which the protected backend asks for."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b

import msgspec
import structlog

from api.contract.schemas import (
    MAX_KEY,
    MAX_USER_ID,
    MIN_KEY,
    EnterRequest,
    EnterResponse,
    JoinRequest,
    LeaveResponse,
    RedeemRequest,
    RedeemResponse,
)
from api.http.core import (
    HttpError,
    Request,
    Response,
    UnexpectedError,
    decode,
    invalid,
    is_text,
    json_response,
    rfc3339,
)
from api.queue.answers import Answers, eta
from api.queue.join_limit import JoinLimit
from api.serving.batcher import Answer, AnswerT, Batcher, Flush, RequestT, told
from api.serving.clock import RedisClock
from api.serving.load_shedding import Gate
from api.serving.position_cache import PositionCache
from api.serving.pulse import Pulse
from api.serving.worker_outbox import Errands
from shared.errors import (
    DaegiError,
    EventNotFoundError,
    InvalidTokenError,
    KeyReusedError,
    NotReplicatedError,
    OverloadedError,
    TooManyEventsError,
    UnavailableError,
)
from shared.event_id import EVENT_ID
from shared.line.line import Join, Line
from shared.line.replies import EnterCode, Entered, JoinCode, PollCode, RedeemCode, Standing
from shared.settings import Settings
from shared.telemetry.metrics import Family, Metrics
from shared.tokens.signer import Signer

_log = structlog.get_logger(__name__)

_HEARD = frozenset((JoinCode.NEW, JoinCode.IN_LINE))
"""Whose heartbeat a join writes: the others are in no line."""

_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

_MAX_ENTERS = 100
"""Enters in one script call."""


@dataclass(frozen=True, slots=True)
class Services:
    """What the handlers work with, built in the lifespan."""

    settings: Settings
    line: Line
    signer: Signer
    clock: RedisClock
    pulse: Pulse
    errands: Errands
    positions: PositionCache
    gate: Gate
    metrics: Metrics


class Queue:
    """The handlers of /api/v1/queue."""

    def __init__(self, services: Services) -> None:
        self._settings = settings = services.settings
        self._line, self._signer, self._clock = services.line, services.signer, services.clock
        self._pulse, self._errands, self._positions = services.pulse, services.errands, services.positions
        self._gate = services.gate
        self._opening = 0
        header = settings.trusted_user_header
        self._user_header = header.lower().encode("latin-1") if header else None
        per_minute, address_header = settings.joins_per_minute, settings.trusted_address_header
        self._limit = JoinLimit(per_minute, address_header) if per_minute else None
        self._answers = Answers(services.signer, settings)
        batches = services.metrics.histogram(
            "daegi_batch_size", "Requests that shared a script call", "operation", bounds=_BATCH_SIZES
        )
        self._joins = self._batcher("join", self._flush_joins, batches)
        self._polls = self._batcher("poll", self._flush_polls, batches)
        # One costs Redis as much as six joins (36 us, measured): a batch of joins' size would block it for 9 ms.
        self._enters = self._batcher("enter", self._flush_enters, batches, _MAX_ENTERS)
        self._leaves = self._batcher("leave", self._flush_leaves, batches)
        self._decode_join = msgspec.json.Decoder(JoinRequest).decode
        self._decode_enter = msgspec.json.Decoder(EnterRequest).decode
        self._decode_redeem = msgspec.json.Decoder(RedeemRequest).decode

    async def drain(self) -> None:
        """Waits for every batch in flight, round trip 2 included; whoever is held back then is refused."""
        for batcher in (self._joins, self._polls, self._enters, self._leaves):
            await batcher.drain()
        self._gate.drain()

    async def join(self, request: Request) -> Response:
        """POST /api/v1/queue/join"""
        if self._limit is not None:
            self._limit.take(request.scope)
        headers = request.headers()
        ask = decode(self._decode_join, await request.body(headers))
        event_id = ask.event_id
        if not event_id:
            raise HttpError(400, "MISSING_EVENT_ID", "event_id is missing")
        if not EVENT_ID.fullmatch(event_id):
            raise invalid("event_id must match [A-Za-z0-9_.:-]{1,64}")
        who = self._who(request, headers, ask.user_id)
        key = _idempotency_key(headers)
        if key:
            key += blake2b(who, digest_size=8).digest()
        answer = await self._joins.submit(event_id, Join(key, who))
        if answer is None:
            raise KeyReusedError
        return answer

    async def status(self, request: Request) -> Response:
        """GET /api/v1/queue/status?token="""
        text = request.token()
        if not text:
            raise HttpError(400, "MISSING_TOKEN", "the query has no token")
        token = self._signer.verify_waiting(text)
        event_id, ticket = token.event_id, token.ticket
        placed = self._positions.place(token)
        # In the first half of a lease its own exact poll is heartbeat enough.
        if placed:
            position, standing, now, late = placed
            # In the first half of a lease its own exact poll is heartbeat enough.
            if not late or self._errands.hear(event_id, ticket):
                self._errands.change(event_id)
                return self._answers.from_memory(ticket, text, position, standing, now)
        try:
            answer = await self._polls.submit(event_id, ticket)
        except OverloadedError:
            # Nobody loses their place by an overload: refused as often as they asked, they are heard all the same.
            self._errands.hear(event_id, ticket)
            raise
        if answer is None:
            raise _token_expired()
        return answer

    async def enter(self, request: Request) -> Response:
        """POST /api/v1/queue/enter"""
        ask = decode(self._decode_enter, await request.body(request.headers()))
        if not ask.waiting_token:
            raise HttpError(400, "MISSING_TOKEN", "waiting_token is missing")
        token = self._signer.verify_waiting(ask.waiting_token)
        entered, standing = await self._enters.submit(token.event_id, token.ticket)
        match entered.code:
            case EnterCode.GRANTED:
                reservation = self._signer.reservation(token.event_id, token.ticket, entered.issued)
                return json_response(200, EnterResponse("granted", reservation, -(-entered.ttl // 1000)))
            case EnterCode.NOT_READY | EnterCode.PAUSED:
                after = self._answers.poll_after_ms(eta(entered.position, standing))
                paused = entered.code == EnterCode.PAUSED
                raise HttpError(
                    403,
                    "EVENT_PAUSED" if paused else "NOT_READY",
                    "nobody is let in at the moment" if paused else "it is not your turn yet",
                    retry_after=-(-after // 1000),
                    details={"position": entered.position, "poll_after_ms": after},
                )
            case EnterCode.ALREADY_REDEEMED:
                raise _already_redeemed()
            case _:
                raise _token_expired()

    async def leave(self, request: Request) -> Response:
        """DELETE or POST /api/v1/queue/leave?token="""
        text = request.token()
        if not text:
            raise HttpError(400, "MISSING_TOKEN", "the query has no token")
        token = self._signer.verify_waiting(text)
        await self._leaves.submit(token.event_id, token.ticket)
        return json_response(200, LeaveResponse("left"))

    async def redeem(self, request: Request) -> Response:
        """POST /api/v1/queue/redeem"""
        headers = request.headers()
        ask = decode(self._decode_redeem, await request.body(headers))
        if not ask.reservation_token:
            raise InvalidTokenError("reservation_token is missing")
        token = self._signer.verify_reservation(ask.reservation_token)
        key = _idempotency_key(headers)
        with self._gate.alone(), self._watched(token.event_id):
            redeemed = await self._line.redeem(token.event_id, token.ticket, token.issued, key.hex())
        if redeemed.code == RedeemCode.ALREADY_REDEEMED:
            raise _already_redeemed()
        if redeemed.code == RedeemCode.EXPIRED:
            raise HttpError(404, "RESERVATION_EXPIRED", "this reservation has lapsed")
        user_id = redeemed.who[1:].decode() or None
        return json_response(
            200,
            RedeemResponse(token.event_id, user_id, rfc3339(token.ticket), rfc3339(redeemed.granted * 1000)),
        )

    # One batch each

    def _batcher(
        self, operation: str, flush: Flush[RequestT, AnswerT], sizes: Family, most: int = 256
    ) -> Batcher[RequestT, AnswerT]:
        if self._settings.log_level == "debug":
            flush = told(operation, flush)
        size = min(self._settings.max_batch, most)
        return Batcher(flush, self._gate, sizes.of(operation), max_batch=size)

    async def _flush_joins(self, event_id: str, joins: list[Join], answer: "Answer[Response | None]") -> None:
        full = self._errands.events + self._opening >= self._settings.max_events
        with self._watched(event_id), self._may_open():
            try:
                batch = await self._line.enqueue(event_id, joins, self._settings.open_events and not full)
            except EventNotFoundError:
                if full and self._settings.open_events:
                    raise TooManyEventsError from None
                raise
            except NotReplicatedError:
                # It may be the event's first, and who is in line has to be swept whether they come back or not.
                self._errands.change(event_id)
                raise
        standing = batch.standing
        self._clock.sync(standing.now)
        self._errands.events += batch.created
        answers = self._answers.to_joins(event_id, batch.joined, standing)
        answer(answers)
        tickets = [joined.ticket for joined in batch.joined if joined.code in _HEARD]
        self._positions.observe(event_id, standing)
        self._errands.change(event_id)
        if standing.damaged:
            self._errands.repair(event_id)
        try:
            with self._watched(event_id):
                note = self._line.notes_activity and self._errands.note(event_id, standing.now)
                events = await self._line.confirm(event_id, tickets, standing.now, note_activity=note)
            # Others that were opened meanwhile may not be on the list yet.
            self._errands.events = max(self._errands.events, events or 0)
        except DaegiError as error:
            _log.warning(
                "heartbeats of a batch are left to repair", event_id=event_id, joins=len(tickets), error=str(error)
            )
            self._errands.repair(event_id, tickets)

    async def _flush_polls(self, event_id: str, tickets: list[int], answer: "Answer[Response | None]") -> None:
        with self._watched(event_id):
            standing, polled = await self._line.poll(event_id, tickets, grace=self._pulse.grace)
        last_known = partial(self._positions.last_known, event_id)
        answer(self._answers.to_polls(event_id, tickets, polled, standing, last_known))
        self._learn(event_id, standing, any(one.code != PollCode.GONE for one in polled))

    async def _flush_enters(
        self, event_id: str, tickets: list[int], answer: "Answer[tuple[Entered, Standing]]"
    ) -> None:
        with self._watched(event_id):
            standing, entered = await self._line.enter(event_id, tickets, grace=self._pulse.grace)
        answer([(one, standing) for one in entered])
        self._learn(event_id, standing, any(one.code != EnterCode.GONE for one in entered))

    async def _flush_leaves(self, event_id: str, tickets: list[int], answer: "Answer[None]") -> None:
        with self._watched(event_id):
            left = await self._line.leave(event_id, tickets)
        answer([None] * len(tickets))
        if left:
            self._errands.change(event_id)

    def _learn(self, event_id: str, standing: Standing, somebody: bool) -> None:
        self._clock.sync(standing.now)
        # An old token of an event that is long gone must not list it again.
        if not somebody:
            return
        self._positions.observe(event_id, standing)
        self._errands.change(event_id)
        if standing.damaged:
            self._errands.repair(event_id)

    @contextmanager
    def _watched(self, event_id: str) -> Iterator[None]:
        """Refuses at once while the event's Redis is away, and has the pulse find out when it seems to have gone."""
        if self._line.is_away(event_id):
            raise UnavailableError
        try:
            yield
        except UnavailableError:
            self._pulse.check_now()
            raise
        except DaegiError:
            raise
        except Exception as error:
            raise UnexpectedError(event_id) from error

    @contextmanager
    def _may_open(self) -> Iterator[None]:
        """Counts a batch that may be opening an event, until that is known: a flood of names comes all at once."""
        self._opening += 1
        try:
            yield
        finally:
            self._opening -= 1

    # What an answer is made of

    def _who(self, request: Request, headers: dict[bytes, bytes], label: str | None) -> bytes:
        """'' for nobody, 'u' and a label, or 'v' and the user whom the trusted header names."""
        verified = headers.get(self._user_header) if self._user_header else None
        # One of them the client's own: whom the gateway means cannot be told. An empty one would make them nobody.
        if verified is not None and sum(name == self._user_header for name, _ in request.scope["headers"]) > 1:
            raise invalid("the user header must be there once")
        if verified:
            if len(verified) > MAX_USER_ID:
                raise invalid(f"the user header may have {MAX_USER_ID} bytes")
            if not is_text(verified):
                raise invalid("the user header must be UTF-8")
            return b"v" + verified
        return b"u" + label.encode() if label else b""


def _idempotency_key(headers: dict[bytes, bytes]) -> bytes:
    """Its digest, b'' if there is none."""
    key = headers.get(b"idempotency-key")
    if key is None:
        return b""
    if not MIN_KEY <= len(key) <= MAX_KEY:
        raise invalid(f"Idempotency-Key must have {MIN_KEY} to {MAX_KEY} characters")
    return blake2b(key, digest_size=16).digest()


def _token_expired() -> HttpError:
    return HttpError(404, "TOKEN_EXPIRED", "this place in line is gone: join again")


def _already_redeemed() -> HttpError:
    return HttpError(409, "ALREADY_REDEEMED", "this ticket has been redeemed")
