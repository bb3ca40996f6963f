"""A relay that counts what an arm sends to Redis.

Redis does not count the commands of its clients alone: all its counters include the calls inside scripts, and MONITOR,
which marks those, slows Redis so much that batches grow.
"""

import asyncio
import contextlib
import dataclasses
import threading
from collections.abc import Iterator
from typing import Final, Self

import hiredis

from shared.dev.redis_server import LOCALHOST

PART: Final = 1 << 18


@dataclasses.dataclass
class Count:
    """The traffic so far."""

    commands: int = 0
    round_trips: int = 0
    connections: int = 0

    def __sub__(self, before: Self) -> Self:
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(before), strict=True)
        return type(self)(*(now - then for now, then in pairs))


class Relay:
    """Listens on a free port and passes everything on to Redis and back."""

    def __init__(self, redis_port: int) -> None:
        self.count = Count()
        self.port = 0
        self._redis_port = redis_port

    @contextlib.contextmanager
    def running(self) -> Iterator["Relay"]:
        """Runs it in a thread."""
        loop = asyncio.new_event_loop()
        server = loop.run_until_complete(asyncio.start_server(self._serve, LOCALHOST, 0, limit=PART))
        self.port = server.sockets[0].getsockname()[1]
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            for task in asyncio.all_tasks(loop):
                task.cancel()
            server.close()
            loop.run_until_complete(asyncio.sleep(0))  # lets cancelled tasks end
            loop.close()

    async def _serve(self, asks: asyncio.StreamReader, replies: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection(LOCALHOST, self._redis_port, limit=PART)
        self.count.connections += 1
        parser = hiredis.Reader()
        answered = True  # a round trip begins with the first command after an answer

        async def forward() -> None:
            nonlocal answered
            while part := await asks.read(PART):
                self.count.round_trips += answered
                answered = False
                parser.feed(part)
                while parser.gets() is not False:
                    self.count.commands += 1
                requests.write(part)
            requests.close()

        forwarding = asyncio.create_task(forward())
        try:
            while part := await answers.read(PART):
                answered = True
                replies.write(part)
        except asyncio.CancelledError:
            return  # asyncio would complain about a connection that ends like this
        finally:
            forwarding.cancel()
            replies.close()
            requests.close()
