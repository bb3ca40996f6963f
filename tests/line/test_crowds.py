"""People who are called and never enter hold up nobody, with no worker at all: simulated minutes on a real Redis."""

from collections.abc import Sequence

import pytest

from shared.line.replies import EnterCode, PollCode
from tests.line.conftest import BATCH, MakeRoom, Room

RATE = 50
BURST = 500
STEP = 0.5
FRONT_POLL = 2.0
LONGEST_POLL = 37.5


class Crowd:
    """Polls when the ingress would tell people to; some are gone, some poll and never enter."""

    def __init__(
        self,
        room: Room,
        tickets: Sequence[int],
        *,
        gone: Sequence[int] = (),
        hoarders: Sequence[int] = (),
    ) -> None:
        self.room, self.hoarders, self.batch = room, set(hoarders), BATCH
        self.admitted: dict[int, float] = {}
        self._start = room.clock.now
        self._next = {ticket: i % 8 * STEP for i, ticket in enumerate(tickets) if ticket not in set(gone)}
        self.pauses = dict(self._next)

    @property
    def seconds(self) -> float:
        return (self.room.clock.now - self._start) / 1_000_000

    async def run(self, until: float) -> int:
        """So many were admitted by then."""
        while self.seconds < until:
            due = [ticket for ticket, when in self._next.items() if when <= self.seconds]
            for start in range(0, len(due), self.batch):
                await self._poll(due[start : start + self.batch])
            self.room.clock.advance(STEP)
        return len(self.admitted)

    async def _poll(self, tickets: Sequence[int]) -> None:
        standing, polled = await self.room.line.poll(self.room.event, tickets)
        ready = []
        for ticket, one in zip(tickets, polled, strict=True):
            assert one.code in {PollCode.WAITING, PollCode.READY}
            if one.code == PollCode.READY and ticket not in self.hoarders:
                ready.append(ticket)
            pause = max(FRONT_POLL, min(one.position / standing.eta_rate / 4, LONGEST_POLL))
            self._next[ticket] = self.seconds + pause
            if one.code == PollCode.WAITING:
                self.pauses[ticket] = pause
        if ready:
            await self._enter(ready)

    async def _enter(self, tickets: Sequence[int]) -> None:
        for ticket, entered in zip(tickets, await self.room.enter(*tickets), strict=True):
            if entered.code == EnterCode.GRANTED:
                self.admitted[ticket] = self.seconds
                del self._next[ticket]

    def overtaken(self) -> dict[int, float]:
        """Who came in after somebody behind them, and by how many seconds beyond the pause before their next poll."""
        found, first_behind = {}, float("inf")
        for ticket in sorted(self.admitted, reverse=True):
            late = self.admitted[ticket] - first_behind - self.pauses[ticket]
            if late > STEP:
                found[ticket] = late
            first_behind = min(first_behind, self.admitted[ticket])
        return found


@pytest.mark.parametrize("never_enter", ["gone", "hoarders"])
@pytest.mark.parametrize("who", ["every second", "three of ten", "the first 500"])
async def test_the_others_come_in_at_the_full_rate_and_in_order(
    make_room: MakeRoom, never_enter: str, who: str
) -> None:
    room = make_room(admit_rate=RATE, admit_burst=BURST)
    tickets = await room.join(5000)
    some = {
        "every second": tickets[::2],
        "three of ten": [ticket for i, ticket in enumerate(tickets) if i % 10 in {1, 4, 7}],
        "the first 500": tickets[:500],
    }
    crowd = Crowd(room, tickets, **{never_enter: some[who]})
    # By then the calls of the first burst, which were made at once, have gone stale.
    before = await crowd.run(20)
    assert await crowd.run(40) - before >= 0.9 * RATE * 20
    assert len(crowd.admitted) <= BURST + RATE * 40
    assert crowd.overtaken() == {}


async def test_those_who_left_long_ago_are_passed_over_without_a_pause(make_room: MakeRoom) -> None:
    room = make_room(admit_rate=RATE, admit_burst=1)
    await room.line.configure(room.event, {"paused": "1"})
    silent = await room.join(1000)
    room.clock.advance(100)
    present = await room.join(900)
    await room.line.configure(room.event, {"paused": "0"})
    # Each batch passes over 64 at most; an ingress has one every few milliseconds, not every half second.
    crowd = Crowd(room, present)
    crowd.batch = 5
    assert await crowd.run(4) >= 4 * RATE
    assert await room.absent() == silent
    assert await crowd.run(10) >= 4 * RATE + 0.8 * RATE * 10
    assert crowd.overtaken() == {}


@pytest.mark.parametrize("burst", [0, 1, 4 * RATE])
async def test_a_small_burst_does_not_cap_the_rate(make_room: MakeRoom, burst: int) -> None:
    room = make_room(admit_rate=RATE, admit_burst=burst)
    crowd = Crowd(room, await room.join(2500))
    before = await crowd.run(5)
    assert before <= 4 * RATE + RATE * 5
    assert await crowd.run(25) - before >= 0.95 * RATE * 20
    assert crowd.overtaken() == {}


async def test_a_small_burst_does_not_cap_the_rate_though_half_never_enter(make_room: MakeRoom) -> None:
    room = make_room(admit_rate=RATE, admit_burst=1)
    tickets = await room.join(4000)
    crowd = Crowd(room, tickets, hoarders=tickets[::2])
    before = await crowd.run(10)
    assert before <= 4 * RATE + RATE * 10
    # They poll in steps of half a second; at finer times it is nearly all (tests/load/promises.py).
    assert await crowd.run(30) - before >= 0.8 * RATE * 20
    assert crowd.overtaken() == {}


async def test_a_slow_door_with_one_poll_at_a_time_reaches_its_rate(make_room: MakeRoom) -> None:
    room = make_room(admit_rate=2, admit_burst=1)
    crowd = Crowd(room, await room.join(200))
    before = await crowd.run(30)
    assert await crowd.run(60) - before >= 0.95 * 2 * 30
    assert crowd.overtaken() == {}


async def test_hoarders_who_change_their_mind_come_in_within_a_heartbeat_life(make_room: MakeRoom) -> None:
    room = make_room(admit_rate=RATE, admit_burst=BURST)
    tickets = await room.join(1500)
    hoarders = tickets[:100]
    crowd = Crowd(room, tickets, hoarders=hoarders)
    assert await crowd.run(40) == 1400
    crowd.hoarders.clear()
    assert await crowd.run(45) == 1500
