"""The ingress as a process: on every server, one or several processes on a port, and how it stops."""

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from shared.dev.redis_server import LOCALHOST, RedisServer
from shared.line.keys import Keys
from shared.tokens.signer import Signer
from tests.api.bad_requests import ENTER, JOIN, STATUS
from tests.support.calls import enter, join, leave, redeem, running, status, try_join, try_status
from tests.support.connections import open_all_connections
from tests.support.processes import Api
from tests.support.raw_http import crowd, post
from tests.support.refusals import refused
from tests.support.relay import Relay
from tests.support.waiting import eventually

SERVERS = ["granian", "uvicorn"]
# The pulses of the other tests' api are none of these.
PREFIX = "servers:"
KEYS = Keys(PREFIX)


@pytest.mark.parametrize("server", SERVERS)
async def test_the_app_works_on_either_server(
    redis_server: RedisServer, redis: Redis, signer: Signer, event: str, server: str
) -> None:
    api = Api(redis_server.url, server=server)
    async with running(api) as http:
        answers = [answer.json() for answer in await crowd(api, [post(JOIN, {"event_id": event})] * 200)]
        places = sorted((signer.verify_waiting(one["waiting_token"]).ticket, one["position_hint"]) for one in answers)
        assert [position for _, position in places] == list(range(1, 201))
        by_place = {one["position_hint"]: one["waiting_token"] for one in answers}

        stands = await status(http, by_place[1])
        assert (stands["status"], stands["position"]) == ("ready", 1)
        reservation = (await enter(http, stands["waiting_token"]))["reservation_token"]
        assert (await redeem(http, reservation))["event_id"] == event
        assert (await leave(http, by_place[2], "POST")).json() == {"status": "left"}
        refused(await try_status(http, by_place[2]), 404, "TOKEN_EXPIRED")

        refused(await http.post(JOIN, content=b"{"), 400, "INVALID_REQUEST")
        refused(await http.post(JOIN, content=b" " * 16_385), 413, "PAYLOAD_TOO_LARGE")
        refused(await http.put(JOIN, json={}), 405, "METHOD_NOT_ALLOWED")
        refused(await http.get(f"{STATUS}?token=%ff"), 400, "INVALID_TOKEN")
        head = await http.head("/healthz")
        assert (head.status_code, head.content) == (200, b"")

        async def pieces() -> AsyncIterator[bytes]:
            for piece in (b'{"event', b'_id": "', event.encode(), b'"}'):
                yield piece

        assert (await http.post(JOIN, content=pieces())).status_code == 202


@pytest.mark.parametrize("server", SERVERS)
async def test_sigterm_lets_joins_in_progress_succeed(
    redis_server: RedisServer, redis: Redis, event: str, server: str
) -> None:
    # An event each, so that none waits for another one's batch and all can be seen to be under way.
    keys = {name: KEYS.event(name) for name in (f"{event}-{i}" for i in range(5))}
    async with Relay(redis_server.port) as relay:
        api = Api(relay.url, server=server, jobs_redis_url=redis_server.url, key_prefix=PREFIX)
        async with running(api) as http:
            await open_all_connections(relay, redis, http, PREFIX)
            relay.held = True
            joins = [asyncio.create_task(try_join(http, name)) for name in keys]

            async def all_under_way() -> bool:
                return [await redis.xlen(key.stream) for key in keys.values()] == [1] * 5

            await eventually(all_under_way)
            api.process.send_signal(signal.SIGTERM)
            await eventually(lambda: _refuses_connections(api))
            relay.held = False
            assert [answer.status_code for answer in await asyncio.gather(*joins)] == [202] * 5
            assert await asyncio.to_thread(api.process.wait, 20) == 0
            assert "Traceback" not in api.log()
    # Round trip 2 was waited for as well, and the process deregistered.
    assert [await redis.zcard(key.heartbeat) for key in keys.values()] == [1] * 5
    assert await redis.zrange(KEYS.pulse, 0, -1) == []


async def test_sigterm_waits_for_what_follows_an_answer(redis_server: RedisServer, redis: Redis, event: str) -> None:
    async with Relay(redis_server.port) as relay:
        api = Api(relay.url, jobs_redis_url=redis_server.url, key_prefix=PREFIX)
        async with running(api) as http:
            await open_all_connections(relay, redis, http, PREFIX)
            # The heartbeats of a join follow its answer.
            heartbeat = KEYS.event(event).heartbeat
            relay.holding = heartbeat.encode() + b"\r\n$2\r\nGT"
            await join(http, event)
            await eventually(lambda: _kept(relay))
            api.process.send_signal(signal.SIGTERM)
            await eventually(lambda: _refuses_connections(api))
            # It would end at once if it did not wait; Redis has two seconds to answer.
            await asyncio.sleep(0.8)
            assert api.process.poll() is None
            assert await redis.zcard(heartbeat) == 0
            relay.holding = b""
            assert await asyncio.to_thread(api.process.wait, 20) == 0
    assert await redis.zcard(heartbeat) == 1


async def _kept(relay: Relay) -> bool:
    return relay.kept > 0


async def _refuses_connections(api: Api) -> bool:
    """Readiness is off for whoever asks anew: there is nobody to connect to."""
    try:
        _, writer = await asyncio.open_connection(LOCALHOST, api.port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


async def test_several_processes_on_one_port_are_one_waiting_room(
    redis_server: RedisServer, redis: Redis, signer: Signer, event: str
) -> None:
    api = Api(redis_server.url, processes=2, key_prefix=PREFIX)
    async with running(api):
        assert await eventually(lambda: _pulses(redis, 2))
        answers = [answer.json() for answer in await crowd(api, [post(JOIN, {"event_id": event})] * 100)]
        places = sorted((signer.verify_waiting(one["waiting_token"]).ticket, one["position_hint"]) for one in answers)
        assert [position for _, position in places] == list(range(1, 101))
        token = next(one["waiting_token"] for one in answers if one["position_hint"] == 1)
        # A connection each: whichever process has it knows everybody.
        entered = [answer.json() for answer in await crowd(api, [post(ENTER, {"waiting_token": token})] * 20)]
        assert len({one["reservation_token"] for one in entered}) == 1
        assert await asyncio.to_thread(api.stop) == 0
    assert await redis.zcard(KEYS.event(event).admitted) == 1


async def _pulses(redis: Redis, processes: int) -> bool:
    return bool(await redis.zcard(KEYS.pulse) == processes)
