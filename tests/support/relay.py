"""A TCP relay that can hurt a connection."""

import asyncio
import ssl
from typing import Self

from shared.dev.redis_server import LOCALHOST


class Relay:
    """A TCP relay to a server on this machine that can delay, hold and cut the traffic.

    `held` keeps the server's answers back, `delay` (s) slows both directions, `cut()` breaks every connection,
    `forget()` leaves them open and passes nothing on, like a router that has forgotten them.
    With `record`, `trips` holds what was sent in each round trip: everything before the server's next answer.
    While `holding` is set, requests that contain these bytes are kept from the server (`kept` counts them). A request
    that contains the bytes of `trap` goes through and sets `held`: the server executes it, but its answer is held.
    With `tls` it speaks TLS to its clients; the server behind it does not notice.
    """

    def __init__(self, target: int, *, record: bool = False, tls: ssl.SSLContext | None = None) -> None:
        self.held = False
        self.holding = self.trap = b""
        self.kept = 0
        self.refusing = False
        self.delay = 0.0
        self.connections = 0
        self.port = 0
        self.trips: list[bytearray] = []
        self._record = record
        self._forgotten = 0
        self._tls = tls
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, LOCALHOST, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.refusing = True
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # Whoever was being accepted just now is refused.
        await asyncio.sleep(0.01)

    @property
    def url(self) -> str:
        """The URL of the Redis behind it, through the relay."""
        return f"redis{'s' if self._tls else ''}://{LOCALHOST}:{self.port}/0"

    @property
    def open(self) -> int:
        """How many connections there are now; `connections` counts all that there have been."""
        return len(self._tasks)

    def cut(self) -> None:
        """Breaks every connection, including answers in transit."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def forget(self) -> None:
        """Passes nothing on over the open connections, and neither side notices; new ones work."""
        self._forgotten = self.connections

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        number = self.connections
        upstream = None
        try:
            back, upstream = await asyncio.open_connection(LOCALHOST, self._target)
            self._writers |= {writer, upstream}
            async with asyncio.TaskGroup() as group:
                trip: list[bytearray] = []
                group.create_task(self._pass_on(number, reader, upstream, trip, answers=False))
                group.create_task(self._pass_on(number, back, writer, trip, answers=True))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for one in (writer, upstream):
                if one is not None:
                    one.transport.abort()
                    self._writers.discard(one)

    async def _pass_on(
        self,
        number: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        trip: list[bytearray],
        *,
        answers: bool,
    ) -> None:
        while part := await reader.read(1 << 16):
            if self._record:
                self._note(part, trip, answers=answers)
            if not answers:
                await self._consider(part)
            if self.delay:
                await asyncio.sleep(self.delay)
            while answers and self.held:  # noqa: ASYNC110 - a test sets it without an event
                await asyncio.sleep(0.005)
            if number <= self._forgotten:
                continue
            writer.write(part)
            await writer.drain()
        raise ConnectionResetError

    async def _consider(self, request: bytes) -> None:
        self.held |= bool(self.trap) and self.trap in request
        self.kept += bool(self.holding) and self.holding in request
        while self.holding and self.holding in request:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.005)

    def _note(self, part: bytes, trip: list[bytearray], *, answers: bool) -> None:
        # `trip` belongs to the connection: an answer ends it, and the next request begins another one.
        if answers:
            trip.clear()
            return
        if not trip:
            trip.append(bytearray())
            self.trips += trip
        trip[0] += part
