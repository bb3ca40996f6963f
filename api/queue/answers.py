"""Builds the answers to joins and polls, a batch at a time: the place in line, and when to poll again."""

import math
import random
from collections.abc import Callable, Sequence
from typing import Literal

from api.contract.schemas import JoinResponse, StatusResponse
from api.http.response import Response, json_response, retry_after
from api.queue.forecast import FRONT_POLL_S, NO_DOUBT, doubt, eta, eta_range
from api.queue.promises import WORTH_S, Promises
from shared.errors import DaegiError, KeyReusedError, PlaceUnknownError
from shared.line.replies import JoinCode, Joined, PollCode, Polled, Standing
from shared.settings import Settings
from shared.tokens.signer import Signer

_FRONT = 5
"""Whose turn may come at any moment, whatever the ETA: somebody inside leaves, or an operator opens the door."""

UNKNOWN_POLL_S = 10.0
"""Seconds between polls while nobody is let in: people soon notice when it goes on."""

Status = Literal["waiting", "ready", "admitted"]

_STATUS: dict[int, tuple[Status, bool]] = {
    PollCode.WAITING: ("waiting", False),
    PollCode.READY: ("ready", True),
    PollCode.ADMITTED: ("admitted", False),
}
"""For each code, the status in the answer and whether the person may enter."""

_REFUSED: dict[int, type[DaegiError]] = {
    JoinCode.KEY_REUSED: KeyReusedError,
    JoinCode.PLACE_UNKNOWN: PlaceUnknownError,
}
"""Joins that are answered with an error."""


class Answers:
    """Answers to joins and polls."""

    def __init__(self, signer: Signer, settings: Settings, promises: Promises) -> None:
        self._signer, self._promises = signer, promises
        self._longest_poll = settings.heartbeat_ttl / 8
        self._doubted: Standing | None = None
        self._doubt = NO_DOUBT

    def to_joins(
        self, event_id: str, joined: Sequence[Joined], standing: Standing
    ) -> list[Response | type[DaegiError]]:
        """The answer to each join, or the error to raise."""
        admitted, sign = JoinCode.ADMITTED, self._signer.waiting
        answers: list[Response | type[DaegiError]] = []
        for code, ticket, position in joined:
            if code in _REFUSED:
                answers.append(_REFUSED[code])
                continue
            status: Literal["admitted", "waiting"] = "admitted" if code == admitted else "waiting"
            after = self.poll_after_ms(position, eta(position, standing), standing)
            answers.append(json_response(202, JoinResponse(sign(event_id, ticket), position, status, after)))
        return answers

    def to_polls(
        self,
        event_id: str,
        tickets: Sequence[int],
        polled: Sequence[Polled],
        standing: Standing,
        last_known: Callable[[int], int],
    ) -> list[Response | None]:
        """The answer to each poll, None if the ticket is gone. In a damaged line `last_known` gives the place."""
        gone, waiting, sign, now = PollCode.GONE, PollCode.WAITING, self._signer.waiting, standing.now
        answers: list[Response | None] = []
        for ticket, (code, position) in zip(tickets, polled, strict=True):
            if code == gone:
                answers.append(None)
                continue
            approximate = standing.damaged and code != PollCode.ADMITTED
            place = last_known(ticket) if approximate else position
            seconds = eta(place, standing) if code == waiting else 0.0
            after = self.poll_after_ms(place, seconds, standing)
            status, ready = _STATUS[code]
            token = sign(event_id, ticket, now)
            answers.append(self._told(status, ticket, token, place, seconds, standing, now, ready, after, approximate))
        return answers

    def from_memory(self, ticket: int, token: str, position: int, standing: Standing, now: int) -> Response:
        """The answer to a poll under a lease, whose token stays valid; `now` in ms."""
        seconds = eta(position, standing)
        after = self.poll_after_ms(position, seconds, standing)
        return self._told("waiting", ticket, token, position, seconds, standing, now, False, after, True)

    def poll_after_ms(self, position: int, seconds: float | None, standing: Standing) -> int:
        """When somebody with this ETA polls again: in the first five places, and near their turn, after 2 s, else after
        a quarter of it, with jitter so that crowds spread out.

        While nobody is let in, after 10 s. In a pause those whose turn comes sooner once it goes on come as often as
        they would then: they notice at once, and it costs no more than a line that moves.
        """
        if 0 < position <= _FRONT:
            wished = FRONT_POLL_S
        elif seconds is None:
            wished = UNKNOWN_POLL_S
            if standing.paused and (once_open := eta(position, standing._replace(paused=False))) is not None:
                wished = min(wished, once_open / 4)
        else:
            wished = seconds / 4
        wished = max(wished, FRONT_POLL_S)
        wished = min(wished, self._longest_poll)
        return int(wished * (800 + 200 * random.random())) or 1

    def _told(  # noqa: PLR0917 - called for every poll, and positional arguments cost less
        self,
        status: Status,
        ticket: int,
        token: str,
        position: int,
        seconds: float | None,
        standing: Standing,
        now: int,
        ready: bool,
        after: int,
        approximate: bool,
    ) -> Response:
        if standing is not self._doubted:
            # A batch has one standing, and so has a second of polls from memory.
            self._doubted, self._doubt = standing, doubt(standing)
        between = eta_range(seconds, self._doubt)
        if seconds is None or between is None:
            eta_sec = None
        else:
            eta_sec = math.ceil(seconds)
            if seconds > WORTH_S:
                self._promises.note(ticket, seconds, between, now)
        waited = now - ticket // 1000
        waiting_time = waited // 1000 if waited > 0 else 0
        answer = StatusResponse(status, token, position, eta_sec, between, waiting_time, ready, after, approximate)
        return json_response(200, answer, retry_after(-(-after // 1000)))
