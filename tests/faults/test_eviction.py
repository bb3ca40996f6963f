"""An operator is told at start when Redis could drop the line to make room for it."""

import pytest

from shared.dev.redis_server import RedisServer
from tests.support.processes import Api, Process, Worker
from tests.support.waiting import eventually

WARNING = "Redis drops people from the line"


@pytest.mark.parametrize("kind", [Api, Worker])
async def test_a_policy_that_could_evict_the_line_is_warned_of_at_start(kind: type[Process]) -> None:
    memory = ("--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru")
    with RedisServer().start(None, None, *memory) as server, kind(server.url) as process:

        async def told() -> bool:
            return WARNING in process.log()

        await eventually(told)
        assert "allkeys-lru, not noeviction" in process.log()


@pytest.mark.parametrize(
    "memory",
    [("1gb", "noeviction"), ("1gb", "volatile-lru"), ("0", "allkeys-lru")],
    ids="-".join,
)
async def test_nothing_is_warned_of_that_cannot_happen(memory: tuple[str, str]) -> None:
    limit, policy = memory
    memory_options = ("--maxmemory", limit, "--maxmemory-policy", policy)
    with RedisServer().start(None, None, *memory_options) as server, Api(server.url) as api:
        assert api.stop() == 0
        assert WARNING not in api.log()
