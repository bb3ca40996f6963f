"""Redis loses the end of its append-only file, as with appendfsync everysec in a power cut: what is lost is exactly
what was promised after the last write to disk. The rest is untouched, and whoever was lost joins anew."""

import os

from shared.dev.redis_server import RedisServer
from tests.faults.conftest import KEYS, Client, logged, members, ticket_of
from tests.support.calls import enter, join, leave, redeem, running, status, try_status
from tests.support.disk import append_only_file
from tests.support.processes import Api, Worker
from tests.support.refusals import refused
from tests.support.waiting import eventually


async def test_only_what_was_promised_after_the_last_write_to_disk_is_lost(
    own_server: RedisServer, redis: Client, event: str
) -> None:
    keys = [f"the-key-of-caller-{number:03}" for number in range(12)]
    api = Api(own_server.url, admit_rate=0, admit_burst=4)
    with Worker(own_server.url):
        async with running(api) as http:
            tokens = [(await join(http, event, key=key))["waiting_token"] for key in keys[:8]]
            reservation = (await enter(http, tokens[0]))["reservation_token"]
            await redeem(http, reservation)
            # Nobody is called any more: what follows is what the people below ask for.
            last_entered = (await enter(http, tokens[1]))["reservation_token"]
            kept = append_only_file(own_server).stat().st_size
            late = [(await join(http, event, key=key))["waiting_token"] for key in keys[8:]]
            await redeem(http, last_entered)
            await leave(http, tokens[7])

            own_server.kill()
            os.truncate(append_only_file(own_server), kept)
            own_server.restart()

            async def is_back() -> bool:
                return (await try_status(http, tokens[2])).status_code == 200

            await eventually(is_back)
            for token in late:
                refused(await try_status(http, token), 404, "TOKEN_EXPIRED")
            # Those from before are as they were: who left in that second is back, what was redeemed can be again.
            assert await logged(redis, event) == await members(redis, event) == [ticket_of(one) for one in tokens[2:]]
            assert (await status(http, tokens[7]))["status"] == "waiting"
            assert (await redeem(http, last_entered))["event_id"] == event
            again = [(await join(http, event, key=key))["waiting_token"] for key in keys]
            assert again[:8] == tokens
            assert min(map(ticket_of, again[8:])) > max(map(ticket_of, late))
            assert await redis.zcard(KEYS.event(event).admitted) == 2
