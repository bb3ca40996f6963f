"""One person: joins, polls, enters and redeems, or leaves, or goes silent and returns; asks again when refused."""

import asyncio
import random
import time
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, NamedTuple

from tests.chaos.gauge import ENTER, JOIN, LEAVE, REDEEM, STATUS, Gauge
from tests.chaos.ledger import DOUBLE, LOST, WRONG, Ledger, Place
from tests.support.browser import Answer, Client, NoAnswerError

USER_HEADER: Final = "X-User-Id"
SILENCE: Final = (5.0, 8.0)
"""Seconds for which some people are silent."""
NEAR: Final = (40, 120)
"""The place in line at which they fall silent: their turn comes meanwhile, and they step aside."""
DOUBLE_CLICKS: Final = 0.2
"""The share of people who send the same request twice at once."""
POLL_SCALE: Final = 0.3
"""The share of poll_after_ms that people wait: a run is shorter than a sale."""


class Identity(Enum):
    """How somebody is known when they ask again."""

    KEY = "an Idempotency-Key"
    USER = "a user whom the gateway names"
    NOBODY = "nothing: the retry is another join"


class Fate(Enum):
    """What somebody does once in line."""

    ENTERS = "polls until ready, enters and redeems"
    LEAVES = "polls for a while, then leaves"
    PAUSES = "goes silent for a while, returns and enters"
    VANISHES = "never polls again"


@dataclass(slots=True)
class World:
    """What all people in a crowd share."""

    client: Client
    ledger: Ledger
    gauge: Gauge
    random: random.Random
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when everybody should get the answer they wait for, and stop."""
    too_late: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when nobody should retry any more."""


class Call(NamedTuple):
    """A request, and the statuses of good answers; 503 never is one."""

    kind: str
    method: str
    path: str
    good: tuple[int, ...]
    body: object = None
    headers: dict[str, str] | None = None


class GivenUpError(Exception):
    """There was no answer until the end, or one that must never occur."""


class Person:
    """A person, active until they have redeemed, have left the line, or the run is over."""

    def __init__(self, world: World, event: str, name: str) -> None:
        self._world, self._event, self._name = world, event, name
        draw = world.random
        self._identity = draw.choices(list(Identity), (70, 15, 15))[0]
        self._fate = draw.choices(list(Fate), (65, 12, 18, 5))[0]
        self._redeem_headers = {"Idempotency-Key": f"the-redeem-of-{name}"} if draw.random() < 0.5 else None
        self._clicks = 2 if draw.random() < DOUBLE_CLICKS else 1
        self._leaves_after = draw.uniform(1, 6)
        self._silent_from = draw.randint(*NEAR)
        self._token = ""

    async def live(self) -> None:
        """Acts from the join to the end. A person who loses their place joins again."""
        try:
            while not self._world.over.is_set():
                place = await self._join()
                await self._wait_in_line(place)
                if not place.gone:
                    return
        except GivenUpError:
            return

    # What they do

    async def _join(self) -> Place:
        asked, headers, who = time.monotonic(), {}, self._name
        if self._identity is Identity.KEY:
            headers["Idempotency-Key"] = f"the-key-of-{self._name}"
        elif self._identity is Identity.USER:
            headers[USER_HEADER] = self._name
        else:
            who = ""
        call = Call(JOIN, "POST", "/api/v1/queue/join", (202,), {"event_id": self._event}, headers)
        try:
            [answer] = await self._insist(call)
        except GivenUpError:
            self._world.ledger.unknown_joins += 1
            raise
        token, now = answer.body["waiting_token"], time.monotonic()
        place = self._world.ledger.give(self._event, token, who=who, headers=headers, asked=asked, answered=now)
        self._token = place.token
        return place

    async def _wait_in_line(self, place: Place) -> None:
        began, pause, over = time.monotonic(), 0.3, self._world.over
        while not over.is_set() and not place.gone:
            await self._sleep(pause)
            if self._fate is Fate.LEAVES and time.monotonic() - began > self._leaves_after:
                await self._leave(place)
                return
            stands = await self._poll(place)
            if stands is None:
                return
            if stands["position"] < self._silent_from and self._fate in {Fate.VANISHES, Fate.PAUSES}:
                if self._fate is Fate.VANISHES:
                    return
                self._fate = Fate.ENTERS
                await self._sleep(self._world.random.uniform(*SILENCE))
                continue
            admitted = stands["status"] == "admitted"
            if (admitted or stands["ready_for_entry"]) and await self._enter(place):
                await self._redeem(place)
                return
            if admitted:
                self._world.ledger.miss(LOST, f"the reservation of ticket {place} is not given again", place.heard)
            pause = self._pause(stands)

    def _pause(self, stands: dict[str, Any]) -> float:
        """Seconds until they ask again."""
        return float(POLL_SCALE * stands["poll_after_ms"] / 1000)

    async def _poll(self, place: Place) -> dict[str, Any] | None:
        asked = time.monotonic()
        [answer] = await self._insist(Call(STATUS, "GET", f"/api/v1/queue/status?token={self._token}", (200, 404)))
        if answer.status == 404:
            self._world.ledger.lose(place, time.monotonic())
            return None
        place.heard, self._token = asked, answer.body["waiting_token"]
        return dict(answer.body)

    async def _enter(self, place: Place) -> bool:
        place.entered.asked = place.entered.asked or time.monotonic()
        call = Call(ENTER, "POST", "/api/v1/queue/enter", (200, 403, 404), {"waiting_token": self._token})
        answers = await self._insist(call, self._clicks)
        reservations = {answer.body["reservation_token"] for answer in answers if answer.status == 200}
        if not reservations:
            if any(answer.status == 404 for answer in answers):
                self._world.ledger.lose(place, time.monotonic())
            return False
        place.entered.done = time.monotonic()
        if self._clicks > 1:
            # And once more, now that they have certainly entered: there is only one reservation.
            [again] = await self._insist(call)
            if again.status != 200:
                text = f"the reservation of ticket {place} is not given again: {again.code}"
                self._world.ledger.miss(LOST, text, place.entered.done)
                place.entered.done = None
                return False
            reservations.add(again.body["reservation_token"])
        place.reservation = reservations.pop()
        if reservations:
            self._world.ledger.miss(DOUBLE, f"ticket {place} has two reservations", place.entered.done)
        return True

    async def _redeem(self, place: Place) -> None:
        place.redeemed.asked = time.monotonic()
        body, headers = {"reservation_token": place.reservation}, self._redeem_headers
        call = Call(REDEEM, "POST", "/api/v1/queue/redeem", (200, 404, 409), body, headers)
        answers = await self._insist(call, self._clicks)
        if any(answer.status == 404 for answer in answers):
            self._world.ledger.miss(LOST, f"the reservation of ticket {place} is gone", place.entered.done or 0)
            place.entered.done = None
            return
        place.redeemed.done = time.monotonic()
        redeemed = sum(answer.status == 200 for answer in answers)
        # A key makes both of them one redeem.
        if redeemed > 1 and not headers:
            self._world.ledger.miss(DOUBLE, f"ticket {place} was redeemed twice", place.redeemed.done)
        if redeemed < len(answers) and headers:
            self._world.ledger.miss(WRONG, f"a redeem of ticket {place} did not find itself", place.redeemed.done)

    async def _leave(self, place: Place) -> None:
        place.left.asked = time.monotonic()
        path = f"/api/v1/queue/leave?token={self._token}"
        await self._insist(Call(LEAVE, "DELETE", path, (200,)), self._clicks)
        place.left.done = time.monotonic()

    # How they ask

    async def _insist(self, call: Call, clicks: int = 1) -> list[Answer]:
        """Asks until there is a good answer. With two clicks at first, there may be two of them, or one."""
        with self._world.gauge.wish(call.kind) as wish:
            while True:
                answers = await asyncio.gather(*(self._ask(call) for _ in range(clicks)))
                if good := [answer for answer in answers if answer is not None and answer.status in call.good]:
                    wish.granted = True
                    return good
                if self._world.too_late.is_set():
                    raise GivenUpError
                waits = [answer.retry_after for answer in answers if answer is not None]
                await asyncio.sleep(self._world.random.uniform(0.5, 1) * min([0.5, *waits]))
                clicks = 1

    async def _ask(self, call: Call) -> Answer | None:
        gauge, ledger, answer = self._world.gauge, self._world.ledger, None
        gauge.requests += 1
        try:
            answer = await self._world.client.ask(call.method, call.path, call.body, call.headers)
        except NoAnswerError as error:
            if error.refused:
                gauge.unconnected += 1
                return None
            gauge.broken += 1
        else:
            if answer.status in call.good:
                return answer
            if answer.status != 503:
                said = f"{call.kind} of {self._name}: {answer.status} {answer.code}"
                ledger.miss(WRONG, said, time.monotonic())
                raise GivenUpError
            gauge.refusals[call.kind] += 1
            if answer.retry_after < 1:
                ledger.miss(WRONG, f"a 503 of {call.kind} without Retry-After", time.monotonic())
        if call.kind == JOIN and self._identity is Identity.NOBODY:
            ledger.unknown_joins += 1
        return answer

    async def _sleep(self, seconds: float) -> None:
        """Sleeps, but not longer than the run lasts."""
        try:
            async with asyncio.timeout(seconds):
                await self._world.over.wait()
        except TimeoutError:
            return
