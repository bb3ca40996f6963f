"""The log is lost while people join, poll and leave: joins wait until it is written back, and nobody is lost."""

import asyncio

from shared.dev.redis_server import RedisServer
from shared.line.line import Join, Line
from shared.redis.connect import connect
from shared.settings import Settings
from shared.tokens.signer import Signer
from tests.faults.conftest import KEYS, Client, logged, members, places, swept, ticket_of
from tests.support.calls import join, leave, running, status, try_join
from tests.support.processes import Api, Worker
from tests.support.refusals import refused, retry_after
from tests.support.settings import CLOSED, HEARTBEAT_TTL, SECRET
from tests.support.waiting import eventually

PEOPLE = 1200


async def fill(server: RedisServer, event: str, users: list[str]) -> list[str]:
    """Puts verified users into the line, past the api; their tokens in order."""
    settings = Settings(redis_url=server.url)
    client = connect(settings, "daegi-tests")
    line, signer = Line(client, settings), Signer([SECRET])
    tokens = []
    for start in range(0, len(users), 256):
        joins = [Join(b"", b"v" + user.encode()) for user in users[start : start + 256]]
        batch = await line.enqueue(event, joins, may_create=True)
        tickets = [joined.ticket for joined in batch.joined]
        await line.confirm(event, tickets, batch.standing.now, note_activity=True)
        tokens += [signer.waiting(event, ticket) for ticket in tickets]
    await client.aclose()
    return tokens


async def test_joins_are_refused_until_it_is_written_back_and_departures_count(
    own_server: RedisServer, redis: Client, event: str
) -> None:
    settings = {"heartbeat_ttl": HEARTBEAT_TTL, "trusted_user_header": "X-User-Id", **CLOSED}
    with Worker(own_server.url, **settings) as worker:
        async with running(Api(own_server.url, **settings)) as http:
            users = [f"user-{number}" for number in range(PEOPLE)]
            tokens = await fill(own_server, event, users)
            by_ticket = list(tokens)
            await swept(redis, event)
            worker.pause()
            await redis.delete(KEYS.event(event).stream)

            answers = await asyncio.gather(*(try_join(http, event) for _ in range(5)))
            for answer in answers:
                refused(answer, 503, "UNAVAILABLE")
                assert retry_after(answer) <= 10
            left = [by_ticket.pop(at) for at in (1000, 500, 0)]
            for token in left[:2]:
                assert (await leave(http, token)).status_code == 200
            waiting = await status(http, by_ticket[7])
            assert waiting["status"] == "waiting"
            assert not waiting["ready_for_entry"]
            worker.resume()
            assert (await leave(http, left[2])).status_code == 200

            newcomers: list[str] = []

            async def joins_again() -> bool:
                answer = await try_join(http, event)
                if answer.status_code == 202:
                    newcomers.append(answer.json()["waiting_token"])
                return answer.status_code == 202

            await eventually(joins_again)
            expected = [*map(ticket_of, by_ticket), *map(ticket_of, newcomers)]
            assert await logged(redis, event) == await members(redis, event) == expected
            # Further back than a thousand a poll may be answered from an index of some seconds ago.
            assert await places(http, [by_ticket[at] for at in (0, 700, 900)]) == [1, 701, 901]
            # Who holds which place is known again, too.
            again = await join(http, event, user=users[tokens.index(by_ticket[3])])
            assert again["waiting_token"] == by_ticket[3]
            gone = users[tokens.index(left[0])]
            assert ticket_of((await join(http, event, user=gone))["waiting_token"]) > expected[-1]
            # And nobody who had gone by then was written back with the others.
            await swept(redis, event, 2)
            assert not {ticket_of(token) for token in left} & set(await logged(redis, event))


async def test_it_is_lost_again_and_again_under_a_crowd_that_comes_and_goes(
    own_server: RedisServer, redis: Client, event: str
) -> None:
    settings = {"heartbeat_ttl": HEARTBEAT_TTL, **CLOSED}
    with Worker(own_server.url, **settings):
        async with running(Api(own_server.url, **settings)) as http:
            there: list[int] = []
            refusals = 0
            stopping = False

            async def come_and_go() -> None:
                nonlocal refusals
                while not stopping:
                    answer = await try_join(http, event)
                    if answer.status_code != 202:
                        refused(answer, 503, "UNAVAILABLE")
                        refusals += 1
                        await asyncio.sleep(0.1)
                        continue
                    token = answer.json()["waiting_token"]
                    there.append(ticket_of(token))
                    await status(http, token)
                    if ticket_of(token) % 3 == 0:
                        assert (await leave(http, token)).status_code == 200
                        there.remove(ticket_of(token))
                    await asyncio.sleep(0.02)

            async with asyncio.TaskGroup() as group:
                for _ in range(8):
                    group.create_task(come_and_go())
                for number in range(1, 4):

                    async def many_joined(wanted: int = 40 * number) -> bool:
                        return len(there) >= wanted

                    await eventually(many_joined)
                    await redis.delete(KEYS.event(event).stream)
                    before = refusals

                    async def noticed(before: int = before) -> bool:
                        return refusals > before

                    await eventually(noticed)

                async def whole() -> bool:
                    return (await try_join(http, "another")).status_code == 202 and await redis.exists(
                        KEYS.event(event).stream
                    ) == 1

                await eventually(whole)
                stopping = True
            await eventually(lambda: agree(redis, event))
            assert await logged(redis, event) == sorted(there)


async def agree(redis: Client, event: str) -> bool:
    return await logged(redis, event) == await members(redis, event) != []
