"""Visitors of a shop behind nginx, at most 200 of them inside, while an api process, a worker and Redis are killed."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any, Final

from shared.dev.redis_server import RedisServer
from shared.line.keys import Keys
from tests.chaos.ledger import DOUBLE, LOST, WRONG
from tests.chaos.pass_book import PassBook, now_ms
from tests.chaos.scenario import SkippedError
from tests.chaos.scenarios.fail_over import LAG
from tests.chaos.shop import Shop
from tests.chaos.stage import EVENT, Stage
from tests.chaos.visitor import Town, Visitor
from tests.proxies.proxy import Nginx
from tests.support.browser import Client
from tests.support.cluster import Cluster
from tests.support.processes import Api, Worker
from tests.support.settings import OPERATOR
from tests.support.threads import in_thread

RATE: Final = 50.0
"""Visitors a second."""
MOST: Final = 200
"""Visitors inside at the same time."""
SESSION_TTL: Final = 10.0
PASS_TTL: Final = 10.0
OPEN: Final[dict[str, Any]] = {
    "rate": 1000,
    "burst": 4000,
    "max_active": MOST,
    "session_ttl": SESSION_TTL,
    "pass_ttl": PASS_TTL,
}
"""The event: only the cap limits it."""
PROCESSES: Final[dict[str, Any]] = {"ready_ttl": 15, "call_fresh": 4, "min_replicas_ack": 1}
"""People poll when they are told to, so they are silent for longer than in other scenarios."""
PATIENCE: Final = 60.0
"""Seconds without anybody who comes in, after which those outside are lost."""
LEARNT_MS: Final = 3000
"""After an outage every process knows of releases by then."""
_REPORT: Final = 0.5


async def come_and_go(stage: Stage) -> None:
    """People come for the given seconds; then everybody has to get in. Afterwards the passes are counted."""
    if not Nginx.is_installed():
        raise SkippedError("nginx is not installed: apt-get install nginx")
    cluster, queue = Cluster(), RedisServer()
    try:
        await asyncio.gather(in_thread(cluster.__enter__), in_thread(queue.start))
        redis = {"redis_url": cluster.url, "jobs_redis_url": queue.url, **PROCESSES}
        workers = [await stage.worker(**redis) for _ in range(2)]
        apis = await stage.fleet(**redis, workers=0)
        async with _town(stage, apis) as town:
            stage.begin()
            killing = asyncio.create_task(_kill(stage, town, cluster, apis, workers))
            try:
                await _visits(stage, town)
            finally:
                killing.cancel()
                await asyncio.gather(killing, return_exceptions=True)
            if not killing.cancelled() and (error := killing.exception()):
                raise error
            await _judge(stage, town)
    finally:
        await asyncio.gather(in_thread(cluster.close), in_thread(queue.close))


@asynccontextmanager
async def _town(stage: Stage, apis: list[Api]) -> AsyncIterator[Town]:
    """The shop, nginx in front of it, and a declared event."""
    book = PassBook(stage.ledger, EVENT)
    gates = [api.port for api in apis]
    async with Shop(book.saw) as shop:
        proxy = Nginx(gate=gates[0], shop=shop.port, event=EVENT, more_gates=gates[1:])
        await in_thread(proxy.__enter__)
        try:
            with closing(Client([proxy.port])) as site, closing(Client(gates)) as daegi:
                answer = await daegi.ask("PUT", f"/api/v1/admin/events/{EVENT}", OPEN, OPERATOR)
                assert answer.status == 200, answer
                # Until every process has read it.
                await asyncio.sleep(1.1)
                yield Town(site, daegi, EVENT, SESSION_TTL, book, stage.ledger, stage.gauge, stage.random)
        finally:
            await in_thread(proxy.__exit__)


async def _visits(stage: Stage, town: Town) -> None:
    """Lets visitors come, each at the time that was drawn for them, and waits until all have gone."""
    outcome, living, failures = stage.outcome, set[asyncio.Task[None]](), list[BaseException]()

    def ended(task: asyncio.Task[None]) -> None:
        living.discard(task)
        if not task.cancelled() and (error := task.exception()):
            failures.append(error)

    async def come() -> None:
        due = time.monotonic()
        while outcome.people < RATE * stage.seconds:
            await asyncio.sleep(due - time.monotonic())
            outcome.people += 1
            visit = asyncio.create_task(Visitor(town, outcome.people).live())
            living.add(visit)
            visit.add_done_callback(ended)
            due += stage.random.expovariate(RATE)

    began = town.last_arrival = time.monotonic()
    coming = asyncio.create_task(come())
    try:
        while not coming.done() or living:
            await asyncio.sleep(_REPORT)
            stage.says = (
                f"{outcome.faults} killed; {outcome.people:,} came, {town.outside:,} wait, {town.book.inside()} have a "
                f"pass, {town.arrived:,} came in; {stage.gauge.requests:,} requests, {stage.gauge.refused:,} refused; "
                f"lost {stage.ledger.count(LOST)}, double {stage.ledger.count(DOUBLE)}"
            )
            if failures:
                raise failures[0]
            if town.outside and time.monotonic() - town.last_arrival > PATIENCE:
                break
    finally:
        for task in (coming, *living):
            task.cancel()
        await asyncio.gather(coming, *living, return_exceptions=True)
    outcome.seconds = time.monotonic() - began


async def _kill(stage: Stage, town: Town, cluster: Cluster, apis: list[Api], workers: list[Worker]) -> None:
    """SIGKILL of an api process, a worker and the master with the event, in turn; each comes back."""
    key = Keys().event(EVENT).stream
    async for number in stage.faults(5, 9):
        victim: Api | Worker
        match number % 3:
            case 0:
                town.lost_walk_ins += town.loading_room
                victim = apis[number // 3 % 2]
            case 1:
                master = await in_thread(cluster.master_of, key)
                since = now_ms()
                town.book.outages.append((since, 1 << 62))
                await in_thread(cluster.fail_over, master, lag=LAG)
                town.book.outages[-1] = (since, now_ms() + LEARNT_MS)
                continue
            case _:
                victim = workers[number // 3 % 2]
        await in_thread(victim.kill)
        await asyncio.sleep(stage.random.uniform(0.5, 3))
        await in_thread(victim.start)


async def _judge(stage: Stage, town: Town) -> None:
    """Nobody is lost, nobody is inside twice, and there were never too many inside."""
    outcome, gauge, book = stage.outcome, stage.gauge, town.book
    for _ in range(outcome.people - town.arrived):
        stage.ledger.miss(LOST, "somebody who kept asking did not come in", time.monotonic())
    most = book.most_inside()
    stage.expect(most <= MOST, f"{most} had a good pass at the same time, and {MOST} may")
    stage.expect(most > 0.9 * MOST, f"at most {most} were inside: the cap was never felt")
    answer = await town.daegi.ask("GET", f"/api/v1/admin/events/{EVENT}", headers=OPERATOR)
    outcome.totals = {EVENT: answer.body["totals"]}
    admitted, known = answer.body["totals"]["admitted"], len(book.sessions)
    if not known <= admitted <= known + town.lost_walk_ins:
        text = f"{admitted} were let in, {known} know of it, and {town.lost_walk_ins} may have walked in unknowingly"
        stage.ledger.miss(DOUBLE if admitted > known else WRONG, text, time.monotonic())
    outcome.requests, outcome.refused, outcome.broken = gauge.requests, gauge.refused, gauge.broken
    outcome.unconnected, outcome.refusals = gauge.unconnected, dict(gauge.refusals)
    outcome.gap, outcome.longest_wait = gauge.worst_gap(), gauge.longest_wait()
    ways = ", ".join(f"{count:,} {way}" for way, count in town.ways.items())
    outcome.notes.append(
        f"{outcome.people:,} came, {town.arrived:,} came in within {outcome.seconds:.0f} s ({ways}); "
        f"at most {most} of {MOST} good passes at the same time; the shop saw {book.seen:,} requests"
    )
    stage.judge()
