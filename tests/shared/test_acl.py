"""The least that Daegi's user of Redis may do: enough for everything, nothing beyond, nothing that is not needed."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from shared.acl import JOBS, LINE, set_user
from shared.dev.redis_server import LOCALHOST, RedisServer
from shared.line.keys import Keys
from shared.settings import Settings
from tests.support.calls import client, configure, enter, join, leave, redeem, status
from tests.support.paths import ROOT
from tests.support.processes import Api, Worker
from tests.support.redis_version import redis_major
from tests.support.settings import HEARTBEAT_TTL, OPERATOR
from tests.support.waiting import eventually

Client = Any
"""A plain client of Redis: redis-py types every answer as if it might not have to be awaited."""

PREFIX = "ten*nt:"

FORBIDDEN = (
    *("KEYS *", "SCAN 0", "RANDOMKEY", "FLUSHALL", "FLUSHDB", "SWAPDB 0 1", "CONFIG GET *", "CONFIG SET maxmemory 1"),
    *("DEBUG SLEEP 0", "SHUTDOWN", "SAVE", "BGREWRITEAOF", "REPLICAOF NO ONE", "MONITOR", "ACL LIST", "ACL WHOAMI"),
    *("CLIENT LIST", "CLIENT KILL TYPE normal", "EVAL return(1) 0", "SCRIPT FLUSH", "SCRIPT KILL", "PUBLISH a b"),
    *("SUBSCRIBE a", "MODULE LIST", "CLUSTER RESET", "FAILOVER", "MIGRATE h 1 k 0 1", "DUMP k", "RESTORE k 0 v"),
)


@pytest.fixture
def servers() -> Iterator[tuple[RedisServer, RedisServer]]:
    """One for the lines, with a replica so that there is something to wait for, and one for the jobs."""
    with contextlib.ExitStack() as stack:
        # Redis 7 would wait 5 s for more replicas.
        lines = stack.enter_context(RedisServer().start(None, None, "--repl-diskless-sync-delay", "0"))
        jobs = stack.enter_context(RedisServer())
        stack.enter_context(RedisServer().start(None, None, "--replicaof", LOCALHOST, str(lines.port)))
        yield lines, jobs


@pytest.fixture
def given(servers: tuple[RedisServer, RedisServer]) -> dict[str, Any]:
    """Settings under which each user's name, password and database is its own."""
    lines, jobs = servers
    return {
        "redis_url": f"redis://line-keeper:sesame%2Fone@{LOCALHOST}:{lines.port}/1",
        "jobs_redis_url": f"redis://job-keeper:sesame-two@{LOCALHOST}:{jobs.port}/2",
        "key_prefix": PREFIX,
        "min_replicas_ack": 1,
        "heartbeat_ttl": HEARTBEAT_TTL,
    }


@pytest.fixture
async def masters(
    servers: tuple[RedisServer, RedisServer], given: dict[str, Any]
) -> AsyncIterator[tuple[Client, Client]]:
    """Their administrators, the users made as the printed commands say."""
    settings = Settings.model_validate(given)
    found: list[Client] = []
    for server, db, jobs in zip(servers, (1, 2), (False, True), strict=True):
        found.append(Redis(host=LOCALHOST, port=server.port, db=db, decode_responses=True))
        await found[-1].execute_command(*set_user(settings, jobs=jobs).split())
    await eventually(partial(replicates, found[0]))
    for master in found:
        await master.config_resetstat()
    yield found[0], found[1]
    for master in found:
        await master.aclose()


async def replicates(master: Client) -> bool:
    return bool((await master.info("replication")).get("slave0", {}).get("state") == "online")


async def used(master: Client) -> set[str]:
    """The commands that somebody has called, also out of scripts; before Redis 7 without their subcommands."""
    stats = await master.info("commandstats")
    return {
        name.removeprefix("cmdstat_") for name, found in stats.items() if found["calls"] > found.get("failed_calls", 0)
    }


async def denied(master: Client) -> list[str]:
    """What was refused. `arq --check` connects in its own way, which names redis-py and does not mind a refusal."""
    log = await master.execute_command("ACL LOG")
    return [f"{one['object']} {one['context']}" for one in log if not one["object"].startswith("client")]


def spelled(commands: tuple[str, ...]) -> set[str]:
    return {name if redis_major() >= 7 else name.partition("|")[0] for name in commands}


async def described(http: httpx.AsyncClient, event: str) -> Any:
    answer = await http.get(f"/api/v1/admin/events/{event}", headers=OPERATOR)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def whole(http: httpx.AsyncClient, event: str) -> None:
    """Waits for the end of repair."""

    async def undamaged() -> bool:
        return not (await described(http, event))["damaged"]

    await eventually(undamaged)


async def a_day_at_the_door(http: httpx.AsyncClient, master: Client, event: str) -> None:
    """All that people and operators can ask for, damage that has to be repaired, and people who fall silent."""
    keys = Keys(PREFIX).event(event)
    await configure(http, event, rate=0, burst=1)
    tokens = [(await join(http, event, key=f"{n:016}", user=f"user-{n}"))["waiting_token"] for n in range(5)]
    assert (await join(http, event, key=f"{1:016}", user="user-1"))["waiting_token"] == tokens[1]
    assert (await status(http, tokens[4]))["position"] == 5
    reservation = (await enter(http, tokens[0]))["reservation_token"]
    await redeem(http, reservation)
    assert (await leave(http, tokens[4])).status_code == 200
    # A member is lost, and then the log. Whatever the test does itself is none of what Daegi may.
    assert await master.zremrangebyrank(keys.queue, 0, 0) == 1
    await status(http, tokens[2])
    await whole(http, event)
    assert await master.delete(keys.stream) == 1
    await status(http, tokens[2])
    await whole(http, event)
    listed = (await http.get("/api/v1/admin/events", headers=OPERATOR)).json()
    assert [one["event_id"] for one in listed["events"]] == [event]

    for token in tokens[1:4]:
        assert float(await master.zincrby(keys.heartbeat, -2 * HEARTBEAT_TTL * 1000, token.split("~")[2])) > 0

    async def expired() -> bool:
        found = await described(http, event)
        return found["index"] is not None and found["totals"]["expired"] == 3

    await eventually(expired)


async def test_it_is_enough_for_everything_and_holds_nothing_that_is_not_needed(
    given: dict[str, Any], masters: tuple[Client, Client], event: str
) -> None:
    url = given.pop("redis_url")
    api, workers = Api(url, trusted_user_header="X-User-Id", **given), [Worker(url, **given) for _ in range(2)]
    with contextlib.ExitStack() as stack:
        for process in (*workers, api):
            await asyncio.to_thread(stack.enter_context, process)
        async with client(api.url) as http:
            await a_day_at_the_door(http, masters[0], event)
        # What a container's health check does.
        assert await asyncio.to_thread(checks_a_worker, {"redis_url": url, **given}) == 0

        async def met() -> bool:
            # Two workers that ask for the same tick.
            return "unwatch" in await used(masters[1])

        await eventually(met)
        for process in (*workers, api):
            await asyncio.to_thread(process.stop)
            assert "NOPERM" not in process.log()
            assert "ermission" not in process.log()
    for master, needed in zip(masters, (LINE, JOBS), strict=True):
        assert await denied(master) == []
        assert spelled(needed) - await used(master) == set()


def checks_a_worker(given: dict[str, Any]) -> int:
    environment = {f"DAEGI_{name.upper()}": str(value) for name, value in given.items()}
    command = [sys.executable, "-m", "arq", "--check", "workers.main.WorkerSettings"]
    return subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False).returncode


@pytest.mark.parametrize("jobs", [False, True])
async def test_it_is_allowed_nothing_else(given: dict[str, Any], masters: tuple[Client, Client], *, jobs: bool) -> None:
    url = given["jobs_redis_url" if jobs else "redis_url"]
    async with Redis.from_url(url) as user:
        for command in FORBIDDEN:
            # Redis 7 has DEBUG switched off for all.
            with pytest.raises(ResponseError, match=r"permission|DEBUG command not allowed"):
                await user.execute_command(*command.split())
        # Other tenants' keys, and those that are nobody's.
        for key in ("ten-nt:events", "tenant:stream:event:{concert}", "stream:event:{concert}", "events", "a"):
            with pytest.raises(NoPermissionError):
                await user.zadd(key, {"x": 1})
        own = f"{PREFIX}arq:daegi" if jobs else f"{PREFIX}events"
        assert await user.zcard(own) == 0
        if not jobs:
            with pytest.raises(ResponseError, match=r"run this command|permission"):
                await user.evalsha(await user.script_load("return redis.call('FLUSHALL')"), 0)
    assert await masters[jobs].dbsize() == 0


def print_rules(*arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    environment = {f"DAEGI_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "shared.acl", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_what_is_printed_is_the_command_and_holds_no_password(given: dict[str, Any]) -> None:
    settings = {name: str(given[name]) for name in ("redis_url", "jobs_redis_url", "key_prefix")}
    expected = Settings.model_validate(settings)
    for arguments, jobs, user in (((), False, "line-keeper"), (("--jobs",), True, "job-keeper")):
        printed = print_rules(*arguments, **settings)
        assert (printed.returncode, printed.stderr) == (0, "")
        assert printed.stdout == set_user(expected, jobs=jobs) + "\n"
        assert printed.stdout.startswith(f"ACL SETUSER {user} reset on #")
        assert "sesame" not in printed.stdout


def test_one_redis_for_both_has_one_user_for_both() -> None:
    settings = Settings.model_validate({"redis_url": "redis://daegi:pw@redis/0"})
    assert set_user(settings) == set_user(settings, jobs=True)
    rules = set_user(settings).split()
    assert {f"+{command}" for command in (*LINE, *JOBS)} <= set(rules)
    assert {"~stream:event:{*}", "~events", "~arq:daegi"} <= set(rules)


@pytest.mark.parametrize(
    ("url", "more"),
    [
        ("redis+cluster://daegi:pw@a:1,b:2", ["+cluster|slots"]),
        ("redis+sentinel://daegi:pw@a:1,b:2/main", []),
        ("rediss://daegi:pw@redis/3", []),
    ],
)
def test_each_kind_of_redis_has_its_user(url: str, more: list[str]) -> None:
    rules = set_user(Settings.model_validate({"redis_url": url, "jobs_redis_url": "redis://jobs/0"})).split()
    assert rules[:4] == ["ACL", "SETUSER", "daegi", "reset"]
    assert {f"+{command}" for command in LINE} <= set(rules)
    assert "+psetex" not in rules
    assert [rule for rule in rules if rule.startswith("+cluster")] == more


@pytest.mark.parametrize("url", ["redis://redis/0", "redis://:pw@redis/0", "redis://daegi@redis/0"])
def test_without_a_user_and_a_password_there_is_nothing_to_print(url: str) -> None:
    printed = print_rules(redis_url=url)
    assert (printed.returncode, printed.stdout) == (2, "")
    assert printed.stderr.startswith("DAEGI_REDIS_URL: ")
    assert printed.stderr.count("\n") == 1
