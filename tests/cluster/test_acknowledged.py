"""DAEGI_MIN_REPLICAS_ACK=1: what is answered is on a replica, and what is not there is refused."""

import asyncio
import itertools
import random

import httpx

from shared.dev.redis_server import RedisServer
from tests.chaos.outcome import Outcome
from tests.chaos.scenarios.fail_over import masters_killed
from tests.chaos.stage import Stage
from tests.cluster.conftest import Seen
from tests.support.calls import enter, join, redeem, running, status, try_enter, try_join
from tests.support.cluster import Cluster, spread
from tests.support.processes import Api
from tests.support.refusals import refused, retry_after
from tests.support.waiting import eventually


async def try_redeem(http: httpx.AsyncClient, reservation: str) -> httpx.Response:
    """With a key, so that it can be asked for again."""
    headers = {"Idempotency-Key": "the key of this redeem"}
    return await http.post("/api/v1/queue/redeem", json={"reservation_token": reservation}, headers=headers)


async def test_without_the_replica_joins_enters_and_redeems_are_refused_and_a_retry_finds_what_was_done(
    cluster: Cluster, queue_server: RedisServer, event: str
) -> None:
    (here, master), (elsewhere, _), *_ = spread(cluster, event).items()
    replica = cluster.replica_of(master)
    api = Api(cluster.url, jobs_redis_url=queue_server.url, min_replicas_ack=1)
    async with running(api) as http:
        first, second = [(await join(http, here))["waiting_token"] for _ in range(2)]
        reservation = (await enter(http, first))["reservation_token"]
        replica.pause()

        for _ in range(2):
            for answer in await asyncio.gather(
                try_join(http, here, key="the key of the third"), try_enter(http, second), try_redeem(http, reservation)
            ):
                refused(answer, 503, "UNAVAILABLE")
                assert retry_after(answer) <= 10
        # Who is in line without an answer is swept all the same, also as the first of their event.
        names = (f"{event}-new-{i}" for i in itertools.count())
        new = next(name for name in names if cluster.master_of(f"stream:event:{{{name}}}") is master)
        refused(await try_join(http, new), 503, "UNAVAILABLE")

        async def listed() -> bool:
            return await asyncio.to_thread(cluster.master_of("events").client.zscore, "events", new) is not None

        await eventually(listed)
        # What promises nothing waits for nothing, and other masters have replicas of their own.
        assert (await status(http, second))["status"] == "admitted"
        await redeem(http, (await enter(http, (await join(http, elsewhere))["waiting_token"]))["reservation_token"])

        replica.resume()

        async def third_joined() -> httpx.Response | None:
            answer = await try_join(http, here, key="the key of the third")
            return answer if answer.status_code == 202 else None

        third = (await eventually(third_joined)).json()
        assert (await status(http, third["waiting_token"]))["position"] == 1
        assert len(Seen(cluster, here).logged()) == 1
        assert (await enter(http, second))["ttl_sec"] > 0
        assert (await try_redeem(http, reservation)).status_code == 200


async def test_nothing_acknowledged_is_lost_or_doubled_when_a_master_is_killed_amid_a_crowd() -> None:
    outcome = Outcome("fail-over", "SIGKILL of a master")
    async with Stage(outcome, 4, random.SystemRandom().randrange(10**6)) as stage:
        await masters_killed(stage, acks=1)
    assert outcome.failures == []
    assert outcome.faults >= 1
    assert outcome.refused > 0
    assert sum(totals["redeemed"] for totals in outcome.totals.values()) > 10
