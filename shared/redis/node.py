"""One Redis server: how commands, pipelines and scripts reach it, and whether it answers."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import BusyLoadingError, NoScriptError, OutOfMemoryError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared.errors import NotReplicatedError, UnavailableError, UnknownVersionError
from shared.redis.script import Script
from shared.redis.server_info import Server

MAX_CONNECTIONS = 8
"""Connections per process and server, at any load: requests share round trips instead of having connections each."""

Value = str | bytes | int
Command = tuple[Value, ...]

_WAIT_MS = 500

# A replica, or a former master, answers these too: their success says nothing about writes.
_READS = frozenset({"CLUSTER", "GET", "HGET", "HSCAN", "INFO", "XRANGE", "ZCARD", "ZRANGE"})

_REFUSALS = frozenset(
    {"READONLY", "MISCONF", "NOREPLICAS", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "UNBLOCKED", "BUSY"}
)
"""The codes of an error by which Redis refuses writes: it is a replica, loads its data, or fails over."""

# redis-py strips the code from errors that it has a class for.
_CODES = {ReadOnlyError: "READONLY", BusyLoadingError: "LOADING", OutOfMemoryError: "OOM"}

_REFUSED_IN_A_SCRIPT = re.compile(r"Error running script \(call to f_[0-9a-f]{40}\): @user_script:.*: -([A-Z]+) ")
"""How Redis 6.2 words the refusal of a command in a script. In later versions the error begins with the code."""


class MovedError(UnavailableError):
    """Another node, at this address, serves the key's slot. Nothing was executed."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__("another node of the cluster has this")
        self.host, self.port = host, port


class Node:
    """A Redis server, over a few connections. No call is ever repeated: a second enqueue would count people twice.

    `reachable` is the result of the last call, None before the first; `trips` counts round trips by kind, `busy` the
    connections in use. Calls raise UnavailableError when the server does not answer or refuses, UnknownVersionError
    for a state written by another version of Daegi; in a cluster also MovedError.
    """

    clustered: Literal[False] = False

    def __init__(self, redis: Redis, host: str = "") -> None:
        self.reachable: bool | None = None
        self.host = host
        self.trips = {"lua": 0, "pipeline": 0, "command": 0}
        self.busy = 0
        self._redis = redis
        self._pool = redis.connection_pool
        # A semaphore in front of the pool: calls that wait in the pool would not notice that Redis is unavailable.
        self._connections = asyncio.Semaphore(MAX_CONNECTIONS)
        self._flagged = True

    @property
    def away(self) -> int:
        """1 if the server did not answer the last call, else 0."""
        return int(self.reachable is False)

    def is_away(self, key: str) -> bool:
        """Whether the server did not answer the last call."""
        return self.reachable is False

    async def command(self, *command: Value) -> Any:
        """One command's reply."""
        self.trips["command"] += 1
        return await self._send(command)

    async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """The replies of commands that share a round trip and a connection; raises the first error among them."""
        self.trips["pipeline"] += 1
        return await self._exchange(commands)

    async def script(self, script: Script, keys: Sequence[str], *args: Value, acks: int = 0) -> Any:
        """A Lua step's reply, once `acks` replicas have what it wrote."""
        # The third attempt is for Redis 6.2, which refuses the flags first.
        for last in (False, False, True):
            flagged = self._flagged
            variant = script.flagged if flagged else script
            call = ("EVALSHA", variant.sha, len(keys), *keys, *args)
            self.trips["lua"] += 1
            try:
                if not acks:
                    return (await self._exchange([call]))[0]
                # On the same connection, and so on the node that wrote: another node would not know what to wait for.
                reply, replicas = await self._exchange([call, ("WAIT", acks, _WAIT_MS)])
                if replicas < acks:
                    raise NotReplicatedError(f"only {replicas} of {acks} replicas have it")
                return reply
            except NoScriptError:
                # Redis restarted, or never had the script: nothing was executed, so sending it again is safe.
                if last:
                    raise
                await self._load(variant, flagged=flagged)
        raise AssertionError("unreachable")

    async def watch(self) -> None:
        """Does nothing: there is one server, and the pulse watches it."""

    async def servers(self) -> list[Server]:
        """What INFO says."""
        return [Server.parse(self.host, await self.command("INFO"))]

    async def disconnect(self) -> None:
        """Closes idle connections."""
        await self._pool.disconnect(inuse_connections=False)

    async def aclose(self) -> None:
        """Closes every connection."""
        await self._redis.aclose()

    async def _send(self, command: Command) -> Any:
        try:
            async with self._permit():
                reply = await self._redis.execute_command(*command)  # type: ignore[no-untyped-call] # redis-py
        except Exception as error:
            raise self._translate(error) from error
        if command[0] not in _READS:
            self.reachable = True
        return reply

    async def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        """The replies of commands that are sent in one write, directly over a connection; raises the first error.

        redis-py's own path costs a third more (measured: 105 us a call, this one 79).
        """
        try:
            async with self._permit():
                connection = await self._pool.get_connection()
                try:
                    await connection.send_packed_command(map(hiredis.pack_command, commands))  # type: ignore[arg-type] # any length
                    replies = [await _read(connection) for _ in commands]
                finally:
                    await self._pool.release(connection)
            for reply in replies:
                if isinstance(reply, Exception):
                    # Raised by redis-py, the error would hold the command, and with it personal data.
                    raise reply
        except Exception as error:
            raise self._translate(error) from error
        self.reachable = True
        return replies

    async def _load(self, script: Script, *, flagged: bool) -> None:
        try:
            await self.command("SCRIPT", "LOAD", script.source)
        except ResponseError:
            # Redis 6.2 does not know flags.
            if not flagged:
                raise
            self._flagged = False

    @asynccontextmanager
    async def _permit(self) -> AsyncIterator[None]:
        """Limits the calls in progress to the number of connections."""
        was_reachable = self.reachable is not False
        async with self._connections:
            # A call that waited while others found Redis unavailable need not try as well.
            if was_reachable and self.reachable is False:
                raise UnavailableError
            self.busy += 1
            try:
                yield
            finally:
                self.busy -= 1

    def _translate(self, error: Exception) -> Exception:
        code = _code(error)
        if code == "OOM":
            return UnavailableError("Redis has no memory left")
        if code in _REFUSALS or _is_disconnect(error):
            self.reachable = False
            return UnavailableError(f"Redis is unavailable: {type(error).__name__}")
        if code == "MOVED":
            host, _, port = str(error).split(" ")[2].rpartition(":")
            return MovedError(host or self.host, int(port))
        if code in {"ASK", "TRYAGAIN"}:
            return UnavailableError("the event is being moved to another node")
        if code == "SCHEMA":
            return UnknownVersionError(str(error))
        return error


async def _read(connection: AbstractConnection) -> Any:
    """A reply or an error, which is returned: the replies after it have to be read as well."""
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


def _code(error: Exception) -> str:
    """The first word of an error that Redis answered, which is its code if it has one; '' for any other error."""
    if not isinstance(error, RedisError):
        return ""
    if code := _CODES.get(type(error)):
        return code
    text = str(error)
    refused = _REFUSED_IN_A_SCRIPT.match(text)
    return refused[1] if refused else text.partition(" ")[0]


def _is_disconnect(error: BaseException) -> bool:
    """Whether Redis could not be reached, or did not answer."""
    if isinstance(error, RuntimeError):
        # uvloop raises this when the server hangs up during redis-py's handshake.
        return "the handler is closed" in str(error)
    return isinstance(error, RedisConnectionError | RedisTimeoutError | OSError | TimeoutError)
