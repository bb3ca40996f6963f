"""What people are told of their place, made a batch at a time, and when to come back."""

import math
import random
from collections.abc import Callable, Sequence
from typing import Literal

from api.http import Response, json_response, retry_after
from api.schemas import JoinResponse, StatusResponse
from shared.replies import JoinCode, Joined, PollCode, Polled, Standing
from shared.settings import Settings
from shared.tickets import Signer

_FRONT_POLL_S = 2.0
"""Seconds between polls at the front (DESIGN.md, A poll)."""

_UNKNOWN_POLL_S = 10.0
"""Seconds between polls while nobody is let in, so that nobody is late when it goes on."""

_STATUS: dict[int, Literal["waiting", "ready", "admitted"]] = {
    PollCode.WAITING: "waiting",
    PollCode.READY: "ready",
    PollCode.ADMITTED: "admitted",
}


class Answers:
    """Answers to joins and polls."""

    def __init__(self, signer: Signer, settings: Settings) -> None:
        self._signer = signer
        self._longest_poll = settings.heartbeat_ttl / 8

    def to_joins(self, event_id: str, joined: Sequence[Joined], standing: Standing) -> list[Response | None]:
        """For each the answer, None if its key is somebody else's."""
        return [
            json_response(
                202,
                JoinResponse(
                    self._signer.waiting(event_id, ticket),
                    position,
                    "admitted" if code == JoinCode.ADMITTED else "waiting",
                    self.poll_after_ms(eta(position, standing)),
                ),
            )
            if code != JoinCode.KEY_REUSED
            else None
            for code, ticket, position in joined
        ]

    def to_polls(
        self,
        event_id: str,
        tickets: Sequence[int],
        polled: Sequence[Polled],
        standing: Standing,
        last_known: Callable[[int], int],
    ) -> list[Response | None]:
        """For each the answer, None if the ticket is gone; in a damaged line `last_known` places them."""
        answers: list[Response | None] = []
        for ticket, (code, position) in zip(tickets, polled, strict=True):
            if code == PollCode.GONE:
                answers.append(None)
                continue
            approximate = standing.damaged and code != PollCode.ADMITTED
            place = last_known(ticket) if approximate else position
            seconds = eta(place, standing) if code == PollCode.WAITING else 0.0
            after = self.poll_after_ms(seconds)
            status = StatusResponse(
                _STATUS[code],
                self._signer.waiting(event_id, ticket, standing.now),
                place,
                _whole(seconds),
                _waited(ticket, standing.now),
                code == PollCode.READY,
                after,
                approximate,
            )
            answers.append(json_response(200, status, retry_after(-(-after // 1000))))
        return answers

    def from_memory(self, ticket: int, token: str, position: int, standing: Standing, now: int) -> Response:
        """The answer to a poll under a lease, whose token stays good; `now` in ms."""
        seconds = eta(position, standing)
        after = self.poll_after_ms(seconds)
        waited = _waited(ticket, now)
        status = StatusResponse("waiting", token, position, _whole(seconds), waited, False, after, True)
        return json_response(200, status, retry_after(-(-after // 1000)))

    def poll_after_ms(self, seconds: float | None) -> int:
        """When to come back: 2 s at the front, then a quarter of the ETA, with jitter so that crowds thin out."""
        wished = _UNKNOWN_POLL_S if seconds is None else seconds / 4
        wished = max(wished, _FRONT_POLL_S)
        wished = min(wished, self._longest_poll)
        return int(wished * (800 + 200 * random.random())) or 1


def eta(position: int, standing: Standing) -> float | None:
    """Seconds until somebody at this position can come in; None while nobody can."""
    missing = position - standing.tokens
    # At rate 0 nobody beyond the tokens comes in, however fast the head of the line moved a moment ago.
    if standing.paused or standing.damaged or (missing > 0 and standing.rate <= 0):
        return None
    return missing / standing.eta_rate if missing > 0 else 0.0


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else math.ceil(seconds)


def _waited(ticket: int, now: int) -> int:
    waited = now // 1000 - ticket // 1_000_000
    return max(0, waited)
