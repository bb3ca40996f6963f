"""Each job in turn kills two workers: one before Redis has done what it asks, one after. The third one does the job,
and it is as if it had been done once. That of reap_expired is in test_crash.py, the sweep's in test_lease.py."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from shared.dev.redis_server import RedisServer
from shared.jobs import Jobs
from shared.line.line import Line
from tests.support.processes import Worker
from tests.support.redis_version import script_in_force
from tests.support.relay import Relay
from tests.support.settings import HEARTBEAT_TTL
from tests.support.waiting import eventually
from tests.workers.conftest import Client, in_line, join, logged, redis_now, silence


@dataclass
class Play:
    """A line of ten that no sweep sees: three have lost what the job brings back, the fourth has left."""

    redis: Client
    line: Line
    jobs: Jobs
    event: str
    tickets: list[int]

    @property
    def keys(self) -> Any:
        return self.line.keys.event(self.event)

    async def publish(self) -> None:
        await self.jobs.compute_positions([self.event])

    async def published(self) -> bool:
        index = await self.line.index(self.event)
        return bool(index and list(index.tickets) == [*self.tickets[:3], *self.tickets[4:]])

    async def refresh(self) -> None:
        await silence(self.redis, self.line, self.event, self.tickets[:3], 50)
        await self.jobs.refresh_heartbeats({self.event: self.tickets[:4]})

    async def refreshed(self) -> bool:
        heard = await self.redis.zrangebyscore(self.keys.heartbeat, await redis_now(self.redis) - 40_000, "+inf")
        return {*map(str, self.tickets[:3])} <= {*heard}

    async def repair(self) -> None:
        lost = [str(ticket) for ticket in self.tickets[:3]]
        await self.redis.zrem(self.keys.queue, *lost)
        await self.redis.zrem(self.keys.heartbeat, *lost)
        await self.redis.hdel(self.keys.places, "somebody0", "somebody1", "somebody2")
        await self.jobs.repair_index(tickets={self.event: self.tickets[:4]})

    async def repaired(self) -> bool:
        return await self.redis.hlen(self.keys.places) == 9

    async def everything(self) -> list[Any]:
        """All there is to the event but for times."""
        log = await logged(self.redis, self.line, self.event)
        waiting = await in_line(self.redis, self.line, self.event)
        places = sorted((await self.redis.hgetall(self.keys.places)).items())
        heard = sorted(map(int, await self.redis.zrange(self.keys.heartbeat, 0, -1)))
        return [log, waiting, places, heard]


@dataclass(frozen=True)
class Case:
    """A job: the script it calls, how it is asked for, and how one sees that it is done."""

    script: str
    ask: Callable[[Play], Awaitable[None]]
    done: Callable[[Play], Awaitable[bool]]


CASES = {
    "compute_positions": Case("index", Play.publish, Play.published),
    "refresh_heartbeats": Case("refresh", Play.refresh, Play.refreshed),
    "repair_index": Case("repair", Play.repair, Play.repaired),
}


@pytest.fixture
async def play(redis: Client, line: Line, jobs: Jobs, event: str) -> Play:
    tickets = await join(line, event, 10, user="somebody", listed=False)
    await line.leave(event, tickets[3:4])
    return Play(redis, line, jobs, event, tickets)


@pytest.mark.parametrize("job", CASES)
async def test_the_third_worker_does_what_two_were_killed_over(server: RedisServer, play: Play, job: str) -> None:
    case, redis = CASES[job], play.redis
    script = script_in_force(case.script)
    await redis.script_load(script.source)
    await case.ask(play)
    for when in ("before", "after"):
        async with Relay(server.port) as relay:
            relay.holding, relay.trap = (script.sha.encode(), b"") if when == "before" else (b"", script.sha.encode())
            with Worker(relay.url, jobs_redis_url=server.url, heartbeat_ttl=HEARTBEAT_TTL) as worker:

                async def in_hand(relay: Relay = relay) -> bool:
                    return relay.kept > 0 or relay.held

                await eventually(in_hand)
                if when == "after":
                    await eventually(lambda: case.done(play))
                worker.kill()
        assert await case.done(play) == (when == "after")
        # Nobody waits here for the mark of the dead to lapse.
        marks = [key async for key in redis.scan_iter("arq:in-progress:*") if ":sweep:" not in key]
        assert len(marks) == 1
        await redis.delete(*marks)
    once = await play.everything()

    with Worker(server.url, heartbeat_ttl=HEARTBEAT_TTL):

        async def nothing_left_to_do() -> bool:
            return not [one for one in await redis.zrange("arq:daegi", 0, -1) if not one.startswith("sweep:")]

        await eventually(nothing_left_to_do)
    assert await case.done(play)
    assert await play.everything() == once
    stayed = [*play.tickets[:3], *play.tickets[4:]]
    assert [once[0], once[1], once[3]] == [stayed, stayed, stayed]
