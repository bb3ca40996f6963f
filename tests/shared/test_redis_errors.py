"""What an error that Redis answers means is told by its code, in the words of every version, and by nothing else."""

from typing import Any, cast

import pytest
from redis._parsers import BaseParser
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from shared.errors import UnavailableError, UnknownVersionError
from shared.redis.node import MovedError, Node

SHA = "e2b85fda1c6047d5698f1d94ef2cb1f28ec0caec"
REDIS_62 = f"ERR Error running script (call to f_{SHA}): @user_script:7: @user_script: 7: -"
REDIS_7 = f" script: {SHA}, on @user_script:7."
VALKEY = " script: on @user_script:7."

OOM = "OOM command not allowed when used memory > 'maxmemory'."
REPLICAS = "NOREPLICAS Not enough good replicas to write."
READONLY = "READONLY You can't write against a read only replica."
MISCONF = "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk."
SCHEMA = "SCHEMA the state of this event is of version 99, this Daegi knows 1"


class Answering:
    """A client whose server answers this error, decoded as redis-py does."""

    def __init__(self, line: str) -> None:
        self._line = line
        self.connection_pool = None

    async def execute_command(self, *_: object) -> Any:
        raise BaseParser.parse_error(self._line)


async def what_comes_of(line: str) -> tuple[Exception, Node]:
    node = Node(cast("Redis", Answering(line)), "10.0.0.1")
    with pytest.raises(Exception) as raised:  # noqa: PT011 - whatever it is
        await node.command("SET", "key", "value")
    return raised.value, node


@pytest.mark.parametrize("line", [OOM, REDIS_62 + OOM, OOM + REDIS_7, OOM + VALKEY])
async def test_a_full_memory_is_a_refusal_of_a_server_that_is_there(line: str) -> None:
    error, node = await what_comes_of(line)
    assert isinstance(error, UnavailableError)
    assert "memory" in str(error)
    assert node.reachable is not False


@pytest.mark.parametrize("refusal", [REPLICAS, READONLY, MISCONF])
@pytest.mark.parametrize(("before", "after"), [("", ""), (REDIS_62, ""), ("", REDIS_7), ("", VALKEY)])
async def test_a_server_that_takes_no_writes_is_away(refusal: str, before: str, after: str) -> None:
    error, node = await what_comes_of(before + refusal + after)
    assert isinstance(error, UnavailableError)
    assert node.reachable is False


@pytest.mark.parametrize(
    "line",
    [
        "LOADING Redis is loading the dataset in memory",
        "BUSY Valkey is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "CLUSTERDOWN The cluster is down",
        "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
    ],
)
async def test_so_is_one_that_serves_nothing(line: str) -> None:
    error, node = await what_comes_of(line)
    assert isinstance(error, UnavailableError)
    assert node.reachable is False


async def test_a_slot_of_another_node_names_it() -> None:
    error, node = await what_comes_of("MOVED 3999 10.0.0.2:6381")
    assert isinstance(error, MovedError)
    assert (error.host, error.port) == ("10.0.0.2", 6381)
    error, node = await what_comes_of("MOVED 3999 :6381")
    assert isinstance(error, MovedError)
    assert (error.host, error.port) == ("10.0.0.1", 6381)
    assert node.reachable is not False


@pytest.mark.parametrize("line", ["ASK 3999 10.0.0.2:6381", "TRYAGAIN Multiple keys request during rehashing of slot"])
async def test_a_slot_on_its_way_is_worth_another_try(line: str) -> None:
    error, node = await what_comes_of(line)
    assert isinstance(error, UnavailableError)
    assert not isinstance(error, MovedError)
    assert node.reachable is not False


async def test_a_state_of_another_version_says_so() -> None:
    error, _ = await what_comes_of(SCHEMA)
    assert isinstance(error, UnknownVersionError)
    assert SCHEMA in str(error)


@pytest.mark.parametrize(
    "line",
    [
        f"ERR unknown command 'x', with args beginning with: '{SCHEMA}' '{OOM}' '{READONLY}'",
        f"ERR user_script:3: bad argument near '{REPLICAS}'{REDIS_7}",
        f"ERR Error running script (call to f_{SHA}): @user_script:3: user_script:3: bad argument near '{SCHEMA}'",
        "BUSYGROUP Consumer Group name already exists",
        "WRONGTYPE Operation against a key holding the wrong kind of value",
    ],
)
async def test_a_code_within_the_text_means_nothing(line: str) -> None:
    error, node = await what_comes_of(line)
    assert type(error) is ResponseError
    assert node.reachable is not False
