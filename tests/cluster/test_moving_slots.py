"""A slot moves to another master, key by key, while people join and poll."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import httpx
import pytest
from redis.crc import key_slot

from shared.dev.redis_server import RedisServer
from shared.line.line import Line
from shared.tokens.signer import Signer
from tests.cluster.conftest import KEYS, Seen
from tests.cluster.regulars import Regular, asking
from tests.support.calls import client, join, status, try_join, try_status
from tests.support.cluster import Cluster, Move, spread
from tests.support.line_state import fill
from tests.support.processes import Api, Worker
from tests.support.refusals import retry_after
from tests.support.settings import CLOSED, HEARTBEAT_TTL, SECRET
from tests.support.waiting import eventually

SIGNER = Signer([SECRET])


class Site(NamedTuple):
    """An api and a worker on a cluster."""

    http: httpx.AsyncClient
    api: Api
    worker: Worker


@pytest.fixture
async def site(cluster: Cluster, queue_server: RedisServer) -> AsyncIterator[Site]:
    """One where nobody is called."""
    settings: dict[str, Any] = {
        "jobs_redis_url": queue_server.url,
        "heartbeat_ttl": HEARTBEAT_TTL,
        "ready_ttl": 9,
        **CLOSED,
    }
    with ExitStack() as stack:
        api = stack.enter_context(Api(cluster.url, **settings))
        worker = stack.enter_context(Worker(cluster.url, **settings))
        async with client(api.url) as http:
            yield Site(http, api, worker)
        for log in (api.log(), worker.log()):
            assert "Traceback" not in log


@asynccontextmanager
async def unnoticed(site: Site, *events: str) -> AsyncIterator[None]:
    """People of these events are refused nothing."""
    people = []
    for event in events:
        token = (await join(site.http, event))["waiting_token"]
        people += [Regular(partial(try_join, site.http, event)), Regular(partial(try_status, site.http, token))]
    async with asking(people):
        yield
    assert [list(one.answers) for one in people] == [[202], [200]] * len(events)


async def newcomers(http: httpx.AsyncClient, event: str, tokens: list[str], over: asyncio.Event) -> None:
    """One after the other joins, and asks again until it works."""
    for number in count():
        if over.is_set():
            return
        while (answer := await try_join(http, event, key=f"the key of number {number}")).status_code != 202:
            assert answer.status_code == 503, answer.text
            assert retry_after(answer) <= 10
            await asyncio.sleep(0.02)
        tokens.append(answer.json()["waiting_token"])
        await asyncio.sleep(0.02)


async def test_the_event_is_refused_until_it_has_moved_nothing_is_lost_and_others_do_not_notice(
    cluster: Cluster, cluster_line: Line, site: Site, event: str
) -> None:
    (moving, source), (other, target), (third, _) = spread(cluster, event).items()
    tickets = await fill(cluster_line, moving, 30)
    polls = Regular(partial(try_status, site.http, SIGNER.waiting(moving, tickets[-1])))
    tokens: list[str] = []
    over = asyncio.Event()
    move = Move(cluster, key_slot(moving.encode()), target)
    async with unnoticed(site, other, third), asking([polls]), asyncio.TaskGroup() as group:
        group.create_task(newcomers(site.http, moving, tokens, over))

        async def some_joined(before: int = 0) -> bool:
            return len(tokens) > before + 3

        await eventually(some_joined)
        move.begin()
        keys = move.keys()
        assert len(keys) >= 5
        for key in random.SystemRandom().sample(keys, len(keys) - 1):
            move.move(key)
            await asyncio.sleep(0.05)

        async def some_refused() -> bool:
            return polls.answers[503] > 3

        await eventually(some_refused)
        others = [Seen(cluster, name) for name in (other, third)]
        for seen in others:
            seen.redis.hdel(seen.keys.state, "swept")

        async def others_swept() -> bool:
            return all(seen.redis.hexists(seen.keys.state, "swept") for seen in others)

        await eventually(others_swept)
        joined = len(tokens)
        await asyncio.to_thread(move.finish)
        await eventually(partial(some_joined, joined))
        over.set()

    everybody = [*tickets, *(SIGNER.verify_waiting(token).ticket for token in tokens)]
    seen = Seen(cluster, moving)
    assert seen.redis is target.client
    assert seen.logged() == everybody
    assert source.client.keys(f"*{{{moving}}}*") == []

    async def whole() -> bool:
        return seen.whole()

    await eventually(whole)
    assert (await status(site.http, SIGNER.waiting(moving, tickets[-1])))["position"] == 30
    assert (await status(site.http, tokens[-1]))["position"] == len(everybody)


@pytest.mark.parametrize("key", [KEYS.events, KEYS.pulse])
async def test_nobody_notices_when_what_belongs_to_no_event_moves(
    cluster: Cluster, site: Site, event: str, key: str
) -> None:
    events = spread(cluster, event)
    source = cluster.master_of(key)
    target = next(master for master in cluster.masters if master is not source)
    async with unnoticed(site, *events):

        async def there() -> bool:
            return bool(cluster.master_of(key).client.zcard(key))

        await eventually(there)
        move = Move(cluster, key_slot(key.encode()), target)
        move.begin()
        move.move(key)
        await join(site.http, f"{event}-late")
        # Once a second a process has something to write there.
        await asyncio.sleep(1.5)
        before = target.scores(key)
        await asyncio.to_thread(move.finish)

        async def written_again() -> bool:
            return target.scores(key) != before

        await eventually(written_again)
    if key == KEYS.events:
        assert target.scores(key).keys() >= {*events, f"{event}-late"}
