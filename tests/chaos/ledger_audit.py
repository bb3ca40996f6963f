"""Compares a ledger with Redis and with the api, once its crowd has ended."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Final, NamedTuple

from shared.line.keys import Keys
from tests.chaos.ledger import DOUBLE, LOST, ORDER, WRONG, Ledger, Place
from tests.support.browser import Answer, Client, NoAnswerError
from tests.support.settings import OPERATOR

WHOLE_SECONDS: Final = 20.0
"""Seconds that repair may take until a line is consistent."""
_AT_ONCE: Final = 32
_CHUNK: Final = 1000


class Found(NamedTuple):
    """What Redis holds of an event."""

    logged: list[int]
    there: set[int]
    """In the log or admitted."""
    line: list[int]
    called: list[int]
    absent: list[int]
    admitted: set[int]
    redeemed: set[int]
    heard: set[int]

    @property
    def members(self) -> list[int]:
        """Everybody in line, called or absent, by ticket."""
        return sorted([*self.line, *self.called, *self.absent])

    @property
    def whole(self) -> bool:
        """Log = line + called + absent, and everybody has a heartbeat."""
        return self.logged == self.members and set(self.logged) <= self.heard


async def find(redis: Any, event: str) -> Found:
    """Reads an event from a client that decodes, of one Redis or of a cluster."""
    keys = Keys().event(event)
    logged, after = [], "-"
    while entries := await redis.xrange(keys.stream, after, "+", _CHUNK):
        logged += [int(ms) * 1000 + int(rest) for ms, rest in (entry_id.split("-") for entry_id, _ in entries)]
        after = f"({entries[-1][0]}"
    line, called, absent = [
        [int(one) for one in await redis.zrange(key, 0, -1)] for key in (keys.queue, keys.called, keys.absent)
    ]
    admitted = {int(one) for one in await redis.zrange(keys.admitted, 0, -1)}
    passes = await redis.hgetall(keys.passes)
    redeemed = {int(ticket) for ticket, entry in passes.items() if entry.split(" ")[1].startswith("1")}
    heard = {int(one) for one in await redis.zrange(keys.heartbeat, 0, -1)}
    return Found(logged, {*logged, *admitted}, line, called, absent, admitted, redeemed, heard)


class Audit:
    """Adds to a ledger every promise that was not kept."""

    def __init__(self, ledger: Ledger, redis: Any, client: Client) -> None:
        self.totals: dict[str, dict[str, int]] = {}
        """The totals that the api counts, by event."""
        self._ledger, self._redis, self._client = ledger, redis, client

    async def run(self, events: Iterable[str]) -> None:
        """Every event."""
        for event in events:
            answer = await self._ask("PUT", f"/api/v1/admin/events/{event}", {"paused": True}, OPERATOR)
            if answer.status != 200:
                self._ledger.miss(WRONG, f"{event} cannot be paused: {answer.status}", time.monotonic())
            self.totals[event] = answer.body.get("totals", {})
            found = await self._wait_until_whole(event)
            places = [place for (name, _), place in self._ledger.places.items() if name == event]
            for place in places:
                self._compare(place, found)
            self._count_holders(places, found)
            self._count_unknown(event, found)
            await self._ask_again(event, [place for place in places if not place.gone], found)

    # Redis

    async def _wait_until_whole(self, event: str) -> Found:
        deadline = time.monotonic() + WHOLE_SECONDS
        found = await find(self._redis, event)
        while not found.whole and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
            found = await find(self._redis, event)
        if not found.whole:
            counts = f"log {len(found.logged)}, members {len(found.members)}, heartbeats {len(found.heard)}"
            self._ledger.miss(WRONG, f"{event} is not whole: {counts}", time.monotonic())
        return found

    def _compare(self, place: Place, found: Found) -> None:
        miss = self._ledger.miss
        there, admitted = place.ticket in found.there, place.ticket in found.admitted
        if self._may_be_forgotten(place):
            return
        if place.left.done:
            if there:
                miss(LOST, f"the leaving of {place} was undone", place.left.done)
        elif place.entered.done:
            if not admitted:
                miss(LOST, f"the entering of {place} was undone", place.entered.done)
            elif place.redeemed.done and place.ticket not in found.redeemed:
                miss(LOST, f"the redeeming of {place} was undone", place.redeemed.done)
        elif admitted:
            if not place.entered.asked:
                miss(WRONG, f"{place} was let in without asking", place.given)
        elif not there and not place.gone and not self._ledger.may_be_gone(place, time.monotonic()):
            miss(LOST, f"ticket {place} is in no line", place.given)

    def _may_be_forgotten(self, place: Place) -> bool:
        """Whether it was let in so long ago that this may have been pruned."""
        return place.entered.done is not None and time.monotonic() - place.entered.done > self._ledger.life

    def _count_holders(self, places: list[Place], found: Found) -> None:
        holders = Counter(place.who for place in places if place.who and place.ticket in found.there)
        for who, tickets in holders.items():
            if tickets > 1:
                given = max(place.given for place in places if place.who == who)
                self._ledger.miss(DOUBLE, f"{who} has {tickets} tickets", given)

    def _count_unknown(self, event: str, found: Found) -> None:
        unknown = sum((event, ticket) not in self._ledger.places for ticket in found.there)
        if unknown > self._ledger.unknown_joins:
            text = f"{unknown} tickets of {event} were given to nobody, and {self._ledger.unknown_joins} joins failed"
            self._ledger.miss(DOUBLE, text, time.monotonic())

    # The api

    async def _ask_again(self, event: str, places: list[Place], found: Found) -> None:
        logged = set(found.logged)
        waiting = [place for place in places if place.ticket in logged]
        # After this, the absent are back in line.
        await self._each(waiting, self._poll)
        await asyncio.sleep(1.2)  # no call is fresh any more
        now = await find(self._redis, event)
        ranks = {ticket: rank for rank, ticket in enumerate(now.line, 1)}
        positions = dict(zip(waiting, await self._each(waiting, self._poll), strict=True))
        for place in waiting:
            should = ranks.get(place.ticket, 1)
            if positions[place] not in (should, None):
                text = f"ticket {place} is told {positions[place]} and stands at {should}"
                self._ledger.miss(ORDER, text, place.given)
        if any(first >= second for line in (now.logged, now.line) for first, second in pairwise(line)):
            self._ledger.miss(ORDER, f"{event} is out of order", time.monotonic())
        # People who were expired meanwhile would join again; wrong expiries have been recorded already.
        known = [place for place in places if place.who and not place.left.asked and place.ticket in found.there]
        await self._each(known, self._join_again)
        await self._each([place for place in places if place.redeemed.done], self._redeem_again)

    async def _poll(self, place: Place) -> int | None:
        answer = await self._ask("GET", f"/api/v1/queue/status?token={place.token}")
        if answer.status != 200:
            self._ledger.miss(LOST, f"the api knows {place} no more: {answer.status}", place.given)
        elif not answer.body["approximate"]:
            return int(answer.body["position"])
        return None

    async def _join_again(self, place: Place) -> None:
        # Only a key finds a person who has been let in.
        key = place.headers.get("Idempotency-Key")
        if (place.entered.asked and not key) or self._may_be_forgotten(place):
            return
        answer = await self._ask("POST", "/api/v1/queue/join", {"event_id": place.event}, place.headers)
        if answer.status != 202 or answer.body["waiting_token"] != place.token:
            self._ledger.miss(LOST, f"a retry does not find {place}: {answer.status}", place.given)

    async def _redeem_again(self, place: Place) -> None:
        answer = await self._ask("POST", "/api/v1/queue/redeem", {"reservation_token": place.reservation})
        if answer.status == 200:
            self._ledger.miss(DOUBLE, f"{place} was redeemed again", place.redeemed.done or 0)

    async def _each(self, places: list[Place], ask: Any) -> list[Any]:
        limit = asyncio.Semaphore(_AT_ONCE)

        async def one(place: Place) -> Any:
            async with limit:
                return await ask(place)

        return await asyncio.gather(*map(one, places))

    async def _ask(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> Answer:
        """The first answer that does not come from an outage, since all should be well by now; else the last answer."""
        answer = Answer(503, {}, 0)
        for _ in range(20):
            try:
                answer = await self._client.ask(method, path, body, headers)
            except NoAnswerError:
                continue
            if answer.status != 503:
                break
            await asyncio.sleep(0.25)
        return answer
