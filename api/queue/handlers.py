"""The handlers of join, status, enter and leave, for people, and of redeem, for the protected backend."""

from hashlib import blake2b

import msgspec

from api.contract.schemas import (
    EnterRequest,
    EnterResponse,
    JoinRequest,
    LeaveResponse,
    RedeemRequest,
    RedeemResponse,
)
from api.http.errors import HttpError, invalid
from api.http.request import Request
from api.http.response import Response, json_response, rfc3339
from api.queue.answers import Answers
from api.queue.batched_line import BatchedLine
from api.queue.forecast import eta
from api.queue.identity import Identity, idempotency_key, waiting_token
from api.queue.join_limit import JoinLimit
from api.serving.position_cache import PositionCache
from api.serving.worker_outbox import WorkerOutbox
from shared.errors import InvalidTokenError, OverloadedError
from shared.event_id import EVENT_ID
from shared.line.line import Join
from shared.line.replies import EnterCode, Entered, RedeemCode
from shared.tokens.jwt import JwtSigner
from shared.tokens.signer import Signer, WaitingToken


class Queue:
    """The handlers of /api/v1/queue."""

    def __init__(
        self,
        line: BatchedLine,
        *,
        signer: Signer,
        answers: Answers,
        identity: Identity,
        join_limit: JoinLimit | None,
        positions: PositionCache,
        outbox: WorkerOutbox,
        jwt_signer: JwtSigner | None,
    ) -> None:
        self._line, self._signer, self._answers, self._jwt_signer = line, signer, answers, jwt_signer
        self._identity, self._join_limit = identity, join_limit
        self._positions, self._outbox = positions, outbox
        self._decode_join = msgspec.json.Decoder(JoinRequest).decode
        self._decode_enter = msgspec.json.Decoder(EnterRequest).decode
        self._decode_redeem = msgspec.json.Decoder(RedeemRequest).decode

    async def join(self, request: Request) -> Response:
        """POST /api/v1/queue/join"""
        if self._join_limit is not None:
            self._join_limit.take(request)
        ask = await request.json(self._decode_join)
        event_id = ask.event_id
        if not event_id:
            raise HttpError(400, "MISSING_EVENT_ID", 'event_id is missing: send {"event_id": "..."}')
        if not EVENT_ID.fullmatch(event_id):
            raise invalid(f"event_id must match {EVENT_ID.pattern}")
        who = self._identity.identify(request, ask.user_id)
        key = idempotency_key(request)
        if key:
            key += blake2b(who, digest_size=8).digest()
        answer = await self._line.join(event_id, Join(key, who))
        if isinstance(answer, type):
            raise answer
        return answer

    async def status(self, request: Request) -> Response:
        """GET /api/v1/queue/status"""
        return await self.status_of(waiting_token(request))

    async def status_of(self, text: str) -> Response:
        """Where the person with this waiting token stands. Raises HttpError 400 and 404, and what a poll raises."""
        token = self._signer.verify_waiting(text)
        event_id, ticket = token.event_id, token.ticket
        placed = self._positions.place(token)
        if placed:
            position, standing, now, late = placed
            # In the first half of a lease, the exact poll that began it is heartbeat enough.
            if not late or self._outbox.record_heartbeat(event_id, ticket):
                self._outbox.mark_changed(event_id)
                return self._answers.from_memory(ticket, text, position, standing, now)
        try:
            answer = await self._line.poll(event_id, ticket)
        except OverloadedError:
            # An overload must not cost anybody their place: a refused poll still counts as a heartbeat.
            self._outbox.record_heartbeat(event_id, ticket)
            raise
        if answer is None:
            raise token_expired()
        return answer

    async def enter(self, request: Request) -> Response:
        """POST /api/v1/queue/enter"""
        ask = await request.json(self._decode_enter)
        if not ask.waiting_token:
            raise HttpError(400, "MISSING_TOKEN", 'waiting_token is missing: send {"waiting_token": "..."}')
        token = self._signer.verify_waiting(ask.waiting_token)
        entered = await self.let_in(token)
        reservation = self._signer.reservation(token.event_id, token.ticket, entered.issued)
        return json_response(200, EnterResponse("granted", reservation, -(-entered.ttl // 1000)))

    async def let_in(self, token: WaitingToken) -> Entered:
        """Lets somebody in whose turn it is. Raises HttpError 403, 404 and 409, and what an enter raises."""
        entered, standing = await self._line.enter(token.event_id, token.ticket)
        match entered.code:
            case EnterCode.GRANTED:
                return entered
            case EnterCode.NOT_READY | EnterCode.PAUSED:
                position = entered.position
                after = self._answers.poll_after_ms(position, eta(position, standing), standing)
                paused = entered.code == EnterCode.PAUSED
                raise HttpError(
                    403,
                    "EVENT_PAUSED" if paused else "NOT_READY",
                    "nobody is let in at the moment" if paused else "it is not your turn yet",
                    retry_after=-(-after // 1000),
                    details={"position": position, "poll_after_ms": after},
                )
            case EnterCode.ALREADY_REDEEMED:
                raise _already_redeemed()
            case _:
                raise token_expired()

    async def leave(self, request: Request) -> Response:
        """DELETE or POST /api/v1/queue/leave"""
        token = self._signer.verify_waiting(waiting_token(request))
        await self._line.leave(token.event_id, token.ticket)
        return json_response(200, LeaveResponse("left"))

    async def redeem(self, request: Request) -> Response:
        """POST /api/v1/queue/redeem"""
        ask = await request.json(self._decode_redeem)
        if not ask.reservation_token:
            raise InvalidTokenError('reservation_token is missing: send {"reservation_token": "..."}')
        token = self._signer.verify_reservation(ask.reservation_token)
        key = idempotency_key(request)
        redeemed = await self._line.redeem(token.event_id, token.ticket, token.issued, key.hex())
        if redeemed.code == RedeemCode.ALREADY_REDEEMED:
            raise _already_redeemed()
        if redeemed.code == RedeemCode.EXPIRED:
            raise HttpError(404, "RESERVATION_EXPIRED", "this reservation has lapsed: enter again")
        user_id = redeemed.who[1:].decode() or None
        answer = RedeemResponse(token.event_id, user_id, rfc3339(token.ticket), rfc3339(redeemed.granted * 1000))
        if self._jwt_signer and redeemed.until:
            since, until = redeemed.since, redeemed.until
            answer.pass_jwt = self._jwt_signer.sign(token.event_id, token.ticket, since=since, until=until)
        return json_response(200, answer)


def token_expired() -> HttpError:
    """The refusal of a ticket that is no longer in line."""
    return HttpError(404, "TOKEN_EXPIRED", "this place in line is gone: join again")


def _already_redeemed() -> HttpError:
    return HttpError(409, "ALREADY_REDEEMED", "this ticket has been redeemed")
