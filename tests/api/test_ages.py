"""Ages that are exported to Prometheus: of the index that places people, and of heartbeats not yet written."""

import asyncio

from redis.asyncio import Redis

from shared.dev.redis_server import RedisServer
from shared.line.line import Line
from shared.redis.connect import connect
from shared.settings import Settings
from tests.support.calls import configure, running, status, try_status
from tests.support.exposition import scrape
from tests.support.line_state import age_index, fill
from tests.support.polling import Crowd, from_memory, now_ms, publishing
from tests.support.processes import Api
from tests.support.waiting import eventually

PEOPLE = 1500


async def age(api: Api) -> float:
    return (await scrape(api.port)).value("daegi_index_age_seconds")


async def test_an_index_is_old_only_while_somebody_is_placed_by_it(
    redis_server: RedisServer, redis: Redis, live_line: Line, event: str
) -> None:
    api = Api(redis_server.url)
    async with running(api) as http:
        long = Crowd(event, await fill(live_line, event, PEOPLE))
        short = Crowd("short", await fill(live_line, "short", 1))
        await configure(http, event, rate=0, burst=0)
        for name in (event, "short"):
            await live_line.publish_index(name)
            await age_index(redis, name, 50)

        async def old() -> bool:
            for crowd in (long, short):
                await status(http, crowd.token(len(crowd.tickets)))
            return 50 <= await age(api) < 100

        await eventually(old)
        await live_line.publish_index(event)

        async def new() -> bool:
            # The short line's is known, and as old as before.
            await status(http, short.token(1))
            await from_memory(http, long.token(PEOPLE))
            return 0 < await age(api) < 3

        async with publishing(live_line, event):
            await eventually(new)

        async def nobodys() -> bool:
            return await age(api) == 0

        await eventually(nobodys)


async def test_heartbeats_that_redis_cannot_take_keep_their_age(event: str) -> None:
    with RedisServer() as own:
        settings = Settings.model_validate({"redis_url": own.url})
        connected = connect(settings, "daegi-tests")
        line, redis = Line(connected, settings), Redis.from_url(own.url)
        api = Api(own.url)
        async with running(api) as http, redis:
            await configure(http, event, rate=0, burst=0)
            crowd = Crowd(event, await fill(line, event, PEOPLE))
            await line.publish_index(event)
            await from_memory(http, crowd.token(PEOPLE))
            late = crowd.token(PEOPLE, await now_ms(redis) - 50_000)
            await connected.aclose()
            own.kill()

            async def lag(more_than: float) -> bool:
                return (await scrape(api.port)).value("daegi_heartbeat_lag_seconds") > more_than

            async def held() -> bool:
                answer = await try_status(http, late)
                return answer.status_code == 200 and (await scrape(api.port)).value("daegi_heartbeats_held") == 1

            await eventually(held)
            # They are tried each second, which takes a second at most.
            await eventually(lambda: lag(4))
            await asyncio.to_thread(own.restart)

            async def written() -> bool:
                found = await scrape(api.port)
                return found.value("daegi_heartbeats_held") == found.value("daegi_heartbeat_lag_seconds") == 0

            await eventually(written)
