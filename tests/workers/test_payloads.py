"""What a job carries: msgpack with a version, an id of its own, and nothing that outlives it."""

import asyncio
import os
import pickle
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from shared.dev.redis_server import RedisServer
from shared.jobs import Jobs
from shared.line.line import Line
from tests.support.paths import ROOT
from tests.support.processes import Worker
from tests.support.settings import HEARTBEAT_TTL
from tests.support.waiting import eventually
from tests.workers.conftest import Client, in_line, join, redis_now, silence

QUEUE = "arq:daegi"


@pytest.fixture
def worker(server: RedisServer) -> Iterator[Worker]:
    with Worker(server.url, heartbeat_ttl=HEARTBEAT_TTL) as worker:
        yield worker


@pytest.fixture
async def raw(server: RedisServer) -> AsyncIterator[Client]:
    """A client that leaves bytes as they are."""
    client = Redis.from_url(server.url)
    yield client
    await client.aclose()


async def put(raw: Client, job_id: str, job: bytes) -> None:
    """Puts a job into the queue by hand."""
    await raw.psetex(f"arq:job:{job_id}", 60_000, job)
    await raw.zadd(QUEUE, {job_id: round(time.time() * 1000)})


def packed(function: str, payload: Any) -> bytes:
    """A job as arq lays it out, in msgpack."""
    return msgspec.msgpack.encode({"t": None, "f": function, "a": [payload], "k": {}, "et": 1})


async def done(raw: Client) -> bool:
    """Whether nothing is queued any more but the sweeps to come."""
    return not [job_id for job_id in await raw.zrange(QUEUE, 0, -1) if not job_id.startswith(b"sweep:")]


async def test_a_job_is_msgpack_with_a_version_and_an_id_of_its_own(raw: Client, jobs: Jobs) -> None:
    for _ in range(2):
        await jobs.compute_positions(["an-event"])
        await jobs.refresh_heartbeats({"an-event": [1_800_000_000_000_001]})
        await jobs.repair_index(["an-event"], {"another": [1_800_000_000_000_002]})
        await jobs.reap_expired({"an-event": 1_800_000_000_000})

    ids = await raw.zrange(QUEUE, 0, -1)
    found = [msgspec.msgpack.decode(await raw.get(b"arq:job:" + job_id)) for job_id in ids]
    assert len(ids) == 8
    assert {job["f"] for job in found} == {"compute_positions", "refresh_heartbeats", "repair_index", "reap_expired"}
    assert [job["a"][0]["v"] for job in found] == [1] * 8
    payloads = {job["f"]: job["a"][0] for job in found}
    assert payloads["refresh_heartbeats"]["tickets"] == {"an-event": [1_800_000_000_000_001]}
    assert payloads["reap_expired"]["activity"] == {"an-event": 1_800_000_000_000}
    for job_id in ids:
        assert 0 < await raw.pttl(b"arq:job:" + job_id) <= 120_000


@pytest.mark.parametrize(
    "payload",
    [
        {"v": 2, "events": ["an-event"], "tickets": {"an-event": [1]}, "activity": {"an-event": 1}},
        {"events": ["an-event"]},
        ["an-event"],
        None,
    ],
    ids=["newer", "without", "list", "nothing"],
)
async def test_an_unknown_version_is_refused_with_a_line_in_the_log(
    redis: Client, raw: Client, line: Line, worker: Worker, payload: Any
) -> None:
    await join(line, "an-event", listed=False)
    for function in ("compute_positions", "refresh_heartbeats", "repair_index", "reap_expired"):
        await put(raw, function, packed(function, payload))
    before = await redis.hgetall(line.keys.event("an-event").state)

    await eventually(lambda: done(raw))

    version = payload.get("v") if isinstance(payload, dict) else None
    for function in ("compute_positions", "refresh_heartbeats", "repair_index", "reap_expired"):
        said = [text for text in worker.log().splitlines() if "a job was refused" in text and function in text]
        assert len(said) == 1
        assert f"of version {version}, this worker knows 1" in said[0]
    assert "Traceback" not in worker.log()
    assert await redis.hgetall(line.keys.event("an-event").state) == before
    assert await line.index("an-event") is None


class Bomb:
    """Whoever unpickles it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (self.path,)


async def test_a_pickle_is_never_opened(raw: Client, line: Line, jobs: Jobs, worker: Worker, tmp_path: Path) -> None:
    mark = tmp_path / "unpickled"
    bomb = pickle.dumps({"t": None, "f": "compute_positions", "a": (Bomb(mark),), "k": {}, "et": 1})
    await put(raw, "a-pickle", bomb)
    await put(raw, "rubbish", b"\xff\x00 no job at all")
    await join(line, "an-event", listed=False)
    await jobs.compute_positions(["an-event"])

    await eventually(lambda: line.index("an-event"))
    await eventually(lambda: done(raw))
    assert not mark.exists()
    assert "a-pickle" in worker.log()
    pickle.loads(bomb)
    assert mark.exists(), "the pickle would not have gone off anyway"


@pytest.mark.usefixtures("worker")
async def test_no_result_is_kept_of_a_job_that_went_well_or_badly(raw: Client, jobs: Jobs) -> None:
    await jobs.compute_positions(["an-event"])
    await put(raw, "unknown", packed("no_such_job", {"v": 1}))
    await put(raw, "failing", packed("compute_positions", {"v": 1, "events": 5}))
    await put(raw, "lapsed", b"")
    await raw.delete("arq:job:lapsed")

    await eventually(lambda: done(raw))

    assert [key async for key in raw.scan_iter("arq:result:*")] == []
    assert [key async for key in raw.scan_iter("arq:job:*") if b":sweep:" not in key] == []


async def test_the_heartbeat_jobs_of_eight_processes_all_arrive(
    server: RedisServer, redis: Client, line: Line, event: str
) -> None:
    tickets = await join(line, event, 8, listed=False)
    await silence(redis, line, event, tickets, 20)
    then = await redis_now(redis)
    program = (
        "import asyncio, sys; from shared.jobs import Jobs; from shared.settings import Settings\n"
        "async def send():\n"
        "    jobs = Jobs(Settings(redis_url=sys.argv[1]))\n"
        "    await jobs.refresh_heartbeats({sys.argv[2]: [int(sys.argv[3])]})\n"
        "    await jobs.close()\n"
        "asyncio.run(send())"
    )
    senders = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", program, server.url, event, str(ticket), cwd=ROOT)
        for ticket in tickets
    ]
    assert [await sender.wait() for sender in senders] == [0] * 8

    with Worker(server.url, heartbeat_ttl=HEARTBEAT_TTL):

        async def all_heard() -> bool:
            return await redis.zcount(line.keys.event(event).heartbeat, then - 5000, "+inf") == 8

        await eventually(all_heard)
    assert await in_line(redis, line, event) == tickets
