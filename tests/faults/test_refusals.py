"""A Redis that answers and takes no writes, as after it was demoted: an outage like any other, in words of our own."""

from collections.abc import AsyncIterator

import httpx
import pytest

from shared.dev.redis_server import LOCALHOST, RedisServer
from shared.line.line import Line
from shared.redis.connect import connect
from shared.settings import Settings
from tests.faults.conftest import Client, logged
from tests.support.calls import (
    configure,
    enter,
    join,
    leave,
    running,
    status,
    try_enter,
    try_join,
    try_redeem,
    try_status,
)
from tests.support.line_state import fill
from tests.support.polling import Crowd, from_memory, now_ms, publishing
from tests.support.ports import free_port
from tests.support.processes import Api
from tests.support.refusals import refused, retry_after
from tests.support.waiting import eventually

# Of nobody: what is replicated never comes.
DEMOTED = ["REPLICAOF", LOCALHOST, str(free_port())]
NOT_SERVING = ["CONFIG", "SET", "replica-serve-stale-data"]
REPLICAS = ["CONFIG", "SET", "min-replicas-to-write"]
REFUSALS: dict[str, tuple[list[list[str]], list[list[str]]]] = {
    "READONLY": ([DEMOTED], [["REPLICAOF", "NO", "ONE"]]),
    "MASTERDOWN": ([[*NOT_SERVING, "no"], DEMOTED], [["REPLICAOF", "NO", "ONE"]]),
    "NOREPLICAS": ([[*REPLICAS, "1"]], [[*REPLICAS, "0"]]),
}
REDIS_WORDS = (*REFUSALS, "replica", "master", "MASTER", "script", "command", "ERR")


@pytest.fixture
async def line(own_server: RedisServer) -> AsyncIterator[Line]:
    settings = Settings.model_validate({"redis_url": own_server.url})
    client = connect(settings, "daegi-tests")
    yield Line(client, settings)
    await client.aclose()


def refused_in_our_words(answer: httpx.Response) -> None:
    refused(answer, 503, "UNAVAILABLE")
    assert not [word for word in REDIS_WORDS if word in answer.text]
    assert retry_after(answer) <= 10


@pytest.mark.parametrize("how", REFUSALS)
async def test_leases_are_honoured_all_else_is_refused_and_it_goes_on_afterwards(
    own_server: RedisServer, redis: Client, line: Line, event: str, how: str
) -> None:
    refuse, accept = REFUSALS[how]
    async with running(Api(own_server.url)) as http:
        entered = (await join(http, f"{event}-open"))["waiting_token"]
        reservation = (await enter(http, entered))["reservation_token"]
        await configure(http, event, rate=0, burst=0)
        crowd = Crowd(event, await fill(line, event, 1200))
        async with publishing(line, event):
            await from_memory(http, crowd.token(1200))
        lease = await now_ms(redis)
        for command in refuse:
            await redis.execute_command(*command)
        # The one that finds it out.
        refused_in_our_words(await try_join(http, event))

        async def known() -> bool:
            return bool((await http.get("/readyz")).json()["redis"] == "away")

        await eventually(known)
        for place in (1, 600, 1200):
            stands = await status(http, crowd.token(place, lease))
            assert (stands["approximate"], stands["ready_for_entry"]) == (True, False)
            assert abs(stands["position"] - place) <= 2
        for answer in (
            await try_status(http, crowd.token(600, lease - 76_000)),
            await try_join(http, event),
            await try_enter(http, crowd.token(1, lease)),
            await leave(http, crowd.token(2)),
            await try_redeem(http, reservation),
        ):
            refused_in_our_words(answer)

        for command in accept:
            await redis.execute_command(*command)

        async def back() -> bool:
            return (await try_redeem(http, reservation)).status_code == 200

        await eventually(back)
        assert (await status(http, crowd.token(600)))["position"] == 600
        assert await logged(redis, event) == crowd.tickets
