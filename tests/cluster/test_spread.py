"""Events on every master of a cluster: people are served, and the workers do all they do, on each of them."""

import asyncio
from contextlib import ExitStack
from typing import Any

import httpx

from shared.dev.redis_server import RedisServer
from shared.jobs import Jobs
from shared.line.line import Join, Line
from shared.settings import Settings
from tests.cluster.conftest import Seen
from tests.support.calls import client, configure, enter, join, leave, redeem, running, status, try_redeem
from tests.support.cluster import Cluster, spread
from tests.support.processes import Api, Worker
from tests.support.refusals import refused
from tests.support.settings import CLOSED, HEARTBEAT_TTL
from tests.support.waiting import eventually


async def serve(http: httpx.AsyncClient, event: str) -> None:
    """Two come, one is let in, the other leaves."""
    first, second, again = [
        (await join(http, event, key=f"the key of {name}", label=name))["waiting_token"]
        for name in ("number 1", "number 2", "number 2")
    ]
    assert again == second
    assert [(await status(http, token))["position"] for token in (first, second)] == [1, 2]
    reservation = (await enter(http, first))["reservation_token"]
    assert (await redeem(http, reservation))["user_id"] == "number 1"
    refused(await try_redeem(http, reservation), 409, "ALREADY_REDEEMED")
    assert (await leave(http, second)).status_code == 200


async def test_people_are_served_on_every_master_and_each_event_stays_on_its_own(
    cluster: Cluster, queue_server: RedisServer, event: str
) -> None:
    events = spread(cluster, event)
    api = Api(cluster.url, jobs_redis_url=queue_server.url)
    async with running(api) as http:
        await asyncio.gather(*(serve(http, name) for name in events))
        for name, master in events.items():
            totals = (await configure(http, name))["totals"]
            assert (totals["joined"], totals["admitted"], totals["redeemed"], totals["left"]) == (2, 1, 1, 1)
            for node in cluster.masters:
                assert bool(node.client.keys(f"*{{{name}}}*")) is (node is master)
        assert "left to repair" not in api.log()


async def test_workers_index_repair_refresh_and_expire_on_every_master(
    cluster: Cluster, cluster_line: Line, queue_server: RedisServer, event: str
) -> None:
    events = {name: Seen(cluster, name) for name in spread(cluster, event)}
    settings: dict[str, Any] = {
        "jobs_redis_url": queue_server.url,
        "heartbeat_ttl": HEARTBEAT_TTL,
        "ready_ttl": 9,
        **CLOSED,
    }
    with ExitStack() as stack:
        api = stack.enter_context(Api(cluster.url, **settings))
        worker = stack.enter_context(Worker(cluster.url, **settings))
        jobs = Jobs(Settings.model_validate({"redis_url": cluster.url, **settings}))
        async with client(api.url) as http:
            for name in events:
                await asyncio.gather(*(join(http, name) for _ in range(20)))
        tickets = {name: seen.logged() for name, seen in events.items()}
        assert [len(some) for some in tickets.values()] == [20, 20, 20]

        async def indexed() -> bool:
            found = [await cluster_line.index(name) for name in events]
            return [index.standing.waiting for index in found if index] == [20, 20, 20]

        await eventually(indexed)

        for seen in events.values():
            seen.redis.delete(seen.keys.queue)
            seen.redis.delete(seen.keys.heartbeat)

        async def whole() -> bool:
            return all(seen.whole() for seen in events.values())

        await eventually(whole)
        assert {name: seen.members() for name, seen in events.items()} == tickets

        first = {name: some[0] for name, some in tickets.items()}
        for name, seen in events.items():
            seen.silence([first[name]], HEARTBEAT_TTL / 2)
        await jobs.refresh_heartbeats({name: [ticket] for name, ticket in first.items()})

        async def the_first_of_each_is_heard() -> bool:
            return all(seen.now() - seen.heard()[first[name]] < HEARTBEAT_TTL * 250 for name, seen in events.items())

        await eventually(the_first_of_each_is_heard)

        for name, seen in events.items():
            seen.silence(tickets[name][1:2], HEARTBEAT_TTL + 1)

        async def the_second_of_each_is_expired() -> bool:
            return all(seen.logged() == [first[name], *tickets[name][2:]] for name, seen in events.items())

        await eventually(the_second_of_each_is_expired)
        await jobs.close()
        for log in (api.log(), worker.log()):
            assert "Traceback" not in log
            assert "left" not in log


async def test_events_that_ended_are_taken_away_on_every_master(
    cluster: Cluster, cluster_line: Line, queue_server: RedisServer, event: str
) -> None:
    events = spread(cluster, event)
    with Worker(cluster.url, jobs_redis_url=queue_server.url, heartbeat_ttl=3, line_ttl=1, pass_ttl=1) as worker:
        for name in events:
            batch = await cluster_line.enqueue(name, [Join(b"", b"")] * 3, may_create=True)
            await cluster_line.note_activity([name], batch.standing.now)
            tickets = [joined.ticket for joined in batch.joined]
            await cluster_line.enter(name, tickets[:1])
            assert await cluster_line.leave(name, tickets) == 3

        async def all_gone() -> bool:
            left = [node.client.keys(f"*{{{event}*") for node in cluster.masters]
            return left == [[], [], []] and await cluster_line.count_events() == 0

        await eventually(all_gone)
        assert "Traceback" not in worker.log()
