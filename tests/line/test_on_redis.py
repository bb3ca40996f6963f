"""What the steps do to a Redis: the keys they touch, what they never set, and a Redis that forgot their scripts."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from redis.asyncio import Redis

from shared.dev.redis_server import RedisServer
from shared.errors import UnknownVersionError
from shared.line.line import Join
from shared.line.replies import EnterCode, RedeemCode
from tests.line.conftest import GAP_MS, LIFE, MakeRoom, Room


async def life(room: Room) -> AsyncIterator[str]:
    """An event's whole life: every method of Line at work, the step just made as it goes."""
    line, event = room.line, room.event
    process = (await line.pulse("-one")).process
    yield "pulse"
    await line.fleet(GAP_MS)
    yield "fleet"
    assert await line.begin_sweep("worker", 30_000) == ""
    yield "begin_sweep"
    assert await line.end_sweep("worker", "")
    yield "end_sweep"
    await line.configure(event, {"rate": "2", "burst": "8"})
    yield "configure"
    tickets = [one.ticket for one in await room.enqueue(*(Join(bytes([i]) * 24, b"v%d" % i) for i in range(20)))]
    yield "enqueue and confirm"
    room.clock.advance(100)
    await room.poll(*tickets[10:])
    yield "poll"
    assert len(await room.absent()) == 10
    (entered, *_) = await room.enter(*tickets[10:13])
    assert entered.code == EnterCode.GRANTED
    yield "enter"
    assert (await line.redeem(event, tickets[10], entered.issued)).code == RedeemCode.REDEEMED
    yield "redeem"
    assert await room.leave(tickets[11], tickets[19]) == 2
    yield "leave"
    room.clock.advance(1)
    assert await line.refresh(event, tickets) == 16
    yield "refresh"
    await room.reap()
    yield "reap"
    assert await line.publish_index(event)
    assert await line.index(event)
    yield "index"
    assert (await line.describe(event)).declared
    await line.inspect(event)
    yield "inspect"
    for _ in range(2):
        room.clock.advance(301)
        await room.enqueue(Join(b"k" * 24, b"v1"))
        yield "enqueue turns the keys over"
    await room.redis.delete(room.keys.queue, room.keys.heartbeat, room.keys.places)
    await room.poll(tickets[18])
    yield "poll heals"
    await room.repair()
    yield "repair"
    await room.redis.delete(room.keys.stream)
    await room.repair()
    yield "relog"
    await room.redis.zrem(room.keys.absent, tickets[5])
    assert await line.request_log_rebuild(event)
    yield "request_log_rebuild"
    await room.repair()
    await line.members(event)
    await line.known_users(event)
    assert not (await room.standing()).damaged
    yield "relog after request_log_rebuild"
    await room.reap()
    assert await room.sweep(LIFE + 10) > 0
    yield "reap expires"
    assert await line.events(0, 10) == [(event, room.now - round(LIFE + 10) * 1000)]
    assert await line.count_events() == 1
    room.clock.advance(3700)
    assert (await room.reap()).unlinked
    yield "reap unlinks"
    await line.note_activity([event], room.now)
    assert await line.forget(event, room.now)
    yield "forget"
    await line.deregister(process)
    yield "deregister"


async def test_no_key_gets_a_ttl_at_any_step(room: Room) -> None:
    seen: set[str] = set()
    async for step in life(room):
        for key in await room.redis.keys():
            assert await room.redis.ttl(key) == -1, f"{key} after {step}"
            seen.add(key)
    # The rebuild exists within one repair only.
    assert seen >= set(room.keys) - {room.keys.rebuild}


async def test_no_key_but_the_events_and_the_three_of_all_events_is_made(room: Room) -> None:
    ours = {*room.keys, room.line.keys.events, room.line.keys.pulse, room.line.keys.sweep}
    async for step in life(room):
        assert set(await room.redis.keys()) <= ours, step
    # Nobody needs anything of an event that is over but its settings.
    assert set(await room.redis.keys()) & set(room.keys) == {room.keys.config}


async def test_every_key_begins_with_the_tenants_prefix(make_room: MakeRoom) -> None:
    room = make_room(key_prefix="tenant-7:")
    async for step in life(room):
        assert {key.partition(":")[0] for key in await room.redis.keys()} == {"tenant-7"}, step


async def test_two_tenants_with_the_same_event_do_not_meet(make_room: MakeRoom) -> None:
    one, two = make_room(key_prefix="one:"), make_room(key_prefix="two:")
    first, second = await one.join(3), await two.join(5)
    assert (await one.waiting(), await two.waiting()) == (first, second)
    assert (await one.line.count_events(), await two.line.count_events()) == (1, 1)


@pytest.fixture
async def limited(make_room: MakeRoom, redis: Redis, redis_server: RedisServer, event: str) -> AsyncIterator[Room]:
    """An event through a Redis user who may touch its declared keys alone, and call nothing that is dangerous."""
    keys = make_room().line.keys
    patterns = [f"~{key}" for key in (*keys.event(event), keys.events, keys.pulse, keys.sweep)]
    rights = ["+@all", "-@dangerous", "-@admin", "+client", "-keys", "-scan", "-flushall", "-flushdb"]
    await redis.execute_command("ACL", "LOG", "RESET")
    await redis.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">secret", *patterns, *rights)
    room = make_room(redis_url=f"redis://limited:secret@127.0.0.1:{redis_server.port}/0")
    yield room
    await redis.execute_command("ACL", "DELUSER", "limited")


async def test_no_step_touches_a_key_that_is_not_declared_or_calls_what_is_dangerous(limited: Room) -> None:
    steps = [step async for step in life(limited)]
    assert "relog after request_log_rebuild" in steps
    assert await limited.redis.execute_command("ACL", "LOG") == []


async def test_a_redis_that_forgot_the_scripts_is_taught_again(room: Room) -> None:
    steps = 0
    await room.redis.script_flush()
    async for _ in life(room):
        await room.redis.script_flush()
        steps += 1
    assert steps > 20


async def test_scripts_that_were_forgotten_while_many_call_are_run_once_each(room: Room, make_room: MakeRoom) -> None:
    rooms = [room, make_room(), make_room()]
    tickets: list[int] = []
    for some in rooms * 3:
        await room.redis.script_flush()
        tickets += await some.join(2)
    assert await room.waiting() == tickets
    assert len(set(tickets)) == 18


Step = Callable[[Room], Awaitable[object]]
STEPS_OF_AN_EVENT: dict[str, Step] = {
    "enqueue": lambda room: room.enqueue(Join(b"", b"")),
    "poll": lambda room: room.poll(1),
    "enter": lambda room: room.enter(1),
    "leave": lambda room: room.leave(1),
    "redeem": lambda room: room.line.redeem(room.event, 1, 1),
    "configure": lambda room: room.line.configure(room.event, {"rate": "1"}),
    "describe": lambda room: room.line.describe(room.event),
    "request_log_rebuild": lambda room: room.line.request_log_rebuild(room.event),
    "index": lambda room: room.line.publish_index(room.event),
    "reap": lambda room: room.reap(),
    "inspect": lambda room: room.line.inspect(room.event),
    "repair": lambda room: room.line.repair(room.event),
    "relog": lambda room: room.line.relog(room.event, [], begin=True),
}


@pytest.mark.parametrize("step", STEPS_OF_AN_EVENT)
async def test_a_state_of_a_version_that_is_not_known_is_refused_and_left_alone(room: Room, step: str) -> None:
    await room.join(3)
    await room.redis.execute_command("HSET", room.keys.state, "schema", "2")
    before = {key: await room.redis.dump(key) for key in room.keys}
    with pytest.raises(UnknownVersionError, match="version 2"):
        await STEPS_OF_AN_EVENT[step](room)
    assert {key: await room.redis.dump(key) for key in room.keys} == before


async def test_the_state_says_which_version_wrote_it(room: Room) -> None:
    await room.join()
    assert (await room.fields(room.keys.state))["schema"] == "1"
