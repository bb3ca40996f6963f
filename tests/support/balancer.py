"""A TCP balancer as operators have one: it polls every /readyz, and opens new connections where the answer is 200."""

import asyncio
from typing import Self

from shared.dev.redis_server import LOCALHOST

EVERY = 0.2
"""Seconds between two polls."""


class Balancer:
    """`async with Balancer() as balancer:` listens on `port`; it leaves open connections alone."""

    def __init__(self) -> None:
        self.port = 0
        self.turned_away = 0
        """Connections that no backend took."""
        self._ready: dict[int, bool] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, LOCALHOST, 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        self._tasks.add(asyncio.create_task(self._watch()))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self._ready.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # Whoever was being accepted just now is turned away.
        await asyncio.sleep(0.01)

    def add(self, port: int) -> None:
        """A backend; it is used once it is ready."""
        self._ready[port] = False

    def remove(self, port: int) -> None:
        """Removes a backend."""
        del self._ready[port]

    async def until_ready(self, port: int) -> None:
        """Returns when a backend is in use."""
        while not self._ready[port]:  # noqa: ASYNC110 - it is polled anyway
            await asyncio.sleep(EVERY / 4)

    async def _watch(self) -> None:
        while True:
            for port in list(self._ready):
                ready = await _is_ready(port)
                if port in self._ready:
                    self._ready[port] = ready
            await asyncio.sleep(EVERY)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        upstream = None
        try:
            back, upstream = await self._connect()
            async with asyncio.TaskGroup() as group:
                group.create_task(_pass_on(reader, upstream))
                group.create_task(_pass_on(back, writer))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for one in (writer, upstream):
                if one is not None:
                    one.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        for port in list(self._ready):
            if not self._ready.get(port):
                continue
            # Round robin: the next connection goes to another backend.
            self._ready[port] = self._ready.pop(port)
            try:
                return await asyncio.open_connection(LOCALHOST, port)
            except OSError:
                continue
        self.turned_away += 1
        raise ConnectionRefusedError


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while part := await reader.read(1 << 16):
        writer.write(part)
        await writer.drain()
    # Half-closed, so that nothing is cut off that the other side still sends.
    writer.write_eof()


async def _is_ready(port: int) -> bool:
    try:
        async with asyncio.timeout(1):
            reader, writer = await asyncio.open_connection(LOCALHOST, port)
            try:
                writer.write(b"GET /readyz HTTP/1.1\r\nHost: daegi\r\nConnection: close\r\n\r\n")
                return (await reader.read(1 << 12)).startswith(b"HTTP/1.1 200")
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError):
        return False
