"""Damage that repair cannot mend is polled all the while, and every poll asks for repair: no log is walked for that."""

from redis.asyncio import Redis

from tests.line.conftest import Room


async def pieces_read(redis: Redis) -> int:
    """How many pieces of logs Redis has been asked for."""
    statistics = await redis.info("commandstats")
    return int(statistics.get("cmdstat_xrange", {"calls": 0})["calls"])


async def reads(room: Room) -> int:
    """How many pieces of the log a repair reads."""
    before = await pieces_read(room.redis)
    await room.repair()
    return await pieces_read(room.redis) - before


async def beyond_repair(room: Room) -> list[int]:
    """A line whose first member has no log entry; the tickets."""
    tickets = await room.join(20)
    await room.redis.xtrim(room.keys.stream, maxlen=19, approximate=False)
    assert (await room.standing()).damaged
    return tickets


async def test_a_walk_that_mended_nothing_is_not_repeated_for_every_poll(closed: Room) -> None:
    tickets = await beyond_repair(closed)
    assert await reads(closed) > 0
    for _ in range(10):
        closed.clock.advance(1)
        await closed.poll(*tickets)
        assert await reads(closed) == 0


async def test_new_damage_is_walked_at_once(closed: Room) -> None:
    tickets = await beyond_repair(closed)
    await closed.repair()
    await closed.redis.zrem(closed.keys.queue, *map(str, tickets[4:8]))
    assert await closed.waiting() == [*tickets[:4], *tickets[8:]]
    assert await reads(closed) > 0
    assert await closed.waiting() == tickets
    # What is left of it is known already.
    assert await reads(closed) == 0


async def test_damage_that_is_mended_and_comes_again_is_walked_again(closed: Room) -> None:
    tickets = await closed.join(20)
    for _ in range(3):
        await closed.redis.delete(closed.keys.queue)
        await closed.repair()
        assert await closed.waiting() == tickets


async def test_after_a_minute_it_is_tried_again(closed: Room) -> None:
    await beyond_repair(closed)
    await closed.repair()
    closed.clock.advance(59)
    assert await reads(closed) == 0
    closed.clock.advance(1)
    assert await reads(closed) > 0


async def test_a_walk_that_was_left_in_the_middle_is_begun_anew_by_the_next(closed: Room) -> None:
    tickets = await closed.join(1200)
    await closed.redis.delete(closed.keys.queue)
    # A worker that dies after the first piece.
    assert (await closed.line.repair(closed.event)).next_entry
    assert len(await closed.waiting()) == 500
    closed.clock.advance(10)
    await closed.repair()
    assert await closed.waiting() == tickets
