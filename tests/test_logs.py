"""What real processes write: JSON lines where machines read them, text in a terminal, and never a line a request."""

import asyncio
import contextlib
import json
import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from redis.asyncio import Redis

from shared.dev.redis_server import RedisServer
from shared.line.keys import Keys
from tests.support.calls import client, configure, enter, join, leave, redeem, status, try_join, try_status
from tests.support.paths import ROOT
from tests.support.processes import Api, Process, Worker
from tests.support.raw_http import crowd, post
from tests.support.relay import Relay
from tests.support.waiting import eventually

JOIN = "/api/v1/queue/join"


def lines_of(log: str) -> list[dict[str, Any]]:
    """Its lines, each of which has to be one that a machine can read."""
    lines = [json.loads(line) for line in log.splitlines()]
    for line in lines:
        assert line["event"]
        assert line["logger"]
        assert line["level"] in {"debug", "info", "warning", "error", "critical"}
        assert datetime.fromisoformat(line["timestamp"]).tzinfo == UTC
        assert isinstance(line["pid"], int)
    return lines


def told(lines: Sequence[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["event"] == event]


async def test_every_line_of_api_and_worker_is_json_also_when_redis_goes_and_requests_fail(
    redis_server: RedisServer, redis: Redis, event: str
) -> None:
    async with Relay(redis_server.port) as relay:
        given: dict[str, Any] = {"log_level": "debug", "heartbeat_ttl": 30, "jobs_redis_url": relay.url}
        api = Api(relay.url, processes=2, **given)
        worker = Worker(relay.url, **given)
        with contextlib.ExitStack() as stack:
            for process in (api, worker):
                await asyncio.to_thread(stack.enter_context, process)
            async with client(api.url) as http:
                await join(http, event)
                await redis.set(Keys().event("broken").stream, "no stream")
                failed = await http.post(JOIN, json={"event_id": "broken"}, headers={"X-Request-ID": "request-17"})
                assert failed.status_code == 500
                relay.refusing = True
                relay.cut()
                assert (await try_join(http, event)).status_code == 503
                await eventually(lambda: says("redis is unavailable", api))
                await eventually(lambda: says("the job queue is unavailable", worker))
                relay.refusing = False
                await eventually(lambda: says("redis is back", api))
            assert await asyncio.to_thread(api.stop) == await asyncio.to_thread(worker.stop) == 0
            of_api, of_worker = (lines_of(process.log()) for process in (api, worker))
    assert {line["logger"].partition(".")[0] for line in of_api} >= {"_granian", "api"}
    assert {line["logger"].partition(".")[0] for line in of_worker} >= {"arq", "workers"}
    # The parent that starts the two, and logs before any code of ours runs in them.
    assert len({line["pid"] for line in of_api}) == 3
    failure = told(of_api, "a request failed")[0]
    assert (failure["level"], failure["trace_id"]) == ("error", "request-17")
    assert "WRONGTYPE" in failure["exception"]


async def test_uvicorn_writes_json_from_its_first_line_on(redis_server: RedisServer) -> None:
    with Api(redis_server.url, server="uvicorn") as api:
        await asyncio.to_thread(api.stop)
        lines = lines_of(api.log())
    assert {line["logger"].partition(".")[0] for line in lines} == {"uvicorn", "api"}
    assert lines[0]["event"].startswith("Started server process")


async def says(text: str, process: Process) -> bool:
    return text in process.log()


async def test_a_request_leaves_no_line_unless_one_asks_for_debug(redis_server: RedisServer, event: str) -> None:
    with Api(redis_server.url, trusted_user_header="X-User-Id") as api:
        await eventually(lambda: says("the api is ready", api))
        before = api.log()
        async with client(api.url) as http:
            for user in ("ann", "bob", None):
                token = (await join(http, event, user=user))["waiting_token"]
                token = (await status(http, token))["waiting_token"]
                await redeem(http, (await enter(http, token))["reservation_token"])
                await leave(http, token)
            assert (await try_status(http, "w~forged")).status_code == 400
            assert (await http.get("/nowhere")).status_code == 404
        assert api.log() == before


async def test_a_job_leaves_no_line_either(redis_server: RedisServer, redis: Redis, event: str) -> None:
    with Worker(redis_server.url, heartbeat_ttl=30) as worker, Api(redis_server.url) as api:
        async with client(api.url) as http:
            await join(http, event)
            await eventually(lambda: redis.exists(Keys().event(event).position_index))
        lines = lines_of(worker.log())
    assert [line for line in lines if line["logger"].startswith("arq")] == []
    assert told(lines, "the worker is starting")


async def test_at_debug_each_batch_leaves_a_line_with_its_size_and_nobodys_name(
    redis_server: RedisServer, event: str
) -> None:
    with Api(redis_server.url, log_level="debug") as api:
        answers = await crowd(api, [post(JOIN, {"event_id": event, "user_id": f"user-{n}"}) for n in range(60)])
        assert {answer.status_code for answer in answers} == {202}
        async with client(api.url) as http:
            await status(http, answers[0].json()["waiting_token"])
        await asyncio.to_thread(api.stop)
        log = api.log()
    lines = lines_of(log)
    batches = [line for line in told(lines, "a batch") if line["event_id"] == event]
    sizes = {name: [line["size"] for line in batches if line["operation"] == name] for name in ("join", "poll")}
    assert sum(sizes["join"]) == 60
    assert len(sizes["join"]) < 60
    assert sizes["poll"] == [1]
    assert all(0 < line["ms"] < 60_000 for line in batches)
    assert "user-1" not in log


async def test_an_operators_change_leaves_a_line(redis_server: RedisServer, event: str) -> None:
    with Api(redis_server.url) as api:
        async with client(api.url) as http:
            await configure(http, event, rate=7, paused=True)
        changed = told(lines_of(api.log()), "an event was changed")
    assert [(line["level"], line["event_id"], line["rate"], line["paused"]) for line in changed] == [
        ("info", event, "7.0", "1")
    ]


def on_a_terminal(command: Sequence[str], environment: dict[str, str], enough: str) -> list[str]:
    """The lines that a program writes there; it is stopped when it has written enough."""
    leader, follower = pty.openpty()
    written = b""
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    ) as running:
        os.close(follower)
        # Its end is an error: nobody has the terminal open any more.
        with contextlib.suppress(OSError):
            while part := os.read(leader, 1 << 16):
                had_enough = enough.encode() in written
                written += part
                # Once: granian can hang on a signal that comes while it deals with another.
                if enough.encode() in written and not had_enough:
                    running.terminate()
        os.close(leader)
    return written.decode().splitlines()


@pytest.mark.parametrize("environment", ["development", "production"])
@pytest.mark.parametrize("kind", [Api, Worker])
async def test_in_a_terminal_lines_are_text_but_not_in_production(
    redis_server: RedisServer, kind: type[Process], environment: str
) -> None:
    process = kind(redis_server.url, environment=environment, admin_keys=[])
    enough = "the api is ready" if kind is Api else "the worker is starting"
    with contextlib.closing(process._log):
        lines = await asyncio.to_thread(on_a_terminal, process.command, process._environment, enough)
    if environment == "production":
        assert len(lines_of("\n".join(lines))) >= 2
        return
    assert len(lines) >= 2
    for line in lines:
        assert not line.startswith("{")
        assert "info" in line
        # A time, in colour: the line does not begin with it.
        assert datetime.now(UTC).strftime("%Y-%m-%dT%H:") in line


async def test_beside_a_process_manager_in_a_terminal_lines_are_text_too() -> None:
    prints = [sys.executable, "-c", "import os; print('format is', os.environ.get('DAEGI_LOG_FORMAT'))"]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("DAEGI_")}
    launcher = [sys.executable, "-m", "shared.dev", *prints]
    for given, expected in (({}, "text"), ({"DAEGI_LOG_FORMAT": "json"}, "json")):
        environment = plain | {"DAEGI_REDIS_URL": "redis://127.0.0.1:1/0"} | given
        lines = await asyncio.to_thread(on_a_terminal, launcher, environment, "never")
        assert f"format is {expected}" in lines


CRASH = """
import threading
from shared import telemetry
from shared.settings import load_settings
from shared.telemetry import error_reports

def crash():
    raise RuntimeError("with w~concert~1795489214696517~gtIKMKKu7PK6Iy7H-dybGw")

telemetry.configure(load_settings())
error_reports.watch_for_crashes()
thread = threading.Thread(target=crash)
thread.start()
thread.join()
crash()
"""


async def test_what_ends_a_process_or_a_thread_is_a_line_like_any_other() -> None:
    ended = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", CRASH], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    lines = lines_of(ended.stderr)
    assert [line["level"] for line in lines] == ["critical", "critical"]
    for line in lines:
        assert line["exception"].startswith("Traceback")
        assert line["exception"].endswith("RuntimeError: with w~[redacted]")
