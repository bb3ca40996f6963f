"""An event's state was written by another version: nobody misreads it. It is refused and left as it is, in words that
say why; other events go on, and so does this one once the version is known again."""

from typing import Any

from shared.dev.redis_server import RedisServer
from tests.faults.conftest import KEYS, Client, swept
from tests.support.calls import enter, join, leave, running, status, try_enter, try_join, try_redeem, try_status
from tests.support.processes import Api, Worker
from tests.support.refusals import refused, retry_after
from tests.support.settings import HEARTBEAT_TTL
from tests.support.waiting import eventually

SAID = "the state of this event is of version 99, this Daegi knows 1"


async def everything(redis: Client, event: str) -> dict[str, Any]:
    return {key: await redis.dump(key) for key in KEYS.event(event)}


async def test_it_is_refused_and_left_alone_and_others_go_on(
    own_server: RedisServer, redis: Client, event: str
) -> None:
    settings: dict[str, Any] = {"heartbeat_ttl": HEARTBEAT_TTL, "admit_rate": 0, "admit_burst": 2}
    other = f"{event}-other"
    with Worker(own_server.url, **settings) as worker:
        api = Api(own_server.url, **settings)
        async with running(api) as http:
            entered, waiting = [(await join(http, event))["waiting_token"] for _ in range(2)]
            reservation = (await enter(http, entered))["reservation_token"]
            await join(http, other)
            await swept(redis, event)
            assert await redis.hset(KEYS.event(event).state, "schema", "99") == 0
            before = await everything(redis, event)

            for answer in (
                await try_join(http, event),
                await try_status(http, waiting),
                await try_enter(http, waiting),
                await leave(http, waiting),
                await try_redeem(http, reservation),
            ):
                error = refused(answer, 503, "UNAVAILABLE")
                assert retry_after(answer) <= 10
                assert SAID in error["message"]

            async def the_worker_says_so() -> bool:
                return SAID in worker.log()

            await eventually(the_worker_says_so)
            await swept(redis, other, 2)
            assert await everything(redis, event) == before
            assert (await join(http, other))["position_hint"] == 2
            assert (await http.get("/readyz")).json() == {"status": "ok", "redis": "up"}
            assert "Traceback" not in worker.log() + api.log()

            await redis.hset(KEYS.event(event).state, "schema", "1")
            assert (await status(http, waiting))["position"] == 1
            assert (await try_redeem(http, reservation)).status_code == 200
