"""Between the two round trips of a join anything may happen to the process, and elsewhere to its caller."""

import asyncio

from shared.dev.redis_server import RedisServer
from tests.faults.conftest import KEYS, Client, logged, members, places, silence, ticket_of, zadd_of_heartbeats
from tests.support.calls import enter, join, redeem, running, status, try_enter, try_join
from tests.support.processes import Api, Worker
from tests.support.redis_version import script_in_force
from tests.support.relay import Relay
from tests.support.settings import CLOSED, HEARTBEAT_TTL
from tests.support.waiting import eventually

KEY = "the-key-of-one-caller"


async def nobody_is_there(redis: Client, event: str) -> bool:
    return await logged(redis, event) == await members(redis, event) == []


async def test_a_process_stopped_in_between_finds_on_its_return_that_its_caller_has_been_let_in_elsewhere(
    own_server: RedisServer, redis: Client, event: str
) -> None:
    async with Relay(own_server.port) as relay:
        stopped = Api(relay.url, jobs_redis_url=own_server.url, heartbeat_ttl=HEARTBEAT_TTL)
        with Worker(own_server.url, heartbeat_ttl=HEARTBEAT_TTL):
            async with (
                running(stopped) as there,
                running(Api(own_server.url, heartbeat_ttl=HEARTBEAT_TTL)) as elsewhere,
            ):
                await join(there, "another")
                relay.trap = script_in_force("enqueue").sha.encode()
                first = asyncio.create_task(try_join(there, event, key=KEY))

                async def enqueued() -> bool:
                    return bool(await logged(redis, event))

                await eventually(enqueued)
                stopped.pause()
                # The answer now waits for it to wake up.
                relay.trap, relay.held = b"", False
                token = (await join(elsewhere, event, key=KEY))["waiting_token"]
                reservation = (await enter(elsewhere, token))["reservation_token"]

                stopped.resume()

                answer = await first
                assert answer.status_code in {202, 503}
                assert answer.status_code == 503 or answer.json()["waiting_token"] == token
                assert (await enter(there, token))["reservation_token"] == reservation
                assert (await redeem(there, reservation))["event_id"] == event
                assert (await try_enter(elsewhere, token)).status_code == 409
                assert await nobody_is_there(redis, event)
                assert await redis.zcard(KEYS.event(event).admitted) == 1


async def test_the_heartbeat_of_somebody_who_has_been_let_in_brings_nobody_back(
    own_server: RedisServer, redis: Client, event: str
) -> None:
    heartbeats = KEYS.event(event).heartbeat
    async with Relay(own_server.port) as relay:
        slow = Api(relay.url, jobs_redis_url=own_server.url, heartbeat_ttl=HEARTBEAT_TTL)
        with Worker(own_server.url, heartbeat_ttl=HEARTBEAT_TTL):
            async with running(slow) as there, running(Api(own_server.url, heartbeat_ttl=HEARTBEAT_TTL)) as elsewhere:
                relay.holding = zadd_of_heartbeats(event)
                token = (await join(there, event, key=KEY))["waiting_token"]
                assert (await join(elsewhere, event, key=KEY))["waiting_token"] == token
                reservation = (await enter(elsewhere, token))["reservation_token"]
                assert relay.kept == 1
                assert await redis.zscore(heartbeats, str(ticket_of(token))) is None

                relay.holding = b""

                async def landed() -> bool:
                    return await redis.zscore(heartbeats, str(ticket_of(token))) is not None

                await eventually(landed)
                assert await nobody_is_there(redis, event)
                assert (await status(there, token))["status"] == "admitted"
                assert (await enter(there, token))["reservation_token"] == reservation

                await silence(redis, event, [ticket_of(token)], HEARTBEAT_TTL + 1)

                async def dropped() -> bool:
                    return not await landed()

                await eventually(dropped)
                assert await nobody_is_there(redis, event)
                assert (await redeem(there, reservation))["event_id"] == event


async def test_second_round_trips_that_land_in_another_order_change_nobodys_place(
    own_server: RedisServer, redis: Client, event: str
) -> None:
    async with Relay(own_server.port) as relay:
        slow = Api(relay.url, jobs_redis_url=own_server.url, **CLOSED)
        async with running(slow) as there, running(Api(own_server.url, **CLOSED)) as elsewhere:
            relay.holding = zadd_of_heartbeats(event)
            early = await asyncio.gather(*(join(there, event) for _ in range(20)))
            late = await asyncio.gather(*(join(elsewhere, event) for _ in range(20)))
            tokens = sorted((one["waiting_token"] for one in [*early, *late]), key=ticket_of)
            assert await places(elsewhere, tokens) == list(range(1, 41))
            heard = dict(await redis.zrange(KEYS.event(event).heartbeat, 0, -1, withscores=True))
            assert len(heard) == 40
            assert relay.kept > 0

            relay.holding = b""
            # It is answered after everything that was kept back.
            await asyncio.to_thread(slow.stop)

            assert dict(await redis.zrange(KEYS.event(event).heartbeat, 0, -1, withscores=True)) == heard
            assert await places(elsewhere, tokens) == list(range(1, 41))
            assert [hint["position_hint"] for hint in sorted([*early, *late], key=hint_order)] == list(range(1, 41))
            assert await logged(redis, event) == await members(redis, event) == [ticket_of(token) for token in tokens]


def hint_order(answer: dict[str, str]) -> int:
    return ticket_of(answer["waiting_token"])
