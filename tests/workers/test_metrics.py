"""What a worker tells Prometheus: of its jobs, of Redis, and of a few events."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from shared.dev.redis_server import LOCALHOST, RedisServer
from shared.jobs import Jobs
from shared.line.line import Line
from shared.line.replies import Described
from shared.settings import Settings
from tests.support.exposition import Exposition, scrape
from tests.support.ports import free_port
from tests.support.processes import Worker
from tests.support.settings import CLOSED, HEARTBEAT_TTL
from tests.support.standings import MOVING
from tests.support.waiting import eventually
from tests.workers.conftest import Client, join
from workers.metrics import MOST_EVENTS, WorkerMetrics


@asynccontextmanager
async def working(redis_url: str, **settings: Any) -> AsyncIterator[Callable[[], Awaitable[Exposition]]]:
    """A worker, and what it tells."""
    port = free_port()
    with Worker(redis_url, worker_metrics_port=port, **{"heartbeat_ttl": HEARTBEAT_TTL, **settings}):
        yield lambda: scrape(port)


async def test_of_many_events_the_longest_lines_are_told_and_no_more(server: RedisServer, line: Line) -> None:
    for number in range(50):
        await join(line, f"event-{number}", number + 1)
    async with working(server.url, **CLOSED) as tell:

        async def the_longest() -> bool:
            told = (await tell()).labels("daegi_event_waiting", "event")
            assert len(told) <= MOST_EVENTS
            return told == {f"event-{number}" for number in range(30, 50)}

        await eventually(the_longest)
        found = await tell()
        assert found.labels("daegi_people_total", "event") == {f"event-{number}" for number in range(30, 50)}
        assert found.value("daegi_event_waiting", event="event-42") == 43

        await join(line, "event-3", 100)

        async def another() -> bool:
            told = (await tell()).labels("daegi_event_waiting", "event")
            assert len(told) <= MOST_EVENTS
            return "event-3" in told and "event-30" not in told

        await eventually(another)


async def test_events_that_are_chosen_are_told_and_no_others(server: RedisServer, line: Line) -> None:
    for number in range(25):
        await join(line, f"event-{number}", number + 1)
    async with working(server.url, metrics_events=["event-0", "event-7"], **CLOSED) as tell:

        async def both() -> bool:
            return len((await tell()).labels("daegi_event_waiting", "event")) == 2

        await eventually(both)
        assert (await tell()).labels("daegi_people_total", "event") == {"event-0", "event-7"}


async def test_how_an_event_stands_is_told_and_what_has_been_repaired(
    server: RedisServer, line: Line, redis: Client
) -> None:
    tickets = await join(line, "concert", 30)
    await line.leave("concert", tickets[:3])
    async with working(server.url, **CLOSED) as tell:

        async def told() -> bool:
            return (await tell()).value("daegi_people_total", event="concert", what="joined") == 30

        await eventually(told)
        found = await tell()
        assert found.value("daegi_people_total", event="concert", what="left") == 3
        assert found.value("daegi_event_waiting", event="concert") == 27
        for name in ("called", "absent", "damaged", "paused", "rate"):
            assert found.value(f"daegi_event_{name}", event="concert") == 0, name
        assert found.value("daegi_repaired_entries_total") == 0

        await line.configure("concert", {"paused": "1", "rate": "3"})
        await redis.delete(line.keys.event("concert").queue)

        async def mended() -> bool:
            return (await tell()).value("daegi_repaired_entries_total") == 27

        async def paused() -> bool:
            found = await tell()
            return (found.value("daegi_event_paused"), found.value("daegi_event_rate")) == (1, 3)

        await eventually(mended)
        await eventually(paused)


async def test_a_line_that_is_damaged_for_good_is_told(server: RedisServer, line: Line, redis: Client) -> None:
    await join(line, "concert", 3)
    stream = line.keys.event("concert").stream
    ((entry, _),) = await redis.xrevrange(stream, count=1)
    await redis.xdel(stream, entry)
    async with working(server.url) as tell:

        async def damaged() -> bool:
            return (await tell()).value("daegi_event_damaged", event="concert") == 1

        await eventually(damaged)


async def test_an_event_that_is_over_is_told_no_more(server: RedisServer, line: Line) -> None:
    (ticket,) = await join(line, "concert")
    async with working(server.url, heartbeat_ttl=2) as tell:

        async def told() -> bool:
            return "concert" in (await tell()).labels("daegi_event_waiting", "event")

        await eventually(told)
        await line.leave("concert", [ticket])

        async def over() -> bool:
            found = await tell()
            return "concert" not in found.text and found.value("daegi_jobs_total", function="reap_expired") > 0

        await eventually(over)


async def test_jobs_and_how_busy_redis_is_are_told(server: RedisServer, line: Line, jobs: Jobs) -> None:
    async with working(server.url) as tell:

        async def swept() -> bool:
            return (await tell()).value("daegi_jobs_total", function="sweep", outcome="done") > 0

        await eventually(swept)
        before = await tell()
        functions = {"compute_positions", "refresh_heartbeats", "repair_index", "reap_expired", "sweep"}
        assert before.labels("daegi_jobs_total", "function") == functions
        assert before.labels("daegi_jobs_total", "outcome") == {"done", "left", "refused", "failed"}
        assert before.value("daegi_queue_depth") >= 1
        node = f"{LOCALHOST}:{server.port}"
        assert before.labels("daegi_redis_cpu_seconds_total", "mode") == {"user", "system"}
        assert before.value("daegi_redis_cpu_seconds_total", node=node) > 0
        assert before.value("daegi_redis_memory_bytes", node=node) > 500_000

        await jobs.refresh_heartbeats({"concert": await join(line, "concert")})

        async def done() -> bool:
            found = await tell()
            finished = found.value("daegi_job_duration_seconds_count", function="refresh_heartbeats")
            return found.value("daegi_jobs_total", function="refresh_heartbeats", outcome="done") == finished == 1

        await eventually(done)
        after = await tell()
        assert after.value("daegi_redis_cpu_seconds_total") >= before.value("daegi_redis_cpu_seconds_total")
        assert after.value("redis_commands_total", operation="lua") > 0


async def test_metrics_outlive_an_absence_of_redis_and_go_on_counting(server: RedisServer) -> None:
    async with working(server.url) as tell:

        async def swept(more_than: float) -> bool:
            return (await tell()).value("daegi_jobs_total", function="sweep", outcome="done") > more_than

        await eventually(lambda: swept(0))
        # The queue is on it too, and arq's worker ends.
        server.kill()
        before = (await tell()).value("daegi_jobs_total", function="sweep", outcome="done")
        for _ in range(20):
            found = await tell()
            assert found.value("daegi_jobs_total", function="sweep", outcome="done") == before
            await asyncio.sleep(0.1)
        server.restart()
        await eventually(lambda: swept(before), 30)


async def test_a_port_that_is_taken_costs_the_metrics_and_nothing_else(server: RedisServer, line: Line) -> None:
    with socket.create_server((LOCALHOST, 0)) as taken:
        port = taken.getsockname()[1]
        with Worker(server.url, worker_metrics_port=port, heartbeat_ttl=HEARTBEAT_TTL) as worker:
            await join(line, "concert", 3)

            async def works() -> bool:
                return await line.index("concert") is not None

            await eventually(works)
            assert "this worker has no metrics" in worker.log()
            assert "Traceback" not in worker.log()
            assert await asyncio.to_thread(worker.stop) == 0


async def test_a_user_who_may_not_ask_for_info_costs_the_figures_of_redis_and_nothing_else(
    server: RedisServer, line: Line, redis: Redis
) -> None:
    await redis.execute_command("ACL", "SETUSER", "shy", "on", ">password", "~*", "&*", "+@all", "-info")
    await join(line, "concert")
    shy = server.url.replace("//", "//shy:password@")
    async with working(shy, jobs_redis_url=server.url) as tell:

        async def swept() -> bool:
            found = await tell()
            assert "daegi_redis_memory_bytes{" not in found.text
            swept_twice = found.value("daegi_jobs_total", function="sweep", outcome="done") > 1
            return swept_twice and found.value("daegi_event_waiting", event="concert") == 1

        await eventually(swept)


def described(now: int, joined: int) -> Described:
    standing = MOVING._replace(now=now, waiting=joined)
    return Described(False, True, joined, 0, 0, 0, 1.0, 1, {"joined": joined}, standing, 0, None, 300_000, None)


def test_an_answer_that_was_overtaken_makes_no_counter_go_back() -> None:
    metrics = WorkerMetrics(Settings())

    def joined() -> float:
        return Exposition(metrics.registry.exposition().decode()).value("daegi_people_total", what="joined")

    metrics.event("concert", described(2_000_000, 70), grace=False)
    metrics.event("concert", described(1_999_000, 60), grace=False)
    assert joined() == 70
    metrics.event("concert", described(2_001_000, 80), grace=False)
    assert joined() == 80
    # A clock that was put back: what it says now is new.
    metrics.event("concert", described(1_000_000, 90), grace=False)
    assert joined() == 90
