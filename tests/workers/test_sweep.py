"""The sweep asks for every job for every event by itself: nobody else asks for anything here."""

from collections.abc import Iterator

import pytest

from shared.dev.redis_server import RedisServer
from shared.line.line import Line
from shared.line.replies import PollCode
from tests.support.processes import Worker
from tests.support.settings import HEARTBEAT_TTL
from tests.support.waiting import eventually
from tests.workers.conftest import Client, in_line, join, logged, redis_now, silence


@pytest.fixture(autouse=True)
def worker(server: RedisServer) -> Iterator[Worker]:
    with Worker(server.url, heartbeat_ttl=HEARTBEAT_TTL) as worker:
        yield worker


async def swept_again(redis: Client, line: Line, event_id: str, times: int = 1) -> None:
    """Waits until an event has been visited by so many more sweeps."""
    state = line.keys.event(event_id).state
    for _ in range(times):
        before = await redis.hget(state, "swept")

        async def later(before: str = before) -> bool:
            return await redis.hget(state, "swept") != before

        await eventually(later)


async def test_whatever_key_is_lost_comes_back_in_the_same_order(redis: Client, line: Line) -> None:
    damages = ["queue", "called", "absent", "places", "position_index", "everything"]
    tickets = {}
    for event in damages:
        # Five are called, the others wait.
        await line.configure(event, {"rate": "0", "burst": "5"})
        tickets[event] = await join(line, event, 30, user="somebody")
        await line.poll(event, tickets[event])
        keys = line.keys.event(event)
        # As the door does with the silent.
        await redis.zrem(keys.queue, str(tickets[event][29]))
        await redis.zadd(keys.absent, {str(tickets[event][29]): tickets[event][29]})
        if event != "everything":
            await redis.delete(getattr(keys, event))
        else:
            await redis.delete(keys.queue, keys.called, keys.absent, keys.heartbeat, keys.places, keys.position_index)

    for event in damages:
        keys = line.keys.event(event)

        async def whole(event: str = event, index: str = keys.position_index) -> bool:
            found = await line.inspect(event)
            return not found.standing.damaged and not found.places_differ and bool(await redis.exists(index))

        await eventually(whole)
        called = [int(ticket) for ticket in await redis.zrange(keys.called, 0, -1)]
        absent = [int(ticket) for ticket in await redis.zrange(keys.absent, 0, -1)]
        assert sorted([*called, *absent, *await in_line(redis, line, event)]) == tickets[event]
        _, polled = await line.poll(event, tickets[event])
        places = [place for code, place in polled if code == PollCode.WAITING]
        assert places == sorted(places), event
        assert len(set(places)) == len(places) >= 20
        assert await redis.hgetall(keys.places) == {
            f"somebody{number}": str(ticket) for number, ticket in enumerate(tickets[event])
        }
        assert (await line.describe(event)).totals["expired"] == 0


@pytest.mark.usefixtures("ingress")
async def test_lost_heartbeats_come_back_and_expire_nobody(redis: Client, line: Line, event: str) -> None:
    tickets = await join(line, event, 1000)
    heartbeats = line.keys.event(event).heartbeat
    await swept_again(redis, line, event)

    await redis.delete(heartbeats)

    async def all_back() -> bool:
        return await redis.zcard(heartbeats) == 1000

    await eventually(all_back)
    await swept_again(redis, line, event)
    assert await logged(redis, line, event) == tickets


@pytest.mark.usefixtures("ingress")
async def test_the_silent_expire_and_those_who_poll_stay(redis: Client, line: Line, event: str) -> None:
    tickets = await join(line, event, 20)
    await silence(redis, line, event, tickets, HEARTBEAT_TTL - 1)
    await line.poll(event, tickets[::2])

    async def half_is_gone() -> bool:
        return len(await logged(redis, line, event)) == 10

    await eventually(half_is_gone)
    await swept_again(redis, line, event, 2)
    assert await logged(redis, line, event) == tickets[::2]


async def test_every_event_is_visited_however_many_there_are(redis: Client, line: Line) -> None:
    events = [f"event-{number}" for number in range(300)]
    for event in events:
        [ticket] = await join(line, event)
        await redis.zrem(line.keys.event(event).queue, str(ticket))

    async def all_whole_and_published() -> bool:
        for event in list(events):
            if await redis.exists(line.keys.event(event).position_index):
                assert not (await line.inspect(event)).standing.damaged
                events.remove(event)
        return not events

    await eventually(all_whole_and_published, 30)


async def test_jobs_that_lapsed_while_no_worker_was_there_do_not_keep_the_sweep_away(
    redis: Client, line: Line, worker: Worker, event: str
) -> None:
    [ticket] = await join(line, event)
    worker.kill()
    then = await redis_now(redis) - 3_600_000
    await redis.zadd("arq:daegi", {f"lapsed-{number}": then + number for number in range(2000)})
    await redis.zrem(line.keys.event(event).queue, str(ticket))

    worker.start()

    async def repaired() -> bool:
        return await in_line(redis, line, event) == [ticket]

    await eventually(repaired, 30)
