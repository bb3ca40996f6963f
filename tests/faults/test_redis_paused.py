"""Redis hangs for 10 s: connections stay open and nothing answers, then it does all it was asked. Nothing is lost."""

import asyncio
from typing import Any

from shared.dev.redis_server import RedisServer
from tests.faults.conftest import KEYS, Client, logged, members, places, swept, ticket_of
from tests.support.calls import enter, join, redeem, running, status, try_enter, try_join, try_redeem, try_status
from tests.support.processes import Api, Process, Worker
from tests.support.refusals import refused
from tests.support.settings import CLOSED, HEARTBEAT_TTL
from tests.support.waiting import eventually

PAUSE = 10.0


def unharmed(process: Process) -> bool:
    return process.process.poll() is None and "Traceback" not in process.log()


async def test_the_line_is_the_same_after_two_heartbeat_lives_and_nobody_is_expired(
    own_server: RedisServer, redis: Client, event: str
) -> None:
    short: dict[str, Any] = {"heartbeat_ttl": PAUSE / 2, "ready_ttl": 1, **CLOSED}
    api = Api(own_server.url, **short)
    with Worker(own_server.url, **short) as worker:
        async with running(api) as http:
            tokens = [(await join(http, event))["waiting_token"] for _ in range(20)]
            await swept(redis, event)
            await asyncio.gather(*(status(http, token) for token in tokens))

            own_server.pause()
            await asyncio.sleep(PAUSE)
            # One after the other: whoever asks is told at once that it is away, and waits for nothing.
            answers = [await try_status(http, token) for token in tokens]
            own_server.resume()

            assert {answer.status_code for answer in answers} <= {200, 503}
            await swept(redis, event, 2)

            async def is_back() -> bool:
                return (await try_status(http, tokens[0])).status_code == 200

            await eventually(is_back)
            assert await logged(redis, event) == await members(redis, event) == [ticket_of(token) for token in tokens]
            assert await places(http, tokens) == list(range(1, 21))
            assert await redis.hget(KEYS.event(event).state, "expired") is None
            assert unharmed(api)
            assert unharmed(worker)


async def test_what_was_asked_meanwhile_and_is_asked_again_is_done_once(
    own_server: RedisServer, redis: Client, event: str
) -> None:
    newcomers = [f"the-key-of-newcomer-{number:02}" for number in range(10)]
    # Three can come in, and nobody after them.
    api = Api(own_server.url, heartbeat_ttl=HEARTBEAT_TTL, admit_rate=0, admit_burst=3)
    async with running(api) as http:
        tokens = [(await join(http, event))["waiting_token"] for _ in range(5)]
        reservation = (await enter(http, tokens[0]))["reservation_token"]

        own_server.pause()
        redeeming = asyncio.create_task(try_redeem(http, reservation))
        entering = asyncio.create_task(try_enter(http, tokens[1]))
        joining = [asyncio.create_task(try_join(http, event, key=key)) for key in newcomers]
        unanswered = [await redeeming, await entering, *await asyncio.gather(*joining)]
        await asyncio.sleep(PAUSE)
        own_server.resume()

        for answer in unanswered:
            refused(answer, 503, "UNAVAILABLE")

        async def is_back() -> bool:
            return (await try_status(http, tokens[4])).status_code == 200

        await eventually(is_back)
        retries = [(await join(http, event, key=key))["waiting_token"] for key in newcomers]
        again = (await enter(http, tokens[1]))["reservation_token"]
        assert (await enter(http, tokens[1]))["reservation_token"] == again
        # Redis may have had the first one before it hung, and done it when it woke up.
        assert (await try_redeem(http, reservation)).status_code in {200, 409}
        assert (await try_redeem(http, reservation)).status_code == 409
        assert (await redeem(http, again))["event_id"] == event
        assert await redis.zcard(KEYS.event(event).admitted) == 2
        assert await logged(redis, event) == [*map(ticket_of, tokens[2:]), *sorted(map(ticket_of, retries))]
        assert unharmed(api)
