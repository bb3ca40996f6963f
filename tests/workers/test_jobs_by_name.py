"""Each job by its name through a real worker. The events are not listed, so that no sweep does the work instead."""

from collections.abc import Iterator
from itertools import pairwise

import pytest

from shared.dev.redis_server import RedisServer
from shared.jobs import Jobs
from shared.line.line import Line
from tests.support.processes import Worker
from tests.support.settings import HEARTBEAT_TTL
from tests.support.waiting import eventually
from tests.workers.conftest import Client, in_line, join, logged, redis_now, silence


@pytest.fixture(autouse=True)
def worker(server: RedisServer) -> Iterator[Worker]:
    with Worker(server.url, heartbeat_ttl=HEARTBEAT_TTL) as worker:
        yield worker


async def test_compute_positions_publishes_the_index(line: Line, jobs: Jobs, event: str) -> None:
    tickets = await join(line, event, 30, listed=False)

    await jobs.compute_positions([event])

    index = await eventually(lambda: line.index(event))
    assert list(index.tickets) == tickets
    assert list(index.positions) == list(range(1, 31))
    assert index.standing.waiting == 30


async def test_compute_positions_skips_an_index_that_is_fresh(line: Line, jobs: Jobs, event: str) -> None:
    await join(line, event, listed=False)
    computed_at: list[int] = []

    async def computed_three_times() -> bool:
        await jobs.compute_positions([event])
        index = await line.index(event)
        if index and index.standing.now not in computed_at:
            computed_at.append(index.standing.now)
        return len(computed_at) == 3

    await eventually(computed_three_times)
    assert all(later - earlier >= 1000 for earlier, later in pairwise(computed_at))


async def test_refresh_heartbeats_hears_those_in_line_and_brings_back_nobody(
    redis: Client, line: Line, jobs: Jobs, event: str
) -> None:
    stayed, left = await join(line, event, 2, listed=False)
    await silence(redis, line, event, [stayed, left], 20)
    await line.leave(event, [left])

    await jobs.refresh_heartbeats({event: [stayed, left]})

    heartbeats = line.keys.event(event).heartbeat

    async def heard() -> bool:
        return await redis.zscore(heartbeats, str(stayed)) > await redis_now(redis) - 10_000

    await eventually(heard)
    assert await redis.zscore(heartbeats, str(left)) is None
    assert await in_line(redis, line, event) == [stayed]


async def test_refresh_heartbeats_never_sets_one_back(redis: Client, line: Line, jobs: Jobs, event: str) -> None:
    first, second = await join(line, event, 2, listed=False)
    heartbeats = line.keys.event(event).heartbeat
    later = await redis_now(redis) + 60_000
    await redis.zadd(heartbeats, {str(first): later})
    await silence(redis, line, event, [second], 20)

    await jobs.refresh_heartbeats({event: [first, second]})

    async def done() -> bool:
        return await redis.zscore(heartbeats, str(second)) > await redis_now(redis) - 10_000

    await eventually(done)
    assert await redis.zscore(heartbeats, str(first)) == later


async def test_repair_index_writes_back_the_tickets_that_are_named(
    redis: Client, line: Line, jobs: Jobs, event: str
) -> None:
    tickets = await join(line, event, 6, user="somebody", listed=False)
    keys = line.keys.event(event)
    await redis.zrem(keys.queue, *map(str, tickets[:4]))
    await redis.zrem(keys.heartbeat, *map(str, tickets[:4]))
    await redis.hdel(keys.places, "somebody0", "somebody1", "somebody2", "somebody3")

    await jobs.repair_index(tickets={event: tickets[:3]})

    async def repaired() -> bool:
        return await redis.hlen(keys.places) == 5

    await eventually(repaired)
    assert await in_line(redis, line, event) == [*tickets[:3], *tickets[4:]]
    assert await redis.zscore(keys.heartbeat, str(tickets[0])) is not None
    assert await redis.hget(keys.places, "somebody2") == str(tickets[2])


async def test_repair_index_writes_back_whole_events(redis: Client, line: Line, jobs: Jobs) -> None:
    events = ["one", "another"]
    tickets = {event: await join(line, event, 700, user="somebody", listed=False) for event in events}
    for event in events:
        keys = line.keys.event(event)
        await redis.delete(keys.queue, keys.places, keys.heartbeat)

    await jobs.repair_index(events)

    for event in events:
        keys = line.keys.event(event)

        async def whole(places: str = keys.places) -> bool:
            return await redis.hlen(places) == 700

        await eventually(whole)
        assert await in_line(redis, line, event) == tickets[event]
        assert await redis.zcard(keys.heartbeat) == 700
        assert not (await line.inspect(event)).standing.damaged


@pytest.mark.usefixtures("ingress")
async def test_reap_expired_takes_away_the_silent_and_all_that_is_theirs(
    redis: Client, line: Line, jobs: Jobs, event: str
) -> None:
    tickets = await join(line, event, 10, user="somebody", listed=False)
    await silence(redis, line, event, tickets[::2], HEARTBEAT_TTL + 1)

    await jobs.reap_expired({event: await redis_now(redis)})

    keys = line.keys.event(event)

    async def reaped() -> bool:
        return await redis.zcard(keys.heartbeat) == 5

    await eventually(reaped)
    called = [int(ticket) for ticket in await redis.zrange(keys.called, 0, -1)]
    assert sorted([*await in_line(redis, line, event), *called]) == tickets[1::2]
    assert await logged(redis, line, event) == tickets[1::2]
    assert sorted(map(int, await redis.hvals(keys.places))) == tickets[1::2]
    assert (await line.describe(event)).totals["expired"] == 5


async def test_reap_expired_expires_nobody_while_no_ingress_has_a_pulse(
    redis: Client, line: Line, jobs: Jobs, event: str
) -> None:
    tickets = await join(line, event, 3, listed=False)
    await silence(redis, line, event, tickets, HEARTBEAT_TTL + 1)

    await jobs.reap_expired({event: await redis_now(redis)})

    async def visited() -> bool:
        return bool(await redis.hexists(line.keys.event(event).state, "grace"))

    await eventually(visited)
    assert await logged(redis, line, event) == tickets
