"""No worker at all, and half the line gone silent: the others come in, in order."""

import asyncio
from typing import Any

from shared.dev.redis_server import RedisServer
from tests.faults.conftest import KEYS, Client, logged, silence, ticket_of
from tests.support.calls import configure, join, redeem, running, status, try_enter
from tests.support.processes import Api
from tests.support.waiting import eventually


async def test_the_others_still_get_in_and_in_order(own_server: RedisServer, redis: Client, event: str) -> None:
    # 20 at once, then 5 a second; a call is fresh for one second here.
    settings: dict[str, Any] = {"admit_rate": 5, "admit_burst": 0, "call_fresh": 1}
    keys = KEYS.event(event)
    # It does not start alone: a grace would have the door call the silent too.
    async with running(Api(own_server.url)), running(Api(own_server.url, **settings)) as http:
        await configure(http, event, paused=True)
        tokens = [(await join(http, event))["waiting_token"] for _ in range(60)]
        silent, present = tokens[::2], tokens[1::2]
        await asyncio.gather(*(status(http, token) for token in present))
        # Those who will not come back have been silent for long, those who poll never are, however slow it goes.
        await silence(redis, event, [ticket_of(token) for token in silent], 100)
        await configure(http, event, paused=False)
        entered: list[str] = []

        async def all_are_in() -> bool:
            waiting = [token for token in present if token not in entered]
            answers = await asyncio.gather(*(status(http, token) for token in waiting))
            # Calls are made in strict order: whoever is called stands in front of all who are not.
            async with redis.pipeline(transaction=True) as together:
                together.zrange(keys.called, -1, -1).zrange(keys.queue, 0, 0)
                last_called, first_in_line = await together.execute()
            assert not (last_called and first_in_line) or int(last_called[0]) < int(first_in_line[0])
            # Their answers are of different moments, and between two of them there may have come a token.
            ready = [token for token, answer in zip(waiting, answers, strict=True) if answer["ready_for_entry"]]
            ready = waiting[: len(ready)]
            for token in ready:
                answer = await try_enter(http, token)
                if answer.status_code == 403:
                    # The tokens have run out: this one is the next.
                    break
                assert (await redeem(http, answer.json()["reservation_token"]))["event_id"] == event
                entered.append(token)
            return len(entered) == len(present)

        await eventually(all_are_in, 30)
        assert entered == present
        assert await logged(redis, event) == [ticket_of(token) for token in silent]
        # A no-show who comes back has their own place, at once, and comes in like the others.
        back = silent[7]
        assert (await status(http, back))["position"] == 1

        async def is_in() -> bool:
            await status(http, back)
            return (await try_enter(http, back)).status_code == 200

        await eventually(is_in)
