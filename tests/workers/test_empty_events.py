"""An event that has been empty for long goes; what was declared of it stays."""

from collections.abc import Iterator

import pytest

from shared.dev.redis_server import RedisServer
from shared.line.line import Line
from tests.support.processes import Worker
from tests.support.waiting import eventually
from tests.workers.conftest import Client, join

SHORT = {"heartbeat_ttl": 3, "line_ttl": 1, "pass_ttl": 1}


@pytest.fixture(autouse=True)
def worker(server: RedisServer) -> Iterator[Worker]:
    with Worker(server.url, **SHORT) as worker:
        yield worker


async def keys_of(redis: Client, event_id: str) -> set[str]:
    return {key async for key in redis.scan_iter(f"*{{{event_id}}}*")}


async def test_an_event_that_everybody_left_goes_from_the_list_and_from_redis(redis: Client, line: Line) -> None:
    for event in ("deserted", "busy", "declared"):
        if event == "declared":
            await line.configure(event, {"declared": "1", "rate": "7", "pass_ttl": "1000", "session_ttl": "1000"})
        tickets = await join(line, event, 3, user="somebody")
        await line.poll(event, tickets)
        await line.enter(event, tickets[:1])
        await line.leave(event, tickets if event != "busy" else tickets[:2])

    async def the_empty_are_gone() -> bool:
        await line.poll("busy", tickets)
        return await redis.zrange(line.keys.events, 0, -1) == ["busy"]

    await eventually(the_empty_are_gone)
    assert await keys_of(redis, "deserted") == set()
    assert await keys_of(redis, "declared") == {line.keys.event("declared").config}
    assert line.keys.event("busy").stream in await keys_of(redis, "busy")
    assert (await line.describe("declared")).standing.rate == 7


async def test_an_event_that_people_come_to_and_leave_is_not_taken_away_between_two_of_them(
    redis: Client, line: Line, event: str
) -> None:
    await line.leave("deserted", await join(line, "deserted"))
    given: list[int] = []

    async def the_deserted_is_gone() -> bool:
        given.extend(await join(line, event))
        await line.leave(event, given[-1:])
        return await redis.zscore(line.keys.events, "deserted") is None

    await eventually(the_deserted_is_gone)
    assert given == sorted(set(given))
    assert await redis.zscore(line.keys.events, event) is not None
    # Had it gone, its counts would have begun anew.
    assert (await line.describe(event)).totals["left"] == len(given)
