"""Live updates: people who listen are told where they stand as soon as it changes, and at most once a second."""

import asyncio
import itertools
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest
from redis.asyncio import Redis

from shared.dev.redis_server import LOCALHOST, RedisServer
from shared.line.keys import Keys
from shared.line.line import Line
from shared.tokens.signer import Signer
from tests.api.bad_requests import STRANGER, TICKET
from tests.api.test_outages import is_away, line_of
from tests.support.calls import configure, enter, join, leave, running, status
from tests.support.line_state import age_index, fill
from tests.support.listening import STREAM, listeners, listening
from tests.support.polling import Crowd, exactly, from_memory, now_ms, publishing
from tests.support.ports import free_port
from tests.support.processes import Api
from tests.support.redis_monitor import Monitor
from tests.support.refusals import refused, retry_after
from tests.support.settings import SECRET
from tests.support.waiting import eventually

# The pulses of the other tests' api are none of these.
PREFIX = "live:"
PEOPLE = 1500
FAR = 1400


@pytest.fixture
async def crowd(http: httpx.AsyncClient, live_line: Line, event: str) -> AsyncIterator[Crowd]:
    """A line that does not move, and its index."""
    await configure(http, event, rate=0, burst=0)
    crowd = Crowd(event, await fill(live_line, event, PEOPLE))
    async with publishing(live_line, event):
        yield crowd


async def test_it_begins_with_the_status_answer(http: httpx.AsyncClient, crowd: Crowd) -> None:
    async with listening(http, crowd.token(3)) as stream:
        assert stream.answer.headers["cache-control"] == "no-store"
        assert stream.answer.headers["x-accel-buffering"] == "no"
        told = await stream.next()
        assert (told.name, told.data.keys()) == ("place", (await status(http, crowd.token(3))).keys())
        assert (told.data["status"], told.data["position"], told.data["approximate"]) == ("waiting", 3, False)
        assert told.retry is not None
        assert 1000 <= told.retry <= 5000
        assert crowd.lease(told.data["waiting_token"]) >= crowd.tickets[-1] // 1000
    async with listening(http, headers={"Authorization": f"Bearer {crowd.token(4)}"}) as stream:
        assert (await stream.next()).data["position"] == 4


@pytest.mark.parametrize("server", ["granian", "granian-asgi", "uvicorn"])
async def test_every_step_to_the_door_is_told_on_every_server(
    redis_server: RedisServer, redis: Redis, event: str, server: str
) -> None:
    async with running(Api(redis_server.url, server=server)) as http:
        await configure(http, event, rate=0, burst=0)
        tokens = [(await join(http, event))["waiting_token"] for _ in range(3)]
        async with listening(http, tokens[2]) as stream:
            assert (await stream.next()).data["position"] == 3
            await leave(http, tokens[0])
            await stream.until(position=2, status="waiting", eta_sec=None)
            await configure(http, event, rate=1000, burst=10)
            assert (await stream.until(status="ready"))["ready_for_entry"] is True
            await configure(http, event, paused=True)
            await stream.until(status="waiting", eta_sec=None)
            await configure(http, event, paused=False)
            token = (await stream.until(status="ready"))["waiting_token"]
            # In another tab.
            await enter(http, token)
            (last,) = await stream.rest()
            assert (last.name, last.data["status"]) == ("place", "admitted")
        async with listening(http, token) as stream:
            assert [told.data["status"] for told in await stream.rest()] == ["admitted"]
        async with listening(http, tokens[1]) as stream:
            await stream.next()
            await leave(http, tokens[1])
            *_, last = await stream.rest()
            assert (last.name, last.data["error"]["code"]) == ("gone", "TOKEN_EXPIRED")
            assert last.data["error"]["trace_id"]
        await eventually(lambda: _nobody_listens(http))


async def test_far_back_they_hear_of_their_place_and_of_a_pause_too(redis_server: RedisServer, crowd: Crowd) -> None:
    # Whoever could be called within twice ready_ttl is polled: at this rate that would be everybody.
    async with running(Api(redis_server.url, ready_ttl=1)) as http:
        await configure(http, crowd.event, rate=20, burst=1)
        await from_memory(http, crowd.token(FAR))
        async with listening(http, crowd.token(FAR)) as stream:
            assert (await stream.next()).data["approximate"] is True
            position = FAR
            while position > FAR - 50:
                position = (await stream.next()).data["position"]
            await configure(http, crowd.event, paused=True)
            await stream.until(eta_sec=None)
            await configure(http, crowd.event, paused=False, rate=1)
            assert (await stream.until(status="waiting"))["eta_sec"] > 100


async def test_whatever_happens_to_the_event_those_hear_of_it_who_are_seldom_asked(
    http: httpx.AsyncClient, redis: Redis, live_line: Line, event: str
) -> None:
    await configure(http, event, rate=0.01, burst=0)
    crowd = Crowd(event, await fill(live_line, event, 900))
    async with AsyncExitStack() as stack:
        # One of them is polled for all, every second.
        seldom = [await stack.enter_async_context(listening(http, crowd.token(place))) for place in range(861, 901)]
        # By themselves they would hear of nothing for half a minute.
        first = [(await stream.next()).data for stream in seldom]
        assert min(told["poll_after_ms"] for told in first) > 25_000
        async with asyncio.timeout(20):
            await configure(http, event, rate=0.02)
            for stream, told in zip(seldom, first, strict=True):
                while (await stream.next()).data["eta_sec"] > 0.6 * told["eta_sec"]:
                    pass
            await redis.delete(Keys().event(event).queue)
            for stream in seldom:
                await stream.until(eta_sec=None, approximate=True)


async def test_nobody_is_asked_for_twice_however_often_the_event_changed(
    http: httpx.AsyncClient, redis_server: RedisServer, redis: Redis, event: str
) -> None:
    await configure(http, event, rate=0, burst=0)
    tokens = [(await join(http, event))["waiting_token"] for _ in range(3)]
    tickets = [str(Signer([SECRET]).verify_waiting(token).ticket) for token in tokens]
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(listening(http, token)) for token in tokens]
        for stream in streams:
            await stream.next()
        for paused in (True, False) * 2:
            await configure(http, event, paused=paused)
            for stream in streams:
                await stream.next()

        async with Monitor(redis_server.url) as monitor:

            async def polls() -> list[str]:
                return [one for one in await monitor.commands() if one.startswith("EVALSHA") and tickets[0] in one]

            async def some() -> bool:
                return len(await polls()) >= 3

            await eventually(some)
            for poll in await polls():
                assert [poll.count(ticket) for ticket in tickets] == [1, 1, 1]


async def _nobody_listens(http: httpx.AsyncClient) -> bool:
    return await listeners(http) == 0


async def test_what_is_refused_is_refused_before_the_stream(http: httpx.AsyncClient, event: str) -> None:
    refused(await http.get(STREAM), 400, "MISSING_TOKEN")
    for token in ("nonsense", STRANGER.waiting(event, TICKET)):
        refused(await http.get(STREAM, params={"token": token}), 400, "INVALID_TOKEN")
    token = (await join(http, event))["waiting_token"]
    await leave(http, token)
    refused(await http.get(STREAM, params={"token": token}), 404, "TOKEN_EXPIRED")
    refused(await http.post(STREAM), 405, "METHOD_NOT_ALLOWED")


async def test_head_opens_no_stream(http: httpx.AsyncClient, crowd: Crowd) -> None:
    before = await listeners(http)
    answer = await http.head(STREAM, params={"token": crowd.token(1)})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
    assert await listeners(http) == before
    assert (await http.head(STREAM)).status_code == 400


async def test_more_than_the_limit_are_refused_and_poll(redis_server: RedisServer, redis: Redis, event: str) -> None:
    async with running(Api(redis_server.url, max_listeners=2)) as http:
        token = (await join(http, event))["waiting_token"]
        async with listening(http, token) as first:
            async with listening(http, token) as second:
                assert [(await one.next()).name for one in (first, second)] == ["place", "place"]
                answer = await http.get(STREAM, params={"token": token})
                refused(answer, 503, "OVERLOADED")
                assert retry_after(answer) <= 10
                # Before Redis is asked for anything.
                assert (await http.head(STREAM, params={"token": token})).status_code == 503
                assert (await status(http, token))["position"] == 1

            async def room() -> bool:
                return (await http.head(STREAM, params={"token": token})).status_code == 200

            await eventually(room)
            async with listening(http, token) as second:
                await second.next()


@pytest.mark.parametrize("server", ["granian", "granian-asgi", "uvicorn"])
@pytest.mark.parametrize("half", [False, True], ids=["closed", "half-closed"])
async def test_a_client_that_goes_is_forgotten(
    redis_server: RedisServer, redis: Redis, event: str, server: str, half: bool
) -> None:
    async with running(Api(redis_server.url, server=server)) as http:
        await configure(http, event, rate=0, burst=0)
        token = (await join(http, event))["waiting_token"]
        with socket.create_connection((LOCALHOST, http.base_url.port or 0)) as connection:
            connection.sendall(f"GET {STREAM}?token={token} HTTP/1.1\r\nHost: daegi\r\n\r\n".encode())

            async def heard() -> bool:
                return await listeners(http) == 1

            await eventually(heard)
            if half:
                connection.shutdown(socket.SHUT_WR)
            else:
                connection.close()
            await eventually(lambda: _nobody_listens(http))
            text = (await http.get("/metrics")).text
            assert 'daegi_listeners_ended_total{reason="left"} 1.0' in text


@asynccontextmanager
async def forgetful(
    redis_server: RedisServer, line: Line, event: str, heartbeat_ttl: int
) -> AsyncIterator[tuple[httpx.AsyncClient, Crowd]]:
    """An api that takes people soon for gone, and before it a line as that of `crowd`."""
    async with running(Api(redis_server.url, heartbeat_ttl=heartbeat_ttl)) as http:
        await configure(http, event, rate=0, burst=0)
        crowd = Crowd(event, await fill(line, event, PEOPLE))
        async with publishing(line, event):
            yield http, crowd


async def test_whoever_listens_far_back_is_heard_and_costs_redis_nothing(
    redis_server: RedisServer, redis: Redis, event: str, live_line: Line
) -> None:
    async with AsyncExitStack() as stack:
        http, crowd = await stack.enter_async_context(forgetful(redis_server, live_line, event, heartbeat_ttl=8))
        places = range(1050, 1150)
        tickets = [str(crowd.tickets[place - 1]) for place in places]
        streams = [await stack.enter_async_context(listening(http, crowd.token(place))) for place in places]
        for stream in streams:
            await stream.next()
        began = await now_ms(redis)

        async def all_heard() -> bool:
            heard = await redis.zmscore(Keys().event(event).heartbeat, tickets)
            return all(when > began + 5000 for when in heard)

        async with Monitor(redis_server.url) as monitor:
            await eventually(all_heard)
            commands = [one for one in await monitor.commands() if f"{{{event}}}" in one]
    fetches = [one for one in commands if one.startswith("GET position_index")]
    naming = [sum(ticket in one for ticket in tickets) for one in commands if not one.startswith("ZMSCORE")]
    # Once a second, an eighth of the TTL: one command with all heartbeats, and one poll of somebody for all. (On a busy
    # machine leases of 2 s may run out, and all are polled at once.) A hundred who poll are ten times as much.
    assert len([named for named in naming if named > 1]) <= 2 * len(fetches) + 1
    assert len([named for named in naming if named == 1]) <= 2 * len(fetches) + 1
    assert max(naming) == len(tickets)


async def test_whoever_listens_far_back_is_told_from_memory_for_as_long_as_they_listen_and_after_it(
    redis_server: RedisServer, redis: Redis, event: str, live_line: Line
) -> None:
    async with AsyncExitStack() as stack:
        # A lease lasts 5 s, and is renewed after 2.5 s.
        http, crowd = await stack.enter_async_context(forgetful(redis_server, live_line, event, heartbeat_ttl=20))
        places = range(1350, 1380)
        tickets = [str(crowd.tickets[place - 1]) for place in places]
        streams = [await stack.enter_async_context(listening(http, crowd.token(place))) for place in places]
        for stream in streams:
            await stream.next()
        began = await now_ms(redis)

        async def all_heard() -> bool:
            heard = await redis.zmscore(Keys().event(event).heartbeat, tickets)
            return all(when > began + 5000 for when in heard)

        await eventually(all_heard)
        await configure(http, event, paused=True)
        told = [(await stream.next()).data for stream in streams]
        # Somebody is polled for all now and then.
        assert sum(one["approximate"] for one in told) > len(told) / 2
        # With this one they are answered from memory elsewhere too, when this process ends.
        assert min(crowd.lease(one["waiting_token"]) for one in told) > began


async def test_whoever_has_gone_is_not_heard_any_more(
    redis_server: RedisServer, redis: Redis, event: str, live_line: Line
) -> None:
    async with AsyncExitStack() as stack:
        http, crowd = await stack.enter_async_context(forgetful(redis_server, live_line, event, heartbeat_ttl=8))
        stays = await stack.enter_async_context(listening(http, crowd.token(FAR)))
        await stays.next()
        async with listening(http, crowd.token(FAR + 1)) as goes:
            await goes.next()

        async def heard(place: int) -> float:
            when = await redis.zscore(Keys().event(event).heartbeat, str(crowd.tickets[place - 1]))
            assert when is not None
            return float(when)

        async def is_heard_again() -> None:
            before = await heard(FAR)

            async def later() -> bool:
                return await heard(FAR) > before

            await eventually(later)

        async def one_listens() -> bool:
            return await listeners(http) == 1

        await eventually(one_listens)
        # What was being written when they went is there by then.
        await is_heard_again()
        last = await heard(FAR + 1)
        for _ in range(2):
            await is_heard_again()
        # Nobody would ever take their place from them: they would be in line as long as anybody listens.
        assert await heard(FAR + 1) == last


async def test_while_the_index_is_a_little_late_those_far_back_wait_for_it_and_those_near_the_door_do_not(
    http: httpx.AsyncClient, redis_server: RedisServer, redis: Redis, event: str, live_line: Line
) -> None:
    await configure(http, event, rate=0, burst=0)
    crowd = Crowd(event, await fill(live_line, event, PEOPLE))
    places = range(1300, 1330)
    near, *far = [str(crowd.tickets[place - 1]) for place in (2, *places)]
    async with AsyncExitStack() as stack:
        async with publishing(live_line, event):
            await from_memory(http, crowd.token(FAR))
            streams = [await stack.enter_async_context(listening(http, crowd.token(place))) for place in places]
            assert all([(await stream.next()).data["approximate"] for stream in streams])
        await stack.enter_async_context(listening(http, crowd.token(2)))
        async with ageing(redis, event):
            await exactly(http, crowd.token(FAR))
            monitor = await stack.enter_async_context(Monitor(redis_server.url))
            # Which is news to everybody.
            await configure(http, event, paused=True)

            async def polls() -> list[str]:
                return [one for one in await monitor.commands() if one.startswith("EVALSHA") and event in one]

            async def some() -> bool:
                return sum(near in poll for poll in await polls()) >= 4

            await eventually(some)
            # All of them at once would be what a Redis that is behind can do without.
            assert max(sum(ticket in poll for ticket in far) for poll in await polls()) <= 1
        async with publishing(live_line, event):
            for stream in streams:
                await stream.next()


@asynccontextmanager
async def ageing(redis: Redis, event: str) -> AsyncIterator[None]:
    """Keeps an event's index as old as one that places nobody, and is soon followed by another one."""

    async def publish() -> None:
        while True:
            await age_index(redis, event, 5)
            await asyncio.sleep(0.2)

    task = asyncio.create_task(publish())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def test_whoever_is_called_counts_as_heard_while_nobody_can_ask_for_them(
    redis_server: RedisServer, redis: Redis, event: str
) -> None:
    # Heartbeats are written by the process itself.
    jobs = f"redis://{LOCALHOST}:{free_port()}/0"
    async with running(Api(redis_server.url, jobs_redis_url=jobs)) as http:
        await configure(http, event, rate=1, burst=3)
        token = (await join(http, event))["waiting_token"]
        ticket = str(Signer([SECRET]).verify_waiting(token).ticket)
        async with listening(http, token) as stream:
            await stream.until(status="ready")
            keys = Keys().event(event)
            await redis.delete(keys.config)
            await redis.set(keys.config, "nothing that a poll can read")
            began = await now_ms(redis)

            async def heard() -> bool:
                when = await redis.zscore(keys.heartbeat, ticket)
                return when is not None and when > began

            await eventually(heard)


async def test_a_stream_on_which_nothing_happens_is_kept_alive(http: httpx.AsyncClient, crowd: Crowd) -> None:
    # So slow that people are polled twice a minute, too seldom for a proxy.
    await configure(http, crowd.event, rate=0.01)
    async with AsyncExitStack() as stack:
        # The one at the front is asked all the time, and nobody else has to be polled for all.
        _, near, far = [await stack.enter_async_context(listening(http, crowd.token(place))) for place in (2, 900, FAR)]
        reading = [asyncio.create_task(stream.rest()) for stream in (near, far)]

        async def kept_alive() -> bool:
            return all(": keep-alive" in stream.comments for stream in (near, far))

        await eventually(kept_alive, 60)
        for task in reading:
            task.cancel()


async def test_whoever_is_called_is_not_polled_faster_than_they_would_poll_themselves(
    http: httpx.AsyncClient, redis_server: RedisServer, redis: Redis, event: str
) -> None:
    await configure(http, event, rate=1, burst=3)
    tokens = [(await join(http, event))["waiting_token"] for _ in range(2)]
    ticket = str(Signer([SECRET]).verify_waiting(tokens[0]).ticket)
    async with listening(http, tokens[0]) as stream, listening(http, tokens[1]):
        assert (await stream.next()).data["status"] == "ready"
        times: list[float] = []
        async with redis.monitor() as monitor:
            while len(times) < 4:
                command = await monitor.next_command()
                if ticket in command["command"] and command["command"].startswith("EVALSHA"):
                    times.append(command["time"])
    # Within 1.5 s of their call a second question is none of hesitation; after that it would be (door.lua).
    assert min(after - before for before, after in itertools.pairwise(times)) > 1.5


@pytest.mark.parametrize("drain_seconds", [0, 8])
@pytest.mark.parametrize("server", ["granian", "granian-asgi", "uvicorn"])
async def test_sigterm_sends_everybody_away_and_they_come_back_elsewhere(
    redis_server: RedisServer, redis: Redis, event: str, server: str, drain_seconds: int
) -> None:
    people = 40
    async with AsyncExitStack() as stack:
        api = Api(redis_server.url, server=server, drain_seconds=drain_seconds, key_prefix=PREFIX)
        http = await stack.enter_async_context(running(api))
        elsewhere = await stack.enter_async_context(running(Api(redis_server.url, key_prefix=PREFIX)))
        await configure(http, event, rate=0, burst=0)
        tokens = [(await join(http, event))["waiting_token"] for _ in range(people)]
        streams = [await stack.enter_async_context(listening(http, token)) for token in tokens]
        for stream in streams:
            await stream.next()
        api.process.send_signal(signal.SIGTERM)
        if drain_seconds:

            async def refuses() -> httpx.Response | None:
                answer = await http.get(STREAM, params={"token": tokens[0]})
                return answer if answer.status_code == 503 else None

            answer = await eventually(refuses)
            refused(answer, 503, "UNAVAILABLE")
            assert retry_after(answer) <= 10
            # Those who listen already are told until the end.
            await leave(http, tokens.pop())
        goodbyes = [(await stream.rest())[-1] for stream in streams[: len(tokens)]]
        assert {told.name for told in goodbyes} == {"bye"}
        after = [told.data["reconnect_ms"] for told in goodbyes]
        assert after == [told.retry for told in goodbyes]
        assert all(told.data["reason"] == "drain" for told in goodbyes)
        assert 1000 <= min(after) < max(after) <= 3000
        assert len(set(after)) > people / 2
        assert await asyncio.to_thread(api.process.wait, 20) == 0
        assert "Traceback" not in api.log()
        for place, token in enumerate(tokens, 1):
            async with listening(elsewhere, token) as stream:
                assert (await stream.next()).data["position"] == place


async def test_a_stream_lasts_for_a_while_and_whoever_is_there_opens_another(
    redis_server: RedisServer, redis: Redis, event: str
) -> None:
    async with running(Api(redis_server.url, listen_seconds=3)) as http:
        await configure(http, event, rate=0, burst=0)
        token = (await join(http, event))["waiting_token"]
        async with listening(http, token) as stream:
            # Nothing happens until then.
            first, *_, last = await stream.rest()
        assert (first.name, last.name, last.data["reason"]) == ("place", "bye", "renewal")
        assert last.retry == last.data["reconnect_ms"]
        assert 1000 <= last.data["reconnect_ms"] <= 5000
        async with listening(http, first.data["waiting_token"]) as stream:
            assert (await stream.next()).data["position"] == 1
        assert 'daegi_listeners_ended_total{reason="renewal"} 1.0' in (await http.get("/metrics")).text


async def test_nobody_is_sent_away_to_where_redis_is_away_too(own_server: RedisServer, event: str) -> None:
    people = 10
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(running(Api(own_server.url, listen_seconds=3)))
        await configure(http, event, rate=0, burst=0)
        tokens = [(await join(http, event))["waiting_token"] for _ in range(people)]
        streams = [await stack.enter_async_context(listening(http, token)) for token in tokens]
        for stream in streams:
            await stream.next()
        own_server.kill()
        await asyncio.sleep(6)
        assert await listeners(http) == people


async def test_while_redis_is_away_streams_stay_open_and_nobody_is_told_anything_wrong(
    own_server: RedisServer, event: str
) -> None:
    async with AsyncExitStack() as stack:
        # Whoever is called holds up the next call for longer than this takes.
        http = await stack.enter_async_context(running(Api(own_server.url, call_fresh=60)))
        await configure(http, event, rate=0, burst=1)
        line = await stack.enter_async_context(line_of(own_server))
        crowd = Crowd(event, await fill(line, event, PEOPLE))
        called, near, far = [
            await stack.enter_async_context(listening(http, crowd.token(place))) for place in (1, 2, FAR)
        ]
        assert (await called.next()).data["status"] == "ready"
        assert [(await one.next()).data["position"] for one in (near, far)] == [2, FAR]
        own_server.kill()
        await eventually(lambda: is_away(http))
        await asyncio.sleep(4)
        own_server.restart()

        async def is_back() -> bool:
            return not await is_away(http)

        await eventually(is_back)
        # They are told of the next thing that happens, and of nothing before.
        await leave(http, crowd.token(2))
        ends = await asyncio.gather(near.rest(), far.next())
        assert [told.name for told in ends[0]] == ["gone"]
        assert ends[1].data["position"] in {FAR - 1, FAR - 2}
        await configure(http, event, paused=True)
        await called.until(status="waiting", eta_sec=None)


async def test_one_place_has_a_few_streams_and_leaves_the_rest_to_others(
    redis_server: RedisServer, redis: Redis, event: str
) -> None:
    async with running(Api(redis_server.url)) as http, AsyncExitStack() as stack:
        await configure(http, event, rate=0, burst=0)
        token, other = [(await join(http, event))["waiting_token"] for _ in range(2)]
        streams = [await stack.enter_async_context(listening(http, token)) for _ in range(16)]
        assert {(await stream.next()).data["position"] for stream in streams} == {1}
        refused(await http.get(STREAM, params={"token": token}), 503, "OVERLOADED")
        async with listening(http, other) as stream:
            assert (await stream.next()).data["position"] == 2
        await streams[0].answer.aclose()

        async def room() -> bool:
            async with http.stream("GET", STREAM, params={"token": token}) as answer:
                return answer.status_code == 200

        await eventually(room)


async def test_a_fault_of_ours_costs_nobody_what_comes_after_it(own_server: RedisServer, event: str) -> None:
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(running(Api(own_server.url, heartbeat_ttl=8)))
        redis = await stack.enter_async_context(Redis.from_url(own_server.url))
        await configure(http, event, rate=0, burst=0)
        line = await stack.enter_async_context(line_of(own_server))
        crowd = Crowd(event, await fill(line, event, PEOPLE))
        streams = [await stack.enter_async_context(listening(http, crowd.token(place))) for place in (2, 3, 900, FAR)]
        for stream in streams:
            await stream.next()
        # Heartbeats cannot be written: not an outage, but nothing that anybody expects.
        heartbeats = Keys().event(event).heartbeat
        await redis.rename(heartbeats, f"kept:{{{event}}}")
        await redis.set(heartbeats, "none")
        await asyncio.sleep(4)
        await redis.delete(heartbeats)
        await redis.rename(f"kept:{{{event}}}", heartbeats)
        await leave(http, crowd.token(1))
        places = [(await stream.next()).data["position"] for stream in streams]
        assert places[:3] == [1, 2, 899]


async def test_a_client_that_sends_requests_ahead_and_goes_is_no_fault_of_ours(
    redis_server: RedisServer, redis: Redis, event: str
) -> None:
    api = Api(redis_server.url, server="uvicorn")
    async with running(api) as http:
        await configure(http, event, rate=0, burst=0)
        in_front, token = [(await join(http, event))["waiting_token"] for _ in range(2)]
        with socket.create_connection((LOCALHOST, api.port)) as client:
            client.sendall(f"GET {STREAM}?token={token} HTTP/1.1\r\nhost: daegi\r\n\r\n".encode() * 5)

            async def one_listens() -> bool:
                return await listeners(http) == 1

            await eventually(one_listens)
        await leave(http, in_front)

        async def nobody_listens() -> bool:
            return await listeners(http) == 0

        await eventually(nobody_listens)
        assert "a stream failed" not in api.log()
