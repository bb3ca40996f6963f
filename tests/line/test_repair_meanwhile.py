"""Repair while people join, poll, enter and leave converges, and costs nobody their place."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from shared.errors import LogLostError
from shared.line.line import Join
from tests.line.conftest import LIFE, MakeRoom, Room

PEOPLE = 2300
"""Five pieces of repair: there is something between which others can come."""


class Traffic:
    """People who come and go for as long as `body` takes; what each was told is checked at the end."""

    def __init__(self, room: Room, tickets: list[int], users: dict[int, str]) -> None:
        self.room, self.users = room, users
        self.present = tickets
        self.gone: set[int] = set()
        self.joined: list[int] = []
        self.refused = asyncio.Event()
        self._turns = 0
        self._over = asyncio.Event()

    async def during(self, body: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            # All of them have begun before anything is repaired.
            await asyncio.sleep(0.02)
            try:
                await body()
            finally:
                self._over.set()

        async with asyncio.TaskGroup() as group:
            for what in (self._join, self._poll, self._enter, self._leave):
                group.create_task(self._repeat(what))
            group.create_task(run())

    async def repair(self) -> None:
        """The job, with others in between."""
        before = self._turns
        await self.room.repair()
        assert self._turns > before + 4

    async def _repeat(self, what: Callable[[int], Awaitable[None]]) -> None:
        turn = 0
        while not self._over.is_set():
            await what(turn)
            turn += 1
            self._turns += 1

    async def _join(self, turn: int) -> None:
        who = f"vnew{turn}"
        try:
            labelled, verified = await self.room.enqueue(Join(b"", b"u"), Join(b"", who.encode()))
        except LogLostError:
            self.refused.set()
            return
        self.users |= {labelled.ticket: "u", verified.ticket: who}
        self.joined += [labelled.ticket, verified.ticket]

    async def _poll(self, turn: int) -> None:
        some = self.present[turn * 31 % 97 :: 97]
        self.room.clock.advance(0.001)
        for ticket, polled in zip(some, await self.room.poll(*some), strict=True):
            assert polled.code or ticket in self.gone, f"{ticket} was told that it is gone"

    async def _enter(self, turn: int) -> None:
        some = self.present[turn % 50 : 2 * (turn % 50)]
        self.gone.update(await self.room.admit(*some))

    async def _leave(self, turn: int) -> None:
        some = [self.present[turn * 41 % PEOPLE], *self.joined[-1:]]
        # Those who leave are gone, whatever the answer to a poll that is on its way.
        self.gone.update(some)
        await self.room.leave(*some)

    async def check(self) -> dict[int, str]:
        """Everybody who joined, and neither left nor entered, has their place; nobody else has one."""
        room = self.room
        expected = {ticket: who for ticket, who in sorted(self.users.items()) if ticket not in self.gone}
        assert (await room.logged()).keys() == expected.keys()
        line, called, absent = await room.waiting(), await room.called(), await room.absent()
        assert sorted([*line, *called, *absent]) == list(expected)
        assert line == sorted(line)
        heard = await room.redis.zrange(room.keys.heartbeat, 0, -1)
        assert {int(ticket) for ticket in heard} >= expected.keys()
        return expected

    async def check_users(self) -> None:
        """And the verified users' places are theirs."""
        expected = await self.check()
        places = {who[1:]: str(ticket) for ticket, who in expected.items() if who[0] == "v"}
        assert await self.room.fields(self.room.keys.places) == places


@pytest.fixture
async def traffic(make_room: MakeRoom) -> Traffic:
    room = make_room(admit_rate=20, admit_burst=80)
    people = [f"v{i}" if i % 3 else f"u{i}" for i in range(PEOPLE)]
    users: dict[int, str] = {}
    for start in range(0, PEOPLE, 256):
        some = people[start : start + 256]
        joined = await room.enqueue(*(Join(b"", who.encode()) for who in some))
        users |= {one.ticket: who for one, who in zip(joined, some, strict=True)}
    tickets = list(users)
    await room.poll(*tickets[:50])
    return Traffic(room, tickets, users)


@pytest.mark.parametrize(
    "lost",
    [
        ("queue",),
        ("called",),
        ("heartbeat", "queue"),
        ("places",),
        ("queue", "called", "absent", "heartbeat", "places", "position_index"),
    ],
    ids="+".join,
)
async def test_one_pass_over_the_log_repairs_what_was_lost(traffic: Traffic, lost: tuple[str, ...]) -> None:
    room = traffic.room

    async def lose_and_repair() -> None:
        await room.redis.delete(*(getattr(room.keys, name) for name in lost))
        await traffic.repair()

    await traffic.during(lose_and_repair)
    assert not (await room.standing()).damaged
    await traffic.check_users()
    assert await room.sweep(LIFE - 10) == 0


async def test_a_log_that_is_lost_is_written_back_meanwhile(traffic: Traffic) -> None:
    room = traffic.room

    async def lose_and_repair() -> None:
        await room.redis.delete(room.keys.stream)
        await traffic.refused.wait()
        await traffic.repair()

    await traffic.during(lose_and_repair)
    assert not (await room.standing()).damaged
    assert len(await room.logged()) > PEOPLE / 2
    await traffic.check()


async def test_two_workers_that_repair_at_once_do_not_disturb_each_other(traffic: Traffic, make_room: MakeRoom) -> None:
    room, other = traffic.room, make_room()

    async def lose_and_repair() -> None:
        await room.redis.delete(room.keys.queue, room.keys.places)
        await asyncio.gather(room.repair(), other.repair())
        await room.redis.delete(room.keys.stream)
        await asyncio.gather(room.repair(), other.repair())
        # One may have begun anew what the other was about to finish: the next sweep asks again.
        await room.repair()

    await traffic.during(lose_and_repair)
    assert not (await room.standing()).damaged
    await traffic.check()
