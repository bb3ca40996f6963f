"""Jobs that a worker has in hand: they stand still before every command, until they are let go on."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from redis.asyncio import Redis

from shared.redis.node import Node, Value
from shared.redis.script import Script


class Job:
    """One of them."""

    def __init__(self) -> None:
        self._arrived, self._may_go = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Up to its first command."""
        self._task = asyncio.create_task(work)
        await self._until_it_stands()

    async def go_on(self, commands: int) -> bool:
        """Lets so many commands through; whether that was all it had to do. Raises what it raised."""
        while commands and not self._work.done():
            self._may_go.set()
            await self._until_it_stands()
            commands -= 1
        if self._work.done():
            self._work.result()
        return self._work.done()

    async def die(self) -> None:
        """Before its next command."""
        self._work.cancel()
        await asyncio.wait([self._work])

    async def wait_for_turn(self) -> None:
        """Before a command."""
        self._arrived.set()
        await self._may_go.wait()
        self._may_go.clear()

    @property
    def _work(self) -> "asyncio.Task[None]":
        assert self._task is not None
        return self._task

    async def _until_it_stands(self) -> None:
        arrived = asyncio.create_task(self._arrived.wait())
        await asyncio.wait([arrived, self._work], return_when=asyncio.FIRST_COMPLETED)
        arrived.cancel()
        self._arrived.clear()


class GatedNode(Node):
    """A Redis server as such a job reads from it. Steps wait before they are asked for: they take the time along."""

    def __init__(self, redis: Redis, job: Job) -> None:
        super().__init__(redis)
        self._job = job
        self._server = Node(redis)

    async def command(self, *command: Value) -> Any:
        """In its turn."""
        await self._job.wait_for_turn()
        return await self._server.command(*command)

    async def script(self, script: Script, keys: Sequence[str], *args: Value, acks: int = 0) -> Any:
        """At once."""
        return await self._server.script(script, keys, *args, acks=acks)
