"""How much of an event a call looks at: never all of it, however long the line is. Seen by Redis's MONITOR."""

from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from shared.line.line import CHUNK, Join
from tests.line.conftest import LIFE, MakeRoom, Room

KEY = b"k" * 24


async def inner_commands(room: Room, asked: Callable[[], Awaitable[object]]) -> list[list[str]]:
    """What the scripts called meanwhile."""
    found: list[list[str]] = []
    async with room.redis.monitor() as monitor:
        await asked()
        await room.redis.echo("that was all")
        async for seen in monitor.listen():
            if "that was all" in seen["command"]:
                return found
            if seen["client_type"] == "lua":
                found.append(seen["command"].split())
    raise AssertionError("unreachable")


def pieces_looked_at(command: list[str]) -> int:
    """How many entries a command may read at most."""
    name, arguments = command[0].upper(), command[1:]
    if name in {"XRANGE", "XREVRANGE"}:
        if "COUNT" in arguments:
            return int(arguments[arguments.index("COUNT") + 1])
        assert arguments[1] == arguments[2], f"{command} walks the log"
        return 1
    if name == "ZRANGE":
        first, last = int(arguments[1]), int(arguments[2])
        assert 0 <= first <= last, f"{command} goes to the end"
        return last - first + 1
    if name == "ZRANGEBYSCORE":
        return int(arguments[arguments.index("LIMIT") + 2])
    assert name not in {"HGETALL", "HKEYS", "HVALS", "SMEMBERS", "KEYS", "SCAN", "HSCAN", "ZSCAN", "ZREVRANGE", "DEL"}
    return 1


async def crowded(room: Room, people: int) -> list[int]:
    """The tickets of so many: half are absent, of the others one has come in, some are called, most in line."""
    tickets = await room.join(people // 2)
    room.clock.advance(100)
    tickets += await room.join(people // 2)
    while not await room.admit(tickets[people // 2]):
        await room.poll(tickets[-1])
    room.clock.advance(6)
    assert await room.absent() == tickets[: people // 2]
    return tickets


ASKS: dict[str, Callable[[Room, list[int]], Awaitable[object]]] = {
    "join": lambda room, _: room.enqueue(Join(KEY, b"vann")),
    "poll": lambda room, tickets: room.poll(tickets[-1]),
    "poll by one who is gone": lambda room, _: room.poll(1),
    "poll by one who is absent": lambda room, tickets: room.poll(tickets[0]),
    "enter": lambda room, tickets: room.enter(tickets[-1]),
    "enter again": lambda room, tickets: room.enter(tickets[len(tickets) // 2]),
    "leave": lambda room, tickets: room.leave(tickets[-2]),
    "leave of one who is absent": lambda room, tickets: room.leave(tickets[1]),
    "redeem": lambda room, tickets: room.line.redeem(room.event, tickets[-1], 1),
    "refresh": lambda room, tickets: room.line.refresh(room.event, tickets[-1:]),
    "inspect": lambda room, _: room.line.inspect(room.event),
    "repair of a ticket": lambda room, tickets: room.line.repair(room.event, tickets=tickets[-1:]),
    "describe": lambda room, _: room.line.describe(room.event),
}


@pytest.mark.parametrize("ask", ASKS)
async def test_what_one_person_asks_costs_the_same_in_a_short_and_in_a_long_line(make_room: MakeRoom, ask: str) -> None:
    found = []
    for people in (60, 2400):
        room = make_room(admit_rate=0, admit_burst=4, key_prefix=f"{people}:")
        tickets = await crowded(room, people)
        commands = await inner_commands(room, partial(ASKS[ask], room, tickets))
        assert max(pieces_looked_at(command) for command in commands) <= 8
        found.append([command[0].upper() for command in commands])
    short, long = found
    assert short == long
    assert len(long) < 40


async def test_a_batch_of_joins_is_one_write_into_the_line(closed: Room) -> None:
    await closed.join(1000)
    commands = await inner_commands(closed, lambda: closed.line.enqueue(closed.event, [Join(b"", b"")] * 256, False))
    names = [command[0].upper() for command in commands]
    assert (names.count("XADD"), names.count("ZADD")) == (256, 1)
    assert len(names) < 256 + 30


async def test_the_door_looks_at_64_people_at_most(room: Room) -> None:
    tickets = await room.join(1000)
    commands = await inner_commands(room, lambda: room.poll(tickets[-1]))
    assert sum(pieces_looked_at(command) for command in commands if command[0].upper() == "ZRANGE") == 64
    # By eights: a command a person would cost too much.
    assert len(commands) < 100


async def test_a_piece_of_repair_looks_at_500_entries_at_most(closed: Room) -> None:
    await closed.join(1100)
    await closed.redis.delete(closed.keys.queue)
    commands = await inner_commands(closed, lambda: closed.line.repair(closed.event))
    assert max(pieces_looked_at(command) for command in commands) == CHUNK == 500
    assert len(await closed.waiting()) == 500
    repaired = await closed.line.repair(closed.event, after=b"-")
    after, lengths = repaired.next_entry, []
    while after:
        repaired = await closed.line.repair(closed.event, after=after)
        after = repaired.next_entry
        lengths.append(len(await closed.waiting()))
    assert lengths == [1000, 1100]


async def test_a_visit_of_the_sweep_looks_at_256_of_a_kind_at_most(closed: Room) -> None:
    await closed.join(600)
    await closed.sweep(LIFE - 5)
    closed.clock.advance(5)
    commands = await inner_commands(closed, closed.reap)
    assert max(pieces_looked_at(command) for command in commands) == 256
    assert [command[0].upper() for command in commands].count("XDEL") == 256


async def test_a_lost_log_is_read_500_members_at_a_time(closed: Room) -> None:
    tickets = await closed.join(1200)
    await closed.redis.delete(closed.keys.stream)
    asked = []
    async with closed.redis.monitor() as monitor:
        assert await closed.line.members(closed.event) == tickets
        await closed.redis.echo("that was all")
        async for seen in monitor.listen():
            words = seen["command"].split()
            if words[0] == "ECHO":
                break
            if words[0] == "ZRANGE":
                asked.append(pieces_looked_at(words))
    assert asked == [500, 500, 200]


async def test_old_keys_are_freed_in_the_background_before_the_newer_ones_are_renamed(closed: Room) -> None:
    for i in range(2):
        await closed.enqueue(Join(bytes([i]) * 24, b""))
        closed.clock.advance(301)
    commands = await inner_commands(closed, lambda: closed.enqueue(Join(b"", b"")))
    names = [command[0].upper() for command in commands]
    # RENAME over a hash of a million keys would free it in the foreground.
    assert names.index("UNLINK") < names.index("RENAME")
    unlinked = commands[names.index("UNLINK")]
    assert unlinked[1:] == [closed.keys.dedupe_old]


async def test_an_event_that_is_over_is_freed_in_the_background(room: Room) -> None:
    await room.leave(*await room.join(3))
    room.clock.advance(2 * LIFE)
    commands = await inner_commands(room, room.reap)
    (unlinked,) = [command[1:] for command in commands if command[0].upper() == "UNLINK"]
    assert set(unlinked) == set(room.keys) - {room.keys.config}
